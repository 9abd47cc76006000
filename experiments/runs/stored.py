"""Where a run's results lie: one file per protocol, so that no evaluation overwrites that of another protocol.

The run's own protocol (its config's, on the last checkpoint) has the short names `evaluation-SPLIT.json` and
`adaptation-SPLIT.png`. What an evaluation changes of it stands in the name: `evaluation-test+adapt20+greedy.json`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarl.commandline import command
from metarl.errors import CheckpointError
from metarl.protocol import Protocol
from metarl.reading import read_bytes, read_json
from metarl.results import Evaluation

FOLDER = "results"
_COUNTS = {
    "adapt_episodes": "adapt", "eval_episodes": "eval", "n_seeds": "seeds", "n_tasks": "tasks",
    "max_envs": "copies", "seed": "seed",
}  # fmt: skip
"""What files are called after: names that stay, whatever settings are called."""
_SWITCHES = {"greedy": ("sampled", "greedy"), "greedy_adaptation": ("sampled-adaptation", "greedy-adaptation")}


def variant(base: Protocol, protocol: Protocol, checkpoint: str = "last") -> str:
    """Return what `protocol` changes of the run's own besides the split, as the end of a name; "" for nothing."""
    parts = []
    for field, short in _COUNTS.items():
        value = getattr(protocol, field)
        if value != getattr(base, field):
            parts.append(f"{short}{'-all' if value is None else value}")
    for field, names in _SWITCHES.items():
        value = getattr(protocol, field)
        if value != getattr(base, field):
            parts.append(names[value])
    if checkpoint != "last":
        parts.append(f"checkpoint-{checkpoint}")
    return named(parts)


def named(parts: Sequence[str]) -> str:
    """Return the end of a name that says what was changed: "" for nothing, else "+this+that"."""
    return "".join(f"+{part}" for part in parts)


def changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return what `values` change of `defaults` as the end of a name, key by key in the order of `defaults`."""
    return named([f"{key.replace('_', '-')}-{values[key]}" for key in defaults if values[key] != defaults[key]])


def results_path(run_dir: Path, split: str, variant: str = "") -> Path:
    """Return where the evaluation of a split under a protocol is stored."""
    return run_dir / FOLDER / f"evaluation-{split}{variant}.json"


def picture_path(evaluation: Path) -> Path:
    """Return where the picture of a stored evaluation lies."""
    return evaluation.with_name(f"adaptation-{evaluation.stem.removeprefix('evaluation-')}.png")


def page_path(evaluation: Path, own_split: str) -> Path:
    """Return where the page of a stored evaluation lies: report.html for the run's own split and protocol."""
    name = evaluation.stem.removeprefix("evaluation-")
    return evaluation.with_name("report.html" if name == own_split else f"report-{name}.html")


def stored_variants(run_dir: Path, split: str) -> dict[str, Path]:
    """Return the stored evaluations of a split by what they change of the run's protocol."""
    start = f"evaluation-{split}"
    ends = {p.stem.removeprefix(start): p for p in _evaluations(run_dir) if p.stem.startswith(start)}
    return {end: path for end, path in ends.items() if end == "" or end.startswith("+")}


def stored_splits(run_dir: Path) -> list[str]:
    """Return the splits of which there is an evaluation."""
    names = [p.stem.removeprefix("evaluation-") for p in _evaluations(run_dir)]
    return list(dict.fromkeys(name.partition("+")[0] for name in names))


def _evaluations(run_dir: Path) -> list[Path]:
    try:
        return sorted((run_dir / FOLDER).glob("evaluation-*.json"), key=lambda path: path.stem)
    except OSError as error:  # no path at all, such as one that is too long
        raise CheckpointError(f"{run_dir} cannot be read ({error.strerror}); check the path") from error


def read_evaluation(path: Path, run_dir: Path) -> Evaluation:
    """Return a stored evaluation; raises CheckpointError if it is damaged."""
    stored = read_json(path, remedy=f"write it again with `{command('evaluate', run_dir)}`")
    try:
        return Evaluation.from_json(stored)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def make_room(run_dir: Path, base: Protocol, evaluation: Evaluation, target: Path) -> Path | None:
    """Move away what lies at `target` if it was made under another protocol than `evaluation`; return where to.

    Only runs whose protocol was changed since, or evaluated before files were named after it, have such files.
    """
    if not target.exists():
        return None
    try:
        there = Evaluation.from_json(read_json(target))
    except CheckpointError:
        return None  # damaged: nothing that could be kept
    if _identity(there) == _identity(evaluation):
        return None
    end = variant(base, there.protocol, _checkpoint(there))
    other = results_path(run_dir, there.protocol.split, end)
    if other.exists():
        end += f"+kept-{hashlib.sha256(read_bytes(target)).hexdigest()[:8]}"
        other = results_path(run_dir, there.protocol.split, end)
    os.replace(target, other)
    if picture_path(target).exists():
        os.replace(picture_path(target), picture_path(other))
    return other


def _checkpoint(evaluation: Evaluation) -> str:
    return str(evaluation.agent.get("checkpoint", "last"))


def _identity(evaluation: Evaluation) -> tuple[Protocol, str]:
    """Return what one file may hold several of, one after another: protocol and name of the checkpoint."""
    return evaluation.protocol, _checkpoint(evaluation)
