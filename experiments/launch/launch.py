"""`metarl launch GRID.yaml`: many runs from one file; `resume DIR` and `retry DIR` go on with them."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from metarl.checkpoint import replace_file
from metarl.commandline import command
from metarl.errors import ConfigError, nearest
from metarl.experiments.cli.parser import Parser, real, whole
from metarl.experiments.cli.safe_text import note, one_line
from metarl.signals import EXIT_STOPPED, STOP
from metarl.torch_settings import usable_cpus

from . import ray_backend, slurm
from .costs import estimate, wall_clock_s
from .driver import Backend, drive, go_on
from .folder import GridFolder, open_grid, prepare
from .grid import Job, expand
from .grid_file import read_grid
from .local import LocalPool
from .sweep import sweep_yaml

_BACKENDS = ("local", "ray", "slurm")


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", default="local", metavar="NAME", help="local (default), ray or slurm")
    parser.add_argument("--jobs", type=whole(1, 4096), metavar="N", help="runs side by side (default: one per core)")
    parser.add_argument(
        "--memory-gb", type=real(0, above=True), metavar="G",
        help="memory that all runs together may take (default: what is free; of a cluster: what each run may take)",
    )  # fmt: skip
    parser.add_argument("--nice", type=whole(0, 19), default=0, metavar="N", help="leave others the cores (local)")
    parser.add_argument("--ray-address", metavar="ADDRESS", help="a Ray cluster (default: one of this machine's own)")
    parser.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE",
        help="a parameter of the Slurm job, such as slurm_partition=cpu or timeout_min=600 (repeatable)",
    )  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Launch a grid and return the exit code: 0 if every run is done, 1 if some failed, 75 if it was stopped."""
    parser = Parser(prog=command("launch"), description=__doc__, allow_abbrev=False)
    parser.add_argument("grid", type=Path, metavar="GRID.yaml", help="presets, settings and seeds")
    parser.add_argument("--into", type=Path, metavar="DIR", help="the grid's directory (default: runs/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and what they will cost")
    parser.add_argument("--time-one", action="store_true", help="with --dry-run: time one iteration of each method")
    parser.add_argument("--extend", action="store_true", help="take runs that the file has gained since")
    parser.add_argument("--wandb-sweep", type=Path, metavar="FILE", help="write a W&B sweep of the grid, start nothing")
    _add_backend(parser)
    arguments = parser.parse_args(list(argv))
    _check_backend(arguments)
    grid = read_grid(arguments.grid)
    jobs, into = expand(grid), arguments.into or Path("runs") / grid.name
    if arguments.dry_run:
        _show_plan(GridFolder(into, grid.name, tuple(jobs)), arguments.jobs or usable_cpus(), arguments.time_one)
        return 0
    folder = prepare(into, grid.name, jobs, extend=arguments.extend)
    if arguments.wandb_sweep is not None:
        replace_file(arguments.wandb_sweep, sweep_yaml(folder).encode())
        print(f"sweep    {one_line(arguments.wandb_sweep)}\nnext: wandb sweep {one_line(arguments.wandb_sweep)}")
        return 0
    return _carry_out(folder, folder.jobs, arguments)


def resume(argv: Sequence[str]) -> int:
    """Go on with the runs of a grid that are not done."""
    return _again(argv, "resume", "go on with a grid's runs: those that wait, were stopped or lost their process")


def retry(argv: Sequence[str]) -> int:
    """Try runs again that failed."""
    return _again(argv, "retry", "try runs again that failed, once the reason is mended")


def _again(argv: Sequence[str], name: str, what: str) -> int:
    parser = Parser(prog=command(name), description=f"`metarl {name} DIR`: {what}.", allow_abbrev=False)
    parser.add_argument("grid_dir", type=Path, metavar="DIR", help="directory that `launch` wrote")
    parser.add_argument("names", nargs="*", metavar="NAME", help="runs or methods (default: all)")
    _add_backend(parser)
    arguments = parser.parse_intermixed_args(list(argv))
    _check_backend(arguments)
    folder = open_grid(arguments.grid_dir)
    return _carry_out(folder, folder.chosen(arguments.names), arguments, also_failed=name == "retry")


def _check_backend(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for a backend that does not exist or is not installed, before anything is written."""
    if arguments.backend not in _BACKENDS:
        raise ConfigError(f"backend {arguments.backend!r} is unknown; {nearest(arguments.backend, _BACKENDS)}")
    if arguments.backend == "ray":
        ray_backend.check_installed()
    if arguments.backend == "slurm":
        slurm.check_installed()


def _carry_out(
    folder: GridFolder, jobs: Sequence[Job], arguments: argparse.Namespace, *, also_failed: bool = False
) -> int:
    go_on(folder, jobs, also_failed=also_failed)
    memory = None if arguments.memory_gb is None else arguments.memory_gb * 2**30
    if arguments.backend == "slurm":
        return slurm.submit(folder, jobs, arguments.slurm, memory, arguments.jobs)
    backend: contextlib.AbstractContextManager[Backend]
    if arguments.backend == "ray":
        backend = ray_backend.RayTasks(folder, arguments.ray_address, memory, arguments.jobs)
    else:
        backend = contextlib.nullcontext(LocalPool(folder, arguments.jobs or usable_cpus(), arguments.nice, memory))
    with backend as opened, STOP.installed():  # in this order: Ray takes the signals, too
        done = drive(folder, jobs, opened, stop_requested=_asked_to_stop, say=_say)
        stopped = STOP.requested
    print(f"next: {command(*(('resume', folder.path) if stopped else ('report' if done else 'status', folder.path)))}")
    return EXIT_STOPPED if stopped else 0 if done else 1


def _asked_to_stop() -> bool:
    return STOP.requested


def _say(text: str) -> None:
    print(one_line(text), flush=True)


def _show_plan(folder: GridFolder, n_jobs: int, time_one: bool) -> None:
    """Print every command, their number, and what they will cost."""
    costs: dict[str, float | None] = {}
    show: Callable[[str], None] = print
    for job in folder.jobs:
        if job.method not in costs:
            found = estimate(job, time_one=time_one)
            costs[job.method] = found.cpu_s if found else None
        run_dir = folder.run_dir(job)
        show(command(*job.train_words(run_dir)))
        for flags in job.evaluate:
            show(command("evaluate", run_dir, *flags))
    n_evaluations = sum(len(job.evaluate) for job in folder.jobs)
    show(f"{len(folder.jobs)} runs of {len(costs)} methods, {n_evaluations} evaluations, into {one_line(folder.path)}")
    each = [costs[job.method] for job in folder.jobs]
    known = [cost for cost in each if cost is not None]
    if known:
        show(
            f"about {sum(known) / 3600:.2g} CPU hours{' without those below' * (len(known) < len(each))}, "
            f"{wall_clock_s(known, n_jobs) / 3600:.2g} h with {n_jobs} side by side"
        )
    unknown = [method for method, cost in costs.items() if cost is None]
    if unknown:
        note(f"no cost is known of {', '.join(unknown[:5])}{', ...' * (len(unknown) > 5)}; --time-one times them")
