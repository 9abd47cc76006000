"""How near collecting comes to what the bare environments allow, for worlds that step Gymnasium environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metarl.envs.gym.bare_speed import BareSteps
from metarl.envs.gym.world import GymWorld
from metarl.experiments.build import LoadedRun
from metarl.seeding import generator
from metarl.torch_settings import usable_cpus

BARE_STEPS = 40
"""Steps per bare environment and iteration: enough to time, little beside an iteration."""

LEARNING = ("agent.adapt", "agent.update")
"""Phases that are no part of collecting."""


class BareSlices:
    """Short runs of a world's bare environments between iterations: the same minutes on the same machine."""

    def __init__(self, loaded: LoadedRun) -> None:
        """Prepare nothing yet: environments are made for the first slice."""
        self.loaded = loaded
        self.steps: BareSteps | None = None

    def measure(self, worlds: Sequence[Any], *, warming_up: bool) -> None:
        """Run one slice, if the training world steps Gymnasium environments; while warming up it does not count."""
        world = worlds[0]
        if not isinstance(world, GymWorld):
            return
        if self.steps is None:
            tasks = self.loaded.tasks.sample("train", world.num_envs, generator(self.loaded.config.seed, "bare"))
            self.steps = BareSteps(world, tasks)
        self.steps.run(BARE_STEPS)
        if warming_up:
            self.steps.forget()

    def figures(self, found: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the limit beside what the profile `found` for collecting; None for worlds of another kind.

        On a busy machine wall-clock rates say little. The estimate is what the CPU seconds come to where every process
        has a core of its own: the main process and the workers take turns, and the workers share theirs evenly.
        """
        if self.steps is None or not self.steps.env_steps:
            return None
        n, phases = found["env_steps"], found["phases"].items()
        wall, cpu = (sum(r[k] for name, r in phases if name not in LEARNING) for k in ("wall_s", "cpu_s"))
        cores = min(self.steps.n_processes, usable_cpus())
        turns = cpu - found["workers_cpu_s"] * (1 - 1 / cores)
        per_s, per_cpu_s = (self.steps.env_steps / t for t in (self.steps.wall_s, self.steps.cpu_s))
        return {
            "cores": cores,
            "bare_env_steps": self.steps.env_steps,
            "bare_env_steps_per_s": per_s,
            "bare_env_steps_per_cpu_s": per_cpu_s,
            "collect_env_steps_per_s": n / wall,
            "collect_env_steps_per_cpu_s": n / cpu,
            "collect_main_cpu_s": cpu - found["workers_cpu_s"],
            "collect_workers_cpu_s": found["workers_cpu_s"],
            "share_of_limit": n / wall / (per_s * cores),
            "share_of_limit_estimated": n / turns / (per_cpu_s * cores),
        }

    def close(self) -> None:
        """Close the bare environments."""
        if self.steps is not None:
            self.steps.close()


def describe(limit: Mapping[str, Any]) -> str:
    """Return the figures in three lines."""
    n = limit["cores"]
    return (
        f"bare env.step in one process: {limit['bare_env_steps_per_s']:,.0f} env steps/s "
        f"({limit['bare_env_steps_per_cpu_s']:,.0f} per CPU second)\n"
        f"collecting, resets included: {limit['collect_env_steps_per_s']:,.0f} env steps/s "
        f"({limit['collect_env_steps_per_cpu_s']:,.0f} per CPU second) = {100 * limit['share_of_limit']:.0f} % of "
        f"{n} x bare env.step\n"
        f"{100 * limit['share_of_limit_estimated']:.0f} % of it by CPU time, with nothing else on the machine: main "
        f"process {limit['collect_main_cpu_s']:.2f} s, then {n} at a time {limit['collect_workers_cpu_s']:.2f} s"
    )
