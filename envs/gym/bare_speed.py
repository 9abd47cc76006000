"""How fast the bare environments of a `GymWorld` are: the limit that its processes, agent and rollouts are held to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from metarl.seeding import derive
from metarl.tasks import Tasks

from .serial import Env
from .world import GymWorld


@dataclass
class BareSteps:
    """The environments of a world's envs, stepped one after the other in this process and by nothing but a loop."""

    world: GymWorld
    tasks: Tasks
    """One task per env."""
    seed: int = 0
    env_steps: int = 0
    """Steps taken so far, resets left out."""
    wall_s: float = 0.0
    """Wall seconds they took."""
    cpu_s: float = 0.0
    """CPU seconds they took."""
    _envs: list[Env] = field(default_factory=list)

    @property
    def n_processes(self) -> int:
        """Processes that step the world at the same time."""
        return max(1, self.world.n_workers)

    def run(self, n_steps: int) -> None:
        """Step every environment `n_steps` times (at most a horizon) with uniform actions, after a reset."""
        self._envs = self._envs or [self.world.hooks.make_env(self.tasks[i]) for i in range(len(self.tasks))]
        for i, env in enumerate(self._envs):
            self.world.hooks.apply_task(env, self.tasks[i])
            env.reset(seed=derive(self.seed, "bare", i) % 2**31)
        space = self.world.env_action_space
        space.seed(derive(self.seed, "bare-actions", self.env_steps) % 2**31)
        actions = [[space.sample() for _ in self._envs] for _ in range(min(n_steps, self.world.horizon))]
        ended = np.zeros(len(self._envs), np.bool_)
        wall, cpu = time.perf_counter(), time.process_time()
        for row in actions:
            for i, (env, action) in enumerate(zip(self._envs, row, strict=True)):
                if not ended[i]:
                    _, _, terminated, truncated, _ = env.step(action)
                    ended[i] = terminated or truncated
                    self.env_steps += 1
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu

    def forget(self) -> None:
        """Start counting anew."""
        self.env_steps, self.wall_s, self.cpu_s = 0, 0.0, 0.0

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()
        self._envs.clear()
