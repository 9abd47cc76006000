"""How the runs of a grid stand, from their directories alone: whoever started them may be gone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from metarl.errors import MetarlError
from metarl.log import read_records
from metarl.reading import read_object

from .attempts import Attempts, read_attempts
from .folder import CHECKPOINTS, CONFIG, METRICS, GridFolder
from .grid import Job

State = Literal["queued", "running", "stalled", "stopped", "waiting", "done", "failed"]
STATES: tuple[State, ...] = ("running", "stalled", "queued", "waiting", "stopped", "failed", "done")
_STALLED_S = 600.0
_STALLED_ITERATIONS = 10.0
"""A run is stalled if nothing was written for ten minutes and for ten iterations' time."""
_SCORES = ("validation/post_return", "validation/post_success", "train/post_return", "train/post_success")


@dataclass(frozen=True)
class Standing:
    """How one run stands."""

    name: str
    method: str
    seed: int
    state: State
    reason: str = ""
    """Why it is not at work, where that is not plain."""
    iteration: int = 0
    n_iterations: int | None = None
    """None: it has not begun."""
    eta_s: float | None = None
    """Seconds of training left at the pace of the last iterations; None if nobody is at work or nothing is known."""
    env_steps: int = 0
    scores: dict[str, float] | None = None
    """The latest of each score."""
    cpu_s: float = 0.0
    """CPU seconds of all attempts that have ended."""
    wall_s: float = 0.0
    peak_memory_bytes: float = 0.0
    attempts: int = 0
    where: str = ""
    """Host and process that carry it out, or last did."""


def standings(grid: GridFolder) -> list[Standing]:
    """Return how each run stands, in the grid's order."""
    return [standing(grid, job) for job in grid.jobs]


def standing(grid: GridFolder, job: Job) -> Standing:
    """Return how one run stands. A directory that cannot be read makes it failed, with the reason."""
    attempts, run_dir = read_attempts(grid.job_dir(job)), grid.run_dir(job)
    records: list[dict[str, Any]] = []
    n_iterations, damage = None, ""
    try:
        if (run_dir / CONFIG).is_file():
            n_iterations = int(read_object(run_dir / CONFIG)["train"]["n_iterations"])
            records = read_records(run_dir / METRICS)
    except (MetarlError, OSError, KeyError, TypeError, ValueError) as error:
        damage = str(error)
    state, reason = _state(attempts, run_dir, records)
    if damage and state in ("queued", "waiting", "stopped", "done"):
        state, reason = "failed", damage
    last, cost = (records[-1] if records else {}), attempts.cost()
    pace = _pace_s(records)
    left = None if n_iterations is None else n_iterations - len(records)
    start = next((e for e in reversed(attempts.events) if e["event"] == "start"), None)
    return Standing(
        job.name, job.method, job.seed, state, reason,
        iteration=len(records), n_iterations=n_iterations,
        eta_s=pace * left if state == "running" and pace is not None and left is not None else None,
        env_steps=int(last.get("env_steps", 0)), scores=_scores(records),
        attempts=sum(e["event"] == "start" for e in attempts.events),
        where=f"{start.get('host')}:{start.get('pid')}" if start else "", **cost,
    )  # fmt: skip


def _state(attempts: Attempts, run_dir: Path, records: Sequence[dict[str, Any]]) -> tuple[State, str]:
    if attempts.held:
        silent = _silent_s(attempts, run_dir)
        limit = max(_STALLED_S, _STALLED_ITERATIONS * (_pace_s(records) or 0.0))
        if silent > limit:
            return "stalled", f"nothing was written for {silent / 60:.0f} min"
        return "running", ""
    if attempts.done:
        return ("done", "") if (run_dir / CONFIG).is_file() else ("failed", "its run directory is gone")
    if attempts.stopped:
        return "stopped", "on request"
    if attempts.failure:
        return "failed", attempts.failure
    last = attempts.last
    if last is not None and last["event"] in ("start", "end"):
        return "waiting", f"{last.get('reason') or 'its process is gone'}; to be tried again"
    return "queued", ""


def _silent_s(attempts: Attempts, run_dir: Path) -> float:
    """Return for how long nothing was written, in seconds."""
    times = [float(attempts.last["time"])] if attempts.last else []
    for path in (run_dir / METRICS, run_dir / CHECKPOINTS, run_dir / "results"):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return time.time() - max(times, default=time.time())


def _pace_s(records: Sequence[dict[str, Any]]) -> float | None:
    """Return the median wall-clock seconds of the latest iterations, None before there are two."""
    clock = [float(r["wall_s"]) for r in records[-12:] if "wall_s" in r]
    steps = [b - a for a, b in pairwise(clock) if b > a]
    return statistics.median(steps) if steps else None


def _scores(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for record in reversed(records[-200:]):
        for key in _SCORES:
            if key in record:
                found.setdefault(key, float(record[key]))
        if len(found) == len(_SCORES):
            break
    return {key: found[key] for key in _SCORES if key in found}
