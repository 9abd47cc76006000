"""Worlds whose dynamics are a few batched tensor operations: subclass, say how an episode begins and how a step goes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.errors import ConfigError, WorldError
from metarl.seeding import CopyStreams
from metarl.tasks import Tasks
from metarl.world import Obs, StepResult, World

EpisodeState = dict[str, Tensor]


class TensorWorld(World):
    """A World made of tensor operations on `device`: no loop over copies, static shapes.

    A subclass writes three functions over all B copies at once:

    * `begin(streams, episode)`: the state of a fresh episode, a dict of tensors [B, ...]. Randomness comes from
      `streams.uniform(episode, n)`, so that episode e of copy i is always the same draw;
    * `advance(state, actions, streams, clock)`: the next state, reward [B], terminated [B] (or None if an episode never
      ends by itself) and success [B] (or None); `clock` counts this copy's steps since the seed, for random dynamics;
    * `observe(state)`: the observation.

    `self.params` holds the tasks' tensors, one row per copy. This class does the rest: time limits, SAME_STEP
    autoreset, `final_obs`, masks, seeds, snapshots.
    """

    def __init__(
        self,
        name: str,
        n_copies: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        horizon: int,
        fixed_horizon: bool = True,
        has_success: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """See `World`."""
        super().__init__(
            name,
            n_copies,
            observation_space,
            action_space,
            horizon=horizon,
            fixed_horizon=fixed_horizon,
            has_success=has_success,
            device=device,
        )
        self.params: dict[str, Tensor] = {}
        self._pending: Tasks | None = None
        self._state: EpisodeState = {}
        self._seed = 0
        self._streams = CopyStreams(n_copies, 0, device)
        self._false = torch.zeros(n_copies, dtype=torch.bool, device=self.device)
        # Age of each copy's episode. While all copies are in step it is a plain number, which costs nothing to compare.
        self._age: int | Tensor = 0
        self._episode = torch.zeros(n_copies, dtype=torch.int64, device=self.device)
        self._clock = torch.zeros(n_copies, dtype=torch.int64, device=self.device)

    @abstractmethod
    def begin(self, streams: CopyStreams, episode: Tensor) -> EpisodeState:
        """Return the state at the start of episode number `episode` (int64 [B]) of each copy."""

    @abstractmethod
    def advance(
        self, state: EpisodeState, actions: Tensor, streams: CopyStreams, clock: Tensor
    ) -> tuple[EpisodeState, Tensor, Tensor | None, Tensor | None]:
        """Return next state, reward, terminated and success; must not write into its arguments."""

    @abstractmethod
    def observe(self, state: EpisodeState) -> Obs:
        """Return the observation of `state`."""

    def action_mask(self, state: EpisodeState) -> Tensor | None:
        """Return which Discrete actions are legal in `state`, bool [B, n]; None means all, always."""
        return None

    def set_tasks(self, tasks: Tasks) -> None:
        """Give copy i task i from its next reset on."""
        self.check_tasks(tasks)
        self._pending = tasks.to(self.device)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start new episodes; see `World.reset`. Raises ConfigError before the first `set_tasks`."""
        mask = (options or {}).get("mask")
        if self._pending is not None:
            self._take_tasks(self._pending, mask)
        if self.tasks is None:
            raise ConfigError(f"world {self.name!r} has no tasks yet; call set_tasks before reset")
        if seed is not None:
            self._seed, self._streams = seed, CopyStreams(self.num_envs, seed, self.device)
        if mask is None or not self._state:
            if seed is not None:
                self._episode, self._clock = torch.zeros_like(self._episode), torch.zeros_like(self._clock)
            elif self._state:
                self._episode = self._episode + 1
            self._state, self._age = self.begin(self._streams, self._episode), 0
        else:
            keep = ~mask.to(self.device)
            if seed is not None:
                self._episode, self._clock = self._episode * keep, self._clock * keep
            else:
                self._episode = self._episode + (~keep).long()
            self._state = _merge(keep, self._state, self.begin(self._streams, self._episode))
            self._age = (self._age * torch.ones_like(self._episode)) * keep
        return self.observe(self._state), self._info({})

    def _take_tasks(self, tasks: Tasks, mask: Tensor | None) -> None:
        new = dict(tasks.values)
        if mask is not None and self.params:
            new = _merge(~mask.to(self.device), self.params, new)
            if bool(mask.all()):
                self._pending = None
        else:
            self._pending = None
        self.tasks, self.params = tasks, new

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        mask = self.action_mask(self._state)
        if mask is not None:
            info["action_mask"] = mask
        return info

    def _actions(self, actions: Any) -> Tensor:
        """Return checked, clipped actions on `device`."""
        space = self.single_action_space
        actions = torch.as_tensor(actions, device=self.device)
        if actions.shape != (self.num_envs, *(space.shape or ())):
            raise WorldError(
                f"world {self.name!r} got actions of shape {tuple(actions.shape)}, "
                f"expected {(self.num_envs, *(space.shape or ()))}: one row per copy"
            )
        if isinstance(space, spaces.Box):
            actions = actions.to(torch.float32)
            # The sum is one number: NaN or Inf anywhere shows in it, at the price of a single reduction.
            if self.device.type == "cpu" and not torch.isfinite(actions.sum()):
                copy = int((~actions.isfinite()).reshape(self.num_envs, -1).any(1).nonzero()[0])
                raise WorldError(f"world {self.name!r} got a NaN or infinite action for copy {copy}: {actions[copy]}")
            low, high = self._bounds(space)
            return torch.maximum(torch.minimum(actions, high), low)
        return actions.long()

    def _bounds(self, space: spaces.Box) -> tuple[Tensor, Tensor]:
        if not hasattr(self, "_low"):
            self._low = torch.as_tensor(space.low, device=self.device)
            self._high = torch.as_tensor(space.high, device=self.device)
        return self._low, self._high

    def step(self, actions: Any) -> StepResult:
        """Advance all copies; see `World.step`."""
        if not self._state:
            raise WorldError(f"world {self.name!r} was stepped before reset; call set_tasks and reset first")
        state, reward, terminated, success = self.advance(
            self._state, self._actions(actions), self._streams, self._clock
        )
        self._clock = self._clock + 1
        age = self._age + 1
        final_obs = obs = self.observe(state)
        # In step: nothing can end before the horizon, and then everything ends at once.
        if isinstance(age, int) and self.fixed_horizon:
            ended = age >= self.horizon
            truncated = ~self._false if ended else self._false
            if ended:
                self._episode = self._episode + 1
                state, age = self.begin(self._streams, self._episode), 0
                obs = self.observe(state)
            terminated = self._false if terminated is None else terminated
        else:
            age = torch.as_tensor(age, device=self.device).expand(self.num_envs)
            terminated = self._false if terminated is None else terminated
            truncated = (age >= self.horizon) & ~terminated
            done = terminated | truncated
            self._episode = self._episode + done.long()
            state = _merge(~done, state, self.begin(self._streams, self._episode))
            age = age * ~done
            obs = self.observe(state)
        self._state, self._age = state, age
        info: dict[str, Any] = {"final_obs": final_obs}
        if success is not None:
            info["success"] = success
        return obs, reward, terminated, truncated, self._info(info)

    def state_dict(self) -> dict[str, Any]:
        """Return a bit-exact snapshot, mid-episode included."""
        age = self._age if isinstance(self._age, int) else self._age.clone()
        return {
            "state": {k: v.clone() for k, v in self._state.items()},
            "params": {k: v.clone() for k, v in self.params.items()},
            "tasks": self.tasks,
            "pending": self._pending,
            "seed": self._seed,
            "age": age,
            "episode": self._episode.clone(),
            "clock": self._clock.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a snapshot of a world of the same size; raises ConfigError for another size."""
        if len(state["episode"]) != self.num_envs:
            raise ConfigError(
                f"world {self.name!r} has {self.num_envs} copies but the snapshot has {len(state['episode'])}; "
                f"build the world with n_copies={len(state['episode'])}"
            )
        self._state = {k: v.clone() for k, v in state["state"].items()}
        self.params = {k: v.clone() for k, v in state["params"].items()}
        self.tasks, self._pending = state["tasks"], state["pending"]
        self._seed, self._streams = state["seed"], CopyStreams(self.num_envs, state["seed"], self.device)
        self._age = state["age"] if isinstance(state["age"], int) else state["age"].clone()
        self._episode, self._clock = state["episode"].clone(), state["clock"].clone()


def _merge(keep: Tensor, old: EpisodeState, new: EpisodeState) -> EpisodeState:
    """Return `old` rows where `keep`, `new` rows elsewhere."""
    return {k: torch.where(keep.reshape(-1, *[1] * (v.dim() - 1)), old[k], v) for k, v in new.items()}
