"""What upstream's own environments do, written down: goals, actions and every number they return, in float64.

Upstream runs once per recording, one environment at a time, as its authors meant it to be used. Any core, in any batch,
can then be played the same actions and compared (`parity_replay`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.envs.metaworld.program import ACTION_SIZE, INFO, OBS_SIZE
from metarl.envs.metaworld.tasks import GOAL_WIDTH, class_names
from metarl.envs.metaworld.upstream import apply_task, make_env
from metarl.seeding import derive
from metarl.tasks import Tasks

Floats = NDArray[np.float64]

CLIPPED = ("expert", "noisy", "random", "zero", "saturated")
"""Behaviours that stay within the action space: upstream's scripted expert, the same with noise of scale 0.5, uniform
draws, nothing at all, and entries of ±1 held for eight steps, which press hand and gripper against whatever is there.
"""

BEYOND = "beyond"
"""The expert's actions as they come (up to ±10 and more) plus uniform noise of ±2: upstream clips some uses of them."""

BEHAVIOURS = (*CLIPPED, BEYOND)

_NOISE, _HELD_STEPS = 0.5, 8


@dataclass(frozen=True, eq=False)
class Recording:
    """Consecutive episodes of one upstream environment: E of them, T steps each, one goal per episode."""

    behaviour: str
    tasks: Tasks
    """E tasks of one class."""
    first: Floats
    """[E, 39], what each reset returned."""
    actions: NDArray[np.float32]
    """[E, T, 4], as upstream got them."""
    obs: Floats
    """[E, T, 39]."""
    reward: Floats
    """[E, T]."""
    info: Floats
    """[E, T, 7], in the order of `INFO`."""

    @property
    def name(self) -> str:
        """Return the class."""
        return self.tasks.groups[0]

    @property
    def n_steps(self) -> int:
        """Return E * T."""
        return int(self.reward.size)


def draw_tasks(name: str, n: int, seed: int) -> Tasks:
    """Return `n` tasks of a class whose goals upstream drew itself at resets, as its benchmarks do."""
    env = make_env(_class_example(name), reward_version="v2")
    try:
        return _draw_from(env, name, n, seed)
    finally:
        env.close()


def _class_example(name: str) -> Tasks:
    index = torch.tensor([class_names().index(name)])
    return Tasks.of(name, class_index=index, goal=torch.zeros(1, GOAL_WIDTH), goal_size=torch.tensor([0]))


def _draw_from(env: Any, name: str, n: int, seed: int) -> Tasks:
    upstream: Any = env.unwrapped
    kept = upstream._set_task_called, upstream._freeze_rand_vec, upstream.seeded_rand_vec
    upstream._set_task_called, upstream._freeze_rand_vec, upstream.seeded_rand_vec = True, False, True
    upstream.seed(derive(seed, "goals", name) % 2**31)
    goals, size = torch.zeros(n, GOAL_WIDTH, dtype=torch.float64), 0
    for i in range(n):
        upstream.reset()
        size = len(upstream._last_rand_vec)
        goals[i, :size] = torch.from_numpy(np.asarray(upstream._last_rand_vec, dtype=np.float64))
    upstream._set_task_called, upstream._freeze_rand_vec, upstream.seeded_rand_vec = kept
    index = torch.full((n,), class_names().index(name))
    return Tasks.of(name, class_index=index, goal=goals, goal_size=torch.full((n,), size))


def record_class(
    name: str, reward_version: str, behaviours: tuple[str, ...], n_goals: int, n_episodes: int, n_steps: int, seed: int
) -> list[Recording]:
    """Record one class: for each behaviour and goal, `n_episodes` in a row that start there and move on to the next.

    All recordings come from one environment, one after another, so that each goal follows other goals.
    """
    env = make_env(_class_example(name), reward_version=reward_version)
    try:
        tasks = _draw_from(env, name, max(n_goals, min(n_episodes, 2)), seed)
        return [
            record(env, tasks[[(goal + e) % len(tasks) for e in range(n_episodes)]], behaviour, n_steps, seed)
            for behaviour in behaviours
            for goal in range(n_goals)
        ]
    finally:
        env.close()


def record(env: Any, tasks: Tasks, behaviour: str, n_steps: int, seed: int) -> Recording:
    """Run one episode of `n_steps` (at most 500) per task in an upstream environment of their class."""
    n = len(tasks)
    first, obs = np.zeros((n, OBS_SIZE)), np.zeros((n, n_steps, OBS_SIZE))
    reward, info = np.zeros((n, n_steps)), np.zeros((n, n_steps, len(INFO)))
    actions = np.zeros((n, n_steps, ACTION_SIZE), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experts warn of their own large actions
        for e in range(n):
            apply_task(env, tasks[e])
            seen, _ = env.reset()
            first[e] = seen
            player = Player(tasks.groups[e], behaviour, derive(seed, behaviour, tasks[e].fingerprint(), e))
            for t in range(n_steps):
                actions[e, t] = player.act(np.concatenate([seen[:-3], env.unwrapped._get_pos_goal()]))
                seen, reward[e, t], _, _, told = env.step(actions[e, t].copy())
                obs[e, t], info[e, t] = seen, [told[key] for key in INFO]
    return Recording(behaviour, tasks, first, actions, obs, reward, info)


class Player:
    """Chooses the actions of one episode; its draws depend on the seed alone."""

    def __init__(self, name: str, behaviour: str, seed: int) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        self.behaviour = behaviour
        self._expert: Any = ENV_POLICY_MAP[name]()  # type: ignore[abstract]  # typed as the base class
        self._random = np.random.default_rng(seed)
        self._held, self._left = np.zeros(ACTION_SIZE), 0

    def act(self, obs: Floats) -> NDArray[np.float32]:
        """Return [4], within ±1 unless the behaviour is `BEYOND`; the last 3 of the 39 entries show the goal.

        Worlds hide the goal; an expert that cannot see it goes elsewhere and touches little.
        """
        action = np.asarray(self._wish(obs), dtype=np.float32)
        return action if self.behaviour == BEYOND else np.clip(action, np.float32(-1), np.float32(1))

    def _wish(self, obs: Floats) -> Floats:
        if self.behaviour == "zero":
            return np.zeros(ACTION_SIZE)
        if self.behaviour == "random":
            return self._random.uniform(-1, 1, ACTION_SIZE)
        if self.behaviour == "saturated":
            if not self._left:
                self._held, self._left = self._random.choice([-1.0, 1.0], ACTION_SIZE), _HELD_STEPS
            self._left -= 1
            return self._held
        action: Floats = np.asarray(self._expert.get_action(obs), dtype=np.float64)
        if self.behaviour == "noisy":
            return action + self._random.normal(0, _NOISE, ACTION_SIZE)
        return action + self._random.uniform(-2, 2, ACTION_SIZE) if self.behaviour == BEYOND else action
