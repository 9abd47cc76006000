"""`metarl bench npc`: how fast NPC worlds step on one core, how that scales, and what an env takes.

Uniformly random legal actions, drawn beforehand where all are legal, episodes that end and begin anew as they will. The
figure of a batch size is the median over rounds of env steps per CPU second, beginnings included. One size after the
other: turns would leave the small ones the scraps of the large ones' memory.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from metarl import envs
from metarl.envs.npc.family import NpcFamily
from metarl.envs.npc.reference import Random
from metarl.envs.npc.world import NpcWorld
from metarl.experiments.cli.safe_text import make_console
from metarl.provenance import provenance
from metarl.seeding import derive, generator
from metarl.torch_settings import give_back_freed_memory, keep_freed_memory

from .clock import machine, timed
from .options import bench_parser, place, store

TARGETS: dict[str, float] = {
    "npc/guide": 100_000,
    "npc/guide-macro": 300_000,
    "npc/assets": 1_000_000,
    "npc/companion": 300_000,
    "npc/assistant": 300_000,
}
"""Env steps per CPU second at 1024 envs that each world is meant to reach."""
TARGET_COPIES = 1024


@dataclass(frozen=True)
class NpcBenchSettings:
    """What is measured."""

    worlds: tuple[str, ...] = tuple(TARGETS)
    """Names that `envs.make` knows."""
    num_envs: tuple[int, ...] = (1, 256, 1024, 4096, 16384)
    """Batch sizes, each >= 1."""
    rounds: int = 7
    """Rounds that count, >= 1."""
    steps: int = 16384
    """Least env steps per round and size, summed over envs, >= 1."""
    seed: int = 0
    """Of visitors and actions."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options of worlds, by name."""


QUICK = NpcBenchSettings(num_envs=(64, 256), rounds=2, steps=512)


class Runner:
    """One world at one batch size."""

    def __init__(self, name: str, n: int, settings: NpcBenchSettings) -> None:
        """Build the world and take a few steps."""
        family = envs.make(name, **settings.options.get(name, {}))
        assert isinstance(family, NpcFamily)
        world: NpcWorld = family.make_world(n)
        world.set_tasks(family.sample("train", n, generator(settings.seed, "bench-npc", name)))
        world.reset(seed=derive(settings.seed, "bench-npc"))
        self.name, self.n, self.world = name, n, world
        self.n_steps = max(4, -(-settings.steps // n))
        self._policy = Random()
        self._policy.start(world, generator(settings.seed, "bench-npc", "policy"))
        self._masked = world.action_mask(world.state) is not None
        self._drawn = [] if self._masked else [self._policy.act() for _ in range(16)]
        self.run()

    def run(self) -> None:
        """Take the steps of a round."""
        for step in range(self.n_steps):
            self.world.step(self._policy.act() if self._masked else self._drawn[step % 16])

    def acting(self) -> None:
        """Draw the actions of a round, as far as `run` does, and nothing else."""
        if self._masked:
            for _ in range(self.n_steps):
                self._policy.act()

    def rate(self) -> float:
        """Return env steps per CPU second of a round, the drawing of actions taken off."""
        return self.n * self.n_steps / max(timed(self.run).cpu_s - timed(self.acting).cpu_s, 1e-9)

    def bytes_per_env(self) -> dict[str, float]:
        """Return the bytes that an env holds, and those of an observation."""
        snapshot = self.world.state_dict()
        held = sum(v.numel() * v.element_size() for v in _tensors(snapshot))
        obs = _tensors(self.world.observation(self.world.state))
        return {"held": held / self.n, "observation": sum(v.numel() * v.element_size() for v in obs) / self.n}


def _tensors(tree: Any) -> list[Tensor]:
    """Return all tensors in nested dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    return [t for v in tree.values() for t in _tensors(v)] if isinstance(tree, Mapping) else []


def measure(settings: NpcBenchSettings, console: Console | None = None) -> dict[str, Any]:
    """Return rates by world and batch size, memory, and whether targets are met."""
    began, load, threads = time.perf_counter(), os.getloadavg()[0], torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory()  # as training does: with many envs page faults would be most of what is measured
    try:
        rates: dict[tuple[str, int], list[float]] = {}
        memory: dict[str, dict[str, float]] = {}
        for name in settings.worlds:
            for n in settings.num_envs:
                runner = Runner(name, n, settings)
                rates[name, n] = [runner.rate() for _ in range(settings.rounds)]
                memory[name] = runner.bytes_per_env()
                del runner
                gc.collect()
                give_back_freed_memory()
            if console is not None:
                console.print(f"{name}: done")
    finally:
        torch.set_num_threads(threads)
    return {
        "settings": asdict(settings),
        "machine": machine() | {"load_before": load},
        "provenance": provenance(),
        "wall_s": round(time.perf_counter() - began, 1),
        "worlds": {name: _found(name, rates, memory[name], settings) for name in settings.worlds},
    }


def _found(
    name: str, rates: Mapping[tuple[str, int], list[float]], memory: dict[str, float], settings: NpcBenchSettings
) -> dict[str, Any]:
    sizes = {str(n): _spread(rates[name, n]) for n in settings.num_envs}
    at, target = sizes.get(str(TARGET_COPIES)), TARGETS.get(name)
    return {
        "steps_per_cpu_second": sizes,
        "bytes_per_copy": {k: round(v, 1) for k, v in memory.items()},
        "target": target,
        "met": None if at is None or target is None else at["median"] >= target,
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values)), "least": round(min(values)), "most": round(max(values))}


def print_found(found: Mapping[str, Any], console: Console) -> None:
    """Print one row per world."""
    sizes = [str(n) for n in found["settings"]["num_envs"]]
    table = Table(title="env steps per CPU second on one core, by envs", title_justify="left", box=None)
    table.add_column("world")
    for column in (*sizes, "target", "bytes held", "bytes seen"):
        table.add_column(column, justify="right")
    for name, one in found["worlds"].items():
        cells = [f"{one['steps_per_cpu_second'][n]['median']:,.0f}" for n in sizes]
        target = "-" if one["target"] is None else f"{one['target']:,.0f} {_verdict(one['met'])}"
        table.add_row(name, *cells, target, *(f"{v:,.0f}" for v in one["bytes_per_copy"].values()))
    console.print(table)
    console.print(f"load before: {found['machine']['load_before']:.1f}")


def _verdict(met: bool | None) -> str:
    return {True: "met", False: "missed", None: ""}[met]


def main(argv: Sequence[str]) -> int:
    """Measure, print and, unless quick, store as JSON."""
    arguments = bench_parser("npc", __doc__).parse_args(list(argv))
    path, console = place(arguments, "npc-speed.json"), make_console()
    found = measure(QUICK if arguments.quick else NpcBenchSettings(), console)
    print_found(found, console)
    store(found, path, console)
    return 0
