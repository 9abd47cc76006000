"""`metarl bench processes`: what one run gains from several processes on this machine, at the Meta-World sizes.

Each round trains a few iterations of each case twice, one after the other, in alternating order: in one process, and
under torchrun in several, each with one thread of torch as a run has by default. The first iteration is not counted: it
builds simulators and fills caches. What is compared are the seconds of the clock on the wall of collecting and of
updating, medians over all counted iterations of all rounds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from metarl import run
from metarl.errors import ConfigError, nearest, shortened
from metarl.experiments.cli.parser import whole
from metarl.experiments.cli.safe_text import make_console
from metarl.provenance import provenance

from .clock import machine
from .options import bench_parser, place, store

CASES: Mapping[str, tuple[str, ...]] = {
    "maml-ml10": ("maml-ml10",),
    "rl2-ml10": ("rl2-ml10",),
    "pearl": ("pearl-sparse-point-robot", "--agent.warmup-iters", "0"),
}
"""Words after `train`, by the name of the case."""
QUICK = ("--train.n-tasks", "4")
PARTS = {"collect": "time/collect_s", "update": "time/update_s"}


def words(case: str, folder: Path, n_iterations: int, quick: bool) -> list[str]:
    """Return what follows `-m metarl` to train a case."""
    settings = [
        "--train.n-iterations",
        str(n_iterations),
        "--train.validate-every-iters",
        "0",
        "--threads",
        "1",
    ]
    small = QUICK if quick else ()
    silent = ["--log.wandb", "disabled", "--log.progress", "off"]
    return ["metarl", "train", *CASES[case], *small, *settings, *silent, "--run-dir", str(folder)]


def seconds(case: str, n_processes: int, n_iterations: int, quick: bool) -> dict[str, list[float]]:
    """Train a case and return the seconds of each part in each iteration but the first."""
    with tempfile.TemporaryDirectory() as place_of_runs:
        folder = Path(place_of_runs) / "run"
        rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
        launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(n_processes), *rendezvous]
        launched = [sys.executable, *(launcher if n_processes > 1 else []), "-m"]
        done = subprocess.run(
            [*launched, *words(case, folder, n_iterations, quick)],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ConfigError(f"{case} in {n_processes} processes failed: {shortened(done.stderr or done.stdout)}")
        records = run.history(folder)[1:]
    return {part: [float(record[key]) for record in records] for part, key in PARTS.items()}


def compared(alone: Mapping[str, Sequence[float]], together: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the medians of each part and of whole iterations, and how many times faster several processes are."""
    found: dict[str, Any] = {}
    for part in (*PARTS, "iteration"):
        one, several = (_of(part, times) for times in (alone, together))
        found[part] = {"one_s": one, "several_s": several, "times_faster": one / several}
    return found


def _of(part: str, times: Mapping[str, Sequence[float]]) -> float:
    if part != "iteration":
        return statistics.median(times[part])
    return statistics.median(map(sum, zip(*times.values(), strict=True)))


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = bench_parser("processes", __doc__, CASES)
    parser.add_argument("--processes", type=whole(2), default=2, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--iterations", type=whole(2), metavar="N", help="per round; the first does not count (4)")
    arguments = parser.parse_args(argv)
    cases, quick, n = arguments.scenario or list(CASES), arguments.quick, arguments.processes
    for case in cases:
        if case not in CASES:
            raise ConfigError(f"--scenario {case!r} is no case; {nearest(case, CASES)}")
    out, console = place(arguments, "processes-speed.json"), make_console()
    rounds, n_iterations = arguments.rounds or (1 if quick else 3), arguments.iterations or (2 if quick else 4)
    table = Table("case", "part", "1 process, s", f"{n} processes, s", "times faster", box=None)
    results: dict[str, Any] = {}
    for case in cases:
        times: dict[int, dict[str, list[float]]] = {k: {part: [] for part in PARTS} for k in (1, n)}
        for i in range(rounds):
            for k in (1, n) if i % 2 == 0 else (n, 1):
                for part, taken in seconds(case, k, n_iterations, quick).items():
                    times[k][part] += taken
        results[case] = compared(times[1], times[n])
        for part, one in results[case].items():
            table.add_row(case, part, f"{one['one_s']:.2f}", f"{one['several_s']:.2f}", f"{one['times_faster']:.2f}")
    console.print(table)
    settings = {"processes": n, "threads_each": 1, "rounds": rounds, "iterations": n_iterations}
    store(
        {"kind": "metarl.processes", "cases": results, **settings, "machine": machine(), "provenance": provenance()},
        out, console,
    )  # fmt: skip
    return 0
