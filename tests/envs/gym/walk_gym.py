"""A plain Gymnasium environment, what can be done to it, and things that are taken for environments and are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from metarl.tasks import Tasks

Change = Callable[["Walk", str, list[Any]], Any]
"""Gets the environment, "reset" or "step", and what it would return as a list; returns what it returns instead."""


class Walk(gym.Env):
    """Push a point along a line, for less reward the further it is from the task's goal; nothing is wrong here.

    The observation is that of `space`: place, speed and age, in whatever form.
    """

    def __init__(self, space: spaces.Space | None = None, actions: spaces.Space | None = None) -> None:
        self.observation_space = spaces.Box(-20.0, 20.0, (3,), np.float32) if space is None else space
        self.action_space = spaces.Discrete(3) if actions is None else actions
        self.goal, self.place, self.speed, self.age = 0.0, 0.0, 0.0, 0

    def look(self) -> Any:
        return _seen_as(self.observation_space, self)

    def say(self) -> dict[str, Any]:
        mask = np.ones(3, np.int8)
        mask[self.age % 3] = 0
        return {"success": abs(self.place - self.goal) < 0.2, "action_mask": mask}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.speed, self.age = float(self.np_random.uniform(-0.1, 0.1)), 0.0, 0
        return self.look(), self.say()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        push = np.asarray(action, np.float64).ravel()
        self.speed = 0.5 * self.speed + 0.1 * float(push @ np.arange(1, len(push) + 1)) - 0.05
        self.place, self.age = self.place + self.speed, self.age + 1
        return self.look(), -abs(self.place - self.goal), False, False, self.say()


def _seen_as(space: spaces.Space, env: Walk) -> Any:
    """Return what the environment shows as an element of `space`."""
    if isinstance(space, spaces.Dict):
        return {key: _seen_as(part, env) for key, part in space.items()}
    if isinstance(space, spaces.Discrete):
        return int(space.start) + env.age % int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return np.array([env.age % 2, int(env.place > 0)])
    if isinstance(space, spaces.MultiBinary):
        return np.array([env.age % 2, env.place > 0], np.int8)
    numbers = np.array([env.place, env.speed, env.age, 0.0, 0.0, 0.0])[: np.prod(space.shape, dtype=int)]
    return (np.abs(numbers) if space.dtype.kind == "u" else numbers).astype(space.dtype).reshape(space.shape)


class Damaged(Walk):
    """A walk whose `reset` and `step` return something else."""

    def __init__(self, case: Case) -> None:
        super().__init__(case.space, case.actions)
        self.change = case.change

    def reset(self, **options: Any) -> Any:
        result = list(super().reset(**options))
        return tuple(result) if self.change is None else self.change(self, "reset", result)

    def step(self, action: Any) -> Any:
        result = list(super().step(action))
        return tuple(result) if self.change is None else self.change(self, "step", result)


@dataclass
class Case:
    """One fault."""

    says: str
    change: Change | None = None
    space: spaces.Space | None = None
    actions: spaces.Space | None = None
    make: Callable[[Tasks], Any] | None = None
    """In place of an environment with that change and those spaces."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of `GymWorld`."""


def obs(value: Any, at: str = "both", age: int | None = None) -> Change:
    """Show `value` (or what it makes of the true one) in place of the observation, always or at one age."""

    def change(env: Walk, call: str, result: list[Any]) -> Any:
        if at in ("both", call) and age in (None, env.age):
            result[0] = value(result[0]) if callable(value) else value
        return tuple(result)

    return change


def part(index: int, value: Any) -> Change:
    """Let `step` return `value` at `index`."""

    def change(env: Walk, call: str, result: list[Any]) -> Any:
        if call == "step":
            result[index] = value
        return tuple(result)

    return change


def said(key: str, value: Any, at: str = "both") -> Change:
    """Say `value` in info, or drop the entry if it is None."""

    def change(env: Walk, call: str, result: list[Any]) -> Any:
        if at in ("both", call):
            result[-1].pop(key)
            result[-1] |= {} if value is None else {key: value}
        return tuple(result)

    return change


def float32(numbers: list[float]) -> np.ndarray:
    return np.array(numbers, np.float32)


class TwoPlayers:
    """A parallel environment of PettingZoo: methods where spaces should be, dicts of what each agent sees."""

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(-1.0, 1.0, (3,))

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return {"a": np.zeros(3), "b": np.zeros(3)}, {"a": {}, "b": {}}

    def step(self, actions: Any) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Limited(Damaged):
    """Truncated after four steps by its own doing, without a spec that says so."""

    def step(self, action: Any) -> Any:
        result = super().step(action)
        return (*result[:3], self.age >= 4, result[4])


class Unseeded(Walk):
    """An environment from before resets had seeds."""

    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


def of_two_kinds(task: Tasks) -> Walk:
    """Return a walk with more actions for goals to the right."""
    return Walk(actions=spaces.Discrete(5 if float(task.values["goal"][0]) > 0 else 3))


def fail(task: Tasks) -> Any:
    raise RuntimeError("no such level")


def with_limit(n_steps: int) -> Callable[[Tasks], Any]:
    spec = gym.envs.registration.EnvSpec("walk-v0", entry_point=Walk, max_episode_steps=n_steps)
    return lambda task: gym.make(spec, disable_env_checker=True)


def energy(value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what puts `value` into an entry two levels down."""
    return lambda seen: seen | {"body": seen["body"] | {"energy": value}}
