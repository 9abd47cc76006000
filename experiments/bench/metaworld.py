"""`metarl bench metaworld`: how fast the engine is, beside upstream, envpool and bare MuJoCo.

One run measures everything, interleaved: in each round every contender replays the same part of the same recorded
episodes once, and ratios are taken within rounds. Run it on a machine with nothing else to do. `--collect` measures
collecting with a policy in the loop instead. `--quick` is a trial of the command, not a measurement.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from metarl.commandline import recorded
from metarl.errors import ConfigError, nearest
from metarl.experiments.cli.outputs import write_json
from metarl.experiments.cli.safe_text import make_console
from metarl.experiments.figures.plots import save_png
from metarl.experiments.runs.locks import lock_problem
from metarl.provenance import package_versions, provenance

from .clock import machine
from .contenders import Async, Contender, Envpool, Serial, has_envpool
from .engine import LABELS, Engine, Starts, engine_world, find_starts
from .memory import memory_per_env
from .options import bench_parser, place
from .raw import Raw
from .report import print_cells, print_scaling, print_targets, speed_figure, verdict
from .rounds import Cell, run_rounds
from .statistics import ABOUT_INTERVALS, busy_share, cell_json, find_all, found_json
from .trajectories import SCENARIOS, Recording, Windows, record

MEMORY_TARGET_MB = 0.5
"""Most memory an extra env may take."""


@dataclass(frozen=True)
class BenchSettings:
    """What is measured."""

    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    """Names in `SCENARIOS`."""
    num_envs: tuple[int, ...] = (1, 8, 20, 32, 128)
    """Batch sizes N, each >= 1."""
    threads: tuple[int, ...] = (1, 2)
    """Threads of the contenders that have them, each >= 1."""
    workers: tuple[int, ...] = (2, 20)
    """Worker processes (and envs) of AsyncVectorEnv, each >= 1."""
    rounds: int = 7
    """Rounds that count, >= 1."""
    episodes: int = 20
    """Recorded episodes per scenario, each with its own goal, >= 1; batches below replay in turns, above share."""
    windows: Windows = field(default_factory=Windows)
    """Parts of the episode that are replayed, one per round."""
    memory: bool = True
    """Measure memory per env too."""
    seed: int = 0
    """Of random actions."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a scenario that is not there."""
        for name in self.scenarios:
            if name not in SCENARIOS:
                raise ConfigError(f"no scenario {name!r}; {nearest(name, SCENARIOS)}")


QUICK = BenchSettings(
    num_envs=(1, 8), workers=(2,), rounds=2, episodes=4, windows=Windows(2, 10, 20), memory=False
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Measure, print tables and, unless quick, store them."""
    parser = bench_parser("metaworld", __doc__, SCENARIOS)
    parser.add_argument("--collect", action="store_true", help="measure collecting with a policy in the loop instead")
    arguments = parser.parse_args(list(argv))
    console = make_console()
    if arguments.collect:
        from .collect import run_collect

        return run_collect(place(arguments, "metaworld-collect.json"), console, quick=arguments.quick)
    settings = _settings(arguments)
    out = place(arguments, "metaworld-speed.json")
    found = measure(settings, console)
    print_all(found, console)
    if out is not None:
        store(found, out)
        console.print(f"stored {out} and {out.with_suffix('.png')}")
    return 0


def _settings(arguments: argparse.Namespace) -> BenchSettings:
    settings = QUICK if arguments.quick else BenchSettings()
    if arguments.rounds is not None:
        settings = replace(settings, rounds=arguments.rounds)
    return replace(settings, scenarios=tuple(arguments.scenario)) if arguments.scenario else settings


@dataclass(frozen=True)
class Measured:
    """Everything one run found."""

    settings: BenchSettings
    cells: list[Cell]
    memory: dict[str, Any]
    """Per kind of env."""
    experts: dict[str, float]
    """Share of the recorded episodes with success, per scenario."""
    skipped: dict[str, str]
    """Contenders that could not run, and why."""
    load_before: float
    """Load average over the minute before, processes."""
    wall_s: float


def measure(settings: BenchSettings, console: Console) -> Measured:
    """Run all scenarios, one after the other."""
    began, load = time.perf_counter(), os.getloadavg()[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the World's tensors are small; its own threads are what is measured
    cells: list[Cell] = []
    experts, skipped = dict[str, float](), dict[str, str]()
    try:
        for name in settings.scenarios:
            console.print(f"{name}: recording {settings.episodes} episodes of upstream's environment")
            recording = record(SCENARIOS[name], settings.episodes, settings.windows, settings.seed)
            experts[name] = float(recording.success.mean())
            cells += _scenario(settings, recording, skipped, console)
    finally:
        torch.set_num_threads(threads)
    memory = _memory(skipped, console) if settings.memory else {}
    return Measured(settings, cells, memory, experts, skipped, load, time.perf_counter() - began)


def _scenario(settings: BenchSettings, recording: Recording, skipped: dict[str, str], console: Console) -> list[Cell]:
    contenders: list[Contender] = []
    try:
        _enter(contenders, settings, recording, skipped)
        n = len(contenders)
        return run_rounds(
            contenders, recording, settings.rounds,
            on_round=lambda r: console.print(f"  round {r + 1} of {settings.rounds}, {n} contenders"),
        )  # fmt: skip
    finally:
        for contender in contenders:
            contender.close()


def _enter(contenders: list[Contender], settings: BenchSettings, recording: Recording, skipped: dict[str, str]) -> None:
    """Make all contenders of a scenario; worker processes first, for they are forked."""
    problem = lock_problem()
    if problem:
        skipped[Async.label] = problem
    else:
        contenders += [Async(recording, n) for n in settings.workers]
    contenders.append(Serial(recording))
    sizes = [(n, t) for n in settings.num_envs for t in settings.threads if t <= n]
    contenders += [Raw(recording, n, t) for n, t in sizes]
    starts: dict[int, Starts] = {}
    for core, label in LABELS.items():
        try:
            for n, t in sizes:
                world = engine_world(core)(recording, n, t)
                if n not in starts:
                    starts[n] = find_starts(world, recording)
                contenders.append(Engine(label, world, recording, starts[n], t))
        except ConfigError as error:
            skipped[label] = str(error)
    if recording.scenario.policy != "random":
        return
    if has_envpool():
        # Each of its envs loads a model of its own, 20 MB: no second large pool.
        contenders += [Envpool(recording, n, t) for n, t in sizes if t == 1 or n <= 32]
    else:
        skipped["envpool"] = "not installed"


def _memory(skipped: dict[str, str], console: Console) -> dict[str, Any]:
    console.print("memory per env, in processes of their own")
    kinds = {core: label for core, label in LABELS.items() if label not in skipped}
    kinds |= {"mjdata": "a bare mujoco.MjData", "upstream": "upstream serial"}
    return {label: memory_per_env(kind) for kind, label in kinds.items()}


def print_all(found: Measured, console: Console) -> None:
    """Print every table."""
    console.print()
    print_cells(found.cells, console)
    print_targets(find_all(found.cells), console)
    print_scaling(found.cells, console)
    for label, one in found.memory.items():
        line = f"memory per extra env, {label}: {one['mb_per_extra_copy']:.2f} MB"
        if label in LABELS.values():
            console.print(f"{line} (target ≤ {MEMORY_TARGET_MB} MB)", verdict(_memory_met(one)))
        else:
            console.print(line)
    for label, reason in found.skipped.items():
        console.print(f"not measured: {label}: {reason}", soft_wrap=True)
    busy = busy_share(found.cells)
    console.print(
        f"load before: {found.load_before:.1f}; one-thread loops took {100 * busy:.1f} % more wall than CPU time"
    )
    if busy > 0.05:
        console.print("wall-clock figures are unreliable: other programs were running")


def _memory_met(found: Mapping[str, Any]) -> bool:
    return bool(found["mb_per_extra_copy"] <= MEMORY_TARGET_MB)


def store(found: Measured, path: Path) -> None:
    """Write figures as JSON to `path` and the picture beside it."""
    memory = {
        label: {**one, "met": _memory_met(one)} if label in LABELS.values() else one
        for label, one in found.memory.items()
    }
    stored = {
        "about": "Cost of an env step of Meta-World: our engine, upstream's environments, envpool, and MuJoCo alone",
        "intervals": ABOUT_INTERVALS,
        "command": recorded("bench", "metaworld"),
        "settings": asdict(found.settings),
        "machine": machine() | {"load_before": found.load_before, "wall_beyond_cpu": round(busy_share(found.cells), 4)},
        "provenance": provenance() | {"envpool": package_versions(["envpool"])["envpool"]},
        "wall_s": round(found.wall_s, 1),
        "skipped": found.skipped,
        "recorded_success": found.experts,
        "targets": [found_json(one) for one in find_all(found.cells)],
        "memory": memory,
        "cells": [cell_json(cell) for cell in found.cells],
    }
    write_json(path, stored)
    save_png(speed_figure(found.cells), path.with_suffix(".png"), dpi=130)
