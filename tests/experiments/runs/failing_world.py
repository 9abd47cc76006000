"""A gridworld that breaks in the second process of a run, in the middle of an episode."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

from metarl import envs
from metarl.errors import WorldError
from metarl.task_distribution import TaskDistribution
from metarl.tasks import Tasks
from metarl.world import StepResult, World


def fails_in_the_second_process(world: World) -> World:
    step, steps = world.step, [0]

    def failing(actions: Any) -> StepResult:
        steps[0] += 1
        if os.environ.get("RANK") == "1" and steps[0] == 60:
            raise WorldError("env 2 fell off the table")
        return step(actions)

    world.step = failing  # type: ignore[method-assign]
    return world


@dataclass(frozen=True)
class Fragile:
    """The gridworld's tasks, in worlds that break."""

    inner: TaskDistribution

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        return self.inner.sample(split, n, generator)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> World:
        return fails_in_the_second_process(self.inner.make_world(num_envs, device=device))


def make(held_out: int = 3) -> Any:
    return Fragile(envs.make("gridworld", held_out=held_out))
