"""Our engine as a contender: through the World contract, as training uses it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.envs.metaworld.engine import EngineWorld
from metarl.world import World

from .clock import Sample, timed
from .trajectories import REWARD_VERSION, Recording

WorldMaker = Callable[[Recording, int, int], World]
"""Makes a world for a recording's task class, of so many envs and threads."""

LABELS = {"compiled": "engine, compiled", "python": "engine, python"}
"""Names of the two cores in tables."""


def engine_world(core: str) -> WorldMaker:
    """Return what makes engine worlds with the given core, "compiled" or "python"."""

    def make(recording: Recording, num_envs: int, n_threads: int) -> World:
        return EngineWorld(
            recording.scenario.task, num_envs, n_threads=n_threads, reward_version=REWARD_VERSION, core=core
        )

    return make


@dataclass(frozen=True, eq=False)
class Starts:
    """States of a world of B envs at the start of each window, [repeats][windows]; any core can go back to them."""

    states: list[list[dict[str, Any]]]


def find_starts(world: World, recording: Recording) -> Starts:
    """Play all recorded episodes in `world` and keep its state at the start of each window."""
    n, windows, found = world.num_envs, recording.windows, []
    for repeat in range(recording.repeats(n)):
        rows = recording.rows(n, repeat)
        world.set_tasks(recording.tasks[rows])
        world.reset(seed=0)
        actions = torch.from_numpy(np.ascontiguousarray(np.moveaxis(recording.actions[rows], 0, 1)))
        states = []
        for window in range(windows.n):
            states.append(world.state_dict())
            if window < windows.n - 1:
                for t in range(windows.start(window), windows.start(window + 1)):
                    world.step(actions[t])
        found.append(states)
    return Starts(found)


class Engine:
    """A world of the engine, stepped with tensors as an agent would."""

    def __init__(self, label: str, world: World, recording: Recording, starts: Starts, n_threads: int) -> None:
        self.label, self.num_envs, self.n_threads = label, world.num_envs, n_threads
        self.n_repeats = recording.repeats(world.num_envs)
        self._world, self._recording, self._starts = world, recording, starts
        self._obs: Any = None

    def measure(self, window: int, repeat: int) -> Sample:
        """See `Contender.measure`."""
        self._world.load_state_dict(self._starts.states[repeat][window])
        rows = self._recording.steps(self._recording.actions, self.num_envs, window, repeat)
        actions = [torch.from_numpy(row) for row in rows]

        def replay() -> None:
            for row in actions:
                self._obs = self._world.step(row)[0]

        return timed(replay)

    def reached(self) -> NDArray[Any] | None:
        """See `Contender.reached`; float32."""
        return np.asarray(self._obs.numpy())

    def close(self) -> None:
        """End the world's threads."""
        self._world.close()
