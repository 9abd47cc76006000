"""Task distributions of the 2-D point worlds: navigation, (sparse) point robot, four corners."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from metarl.envs.families import ContinuousFamily, FiniteFamily
from metarl.errors import ConfigError
from metarl.spec import WorldSpec
from metarl.tasks import Tasks

from . import point_worlds as worlds
from .point_references import Policy, play, random_moves, stand_still, straight_walk
from .point_worlds import CornerPointWorld, NavigationWorld, PointRobotWorld, PointWorld, SparsePointRobotWorld

PEARL_SEED = 1337
"""Seed of the shuffle that decides which of the 100 half-circle goals are PEARL's 20 test goals."""


class _References:
    """Reference returns of one family, worked out once per split."""

    def __init__(self, make_world: Callable[[int], PointWorld], action_limit: float, step_size: float) -> None:
        self._make_world = make_world
        self._limit, self._step = action_limit, step_size
        self._known: dict[tuple[str, str], float] = {}

    def __call__(self, split: str, tasks: Tasks, n_episodes: int, *, walk: str = "oracle") -> dict[str, list[float]]:
        """Return "random", "stand_still" and, called `walk`, the straight walk; these policies never learn."""
        policies: dict[str, Policy] = {
            "random": random_moves(self._limit),
            "stand_still": stand_still,
            walk: straight_walk(self._limit, self._step),
        }
        for name, policy in policies.items():
            if (split, name) not in self._known:
                self._known[split, name] = play(self._make_world, tasks, policy)
        return {name: [self._known[split, name]] * n_episodes for name in policies}


class NavigationTasks(ContinuousFamily):
    """Goals uniform in [-0.5, 0.5]^2 (MAML paper)."""

    def __init__(self, n_validation: int = 200, n_test: int = 1000, n_train: int | None = None) -> None:
        """Fix the sizes of the held-out lists and, if training shall have one, of its list."""
        settings = {"horizon": worlds.NAVIGATION_HORIZON, "goal_range": 0.5, "reward": "-distance"}
        super().__init__("navigation", settings, n_validation=n_validation, n_test=n_test, n_train=n_train)
        self._references = _References(NavigationWorld, worlds.NAVIGATION_STEP, worlds.NAVIGATION_STEP)

    def draw(self, n: int, generator: torch.Generator) -> Tasks:
        """Draw goals."""
        return Tasks.of("navigation", goal=torch.rand(n, 2, generator=generator, device=generator.device) - 0.5)

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return NavigationWorld.spec_for()

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> NavigationWorld:
        """Build a world of `num_envs`."""
        return NavigationWorld(num_envs, device=device)

    def task_features(self, tasks: Tasks) -> Tensor:
        """Return the goal as a share of the range of goals: float32 [N, 2]; see `metarl.envs.revealed`."""
        return tasks.values["goal"] / 0.5

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return the return per episode: "oracle" and "stand_still" exact on the split's list, "random" played."""
        return self._references(split, self.fixed_tasks(split), n_episodes)


class PointRobotTasks(ContinuousFamily):
    """Goals uniform in [-1, 1]^2 (PEARL)."""

    def __init__(self, n_validation: int = 200, n_test: int = 1000, n_train: int | None = None) -> None:
        """Fix the sizes of the held-out lists and, if training shall have one, of its list."""
        settings = {"horizon": worlds.ROBOT_HORIZON, "goal_range": 1.0, "reward": "-distance"}
        super().__init__("point-robot", settings, n_validation=n_validation, n_test=n_test, n_train=n_train)
        self._references = _References(PointRobotWorld, 1.0, worlds.ROBOT_STEP)

    def draw(self, n: int, generator: torch.Generator) -> Tasks:
        """Draw goals."""
        goal = 2.0 * torch.rand(n, 2, generator=generator, device=generator.device) - 1.0
        return Tasks.of("point-robot", goal=goal)

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return PointRobotWorld.spec_for()

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> PointRobotWorld:
        """Build a world of `num_envs`."""
        return PointRobotWorld(num_envs, device=device)

    def task_features(self, tasks: Tasks) -> Tensor:
        """Return the goal as a share of the range of goals: float32 [N, 2]; see `metarl.envs.revealed`."""
        return tasks.values["goal"]

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return the return per episode, averaged over some 4000 seeded starts; "oracle" is the best policy's."""
        return self._references(split, self.fixed_tasks(split), n_episodes)


class SparsePointRobotTasks(FiniteFamily):
    """PEARL's 100 goals on the unit half-circle and its own 20 for test; 10 of its 80 for training are validation."""

    def __init__(self) -> None:
        """Cut the goals as PEARL's code does: shuffled with seed 1337, the last 20 for test."""
        angle = torch.linspace(0.0, torch.pi, 100, dtype=torch.float64)
        goal = torch.stack([angle.cos(), angle.sin()], dim=1).to(torch.float32)
        # The legacy generator, of its own and not the global one: only it repeats the published shuffle.
        order = np.random.RandomState(PEARL_SEED).permutation(100).tolist()
        indices = {"train": order[:70], "validation": order[70:80], "test": order[80:]}
        settings = {"horizon": worlds.ROBOT_HORIZON, "n_goals": 100, "radius": worlds.SPARSE_RADIUS, "reward": "sparse"}
        super().__init__("sparse-point-robot", Tasks.of("sparse-point-robot", goal=goal), indices, settings)
        self._references = _References(SparsePointRobotWorld, 1.0, worlds.ROBOT_STEP)

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return SparsePointRobotWorld.spec_for()

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> SparsePointRobotWorld:
        """Build a world of `num_envs`."""
        return SparsePointRobotWorld(num_envs, device=device)

    def task_features(self, tasks: Tasks) -> Tensor:
        """Return the goal as a share of the range of goals: float32 [N, 2]; see `metarl.envs.revealed`."""
        return tasks.values["goal"]

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return the sparse return per episode: "oracle" and "stand_still" exact on the split, "random" played."""
        return self._references(split, self.all(split), n_episodes)


class CornerPointTasks(FiniteFamily):
    """The four corners; every split is all of them."""

    def __init__(self, *, closed: bool = False) -> None:
        """List the corners; `closed` is that of `CornerPointWorld`."""
        if not isinstance(closed, bool):
            raise ConfigError(f"corner-point option closed is {closed!r}; pass True or False")
        self._closed = closed
        names = [f"corner({x:+.0f},{y:+.0f})" for x, y in worlds.CORNERS]
        settings = {"horizon": worlds.CORNER_HORIZON, "n_goals": 4, "reward": "sparse progress"}
        if closed:
            settings["reward"] = "potential"
        tasks = Tasks.of("corner-point", names, goal=torch.tensor(worlds.CORNERS))
        super().__init__("corner-point", tasks, None, settings)
        self._references = _References(self.make_world, worlds.CORNER_STEP, worlds.CORNER_STEP)

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return CornerPointWorld.spec_for()

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> CornerPointWorld:
        """Build a world of `num_envs`."""
        return CornerPointWorld(num_envs, closed=self._closed, device=device)

    def task_features(self, tasks: Tasks) -> Tensor:
        """Return the goal as a share of the range of goals: float32 [N, 2]; see `metarl.envs.revealed`."""
        return tasks.values["goal"] / 2.0

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return the return per episode, averaged over some 4000 seeded starts.

        "straight_walk" goes to the known corner and stays. It is called the oracle only where the reward's hole (see
        `CornerPointWorld`) is closed, which otherwise lets other policies have more.
        """
        walk = "oracle" if self._closed else "straight_walk"
        return self._references(split, self.all(split), n_episodes, walk=walk)


def make_navigation(n_validation: int = 200, n_test: int = 1000, n_train: int | None = None) -> NavigationTasks:
    """Build the 2-D navigation family."""
    return NavigationTasks(n_validation, n_test, n_train)


def make_point_robot(n_validation: int = 200, n_test: int = 1000, n_train: int | None = None) -> PointRobotTasks:
    """Build the point robot family."""
    return PointRobotTasks(n_validation, n_test, n_train)


def make_sparse_point_robot() -> SparsePointRobotTasks:
    """Build the sparse point robot family."""
    return SparsePointRobotTasks()


def make_corner_point(*, closed: bool = False) -> CornerPointTasks:
    """Build the four-corner family; `closed` is that of `CornerPointWorld`."""
    return CornerPointTasks(closed=closed)
