"""What every contender of a benchmark does: episodes of upstream environments, recorded once.

A contender replays windows of these episodes. The actions are computed beforehand, so that no policy is timed, and all
contenders do the same work in the same states, however many envs they have.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metarl import envs
from metarl.envs.metaworld.upstream import apply_task, make_env
from metarl.envs.metaworld.upstream_state import snapshot
from metarl.errors import ConfigError
from metarl.seeding import derive
from metarl.tasks import Tasks

REWARD_VERSION = "v2"
"""Upstream's default, and what its experts were written for."""

MODEL_FIELDS = ("body_pos", "body_quat", "geom_pos")
"""What a goal may change in the model and the physics feels."""


@dataclass(frozen=True)
class Scenario:
    """A task class and what its envs do."""

    name: str
    task: str
    policy: Literal["random", "expert"]
    """"random": uniform actions. "expert": upstream's scripted policy, told the goal; it touches and moves things."""


SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario("reach random", "reach-v3", "random"),
        Scenario("pick-place random", "pick-place-v3", "random"),
        Scenario("pick-place expert", "pick-place-v3", "expert"),
        Scenario("door-open expert", "door-open-v3", "expert"),
    )
}


@dataclass(frozen=True)
class Windows:
    """Which parts of an episode are replayed."""

    n: int = 10
    """Windows, spread evenly over the episode, >= 1."""
    length: int = 40
    """Env steps of each, >= 1."""
    spacing: int = 50
    """Env steps from the start of a window to that of the next, >= length."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.n < 1 or self.length < 1 or self.spacing < self.length or self.stop >= 500:
            raise ConfigError(
                f"windows need n, length >= 1, spacing >= length, and must end before step 500, got {self}"
            )

    @property
    def stop(self) -> int:
        """Env steps from the start of an episode to the end of the last window; resets are in none."""
        return (self.n - 1) * self.spacing + self.length

    def start(self, window: int) -> int:
        """Return the env step at which `window` starts."""
        return window * self.spacing


@dataclass(frozen=True, eq=False)
class Recording:
    """G episodes of one scenario, each with a goal of its own, as upstream's environments played them."""

    scenario: Scenario
    windows: Windows
    tasks: Tasks
    """G tasks."""
    actions: NDArray[np.float32]
    """[G, T, 4]."""
    mocap: NDArray[np.float64]
    """[G, T, 3]: where the hand was pulled to in each step, metres."""
    ctrl: NDArray[np.float64]
    """[G, T, 2]: what the fingers were told."""
    obs: NDArray[np.float64]
    """[G, T, 39]: observation reached by each step, goal hidden."""
    success: NDArray[np.bool_]
    """[G]: the episode had a step with success."""
    states: Sequence[Sequence[dict[str, Any]]]
    """[G][windows]: upstream's state at the start of each window, for `upstream_state.restore`."""

    @property
    def n(self) -> int:
        """G."""
        return len(self.tasks)

    def repeats(self, num_envs: int) -> int:
        """Return how often `num_envs` envs replay a window so that every episode is played at least once."""
        return -(-self.n // num_envs)

    def rows(self, num_envs: int, repeat: int) -> list[int]:
        """Return which episode each env plays in a repeat."""
        return [(repeat * num_envs + i) % self.n for i in range(num_envs)]

    def reached(self, num_envs: int, window: int, repeat: int) -> NDArray[np.float64]:
        """Return the observations [B, 39] that upstream reached at the end of a window."""
        last = self.windows.start(window) + self.windows.length - 1
        return self.obs[self.rows(num_envs, repeat), last]

    def steps(self, values: NDArray[Any], num_envs: int, window: int, repeat: int) -> NDArray[Any]:
        """Return one of the recorded arrays for the steps of a window: [length, B, ...]."""
        start = self.windows.start(window)
        part = values[self.rows(num_envs, repeat), start : start + self.windows.length]
        return np.ascontiguousarray(np.moveaxis(part, 0, 1))


def record(scenario: Scenario, n_episodes: int, windows: Windows, seed: int) -> Recording:
    """Play `n_episodes` episodes of upstream's environment as far as the last window goes."""
    family = envs.make("metaworld/ML1", task=scenario.task, backend="upstream", n_workers=0)
    pool = family.all("train")
    assert pool is not None  # Meta-World's splits are finite
    tasks = pool[[i % len(pool) for i in range(n_episodes)]]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Constant")  # an expert asks for more than an action can be
        played = [_play(scenario, tasks[i], windows, derive(seed, scenario.name, i)) for i in range(n_episodes)]
    arrays = {key: np.stack([episode[key] for episode in played]) for key in ("actions", "mocap", "ctrl", "obs")}
    return Recording(
        scenario, windows, tasks, **arrays,
        success=np.array([episode["success"] for episode in played]),
        states=[episode["states"] for episode in played],
    )  # fmt: skip


def _play(scenario: Scenario, task: Tasks, windows: Windows, seed: int) -> dict[str, Any]:
    env = make_env(task, reward_version=REWARD_VERSION)
    upstream: Any = env.unwrapped
    apply_task(env, task)
    obs, _ = env.reset(seed=seed % 2**31)
    starts = {windows.start(w) for w in range(windows.n)}
    columns: dict[str, list[Any]] = {key: [] for key in ("actions", "mocap", "ctrl", "obs")}
    states, success = [], False
    actions = _actions(scenario, upstream, seed)
    next(actions)
    for t in range(windows.stop):
        if t in starts:
            states.append(snapshot(env))
        action = actions.send(obs)
        obs, _, _, _, info = env.step(action)
        success = success or bool(info["success"])
        seen = (action, upstream.data.mocap_pos[0].copy(), upstream.data.ctrl.copy(), obs.copy())
        for column, value in zip(columns.values(), seen, strict=True):
            column.append(value)
    env.close()
    return {key: np.array(column) for key, column in columns.items()} | {"states": states, "success": success}


def _actions(scenario: Scenario, upstream: Any, seed: int) -> Generator[Any, Any, None]:
    """Yield a float32 action [4] for each observation that is sent in."""
    random = np.random.default_rng(seed)
    policy: Any = None
    if scenario.policy == "expert":
        from metaworld.policies import ENV_POLICY_MAP

        experts: Any = ENV_POLICY_MAP
        policy = experts[scenario.task]()
    obs = yield
    while True:
        if policy is None:
            action = random.uniform(-1.0, 1.0, 4)
        else:
            told = np.array(obs)
            told[-3:] = upstream._target_pos
            action = np.clip(policy.get_action(told), -1.0, 1.0)
        obs = yield action.astype(np.float32)
