"""Worlds whose dynamics are a few batched tensor operations: say how an episode begins and how a step goes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metarl.deprecated import bridge
from metarl.errors import ConfigError, WorldError
from metarl.seeding import EnvStreams, derive
from metarl.spec import WorldSpec, takes_old_form
from metarl.tasks import Tasks, concatenate
from metarl.world import Obs, StepResult, World

from .tensor_checks import check_extras, check_mask, check_observation, check_state, checked_transition

EpisodeState = dict[str, Tensor]
_OLD_METHODS = {"begin": "initial", "advance": "transition", "observe": "observation", "carry": "persist"}


class TensorWorld(World):
    """A World made of tensor operations on `device`: no loop over envs, static shapes.

    A subclass writes three functions over all B envs at once:

    * `initial(streams, episode)`: the state of a fresh episode, a dict of tensors [B, ...]. Randomness comes from
      `streams.uniform(episode, n)`, so that episode e of env i is always the same draw;
    * `transition(state, actions, streams, clock)`: the next state, reward [B], terminated [B] (or None if an episode
      never ends by itself) and success [B] (or None). `clock` counts this env's steps since the seed: random dynamics
      draw once from `streams` with it, all the lanes they need. These streams are not those of `initial`;
    * `observation(state)`: the observation, in tensors of its own (not those of `state`);
    * `persist(ended, fresh)`, if something of an episode outlives it (the last reaction, say).

    `self.params` holds the tasks' tensors, one row per env. This class does the rest: time limits, SAME_STEP
    autoreset, `final_obs`, masks, seeds, snapshots. Nothing is written in place. During the first episode of a world it
    checks the kinds of all that these functions return (`tensor_checks`).
    """

    @takes_old_form
    def __init__(self, spec: WorldSpec, num_envs: int, device: torch.device | str = "cpu") -> None:
        """See `World`."""
        super().__init__(spec, num_envs, device)
        self.params: Mapping[str, Tensor] = {}
        self._pending: Tasks | None = None
        self._waiting = torch.ones(num_envs, dtype=torch.bool, device=self.device)
        self._state: EpisodeState = {}
        self._first = 0
        self._begin_streams, self._step_streams = self._new_streams(0)
        self._idle: Tensor | None = None
        # Steps left of the first episode, in which what the subclass returns is checked.
        self._to_check = self.horizon
        self._false = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        # Age of each env's episode. While all envs are in step it is a plain number, which costs nothing to compare.
        self._age: int | Tensor = 0
        self._episode = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._clock = torch.zeros(num_envs, dtype=torch.int64, device=self.device)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        bridge(cls, _OLD_METHODS)

    @abstractmethod
    def initial(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Return the state at the start of episode number `episode` (int64 [B]) of each env."""

    @abstractmethod
    def transition(
        self, state: EpisodeState, actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[EpisodeState, Tensor, Tensor | None, Tensor | None]:
        """Return next state, reward, terminated and success; must not write into its arguments."""

    @abstractmethod
    def observation(self, state: EpisodeState) -> Obs:
        """Return the observation of `state`."""

    def action_mask(self, state: EpisodeState) -> Tensor | None:
        """Return which Discrete actions are legal in `state`, bool [B, n]; None means all, always."""
        return None

    def extras(self, state: EpisodeState) -> dict[str, Tensor]:
        """Return further entries of `info` about the state a step reached, before any reset."""
        return {}

    def persist(self, ended: EpisodeState, fresh: EpisodeState) -> EpisodeState:
        """Return what an episode begins with when the one before it ended in `ended`, for what outlives an episode.

        `fresh` is what `initial` gave. Rows of envs whose episode has not ended are ignored.
        """
        return fresh

    def number_from(self, first: int) -> None:
        """Let the envs be some among those of several processes; see `World.number_from`."""
        self._first = first

    def freeze(self, idle: Tensor | None) -> None:
        """Let envs stand still; see `World.freeze`."""
        # Standing still costs a little, so nobody is asked to unless somebody waits.
        self._idle = idle if idle is None or idle.device.type != "cpu" or bool(idle.any()) else None

    def set_tasks(self, tasks: Tasks) -> None:
        """Give env i task i from its next reset on, be that a call of `reset` or the end of its episode."""
        self.check_tasks(tasks)
        self._pending, self._waiting = tasks.to(self.device), torch.ones_like(self._waiting)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start new episodes; see `World.reset`. Raises ConfigError before the first `set_tasks`."""
        if self._pending is None and self.tasks is None:
            raise ConfigError(f"world {self.name!r} has no tasks yet; call set_tasks before reset")
        mask, self._idle = self._mask(options or {}), None
        self._take_tasks(mask)
        if seed is not None:
            self._reseed(seed, mask)
        elif self._state:
            self._episode = self._episode + (1 if mask is None else mask.long())
        fresh = self._fresh()
        if mask is None:
            self._state, self._age = fresh, 0
        else:
            self._state = choose_rows(mask, fresh, self._state)
            self._age = (self._age * torch.ones_like(self._episode)) * ~mask
        return self._observed(self._state), self._info({})

    def _fresh(self) -> EpisodeState:
        """Return the states that episodes begin with."""
        state = self.initial(self._begin_streams, self._episode)
        if self._to_check:
            check_state(self, "initial", state, None)
        return state

    def _observed(self, state: EpisodeState) -> Obs:
        """Return the observation of `state`."""
        obs = self.observation(state)
        if self._to_check:
            check_observation(self, obs)
        return obs

    def _mask(self, options: Mapping[str, Any]) -> Tensor | None:
        """Return the envs to reset, or None for all; the first reset is for all."""
        mask = options.get("mask")
        if mask is None:
            return None
        mask = torch.as_tensor(mask, device=self.device)
        if mask.dtype != torch.bool or mask.shape != (self.num_envs,):
            raise ConfigError(
                f"world {self.name!r} got a reset mask of {mask.dtype} {tuple(mask.shape)}; "
                f"pass bool [{self.num_envs}], True where an env shall start anew"
            )
        return mask if self._state else None

    def _new_streams(self, seed: int) -> tuple[EnvStreams, EnvStreams]:
        """Return the streams of beginnings and of steps, which share no draw."""
        begin, step = (
            EnvStreams(self.num_envs, derive(seed, part), self.device, first=self._first) for part in ("begin", "step")
        )
        return begin, step

    def _reseed(self, seed: int, mask: Tensor | None) -> None:
        """Start the random streams of the chosen envs afresh."""
        begin, step = self._new_streams(seed)
        if mask is None:
            self._episode, self._clock = torch.zeros_like(self._episode), torch.zeros_like(self._clock)
        else:
            begin.keys = torch.where(mask, begin.keys, self._begin_streams.keys)
            step.keys = torch.where(mask, step.keys, self._step_streams.keys)
            self._episode, self._clock = self._episode * ~mask, self._clock * ~mask
        self._begin_streams, self._step_streams = begin, step

    def _take_tasks(self, mask: Tensor | None) -> None:
        """Let the envs that start an episode now have their new task, if one is waiting."""
        if self._pending is None:
            return
        if mask is None or self.tasks is None:
            taken, self._pending = self._pending, None
        else:
            offset = torch.where(mask & self._waiting, self.num_envs, 0)
            taken = concatenate([self.tasks, self._pending])[torch.arange(self.num_envs, device=self.device) + offset]
            self._waiting = self._waiting & ~mask
            if not self._waiting.any():
                self._pending = None
        self.tasks, self.params = taken, dict(taken.values)

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        mask = self.action_mask(self._state)
        if self._to_check:
            check_mask(self, mask)
        if mask is not None:
            info["action_mask"] = mask
        return info

    def step(self, actions: Any) -> StepResult:
        """Advance all envs; see `World.step`."""
        if not self._state:
            raise WorldError(f"world {self.name!r} was stepped before reset; call set_tasks and reset first")
        given = (self._state, self.check_actions(actions), self._step_streams, self._clock)
        # Kinds are checked with the first episode, and trusted from then on.
        state, reward, terminated, success = (
            checked_transition(self, self.transition, self.params, *given)
            if self._to_check
            else self.transition(*given)
        )
        if self._idle is None:
            self._clock = self._clock + 1
        else:
            state = choose_rows(self._idle, self._state, state)
            self._clock = self._clock + (~self._idle).long()
            reward = torch.where(self._idle, 0.0, reward)
        extras = self.extras(state)
        if self._to_check:
            check_extras(self, extras)
        info: dict[str, Any] = {"final_obs": self._observed(state), **extras}
        if success is not None:
            info["success"] = success
        if terminated is None:
            terminated = self._false.clone()
        elif self._idle is not None:
            terminated = terminated & ~self._idle
        if self._idle is None and self.fixed_horizon and isinstance(self._age, int):
            truncated = self._end_in_step(state)
        else:
            truncated = self._end_one_by_one(state, terminated)
        # The same values as final_obs unless an env began anew, but never the same memory.
        result = self._observed(self._state), reward, terminated, truncated, self._info(info)
        self._to_check = max(0, self._to_check - 1)
        return result

    def _end_in_step(self, state: EpisodeState) -> Tensor:
        """Move on to `state`; nothing can end before the horizon, and then everything ends at once."""
        assert isinstance(self._age, int)
        self._state, self._age = state, self._age + 1
        if self._age < self.horizon:
            return self._false.clone()
        self._take_tasks(None)
        self._episode = self._episode + 1
        self._state, self._age = self._carried(state), 0
        return ~self._false

    def _end_one_by_one(self, state: EpisodeState, terminated: Tensor) -> Tensor:
        """Move on to `state` and begin anew where an episode ended."""
        age = self._age + (torch.ones_like(self._episode) if self._idle is None else (~self._idle).long())
        truncated = (age >= self.horizon) & ~terminated
        ended = terminated | truncated
        if self.device.type == "cpu" and not ended.any():
            self._state, self._age = state, age
            return truncated
        self._take_tasks(ended)
        self._episode = self._episode + ended.long()
        self._state = choose_rows(ended, self._carried(state), state)
        self._age = age * ~ended
        return truncated

    def _carried(self, ended: EpisodeState) -> EpisodeState:
        """Return the states in which the next episodes begin."""
        state = self.persist(ended, self._fresh())
        if self._to_check:
            check_state(self, "persist", state, ended)
        return state

    def state_dict(self) -> dict[str, Any]:
        """Return a bit-exact snapshot, mid-episode included."""
        return {
            "state": _clone(self._state),
            "tasks": _pack(self.tasks),
            "pending": _pack(self._pending),
            "waiting": self._waiting.clone(),
            "begin_keys": self._begin_streams.keys.clone(),
            "step_keys": self._step_streams.keys.clone(),
            "age": self._age if isinstance(self._age, int) else self._age.clone(),
            "episode": self._episode.clone(),
            "clock": self._clock.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a snapshot of a world of the same size; raises ConfigError for another size."""
        n = len(state["episode"])
        if n != self.num_envs:
            raise ConfigError(
                f"world {self.name!r} has {self.num_envs} envs but the snapshot has {n}; build it with num_envs={n}"
            )
        here = {k: v.clone().to(self.device) for k, v in state.items() if isinstance(v, Tensor)}
        self._state = {k: v.to(self.device) for k, v in _clone(state["state"]).items()}
        self.tasks, self._pending = (_unpack(state[k], self.device) for k in ("tasks", "pending"))
        self.params = {} if self.tasks is None else dict(self.tasks.values)
        self._begin_streams.keys, self._step_streams.keys = here["begin_keys"], here["step_keys"]
        self._age = here["age"] if "age" in here else state["age"]
        self._waiting, self._episode, self._clock = here["waiting"], here["episode"], here["clock"]


bridge(TensorWorld, _OLD_METHODS)


def choose_rows(chosen: Tensor, new: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> EpisodeState:
    """Return the rows of `new` where `chosen` (bool [B]) is True and those of `old` elsewhere, per key of `new`."""
    return {k: torch.where(chosen.reshape(-1, *[1] * (v.dim() - 1)), v, old[k]) for k, v in new.items()}


def _clone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in tensors.items()}


def _pack(tasks: Tasks | None) -> dict[str, Any] | None:
    """Return tasks as tensors and plain values."""
    if tasks is None:
        return None
    return {"values": _clone(tasks.values), "names": list(tasks.names), "groups": list(tasks.groups)}


def _unpack(packed: dict[str, Any] | None, device: torch.device) -> Tasks | None:
    """Return the tasks that `_pack` packed."""
    if packed is None:
        return None
    values = {k: v.clone().to(device) for k, v in packed["values"].items()}
    return Tasks(values, tuple(packed["names"]), tuple(packed["groups"]))
