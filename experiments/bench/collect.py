"""Collecting with a policy in the loop: which share of the wall time is physics, and where the rest goes.

One episode of every env on ML10, collected as training does it. Physics is the time inside the core's `step`, which
holds the five sub-steps, observation and reward of all envs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table

from metarl import envs
from metarl.agent import Agent
from metarl.collect import collect, first_step
from metarl.commandline import recorded
from metarl.experiments.build import configure_torch
from metarl.experiments.presets import load_preset
from metarl.provenance import provenance
from metarl.seeding import generator
from metarl.task_distribution import TaskDistribution
from metarl.torch_settings import usable_cpus
from metarl.world import World

from .clock import machine, no_garbage_collection, timed
from .options import store
from .profile import Stopwatch, Timed
from .report import ratio, verdict
from .statistics import ABOUT_INTERVALS, interval_json, median_of_rounds

PARTS = ("physics", "rest of world.step", "agent.act", "rest of collect")
"""What the wall time of collecting is made of, in the order in which it is stored."""

LEAST_SHARE = 0.70
"""Share of the wall time that physics shall have."""


@dataclass(frozen=True)
class CollectSettings:
    """What is measured."""

    presets: tuple[str, ...] = ("rl2-ml10", "maml-ml10")
    """Whose agents, untrained."""
    world: str = "metaworld/ML10"
    """Which tasks."""
    num_envs: tuple[int, ...] = (20, 50, 100, 200)
    """Batch sizes N, each >= 1."""
    horizon: int = 500
    """Env steps per episode, 1 to 500."""
    rounds: int = 3
    """Rounds, every agent and size once in each, >= 1."""
    most_tasks: int = 20
    """Tasks at most that share the envs of an agent that can run a task on several, >= 1."""
    seed: int = 0
    """Of tasks, parameters and noise."""


QUICK = CollectSettings(num_envs=(4,), horizon=10, rounds=2)


@dataclass(frozen=True)
class Collected:
    """One agent at one batch size."""

    preset: str
    num_envs: int
    n_tasks: int
    rounds: tuple[tuple[float, ...], ...]
    """Per round, wall microseconds per step of the batch: one entry per part."""

    @property
    def shares(self) -> list[float]:
        """Share of physics, one per round."""
        return [parts[0] / sum(parts) for parts in self.rounds]

    def medians(self) -> list[float]:
        """Return the median over rounds of each part, microseconds per step of the batch."""
        return [float(median_of_rounds(column).value) for column in zip(*self.rounds, strict=True)]


class Case:
    """An agent and a world of N envs, ready to collect again and again on the same tasks."""

    def __init__(self, settings: CollectSettings, preset: str, num_envs: int) -> None:
        config = load_preset(preset)
        device = configure_torch(config)
        family: TaskDistribution = envs.make(settings.world, backend="engine", horizon=settings.horizon)
        self.preset, self.settings = preset, settings
        self.world: World = family.make_world(num_envs)
        self.agent: Agent = config.agent.build(self.world.spec, seed=settings.seed, device=device)
        self.n_tasks = num_envs
        if self.agent.parallel_episodes:
            self.n_tasks = max(n for n in range(1, settings.most_tasks + 1) if num_envs % n == 0)
        tasks = family.sample("train", self.n_tasks, generator(settings.seed, "bench-collect", num_envs))
        self.tasks = tasks.repeat(num_envs // self.n_tasks)

    def run(self) -> tuple[float, ...]:
        """Collect one episode of each env and return the parts, microseconds per step of the batch."""
        world: Any = self.world
        world.set_tasks(self.tasks)
        obs, _ = world.reset(seed=0)
        step, state = first_step(world, obs), self.agent.init(self.n_tasks)
        inner, outer = Stopwatch(world.device), Stopwatch(world.device)
        core: Any = world.core  # only now: an automatic choice of core is final when classes are known
        timed_world = cast(World, Timed(world, {"step": "world.step"}, outer))
        timed_agent = cast(Agent, Timed(self.agent, {"act": "agent.act"}, outer))
        noise = generator(self.settings.seed, "bench-collect", "noise")

        def work() -> None:
            episodes = world.num_envs // self.n_tasks
            collect(timed_world, timed_agent, state, step, episodes, n_tasks=self.n_tasks, generator=noise)

        core.step = inner.timed("world.step", core.step)
        try:
            with no_garbage_collection():
                total = timed(work).wall_s
        finally:
            del core.step  # back to the class's own
        physics, stepping, acting = inner.wall_s["world.step"], outer.wall_s["world.step"], outer.wall_s["agent.act"]
        parts = (physics, stepping - physics, acting, total - stepping - acting)
        return tuple(1e6 * part / outer.calls["world.step"] for part in parts)

    def close(self) -> None:
        """End the world's threads."""
        self.world.close()


def measure_collect(settings: CollectSettings, console: Console) -> list[Collected]:
    """Measure all agents and sizes, interleaved; a first round is not kept."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    cases = [Case(settings, preset, n) for preset in settings.presets for n in settings.num_envs]
    found: list[list[tuple[float, ...]]] = [[] for _ in cases]
    try:
        for r in range(settings.rounds + 1):
            for case, rounds in zip(cases, found, strict=True):
                parts = case.run()
                if r:
                    rounds.append(parts)
            console.print(f"round {r} of {settings.rounds}" if r else f"warm-up, {len(cases)} cases")
    finally:
        for case in cases:
            case.close()
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
    return [
        Collected(case.preset, case.world.num_envs, case.n_tasks, tuple(rounds))
        for case, rounds in zip(cases, found, strict=True)
    ]


def run_collect(out: Path | None, console: Console, *, quick: bool) -> int:
    """Measure, print and, if `out` is given, store."""
    settings, load = QUICK if quick else CollectSettings(), os.getloadavg()[0]
    found = measure_collect(settings, console)
    print_collected(found, console)
    console.print(f"load before: {load:.1f} (on a busy machine physics, which has the most threads, waits the longest)")
    store(stored(found, settings, load), out, console)
    return 0


def print_collected(found: Sequence[Collected], console: Console) -> None:
    """Print one row per agent and size."""
    table = Table(title="collecting on ML10, wall µs per step of the batch", title_justify="left", box=None)
    for column in ("agent", "N", "tasks", *PARTS, "physics [95 % over rounds]", "target"):
        table.add_column(column, justify="left" if column == "agent" else "right")
    table.add_column("")
    for one in found:
        share = median_of_rounds(one.shares)
        parts = [f"{part:,.0f}" for part in one.medians()]
        table.add_row(
            one.preset, str(one.num_envs), str(one.n_tasks), *parts, ratio(share), f"≥ {LEAST_SHARE:.2f}",
            verdict(bool(share.value >= LEAST_SHARE)),
        )  # fmt: skip
    console.print(table)


def stored(found: Sequence[Collected], settings: CollectSettings, load_before: float) -> dict[str, Any]:
    """Return the result as JSON values; `load_before` is the load average when it began."""
    return {
        "about": "Share of physics in the wall time of collecting on ML10 with a policy in the loop",
        "intervals": ABOUT_INTERVALS,
        "command": recorded("bench", "metaworld", "--collect"),
        "settings": asdict(settings),
        "machine": machine() | {"torch_threads": usable_cpus(), "load_before": load_before},
        "provenance": provenance(),
        "least_share": LEAST_SHARE,
        "rows": [
            {
                "preset": one.preset,
                "copies": one.num_envs,
                "tasks": one.n_tasks,
                "us_per_batch_step": dict(zip(PARTS, (round(p, 1) for p in one.medians()), strict=True)),
                "share": interval_json(median_of_rounds(one.shares)),
                "met": bool(median_of_rounds(one.shares).value >= LEAST_SHARE),
                "rounds": [[round(p, 1) for p in parts] for parts in one.rounds],
            }
            for one in found
        ],
    }
