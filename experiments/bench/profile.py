"""`metarl bench profile RUN_DIR|PRESET`: where wall and CPU time of training iterations go.

World, agent and task distribution are wrapped in proxies that time the calls the loop makes; the loop itself is the one
that trains. Nothing is written into a run directory. A profiled run computes the same numbers as a plain one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table

from metarl import run
from metarl.agent import Agent
from metarl.commandline import command
from metarl.cputime import worker_cpu_seconds
from metarl.errors import ConfigError
from metarl.experiments.build import LoadedRun, build_agent, build_tasks, configure_torch, open_run
from metarl.experiments.cli.outputs import check_writable, write_json
from metarl.experiments.cli.parser import Parser, add_device, whole
from metarl.experiments.cli.safe_text import make_console
from metarl.experiments.cli.trust import add_trust
from metarl.experiments.config import AnyConfig
from metarl.experiments.presets import load_preset
from metarl.loop import meta_train
from metarl.provenance import provenance
from metarl.task_distribution import TaskDistribution

from .bare_envs import BareSlices, describe

PROG = command("bench", "profile")

OTHER = "everything else"

EVERY_STEP = ("agent.act", "world.step")
"""Phases so short and frequent that timing them must cost next to nothing."""

_AGENT = {"init": "agent.init", "act": "agent.act", "adapt": "agent.adapt", "update": "agent.update"}
_WORLD = {"set_tasks": "world.reset", "reset": "world.reset", "step": "world.step"}
_TASKS = {"sample": "tasks.sample"}


def wait_for(device: torch.device) -> None:
    """Return once the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Stopwatch:
    """Wall and CPU seconds and calls per phase. A call inside a timed call counts for the outer one only.

    The CPU time of worker processes is read around rare calls only, for reading it at each step would cost as much as
    the step's own overhead. Workers are idle outside world calls, so what they used otherwise belongs to `world.step`;
    `figures` adds it there.
    """

    device: torch.device
    wall_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    workers_s: float = 0.0
    """CPU seconds of worker processes that were read around calls, and counted there."""
    _inside: bool = False

    def now(self, phase: str) -> tuple[float, float, float]:
        """Return wall seconds, and CPU seconds of this process and of workers, once the device has done its work."""
        wait_for(self.device)
        return time.perf_counter(), time.process_time(), 0.0 if phase in EVERY_STEP else worker_cpu_seconds()

    def clear(self) -> None:
        """Forget what was counted."""
        for counts in (self.wall_s, self.cpu_s, self.calls):
            counts.clear()
        self.workers_s = 0.0

    def timed(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call` with its time counted for `phase`."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return call(*args, **kwargs)
            self._inside = True
            wall, cpu, workers = self.now(phase)
            try:
                return call(*args, **kwargs)
            finally:
                end_wall, end_cpu, end_workers = self.now(phase)
                self._inside = False
                self.wall_s[phase] = self.wall_s.get(phase, 0.0) + end_wall - wall
                self.cpu_s[phase] = self.cpu_s.get(phase, 0.0) + end_cpu - cpu + end_workers - workers
                self.workers_s += end_workers - workers
                self.calls[phase] = self.calls.get(phase, 0) + 1

        return wrapper


class Timed:
    """Stands in for an object: the methods named in `phases` are timed, everything else is the object's own."""

    def __init__(self, target: Any, phases: Mapping[str, str], watch: Stopwatch) -> None:
        timed = {name: watch.timed(phase, getattr(target, name)) for name, phase in phases.items()}
        self.__dict__.update(timed, _target=target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_target"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_target"], name, value)

    def __len__(self) -> int:
        return len(self.__dict__["_target"])


class TimedTasks(Timed):
    """A task distribution whose worlds are timed too."""

    def __init__(self, target: TaskDistribution, watch: Stopwatch) -> None:
        super().__init__(target, _TASKS, watch)
        self.__dict__.update(watch=watch, worlds=[])

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> Any:
        """Build a world, remember it, and return its timed stand-in."""
        world = self._target.make_world(num_envs, device=device)
        self.worlds.append(world)
        return Timed(world, _WORLD, self.watch)


class Counting:
    """A recorder that keeps the records of the iterations and writes nothing.

    `between` runs after each iteration; the time it takes is no part of the next record's.
    """

    stop_requested = False

    def __init__(self, between: Callable[[], None] | None = None) -> None:
        self.records: list[dict[str, Any]] = []
        self._between, self._paused_s, self._paused_cpu_s = between, 0.0, time.process_time()

    def log(self, record: dict[str, Any]) -> None:
        """Keep the record."""
        wall, cpu = time.perf_counter(), time.process_time()
        own = {"cpu_s": cpu - self._paused_cpu_s, "workers_cpu_s": worker_cpu_seconds()}
        self.records.append({**record, "wall_s": record["wall_s"] - self._paused_s, **own})
        if self._between is not None:
            self._between()
        self._paused_s += time.perf_counter() - wall
        self._paused_cpu_s += time.process_time() - cpu

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        """Keep nothing."""


def main(argv: Sequence[str]) -> int:
    """Profile some iterations and print a table."""
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument("run", help="run directory, or name of a preset")
    parser.add_argument("--iterations", type=whole(1), default=3, metavar="N", help="iterations to measure")
    parser.add_argument("--warm-up", type=whole(0), default=1, metavar="N", help="iterations before, not measured")
    parser.add_argument("--n-tasks", type=whole(1), metavar="N", help="tasks per iteration, if other than configured")
    add_device(parser)
    add_trust(parser)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures as JSON")
    arguments = parser.parse_args(list(argv))
    if arguments.json is not None:
        check_writable(arguments.json, "--json")
    loaded = find_run(arguments.run, arguments.device, arguments.trust)
    if arguments.n_tasks is not None:
        settings = replace(loaded.config.train, n_tasks=arguments.n_tasks)
        loaded = replace(loaded, config=replace(loaded.config, train=settings))
    found = profile(loaded, arguments.iterations, arguments.warm_up)
    if arguments.json is not None:
        write_json(arguments.json, found, indent=2)
    print_profile(found, make_console())
    return 0


def find_run(name: str, device: str | None = None, trust: Collection[str] = ()) -> LoadedRun:
    """Return the run in directory `name` at its newest checkpoint, or the untrained agent of preset `name`.

    It is on `device`, or on its own one.
    """
    if run.is_run(Path(name)):
        return open_run(Path(name), device=device, trust=trust)
    if Path(name).is_dir():
        raise ConfigError(f"{name} is not a run directory: it has no {run.CONFIG}")
    config: AnyConfig = load_preset(name)
    config = replace(config, device=device or config.device)
    where = configure_torch(config)
    tasks = build_tasks(config, where)
    return LoadedRun(config, build_agent(config, tasks, where), tasks, 0, 0)


def profile(loaded: LoadedRun, n_iterations: int, warm_up: int = 1) -> dict[str, Any]:
    """Train on for `warm_up` and then `n_iterations` iterations, timed, and return the figures as JSON values.

    Per phase: wall and CPU seconds, share of the wall time, calls, and env steps per wall second of that phase alone.
    Validation is left out; it is no part of an iteration.
    """
    config, device = loaded.config, torch.device(loaded.config.device)
    end = loaded.iteration + warm_up + n_iterations
    watch = Stopwatch(device)
    tasks, bare = TimedTasks(loaded.tasks, watch), BareSlices(loaded)

    def between() -> None:
        if len(recorder.records) == warm_up:
            watch.clear()
        bare.measure(tasks.worlds, warming_up=len(recorder.records) <= warm_up)

    recorder = Counting(between)
    try:
        meta_train(
            cast(Agent, Timed(loaded.agent, _AGENT, watch)),
            cast(TaskDistribution, tasks),
            replace(config.train, n_iterations=end, validate_every_iters=0),
            recorder,
            seed=config.seed,
            device=device,
            start_iteration=loaded.iteration,
            env_steps=loaded.env_steps,
        )
    finally:
        bare.close()
    begin = (
        recorder.records[warm_up - 1]
        if warm_up
        else {"env_steps": loaded.env_steps, "wall_s": 0.0, "cpu_s": 0.0, "workers_cpu_s": 0.0}
    )
    found = figures(config, watch, begin, recorder.records[warm_up:])
    limit = bare.figures(found)
    return found if limit is None else {**found, "limit": limit}


def figures(
    config: AnyConfig, watch: Stopwatch, begin: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the table as JSON values; what no timed call covers is "everything else"."""
    total_wall = float(records[-1]["wall_s"]) - float(begin["wall_s"])
    n_steps, n_iterations = int(records[-1]["env_steps"]) - int(begin["env_steps"]), len(records)
    own_cpu, workers_cpu = (float(records[-1][k]) - float(begin[k]) for k in ("cpu_s", "workers_cpu_s"))
    watch.cpu_s["world.step"] = watch.cpu_s.get("world.step", 0.0) + max(0.0, workers_cpu - watch.workers_s)
    phases = {
        phase: {
            "wall_s": wall,
            "cpu_s": watch.cpu_s[phase],
            "share": wall / total_wall,
            "calls": watch.calls[phase],
            "env_steps_per_s": n_steps / max(wall, 1e-9),
        }
        for phase, wall in sorted(watch.wall_s.items(), key=lambda item: -item[1])
    }
    total_cpu = own_cpu + workers_cpu
    rest = max(0.0, total_wall - sum(watch.wall_s.values()))
    rest_cpu = max(0.0, total_cpu - sum(watch.cpu_s.values()))
    phases[OTHER] = {"wall_s": rest, "cpu_s": rest_cpu, "share": rest / total_wall}
    return {
        "name": config.name,
        "n_iterations": n_iterations,
        "env_steps": n_steps,
        "wall_s": total_wall,
        "env_steps_per_s": n_steps / total_wall,
        "env_steps_per_cpu_s": n_steps / max(total_cpu, 1e-9),
        "workers_cpu_s": workers_cpu,
        "threads": torch.get_num_threads(),
        "phases": phases,
        "provenance": provenance(),
    }


def print_profile(found: Mapping[str, Any], console: Console) -> None:
    """Print one row per phase and a line of totals."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("phase")
    for column in ("wall s", "share", "CPU s", "calls", "env steps/s of this phase"):
        table.add_column(column, justify="right")
    for phase, row in found["phases"].items():
        cpu, calls, speed = (row.get(k) for k in ("cpu_s", "calls", "env_steps_per_s"))
        table.add_row(
            phase,
            f"{row['wall_s']:.3f}",
            f"{100 * row['share']:.1f} %",
            "" if cpu is None else f"{cpu:.3f}",
            "" if calls is None else f"{calls:,}",
            "" if speed is None else f"{speed:,.0f}",
        )
    console.print(table)
    console.print(
        f"{found['name']}: {found['n_iterations']} iterations, {found['env_steps']:,} env steps in "
        f"{found['wall_s']:.2f} s = {found['env_steps_per_s']:,.0f} env steps/s "
        f"({found['env_steps_per_cpu_s']:,.0f} per CPU second, {found['threads']} threads)"
    )
    if "limit" in found:
        console.print(describe(found["limit"]))
