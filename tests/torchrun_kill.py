"""`python -m tests.torchrun_kill [--into FILE]`: a run over two processes, of which one is killed, ends as if none was.

The same small run is trained five times under `torchrun --max-restarts 1`. Each time one process, the first one or the
other, is killed (`kill -9`) at another iteration; torchrun starts both again, and `--resume auto` goes on. At the end
parameters and history must be those of a run of two processes that nobody disturbed, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from metarl import run
from metarl.checkpoint import state_fingerprint
from metarl.experiments.cli.outputs import write_json
from metarl.log import WALL_CLOCK_KEYS
from metarl.provenance import provenance

PATIENCE_S = 240.0


def torchrun(*words: str, restarts: int = 0, n: int = 2) -> list[str]:
    """Return the command that runs `python -m WORDS` in `n` processes of this machine."""
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--max-restarts", str(restarts)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(n), *rendezvous]
    return [*launcher, "--monitor-interval", "0.1", "-m", *words]


def environment() -> dict[str, str]:
    """Return this process's, with one thread per process."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def train(folder: Path, preset: str, n_iterations: int) -> list[str]:
    """Return the command of the run in `folder`."""
    often = ["--train.checkpoint-every-iters", "2", "--train.n-iterations", str(n_iterations)]
    words = ["metarl", "train", f"tests.experiments.every_agent:{preset}", "--run-dir", str(folder), "--resume", "auto"]
    return torchrun(*words, *often, restarts=1)


def outcome(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return a digest of a run's parameters and its history without clocks."""
    records = [{k: v for k, v in r.items() if k not in WALL_CLOCK_KEYS} for r in run.history(folder)]
    return state_fingerprint(run.newest_point(folder).agent_state), records


def pid_of(rank: int, folder: Path) -> int:
    """Return the living process of `rank` that trains in `folder`, 0 if there is none."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
            if str(folder).encode() in words and f"RANK={rank}".encode() in (entry / "environ").read_bytes().split(
                b"\0"
            ):
                return int(entry.name)
        except OSError:
            continue
    return 0


def disturbed(folder: Path, preset: str, n_iterations: int, rank: int, at: int) -> dict[str, Any]:
    """Train, kill process `rank` once iteration `at` is in the history, and return how it went."""
    log = folder.with_suffix(".log")
    with log.open("wb") as out:
        process = subprocess.Popen(train(folder, preset, n_iterations), stdout=out, stderr=out, env=environment())
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE_S and process.poll() is None:
            if (folder / run.METRICS).is_file() and len(run.history(folder)) >= at:
                break
            time.sleep(0.01)
        pid = pid_of(rank, folder)
        assert pid, log.read_text()
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        code = process.wait(PATIENCE_S)
    assert code == 0, log.read_text()
    assert "going on after iteration" in log.read_text(), "nothing was left to do"
    return {"killed_process": rank, "at_iteration": at, "s_from_kill_to_end": round(time.monotonic() - killed, 1)}


def check(where: Path, preset: str, n_iterations: int, n_kills: int) -> list[dict[str, Any]]:
    """Kill `n_kills` runs once each; raises AssertionError for one that ends otherwise than an undisturbed one."""
    alone = where / "alone"
    subprocess.run(train(alone, preset, n_iterations), check=True, env=environment(), capture_output=True)
    found = []
    for i in range(n_kills):
        folder = where / f"killed-{i}"
        found.append(disturbed(folder, preset, n_iterations, rank=i % 2, at=2 + 3 * i))
        assert outcome(folder) == outcome(alone), f"{folder} differs"
        print(found[-1], flush=True)
    return found


def main() -> None:
    """Run the check in a temporary folder and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, help="write the result as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = check(Path(folder), "rl2_gru", 60, 5)
    if arguments.into is not None:
        write_json(arguments.into, {"kind": "metarl.torchrun-kill", "kills": found, "provenance": provenance()})


if __name__ == "__main__":
    main()
