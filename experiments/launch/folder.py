"""The directory of a grid: what was asked for, and per run a run directory and what became of it.

grid.json       the runs, as they were launched; written once, in one step
runs/NAME/      a run directory like any other
jobs/NAME/      attempts.jsonl: what was tried and how it ended; output.log; lock, held by whoever carries it out
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl.commandline import command
from metarl.errors import CheckpointError, ConfigError, nearest
from metarl.reading import read_object

from .grid import Job

SCHEMA_VERSION = 1
_GRID = "grid.json"
CONFIG, METRICS, CHECKPOINTS = "config.json", "metrics.jsonl", "checkpoints"
"""Of a run directory, as `metarl.run` names them: who only looks after runs does without torch."""


@dataclass(frozen=True)
class GridFolder:
    """A grid that was launched."""

    path: Path
    name: str
    jobs: tuple[Job, ...]

    def run_dir(self, job: Job) -> Path:
        """Return where a run lies."""
        return self.path / "runs" / job.name

    def job_dir(self, job: Job) -> Path:
        """Return where it lies what became of a run."""
        return self.path / "jobs" / job.name

    def chosen(self, names: Sequence[str]) -> list[Job]:
        """Return the runs of these names, or of these methods; all, if none is named. Raises: ConfigError."""
        known = {job.name for job in self.jobs} | {job.method for job in self.jobs}
        for name in names:
            if name not in known:
                raise ConfigError(f"{self.path} has no run {name!r}; {nearest(name, known)}")
        return [job for job in self.jobs if not names or job.name in names or job.method in names]


def is_grid(path: Path) -> bool:
    """Return whether a grid was launched into `path`."""
    return (path / _GRID).is_file()


def open_grid(path: Path) -> GridFolder:
    """Return the grid that was launched into `path`; raises CheckpointError if there is none or it is damaged."""
    if not is_grid(path):
        raise CheckpointError(f"{path} is not a grid's directory; start one with `{command('launch', 'GRID.yaml')}`")
    stored = read_object(path / _GRID)
    try:
        if stored["schema_version"] != SCHEMA_VERSION:
            raise CheckpointError(
                f"{path / _GRID} has schema version {stored['schema_version']!r}, expected {SCHEMA_VERSION}; use the "
                f"version of metarl that wrote it"
            )
        return GridFolder(path, str(stored["name"]), tuple(Job.from_json(entry) for entry in stored["jobs"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / _GRID} is damaged ({type(error).__name__}: {error}); restore a copy") from error


def prepare(path: Path, name: str, jobs: Sequence[Job], *, extend: bool = False) -> GridFolder:
    """Return the grid in `path`, which is created if there is none.

    Raises: ConfigError if another one is there: runs may be added, with `extend`, but those that were launched stay.
    """
    wanted = GridFolder(path, name, tuple(jobs))
    if not is_grid(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{path} exists and is no grid's directory; choose another --into")
        _write(wanted)
        return wanted
    before = {job.name: job for job in open_grid(path).jobs}
    now = {job.name: job for job in jobs}
    gone = [name for name in before if name not in now]
    changed = [name for name in before if name in now and before[name] != now[name]]
    added = [name for name in now if name not in before]
    if gone or changed or (added and not extend):
        told = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (("gone", gone), ("changed", changed), ("added", added))
            if names
        ]
        only_added = "add them with --extend, or " if not gone and not changed else ""
        raise ConfigError(
            f"the grid in {path} was launched with other runs: {', '.join(told)}; {only_added}launch this one --into "
            f"another directory, or go on with the old one by `{command('resume', path)}`"
        )
    if added:
        _write(wanted)
    return wanted


def n_saved(run_dir: Path) -> int:
    """Return the iteration of a run's newest checkpoint, 0 without one."""
    found = (path.name.rpartition("-")[2] for path in (run_dir / CHECKPOINTS).glob("iteration-*"))
    return max((int(number) for number in found if number.isdecimal()), default=0)


def _write(grid: GridFolder) -> None:
    from metarl.checkpoint import replace_file
    from metarl.provenance import provenance

    stored: Mapping[str, Any] = {
        "kind": "metarl.grid",
        "schema_version": SCHEMA_VERSION,
        "name": grid.name,
        "provenance": provenance(),
        "jobs": [job.to_json() for job in grid.jobs],
    }
    try:
        for folder in ("runs", "jobs"):
            (grid.path / folder).mkdir(parents=True, exist_ok=True)
        replace_file(grid.path / _GRID, (json.dumps(stored, indent=1) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"cannot write {grid.path}: {error}; choose another --into") from error
