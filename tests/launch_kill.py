"""`python -m tests.launch_kill [--into FILE]`: a grid that is killed in every way ends as if nothing had happened.

Twelve small runs are launched twice. One grid is left alone. Of the other one the driver is killed (`kill -9`), then
two workers, then one run in the middle of a checkpoint, then every process at once; each time it is launched again. At
the end all runs must be done, with the parameters and the history of their undisturbed twins, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from metarl import run
from metarl.checkpoint import state_fingerprint
from metarl.commandline import recorded
from metarl.experiments.cli.outputs import write_json
from metarl.experiments.launch.folder import GridFolder, open_grid
from metarl.experiments.launch.state import standings
from metarl.log import WALL_CLOCK_KEYS
from metarl.provenance import provenance

PATIENCE_S = 600.0


def grid_text(n_seeds: int, n_iterations: int) -> str:
    """Return a grid of two agents and `n_seeds` seeds whose runs save after every iteration."""
    small = {
        "train.n-iterations": n_iterations, "train.n-tasks": 4, "train.validate-every-iters": 0,
        "train.checkpoint-every-iters": 1, "log.wandb": "disabled",
    }  # fmt: skip
    groups = {
        "rl2": {"presets": "rl2-gridworld", "settings": {"agent.hidden": 16}},
        "maml": {"presets": "maml-navigation", "settings": {"agent.hidden": "8 8"}},
    }
    evaluate = "--n-tasks 4 --n-seeds 1"
    return yaml.safe_dump({"seeds": f"0..{n_seeds - 1}", "settings": small, "groups": groups, "evaluate": evaluate})


def begin(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start one of our commands in a session of its own, as a terminal would; what it says goes into `log`."""
    with log.open("ab") as out:
        words = [sys.executable, "-m", "metarl", *arguments]
        return subprocess.Popen(words, stdout=out, stderr=out, start_new_session=True)


def processes(grid: Path, what: str) -> dict[int, str]:
    """Return pid and command line of the living processes that name `grid` and `what`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if any(str(grid) in word for word in words) and what in words:
                found[int(entry.name)] = " ".join(words)
    return found


def workers(grid: Path) -> dict[int, str]:
    """Return the processes that carry runs out."""
    return processes(grid, "metarl.experiments.launch.job")


def until(happened: Callable[[], Any], what: str) -> Any:
    """Wait for something and return it."""
    patience = time.monotonic() + PATIENCE_S
    while time.monotonic() < patience:
        found = happened()
        if found:
            return found
        time.sleep(0.002)
    raise AssertionError(f"{what} did not happen within {PATIENCE_S:.0f} s")


def kill(*pids: int) -> None:
    """Send SIGKILL."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def training(grid: Path) -> dict[int, str]:
    """Return the processes that have begun to train: their run directory has a record."""
    begun = {
        path.parent.name for path in grid.glob("runs/*/metrics.jsonl") if path.exists() and path.stat().st_size
    }  # fmt: skip
    found = processes(grid, "train")
    return {pid: words for pid, words in found.items() if any(f"/runs/{name} " in words for name in begun)}


def in_mid_checkpoint(grid: Path) -> int:
    """Return the pid of a training process that is writing a checkpoint, 0 if none is."""
    for beside in grid.glob("runs/*/checkpoints/.*"):
        name = beside.parents[1].name
        for pid, words in processes(grid, "train").items():
            if f"/runs/{name} " in words:
                return pid
    return 0


def disturb(grid: Path, file: Path, say: Callable[[str], None]) -> list[str]:
    """Launch the grid and kill it in four ways; return what was done."""
    done = []

    def note(text: str) -> None:
        done.append(text)
        say(text)

    log = file.with_suffix(".log")
    driver = begin(log, "launch", str(file), "--into", str(grid), "--jobs", "2")
    until(lambda: len(training(grid)) >= 2, "training of two runs")
    driver.kill()
    driver.wait()
    assert training(grid), "runs die with their driver"
    note("driver killed; its runs went on")

    driver = begin(log, "resume", str(grid), "--jobs", "2")
    until(lambda: training(grid) and len(workers(grid)) >= 2, "two workers")
    victims = list(workers(grid))[:2]
    kill(*victims)
    note(f"{len(victims)} workers killed")

    pid = until(lambda: in_mid_checkpoint(grid), "a checkpoint")
    kill(pid)
    note("a run killed in the middle of a checkpoint")

    until(lambda: training(grid), "training again")
    everything = {
        **processes(grid, "resume"),
        **workers(grid),
        **processes(grid, "train"),
        **processes(grid, "evaluate"),
    }
    kill(*everything)
    driver.wait()
    note(f"all {len(everything)} processes killed at once")

    attempts = 0
    while True:  # a run that was killed three times without getting further has failed, and says so
        code = begin(log, "retry", str(grid), "--jobs", "2").wait(PATIENCE_S)
        attempts += 1
        if code == 0 or attempts == 3:
            break
    assert code == 0, [s for s in standings(open_grid(grid)) if s.state != "done"]
    note("gone on with, and done")
    return done


def outcome(grid: GridFolder, name: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a digest of a run's parameters and its history without clocks."""
    folder = grid.path / "runs" / name
    records = [{k: v for k, v in r.items() if k not in WALL_CLOCK_KEYS} for r in run.history(folder)]
    return state_fingerprint(run.newest_point(folder).agent_state), records


def check(folder: Path, n_seeds: int, n_iterations: int, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Play both grids in `folder` and return what was found; raises AssertionError for a run that differs."""
    file = folder / "grid.yaml"
    file.write_text(grid_text(n_seeds, n_iterations))
    alone, disturbed = folder / "alone", folder / "disturbed"
    done = disturb(disturbed, file, say)
    log = file.with_suffix(".log")
    assert begin(log, "launch", str(file), "--into", str(alone), "--jobs", "2").wait(PATIENCE_S) == 0
    assert "Traceback" not in log.read_text()
    twins = open_grid(alone), open_grid(disturbed)
    differ = [job.name for job in twins[0].jobs if outcome(twins[0], job.name) != outcome(twins[1], job.name)]
    found = standings(twins[1])
    assert not differ, differ
    assert [s.state for s in found] == ["done"] * len(found)
    return {
        "runs": len(found),
        "disturbances": done,
        "attempts": {s.name: s.attempts for s in found},
        "differ": differ,
    }


def main() -> None:
    """Run the check in a temporary folder and write what was found."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, help="write the result as JSON")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=30)
    arguments = parser.parse_args()
    came_from = provenance()
    with tempfile.TemporaryDirectory() as folder:
        found = check(Path(folder), arguments.seeds, arguments.iterations)
    print(f"{found['runs']} runs, {len(found['disturbances'])} disturbances, {len(found['differ'])} differ")
    if arguments.into:
        command = recorded("-m", "tests.launch_kill").replace("metarl", "python", 1)
        write_json(arguments.into, {"kind": "metarl.launch-kill", "command": command, "provenance": came_from, **found})


if __name__ == "__main__":
    main()
