"""`make kill`: every kind of agent trained in real processes that are killed with kill -9 at random moments.

    python -m tests.experiments.kill_every_agent [KIND ...] [--kills 3]

The suite does this to three agents (`test_resume.py`) and stops all others politely (`test_resume_agents.py`), which
takes seconds; this takes half a minute per kind. Exits with 1 if any run differs from one that was never touched.
"""

from __future__ import annotations

import argparse
import random  # noqa: TID251 - moments to kill at, seeded and local
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.experiments.every_agent import KINDS
from tests.experiments.test_resume import ROOT, command, numbers, parameters, wait_for_records

N_ITERATIONS = 24


def words(kind: str, folder: Path) -> list[str]:
    """Return the command that begins or goes on."""
    preset = f"tests.experiments.every_agent:{kind}"
    return command(preset, "--run-dir", str(folder), "--resume", "auto", "--train.n-iterations", str(N_ITERATIONS))


def finish(kind: str, folder: Path) -> None:
    """Let a run come to its end."""
    done = subprocess.run(words(kind, folder), cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(f"{kind}: exit code {done.returncode}\n{done.stderr}")


def kill(kind: str, folder: Path, n_kills: int) -> list[int]:
    """Kill a run again and again; return how far each process had come in the history."""
    moments = random.Random(f"kill {kind}")
    reached = []
    for target in sorted(moments.sample(range(1, N_ITERATIONS - 4), n_kills)):
        process = subprocess.Popen(words(kind, folder), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for_records(process, folder, target)
        time.sleep(moments.uniform(0.0, 0.02))
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            raise SystemExit(f"{kind}: ended with {process.returncode} before it was killed; raise N_ITERATIONS")
        reached.append((folder / "metrics.jsonl").read_bytes().count(b"\n"))
    return reached


def main(argv: list[str]) -> int:
    """Kill and compare; one line per kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="default: all")
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="kills per run")
    arguments = parser.parse_args(argv)
    differ = []
    for kind in arguments.kinds or KINDS:
        with tempfile.TemporaryDirectory() as place:
            whole, broken = Path(place) / "whole", Path(place) / "broken"
            finish(kind, whole)
            reached = kill(kind, broken, arguments.kills)
            finish(kind, broken)
            same = parameters(broken, N_ITERATIONS) == parameters(whole, N_ITERATIONS)
            same = same and numbers(broken) == numbers(whole) and len(numbers(whole)) == N_ITERATIONS
        differ += [] if same else [kind]
        told = ", ".join(map(str, reached))
        print(f"{kind:<24}killed after {told:<14}{'equal bit for bit' if same else 'DIFFERS'}", flush=True)
    print(f"{len(differ)} of {len(arguments.kinds or KINDS)} kinds differ: {', '.join(differ) or 'none'}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
