"""Gymnasium environments stepped serially: what one process of a `GymWorld` does."""

from __future__ import annotations

import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import isfinite
from operator import getitem
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.envs.opengl import drawing
from metarl.errors import shortened
from metarl.seeding import derive
from metarl.tasks import Tasks

from . import contract as gym_contract
from .contract import MOST, Breach, Leaf, read_flag, read_reward

Env = gym.Env[Any, Any]

_FIVE = "five (observation, reward, terminated, truncated, info)"
_OLD_STEP = "the old gym API gave four, with one `done`; wrap such an environment"
_OLD_RESET = "the old gym API gave the observation alone; wrap such an environment"

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
    """Shapes and dtypes of the arrays that a world and its processes share, one row per env."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    num_envs: int
    horizon: int
    has_success: bool
    has_action_mask: bool
    fixed_horizon: bool

    def leaves(self) -> list[Leaf]:
        """Return each plain part of the observation."""
        return gym_contract.observation_leaves(self.observation_space)

    def arrays(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return name -> (shape, dtype). Actions are in the environments' own dtype, observations in the World's."""
        b = self.num_envs
        out: dict[str, tuple[tuple[int, ...], Any]] = {
            "action": ((b, *(self.action_space.shape or ())), self.action_space.dtype),
            "reward": ((b,), np.float32),
            "terminated": ((b,), np.bool_),
            "truncated": ((b,), np.bool_),
            "age": ((b,), np.int64),
            "busy": ((b,), np.bool_),
        }
        for i, leaf in enumerate(self.leaves()):
            for name in ("obs", "final"):
                dtype = np.float32 if isinstance(leaf.space, spaces.Box) else np.int64
                out[f"{name}/{i}"] = ((b, *leaf.shape), dtype)
        if self.has_success:
            out["success"] = ((b,), np.bool_)
        if self.has_action_mask:
            out["mask"] = ((b, int(self.action_space.n)), np.bool_)  # type: ignore[attr-defined]
        return {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in out.items()}

    @property
    def given(self) -> Callable[[Any], Any]:
        """What turns a row of the array of actions into what an environment gets: an int, or an array of its own."""
        return int if isinstance(self.action_space, spaces.Discrete) else np.array

    def checked(self, actions: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return actions [B, ...] in the environments' own dtype and bounds, and which of them cannot be meant.

        Numbers outside a Box are clipped to its edge, in its own dtype: the float32 next to 0.1 lies above it. In a Box
        of integers a number counts as the nearest integer.
        """
        space = self.action_space
        if isinstance(space, spaces.Box):
            return _in_box(space, actions)
        if actions.dtype.kind not in "iu":
            return actions, np.ones(actions.shape, np.bool_)
        first = space.start  # type: ignore[attr-defined]
        n = space.n if isinstance(space, spaces.Discrete) else space.nvec  # type: ignore[attr-defined]
        return actions, (actions < first) | (actions >= first + n)


def _in_box(space: spaces.Box, actions: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return actions moved into `space`, and which entries are NaN or have no bound to stop at."""
    if space.dtype == np.float32:
        inside: NDArray[Any] = np.clip(actions, space.low, space.high)
        return inside, ~np.isfinite(inside)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    inside = np.clip(actions.astype(np.float64), low, high)
    bad = ~np.isfinite(inside)
    if space.dtype.kind == "f":
        return inside.astype(space.dtype), bad
    inside = np.rint(np.where(bad, low, inside))
    # The limits of int64 are no float64; they are taken over as they are.
    within = np.where((inside > low) & (inside < high), inside, 0.0).astype(space.dtype)
    return np.where(inside >= high, space.high, np.where(inside <= low, space.low, within)), bad


class EnvFailure(Exception):
    """An environment raised: which env, doing what, and the traceback as text (it crosses processes)."""

    def __init__(self, env: int, task: str, age: int, error: str, trace: str) -> None:
        super().__init__(env, task, age, error, trace)
        self.env, self.task, self.age, self.error, self.trace = env, task, age, error, trace


class Chunk:
    """Envs `rows` of a world: owns their environments and writes their rows of the shared arrays."""

    def __init__(self, hooks: Hooks, layout: Layout, arrays: Mapping[str, NDArray[Any]], rows: range) -> None:
        self.hooks, self.layout, self.arrays, self.rows = hooks, layout, arrays, rows
        self.leaves = layout.leaves()
        self.targets = {name: [arrays[f"{name}/{i}"] for i in range(len(self.leaves))] for name in ("obs", "final")}
        self.pairs = list(zip(self.targets["obs"], self.targets["final"], strict=True))
        self.actions, self.rewards, self.ages, self.busy = (arrays[k] for k in ("action", "reward", "age", "busy"))
        self.terminated, self.truncated = arrays["terminated"], arrays["truncated"]
        self.given = layout.given
        space = layout.observation_space
        self.nested = space if isinstance(space, spaces.Dict) else None
        # Views of the rows' numbers where they can turn NaN; rows are evenly spaced.
        self.reached = [
            target[rows.start : rows.stop : rows.step]
            for leaf, target in zip(self.leaves, self.targets["final"], strict=True)
            if not leaf.whole
        ]
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

    def reset(self, seed: int | None, rows: Sequence[int], first: int = 0) -> None:
        """Start new episodes in `rows`; a seed starts their streams afresh, those of env `first` + row."""
        for row in rows:  # all leavers first, so that an environment which one env gives up can serve another at once
            self._guarded(row, self._leave)
        for row in rows:
            if seed is not None:
                self.seeds[row], self.episodes[row] = derive(seed, "copy", first + row), -1
            self._guarded(row, self._reset_row)

    def step(self) -> None:
        """Advance all rows by one step, resetting those whose episode ended."""
        for row in self.rows:
            self._guarded(row, self._step_row)
        if self._surely_finite():
            return
        for row in self.rows:
            self._guarded(row, self._check_reached)

    def state(self) -> dict[str, Any]:
        """Return everything that decides what comes next, one entry per row."""
        hook = self.hooks.snapshot
        assert hook is not None
        saved: list[dict[str, Any]] = []
        for row in self.rows:
            self._guarded(row, lambda r: saved.append(hook(self.envs[r])))
        return {
            "envs": saved,
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
        with drawing(f"env {self.rows[0]}"):
            return np.asarray(env.render() if self.hooks.render is None else self.hooks.render(env))

    def close(self) -> None:
        """Close all environments."""
        for env in [*self.envs.values(), *(env for _, env in self.spare.values())]:
            env.close()
        self.envs.clear()
        self.spare.clear()

    # ---------------------------------------------------------------- one row

    def _guarded(self, row: int, action: Callable[[int], None]) -> None:
        """Run `action` on one row; whatever it raises becomes a EnvFailure that says where."""
        self.busy[row] = True
        try:
            action(row)
        except (Exception, SystemExit) as error:  # code that ends the process is no reason to end a run in silence
            task = self.pending.get(row) or self.current.get(row)
            name = task.names[0] if task is not None else "none"
            text, trace = " ".join(str(error).split()), ""
            if not isinstance(error, Breach):
                text, trace = f"{type(error).__name__}: {shortened(text)}", traceback.format_exc()
            raise EnvFailure(row, name, int(self.ages[row]), text, trace) from error
        self.busy[row] = False

    def _reset_row(self, row: int) -> None:
        task = self.pending.get(row)
        if task is not None:
            self._place(row, task)
            self.current[row] = task
            del self.pending[row]
        self.episodes[row] += 1
        # Each episode has its own seed, so an env's randomness does not depend on which environment object serves it.
        seed = derive(self.seeds[row], "episode", self.episodes[row]) % 2**31
        self.ages[row] = 0
        result = self.envs[row].reset(seed=seed)
        obs, info = gym_contract.unpack(result, 2, "reset", "pair (observation, info)", _OLD_RESET)
        self._write("obs", row, obs)
        self._write_mask(row, info)
        self._check_numbers("obs", row, " of the reset")

    def _leave(self, row: int) -> None:
        """Give up a row's environment if its next task needs another kind."""
        if row in self.envs and row in self.pending and self.hooks.key(self.pending[row]) != self.keys[row]:
            self._release(row)

    def _place(self, row: int, task: Tasks) -> None:
        """Give `row` an environment of the kind that `task` needs, with the task applied."""
        key = self.hooks.key(task)
        if row in self.envs and self.keys[row] != key:
            self._release(row)
        if row not in self.envs:
            found = next((at for at, (kind, _) in self.spare.items() if kind == key), None)
            self.envs[row] = self._new_env(task) if found is None else self.spare.pop(found)[1]
            self.keys[row] = key
        self.hooks.apply_task(self.envs[row], task)

    def _new_env(self, task: Tasks) -> Env:
        """Build an environment; raises Breach if it is none, has other actions, or is in use already."""
        env, layout = self.hooks.make_env(task), self.layout
        gym_contract.check_env(env, layout.action_space, least_steps=layout.horizon if layout.fixed_horizon else 0)
        if any(other is env for other in [*self.envs.values(), *(spare for _, spare in self.spare.values())]):
            raise Breach(
                "make_env() returned an environment that it had returned before, expected a new one at each call; "
                "build it inside the function"
            )
        return env

    def _release(self, row: int) -> None:
        env = self.envs.pop(row)
        self.spare[id(env)] = (self.keys.pop(row), env)
        if len(self.spare) > MAX_SPARE:
            self.spare.popitem(last=False)[1][1].close()

    def _step_row(self, row: int) -> None:
        layout, env = self.layout, self.envs[row]
        result = env.step(self.given(self.actions[row]))
        if type(result) is not tuple or len(result) != 5 or type(result[4]) is not dict:
            result = gym_contract.unpack(result, 5, "step", _FIVE, _OLD_STEP)
        obs, reward, ended, cut, info = result
        self.rewards[row] = reward if type(reward) is float and -MOST <= reward <= MOST else read_reward(reward)
        terminated = ended if type(ended) is bool else read_flag(ended, "terminated")
        truncated = cut if type(cut) is bool else read_flag(cut, "truncated")
        if layout.has_success:
            self.arrays["success"][row] = gym_contract.read_success(info)
        self._write("final", row, obs)
        age = int(self.ages[row]) + 1
        if layout.fixed_horizon and age < layout.horizon and (terminated or truncated):
            raise gym_contract.early_end("terminated" if terminated else "truncated", age, layout.horizon, env)
        truncated = (truncated or age >= layout.horizon) and not terminated
        self.terminated[row], self.truncated[row] = terminated, truncated
        if terminated or truncated:
            self._check_numbers("final", row)
            self._reset_row(row)
        else:
            self.ages[row] = age
            for shown, reached in self.pairs:
                shown[row] = reached[row]
            self._write_mask(row, info)

    # ---------------------------------------------------------------- observations

    def _write(self, name: str, row: int, obs: Any) -> None:
        """Hold an observation to its space and write it into a row."""
        targets = self.targets[name]
        if self.nested is None:
            targets[0][row] = self.leaves[0].read(obs)
            return
        gym_contract.check_keys(self.nested, obs)
        for leaf, target in zip(self.leaves, targets, strict=True):
            target[row] = leaf.read(reduce(getitem, leaf.path, obs))

    def _write_mask(self, row: int, info: Mapping[str, Any]) -> None:
        if self.layout.has_action_mask:
            mask = self.arrays["mask"]
            mask[row] = gym_contract.read_mask(info, mask.shape[1])

    def _surely_finite(self) -> bool:
        """Return False if a number that some row reached may be NaN or infinite; one product for all rows."""
        return all([isfinite(np.vdot(numbers, numbers)) for numbers in self.reached])

    def _check_reached(self, row: int) -> None:
        """Raise Breach if what a row reached is not finite, as of the step that reached it."""
        if self.ages[row]:  # otherwise its episode ended there, and has been looked at
            self.ages[row] -= 1
            self._check_numbers("final", row)
            self.ages[row] += 1

    def _check_numbers(self, name: str, row: int, which: str = "") -> None:
        """Raise Breach naming the entry of a row's observation that is not finite; `which` comes behind its name."""
        for leaf, target in zip(self.leaves, self.targets[name], strict=True):
            value = np.atleast_1d(target[row])
            bad = np.argwhere(~np.isfinite(value))
            if len(bad):
                at = tuple(bad[0].tolist())
                raise Breach(
                    f"{leaf.name}{which} is {float(value[at])} at index {list(at)}, expected finite numbers (float32); "
                    f"mend it at its source"
                )
