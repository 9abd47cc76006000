"""A few Gymnasium environments stepped one after the other: what one process of a `GymWorld` does."""

from __future__ import annotations

import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.errors import ConfigError
from metarl.seeding import derive
from metarl.tasks import Tasks

from .opengl import drawing

Env = gym.Env[Any, Any]
Path = tuple[str, ...]
"""Keys that lead to one leaf of a (nested) Dict space; () for a plain space."""

MAX_SPARE = 32
"""Spare environments a process keeps for tasks that need another kind of environment; the oldest is closed first."""


@dataclass(frozen=True)
class Hooks:
    """How to make an environment and move it from task to task; all picklable, for they travel to the processes."""

    make_env: Callable[[Tasks], Env]
    """Builds an environment that can run the given task (a batch of one) and those with the same key."""
    apply_task: Callable[[Env, Tasks], None]
    """Puts the task into the environment; always followed by a reset."""
    env_key: Callable[[Tasks], str] | None = None
    """Kind of environment a task needs; None: one kind for all."""
    snapshot: Callable[[Env], dict[str, Any]] | None = None
    """Returns all mid-episode state as tensors and plain values."""
    restore: Callable[[Env, dict[str, Any]], None] | None = None
    """Puts such a state back into an environment that has the same task and was just reset."""
    render: Callable[[Env], NDArray[np.uint8]] | None = None
    """Returns an RGB picture; None: `env.render()`."""

    def key(self, task: Tasks) -> str:
        """Return the kind of environment that `task` (a batch of one) needs."""
        return "" if self.env_key is None else self.env_key(task)


@dataclass(frozen=True)
class Layout:
    """Shapes and dtypes of the arrays that a world and its processes share, one row per copy."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    n_copies: int
    horizon: int
    has_success: bool
    has_action_mask: bool

    def obs_leaves(self) -> list[tuple[Path, gym.Space[Any]]]:
        """Return path and space of each plain part of the observation."""
        return leaves(self.observation_space)

    def arrays(self) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
        """Return name -> (shape, dtype)."""
        b = self.n_copies
        out: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "action": ((b, *(self.action_space.shape or ())), leaf_dtype(self.action_space)),
            "reward": ((b,), np.float32),
            "terminated": ((b,), np.bool_),
            "truncated": ((b,), np.bool_),
            "age": ((b,), np.int64),
            "busy": ((b,), np.bool_),
        }
        for i, (_, space) in enumerate(self.obs_leaves()):
            for name in ("obs", "final"):
                out[f"{name}/{i}"] = ((b, *(space.shape or ())), leaf_dtype(space))
        if self.has_success:
            out["success"] = ((b,), np.bool_)
        if self.has_action_mask:
            out["mask"] = ((b, int(self.action_space.n)), np.bool_)  # type: ignore[attr-defined]
        return out


def leaves(space: gym.Space[Any], path: Path = ()) -> list[tuple[Path, gym.Space[Any]]]:
    """Return path and space of each plain part of `space`; raises ConfigError for an unsupported kind."""
    if isinstance(space, spaces.Dict):
        return [leaf for key, part in space.items() for leaf in leaves(part, (*path, key))]
    if isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return [(path, space)]
    raise ConfigError(
        f"space {space} is not supported; use Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these"
    )


def leaf_dtype(space: gym.Space[Any]) -> type[np.generic]:
    """Return float32 for Box and int64 for the discrete spaces: what agents see (`metarl.spaces.torch_dtype`)."""
    return np.float32 if isinstance(space, spaces.Box) else np.int64


class CopyFailure(Exception):
    """An environment raised: which copy, doing what, and the traceback as text (it crosses processes)."""

    def __init__(self, copy: int, task: str, age: int, error: str, trace: str) -> None:
        super().__init__(copy, task, age, error, trace)
        self.copy, self.task, self.age, self.error, self.trace = copy, task, age, error, trace


class Chunk:
    """Copies `rows` of a world: owns their environments and writes their rows of the shared arrays."""

    def __init__(self, hooks: Hooks, layout: Layout, arrays: Mapping[str, NDArray[Any]], rows: range) -> None:
        self.hooks, self.layout, self.arrays, self.rows = hooks, layout, arrays, rows
        self.paths = [path for path, _ in layout.obs_leaves()]
        self.box = isinstance(layout.action_space, spaces.Box)
        self.scalar_action = isinstance(layout.action_space, spaces.Discrete)
        self.envs: dict[int, Env] = {}
        self.keys: dict[int, str] = {}
        self.spare: OrderedDict[int, tuple[str, Env]] = OrderedDict()
        self.current: dict[int, Tasks] = {}
        self.pending: dict[int, Tasks] = {}
        self.seeds = dict.fromkeys(rows, 0)
        self.episodes = dict.fromkeys(rows, 0)

    # ---------------------------------------------------------------- verbs

    def set_tasks(self, tasks: Tasks) -> None:
        """Remember the next task of each row; it is taken up at that row's next reset."""
        self.pending = {row: tasks[i] for i, row in enumerate(self.rows)}

    def reset(self, seed: int | None, rows: Sequence[int]) -> None:
        """Start new episodes in `rows`; a seed starts their streams afresh."""
        for row in rows:
            # All leavers first, so that an environment which one copy gives up can serve another at once.
            if row in self.envs and row in self.pending and self.hooks.key(self.pending[row]) != self.keys[row]:
                self._release(row)
        for row in rows:
            if seed is not None:
                self.seeds[row], self.episodes[row] = derive(seed, "copy", row), -1
            self._guarded(row, self._reset_row)

    def step(self) -> None:
        """Advance all rows by one step, resetting those whose episode ended."""
        for row in self.rows:
            self._guarded(row, self._step_row)

    def state(self) -> dict[str, Any]:
        """Return everything that decides what comes next, one entry per row."""
        hook = self.hooks.snapshot
        assert hook is not None
        return {
            "envs": [hook(self.envs[row]) for row in self.rows],
            "current": [self.current[row].to_json() for row in self.rows],
            "pending": [self.pending[row].to_json() if row in self.pending else None for row in self.rows],
            "seeds": [self.seeds[row] for row in self.rows],
            "episodes": [self.episodes[row] for row in self.rows],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go back to `state`, which has one entry per row."""
        for i, row in enumerate(self.rows):
            self.pending[row] = Tasks.from_json(state["current"][i])
            self.seeds[row], self.episodes[row] = state["seeds"][i], state["episodes"][i] - 1
        self.reset(None, list(self.rows))
        hook = self.hooks.restore
        assert hook is not None
        for i, row in enumerate(self.rows):
            self._guarded(row, lambda r, i=i: hook(self.envs[r], state["envs"][i]))  # type: ignore[misc]
            if state["pending"][i] is not None:
                self.pending[row] = Tasks.from_json(state["pending"][i])

    def render(self) -> NDArray[np.uint8]:
        """Return a picture of this chunk's first row."""
        env = self.envs[self.rows[0]]
        with drawing(f"copy {self.rows[0]}"):
            return np.asarray(env.render() if self.hooks.render is None else self.hooks.render(env))

    def close(self) -> None:
        """Close all environments."""
        for env in [*self.envs.values(), *(env for _, env in self.spare.values())]:
            env.close()
        self.envs.clear()
        self.spare.clear()

    # ---------------------------------------------------------------- one row

    def _guarded(self, row: int, action: Callable[[int], None]) -> None:
        """Run `action` on one row; whatever it raises becomes a CopyFailure that says where."""
        self.arrays["busy"][row] = True
        try:
            action(row)
        except Exception as error:
            task = self.pending.get(row) or self.current.get(row)
            name = task.names[0] if task is not None else "none"
            text = f"{type(error).__name__}: {error}"
            raise CopyFailure(row, name, int(self.arrays["age"][row]), text, traceback.format_exc()) from error
        self.arrays["busy"][row] = False

    def _reset_row(self, row: int) -> None:
        task = self.pending.get(row)
        if task is not None:
            self._place(row, task)
            self.current[row] = task
            del self.pending[row]
        self.episodes[row] += 1
        # Each episode has its own seed, so a copy's randomness does not depend on which environment object serves it.
        seed = derive(self.seeds[row], "episode", self.episodes[row]) % 2**31
        obs, info = self.envs[row].reset(seed=seed)
        self.arrays["age"][row] = 0
        self._write("obs", row, obs)
        self._write_mask(row, info)

    def _place(self, row: int, task: Tasks) -> None:
        """Give `row` an environment of the kind that `task` needs, with the task applied."""
        key = self.hooks.key(task)
        if row in self.envs and self.keys[row] != key:
            self._release(row)
        if row not in self.envs:
            found = next((at for at, (kind, _) in self.spare.items() if kind == key), None)
            self.envs[row] = self.hooks.make_env(task) if found is None else self.spare.pop(found)[1]
            self.keys[row] = key
        self.hooks.apply_task(self.envs[row], task)

    def _release(self, row: int) -> None:
        env = self.envs.pop(row)
        self.spare[id(env)] = (self.keys.pop(row), env)
        if len(self.spare) > MAX_SPARE:
            self.spare.popitem(last=False)[1][1].close()

    def _step_row(self, row: int) -> None:
        arrays = self.arrays
        chosen = arrays["action"][row]
        action = int(chosen) if self.scalar_action else chosen.copy()
        obs, reward, terminated, truncated, info = self.envs[row].step(action)
        age = arrays["age"][row] + 1
        arrays["age"][row] = age
        arrays["reward"][row] = reward
        arrays["terminated"][row] = terminated
        ended_by_time = (truncated or age >= self.layout.horizon) and not terminated
        arrays["truncated"][row] = ended_by_time
        if self.layout.has_success:
            arrays["success"][row] = bool(info["success"])
        self._write("final", row, obs)
        if terminated or ended_by_time:
            self._reset_row(row)
        else:
            self._write("obs", row, obs)
            self._write_mask(row, info)

    def _write(self, name: str, row: int, obs: Any) -> None:
        for i, path in enumerate(self.paths):
            value = obs
            for key in path:
                value = value[key]
            self.arrays[f"{name}/{i}"][row] = value

    def _write_mask(self, row: int, info: Mapping[str, Any]) -> None:
        if self.layout.has_action_mask:
            self.arrays["mask"][row] = info["action_mask"]
