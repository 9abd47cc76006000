"""Which runs are compared: run directories as they are named, or all of a grid under its methods' names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metarl import run
from metarl.errors import CheckpointError, ConfigError, MetarlError
from metarl.experiments.build import stored_config
from metarl.experiments.cli.safe_text import one_line
from metarl.experiments.figures.plots import Shown
from metarl.experiments.launch.attempts import read_attempts
from metarl.experiments.launch.folder import is_grid, open_grid
from metarl.experiments.runs.stored import read_evaluation


@dataclass(frozen=True)
class Listed:
    """A run that is to be compared."""

    run_dir: Path
    label: str
    method: str | None = None
    """The grid's name for what runs of other seeds share; None: runs of equal settings are one method."""
    cpu_s: float | None = None
    """CPU seconds of training and evaluation, where a grid says so."""


@dataclass(frozen=True)
class Read:
    """What there is to compare, and what is missing."""

    listed: tuple[Listed, ...]
    shown: tuple[Shown, ...]
    configs: tuple[dict[str, object], ...]
    missing: tuple[tuple[str, str], ...]
    """Runs of a grid that cannot be compared yet, and why."""


def runs_of(folders: Sequence[Path]) -> list[Listed]:
    """Return the runs that `folders` name, each once; a folder may be a run directory or a grid's."""
    found: dict[Path, Listed] = {}
    plain = list(dict.fromkeys(f.resolve() for f in folders if not is_grid(f)))
    grids = list(dict.fromkeys(f.resolve() for f in folders if is_grid(f)))
    names = [f.name for f in plain]
    for folder in plain:
        known = folder.name if names.count(folder.name) == 1 else f"{folder.parent.name}/{folder.name}"
        found[folder] = Listed(folder, one_line(known))
    for folder in grids:
        grid = open_grid(folder)
        front = f"{grid.name}/" if len(grids) > 1 else ""
        for job in grid.jobs:
            path = grid.run_dir(job)
            cpu_s = read_attempts(grid.job_dir(job)).cost()["cpu_s"] or None
            found[path] = Listed(path, one_line(front + job.name), one_line(front + job.method), cpu_s)
    return list(found.values())


def read(listed: Sequence[Listed], find: Callable[[Path], Path]) -> Read:
    """Read the evaluations that `find` finds in run directories.

    A grid's run that is not finished, not evaluated or damaged is told as missing. Raises: CheckpointError for such a
    run that was named by itself; ConfigError if nothing is left.
    """
    kept, shown, configs, missing = [], [], [], []
    for one in listed:
        try:
            there = Shown(one.label, read_evaluation(find(one.run_dir), one.run_dir), run.history(one.run_dir))
            config = stored_config(one.run_dir)
            if one.method is not None:
                _check_finished(config, there)
        except MetarlError as error:
            if one.method is None:
                raise
            begun = run.is_run(one.run_dir)
            missing.append((one.label, one_line(str(error)) if begun else "it has not begun"))
            continue
        kept.append(one)
        shown.append(there)
        configs.append(config)
    if not kept:
        label, reason = missing[0]
        raise ConfigError(f"no run of the grid can be compared yet; {label}, for one: {reason}")
    return Read(tuple(kept), tuple(shown), tuple(configs), tuple(missing))


def _check_finished(config: dict[str, object], there: Shown) -> None:
    train = config.get("train")
    wanted = train.get("n_iterations") if isinstance(train, dict) else None
    if isinstance(wanted, int) and len(there.records) < wanted:
        raise CheckpointError(f"it is not finished: iteration {len(there.records)} of {wanted}")
