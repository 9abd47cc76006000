"""`metarl status DIR`: how a grid's runs stand; `metarl stop DIR`: let them save and end."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.live import Live
from rich.table import Table
from rich.text import Text

from metarl.commandline import command
from metarl.experiments.cli.numbers import duration, number
from metarl.experiments.cli.parser import Parser, real
from metarl.experiments.cli.safe_text import make_console, note, one_line
from metarl.signals import STOP

from .attempts import holder, read_attempts, tell
from .folder import open_grid
from .state import STATES, Standing, standings

_STYLES = {"running": "cyan", "stalled": "yellow", "failed": "red", "done": "green", "waiting": "yellow"}
_SHOWN_SCORES = ("validation/post_success", "validation/post_return", "train/post_success", "train/post_return")


def main(argv: Sequence[str]) -> int:
    """Print how every run stands and return the exit code: 1 if one failed for good, else 0."""
    parser = Parser(prog=command("status"), description="How the runs of a grid stand.", allow_abbrev=False)
    parser.add_argument("grid_dir", type=Path, metavar="DIR", help="directory that `launch` wrote")
    parser.add_argument("--watch", action="store_true", help="stay, and show what changes, until all is over")
    parser.add_argument("--every", type=real(0.1, 3600), default=2.0, metavar="S", help="seconds between two looks")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args(list(argv))
    folder = open_grid(arguments.grid_dir)
    found = standings(folder)
    if arguments.json:
        print(json.dumps({"grid": folder.name, "runs": [asdict(s) for s in found]}, indent=1))
        return int(any(s.state == "failed" for s in found))
    console = make_console()
    if not arguments.watch:
        console.print(table(found))
    else:
        with STOP.installed(), Live(table(found), console=console, auto_refresh=False) as live:
            while not STOP.requested and any(s.state in ("running", "stalled", "waiting", "queued") for s in found):
                time.sleep(arguments.every)
                found = standings(folder)
                live.update(table(found), refresh=True)
    print(summary(found))
    for one in found:
        if one.state == "failed":
            note(f"{one.name} failed: {one.reason}; see {folder.path / 'jobs' / one.name / 'output.log'}")
    if any(s.state == "failed" for s in found):
        print(f"next: {command('retry', folder.path)}")
    return int(any(s.state == "failed" for s in found))


def table(found: Sequence[Standing]) -> Table:
    """Return a row per run: what it is, how far, how good and how dear."""
    out = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "state", "iteration", "left", "score", "CPU", "tries"):
        out.add_column(title, overflow="fold", justify="left" if title in ("run", "state", "score") else "right")
    for one in found:
        total = "–" if one.n_iterations is None else f"{one.iteration} / {one.n_iterations}"
        score = next(((k, v) for k in _SHOWN_SCORES for v in [(one.scores or {}).get(k)] if v is not None), None)
        out.add_row(
            Text(one_line(one.name)),
            Text(one.state, style=_STYLES.get(one.state, "")),
            total,
            duration(one.eta_s) if one.eta_s is not None else "",
            Text("" if score is None else f"{score[0].partition('/')[2].replace('post_', '')} {number(score[1])}"),
            duration(one.cpu_s) if one.cpu_s else "",
            str(one.attempts or ""),
        )
    return out


def summary(found: Sequence[Standing]) -> str:
    """Return the counts of states, the cost so far, and when it will be over, in one line."""
    counts = Counter(one.state for one in found)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    left = max((one.eta_s for one in found if one.eta_s is not None), default=None)
    cost = f"{sum(one.cpu_s for one in found) / 3600:.2f} CPU hours in ended attempts"
    return f"{', '.join(parts)}; {cost}" + ("" if left is None else f"; those running end in {duration(left)}")


def stop(argv: Sequence[str]) -> int:
    """Ask runs to save and end, wait for those of this machine, and return the exit code."""
    parser = Parser(prog=command("stop"), description="Let a grid's runs save and end.", allow_abbrev=False)
    parser.add_argument("grid_dir", type=Path, metavar="DIR", help="directory that `launch` wrote")
    parser.add_argument("names", nargs="*", metavar="NAME", help="runs or methods (default: all)")
    arguments = parser.parse_intermixed_args(list(argv))
    folder = open_grid(arguments.grid_dir)
    asked, elsewhere = [], []
    for job in folder.chosen(arguments.names):
        found = read_attempts(folder.job_dir(job))
        if found.done or (found.failure and not found.held):
            continue
        tell(folder.job_dir(job), "stop")  # first, so that no driver starts it again
        if found.held:
            host, pid = holder(found)
            if host == socket.gethostname() and _signal(pid):
                asked.append(job)
            else:
                elsewhere.append(f"{job.name} ({host})")
    while any(read_attempts(folder.job_dir(job)).held for job in asked):
        time.sleep(0.1)
    print(f"{len(asked)} runs saved and ended; go on with `{command('resume', folder.path)}`")
    for name in elsewhere:
        note(f"{name} is at work on another machine and goes on: call this there, or cancel its Ray task or Slurm job")
    return 0


def _signal(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return False
    return True
