"""`make kill`: every kind of agent trained in real processes that are killed with kill -9 at random moments.

    python -m tests.experiments.kill_every_agent [KIND ...] [--kills 3]

The suite does this to three agents (`test_resume.py`) and stops the others politely (`test_resume_agents.py`).
Processes are forked from this one, which never trains itself, so that none has to import everything again. Exits with 1
if any run differs from one that was never touched.
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
from multiprocessing.process import BaseProcess
from pathlib import Path

from experiments.__main__ import main as command
from metarl.provenance import provenance
from tests.experiments.every_agent import KINDS
from tests.experiments.test_resume import numbers, parameters

NAME = "tests.experiments.kill_every_agent"
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


def main(argv: list[str]) -> int:
    """Kill and compare; one line per kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="default: all")
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="kills per run")
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
        differ += [] if same else [kind]
        found[kind] = {"killed_after": reached, "equal": same}
        told = ", ".join(map(str, reached))
        print(f"{kind:<24}killed after {told:<14}{'equal bit for bit' if same else 'DIFFERS'}", flush=True)
    if arguments.json is not None:
        stored = {"command": " ".join(["python -m", NAME, *argv]), "iterations": N_ITERATIONS, "kinds": found}
        arguments.json.write_text(json.dumps(stored | {"provenance": provenance()}, indent=1) + "\n")
    print(f"{len(differ)} of {len(arguments.kinds or KINDS)} kinds differ: {', '.join(differ) or 'none'}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
