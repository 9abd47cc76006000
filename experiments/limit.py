"""How near collecting comes to what the bare environments allow, for worlds that step Gymnasium environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from envs.gym_limit import BareSteps
from envs.gym_world import GymWorld
from metarl.seeding import generator

from .build import LoadedRun, usable_cpus

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

        Wall-clock figures say something on an idle machine only; those per CPU second hold on a busy one, too.
        """
        if self.steps is None or not self.steps.env_steps:
            return None
        n = found["env_steps"]
        wall, cpu = (
            sum(r[k] for name, r in found["phases"].items() if name not in LEARNING) for k in ("wall_s", "cpu_s")
        )
        rate, cores = self.steps.env_steps / self.steps.wall_s, min(self.steps.n_processes, usable_cpus())
        per_cpu_s = self.steps.env_steps / self.steps.cpu_s
        return {
            "bare_env_steps": self.steps.env_steps,
            "bare_env_steps_per_s": rate,
            "bare_env_steps_per_cpu_s": per_cpu_s,
            "cores": cores,
            "collect_env_steps_per_s": n / wall,
            "collect_env_steps_per_cpu_s": n / max(cpu, 1e-9),
            "collect_share_of_limit": n / wall / (rate * cores),
            "collect_share_of_cpu_limit": n / max(cpu, 1e-9) / per_cpu_s,
        }

    def close(self) -> None:
        """Close the bare environments."""
        if self.steps is not None:
            self.steps.close()


def describe(limit: Mapping[str, Any]) -> str:
    """Return the figures in two lines."""
    return (
        f"bare env.step in one process: {limit['bare_env_steps_per_s']:,.0f} env steps/s; collecting, resets included: "
        f"{limit['collect_env_steps_per_s']:,.0f} = {100 * limit['collect_share_of_limit']:.0f} % of "
        f"{limit['cores']} times that (on an idle machine)\n"
        f"per CPU second: {limit['bare_env_steps_per_cpu_s']:,.0f} bare, "
        f"{limit['collect_env_steps_per_cpu_s']:,.0f} collecting = {100 * limit['collect_share_of_cpu_limit']:.0f} %"
    )
