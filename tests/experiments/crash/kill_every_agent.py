"""`make kill`: every kind of agent trained in real processes that are killed with kill -9 at random moments.

    python -m tests.experiments.crash.kill_every_agent [KIND ...] [--kills 3] [--operations each|all|none]

The suite does this to three agents (`test_resume.py`) and stops the others politely (`test_resume_agents.py`). Then a
run of each kind is killed at every operation on files and in the middle of every write, and the disk fails at every
operation (`test_crash_points.py` does so with one small agent): `each` leaves out kills before which nothing changed on
the disk and lets one kind of failure follow another, `all` tries everything. Processes are forked from this one, so
that none has to import everything again. Exits with 1 if any run differs from one that was never touched.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random  # noqa: TID251 - moments to kill at, seeded and local
import signal
import sys
import tempfile
import time
from dataclasses import replace
from itertools import chain
from multiprocessing.process import BaseProcess
from pathlib import Path

from metarl.experiments.cli.main import main as command
from metarl.provenance import provenance
from tests.experiments.crash.crash_points import all_points, distinct_kills, one_failure_each
from tests.experiments.crash.crash_runs import warm
from tests.experiments.every_agent import KINDS, config_of
from tests.experiments.runs.test_resume import numbers, parameters

NAME = "tests.experiments.crash.kill_every_agent"
N_ITERATIONS = 24
PATIENCE_S = 600.0


def _train(words: list[str]) -> None:
    """Run the command in a process of its own, which says nothing unless it goes wrong."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(command(words))


def start(kind: str, folder: Path) -> BaseProcess:
    """Begin a run, or go on with it."""
    preset = f"tests.experiments.every_agent:{kind}"
    words = ["train", preset, "--run-dir", str(folder), "--resume", "auto", "--train.n-iterations", str(N_ITERATIONS)]
    process = multiprocessing.get_context("fork").Process(target=_train, args=(words,))
    process.start()
    return process


def finish(kind: str, folder: Path) -> None:
    """Let a run come to its end."""
    process = start(kind, folder)
    process.join(PATIENCE_S)
    if process.exitcode != 0:
        raise SystemExit(f"{kind}: exit code {process.exitcode}")


def records(folder: Path) -> int:
    """Return how many lines the history has."""
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill(kind: str, folder: Path, n_kills: int) -> list[int]:
    """Kill a run again and again; return how far each process had come in the history."""
    moments = random.Random(f"kill {kind}")
    reached = []
    for target in sorted(moments.sample(range(1, N_ITERATIONS - 4), n_kills)):
        process, until = start(kind, folder), time.monotonic() + PATIENCE_S
        while records(folder) < target and process.is_alive() and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(moments.uniform(0.0, 0.02))  # anywhere in an iteration or a checkpoint
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            raise SystemExit(f"{kind}: ended with {process.exitcode} before it was killed; raise N_ITERATIONS")
        reached.append(records(folder))
    return reached


def crash(kind: str, place: Path, which: str) -> dict[str, object]:
    """Let a run of `kind` be killed, and its disk fail, at every operation; return counts and complaints."""
    config = config_of(kind)
    loop = replace(config.train, validate_every_iters=2, n_validation_tasks=1, checkpoint_every_iters=1)
    log = replace(config.log, tensorboard=True)
    with warm(replace(config, train=loop, log=log, threads=1), place) as trial:
        operations = trial.operations()
        faults = chain(distinct_kills(operations), one_failure_each(operations))
        if which == "all":
            faults = chain(all_points(operations, ("kill", "torn", "ENOSPC", "EIO", "short")))
        tried = list(trial.tried(trial.outcome(), faults))
    wrong = [f"{name}: {complaint}" for name, complaint in tried if complaint]
    return {"operations": len(operations), "tried": len(tried), "wrong": wrong}


def main(argv: list[str]) -> int:
    """Kill and compare; one line per kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="default: all")
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="kills per run")
    parser.add_argument(
        "--operations", choices=("each", "all", "none"), default="each", help="at which to kill and fail"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write what was found")
    arguments = parser.parse_args(argv)
    differ, found = list[str](), dict[str, object]()
    for kind in arguments.kinds or KINDS:
        with tempfile.TemporaryDirectory() as place:
            whole, broken = Path(place) / "whole", Path(place) / "broken"
            finish(kind, whole)
            reached = kill(kind, broken, arguments.kills)
            finish(kind, broken)
            same = parameters(broken, N_ITERATIONS) == parameters(whole, N_ITERATIONS)
            same = same and numbers(broken) == numbers(whole) and len(numbers(whole)) == N_ITERATIONS
            at_operations: dict[str, object] = {"operations": 0, "tried": 0, "wrong": []}
            if arguments.operations != "none":
                at_operations = crash(kind, Path(place) / "crash", arguments.operations)
        differ += [] if same and not at_operations["wrong"] else [kind]
        found[kind] = {"killed_after": reached, "equal": same, "at_operations": at_operations}
        told = ", ".join(map(str, reached)) + f", and {at_operations['tried']} times"
        print(f"{kind:<24}killed after {told:<30}{'DIFFERS' if kind in differ else 'equal bit for bit'}", flush=True)
    if arguments.json is not None:
        stored = {"command": " ".join(["python -m", NAME, *argv]), "iterations": N_ITERATIONS, "kinds": found}
        arguments.json.write_text(json.dumps(stored | {"provenance": provenance()}, indent=1) + "\n")
    print(f"{len(differ)} of {len(arguments.kinds or KINDS)} kinds differ: {', '.join(differ) or 'none'}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
