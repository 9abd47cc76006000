"""A World as a stable-baselines3 VecEnv: fixed tasks, one per env, in NumPy, ends of episodes told as SB3 wants them.

SB3 resets an env in the step that ended its episode, as a World does, and wants to hear of it through `infos`:
`terminal_observation` is the observation reached, and `TimeLimit.truncated` is True where time ran out although the
task had not ended, so that the value of the observation reached may stand in for what was cut off. Needs the extra
`baselines`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from metarl.errors import ConfigError
from metarl.spaces import flat_dim, flatten, torch_dtype
from metarl.tasks import Tasks
from metarl.world import Obs, World

Indices = int | Iterable[int] | None


class WorldVecEnv(VecEnv):  # type: ignore[misc, unused-ignore]  # SB3 is an extra: without it, VecEnv is unknown
    """B envs of a World, each with a task that stays the same.

    Observations are those that our own agents get, flat float32 [B, obs_dim]. Discrete and MultiDiscrete actions are
    counted from 0, whatever the world counts from. Every array that is handed over is a copy: SB3 adds to rewards in
    place.
    """

    def __init__(self, world: World, tasks: Tasks, *, seed: int = 0) -> None:
        """Give the tasks to the envs; `seed` is that of the first reset, unless `seed()` is called before it.

        Raises: ConfigError for a number of tasks, an observation or an action space that SB3 cannot use.
        """
        self.world, self._actions = world, torch.zeros(0)
        self._action_start = first_action(world.single_action_space)
        size = flat_dim(world.single_observation_space)
        world.set_tasks(tasks)
        super().__init__(
            world.num_envs,
            spaces.Box(-np.inf, np.inf, (size,), np.float32),
            _counted_from_zero(world.single_action_space),
        )
        self.seed(seed)

    def reset(self) -> NDArray[np.float32]:
        """Start new episodes in all envs and return their first observations [B, obs_dim].

        Raises: ConfigError for a world whose actions are sometimes illegal, which these algorithms cannot be told.
        """
        obs, info = self.world.reset(seed=self._seeds[0])
        if "action_mask" in info:
            raise ConfigError(
                f"world {self.world.name!r} forbids some actions at some times, which SB3's algorithms cannot be told; "
                f"use an agent of this package, or a world where every action is legal"
            )
        self._reset_seeds()
        self.reset_infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        return self._flat(obs)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        space, device = self.world.single_action_space, self.world.device
        given = torch.as_tensor(np.array(actions), device=device).to(torch_dtype(space))
        self._actions = given.reshape(self.num_envs, *(space.shape or ())) + self._action_start.to(device)

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step all envs; return observations [B, obs_dim] (after resets), rewards [B], dones [B] and infos."""
        obs, reward, terminated, truncated, info = self.world.step(self._actions)
        done = _array(terminated | truncated)
        cut_short = _array(truncated & ~terminated)
        reached = self._flat(info["final_obs"])
        success = _array(info["success"]) if self.world.has_success else None
        infos: list[dict[str, Any]] = []
        for i in range(self.num_envs):
            one: dict[str, Any] = {"TimeLimit.truncated": bool(cut_short[i])}
            if success is not None:
                one["is_success"] = bool(success[i])
            if done[i]:
                one["terminal_observation"] = reached[i]
            infos.append(one)
        return self._flat(obs), _array(reward).astype(np.float32), done, infos

    def close(self) -> None:
        """Close the world."""
        self.world.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return the world's attribute, once per env; a world draws no pictures for SB3."""
        value = None if attr_name == "render_mode" else getattr(self.world, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Refuse: envs of a world share their attributes. Raises ConfigError."""
        raise ConfigError(f"envs of world {self.world.name!r} share {attr_name!r}; set it before wrapping the world")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Refuse: envs of a world are no objects of their own. Raises ConfigError."""
        raise ConfigError(f"envs of world {self.world.name!r} are no objects; call {method_name!r} on the world itself")

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """Return False for each env."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[None]:
        """Return no picture for each env."""
        return [None] * self.num_envs

    def _flat(self, obs: Obs) -> NDArray[np.float32]:
        return _array(flatten(self.world.single_observation_space, obs))


def _array(value: Tensor) -> NDArray[Any]:
    """Return a copy of `value` in NumPy: a World's tensors are never written to, SB3's arrays are."""
    return np.array(value.detach().cpu().numpy())


def first_action(space: gym.Space[Any]) -> Tensor:
    """Return what SB3's action 0 is in the world: 0 for a Box."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return torch.as_tensor(np.array(space.start), dtype=torch.int64)
    return torch.zeros((), dtype=torch.float32)


def _counted_from_zero(space: gym.Space[Any]) -> gym.Space[Any]:
    """Return the action space as SB3 sees it; raises ConfigError for one that it cannot use."""
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec)
    if isinstance(space, spaces.Box) and np.isfinite(space.low).all() and np.isfinite(space.high).all():
        return space
    raise ConfigError(f"SB3 needs Discrete, MultiDiscrete or bounded Box actions, got {space}; bound the action space")
