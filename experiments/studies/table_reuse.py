"""Runs that `reproduce` has made already, as entries of the table: the same commands, same preset, not run twice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarl.errors import CheckpointError
from metarl.reading import read_object

from .reproductions import REPRODUCTIONS
from .table_rows import Row
from .table_runs import same_preset, write_result


def reuse(row: Row, seed: int, reproductions: Path, into: Path) -> bool:
    """Write the table's result of a row and seed from a reproduction's, if there is one of today's preset.

    Raises: CheckpointError for a reproduction's result that is damaged.
    """
    found = find(row, seed, reproductions)
    if found is None:
        return False
    path, stored = found
    try:
        result = _result(row, stored)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}: {error}); reproduce it again") from error
    write_result(into, row, seed, {"reused": path.as_posix(), **result}, stored["provenance"])
    return True


def find(row: Row, seed: int, reproductions: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return path and content of a reproduction that ran what the row would run, or None."""
    if not row.preset or row.train or row.evaluate:
        return None
    for name, plan in REPRODUCTIONS.items():
        if plan.preset != row.preset or plan.train or plan.evaluate:
            continue
        path = reproductions / (name if seed == 0 else f"{name}-seed{seed}") / "result.json"
        if not path.exists():
            continue
        try:
            stored = read_object(path, remedy="reproduce it again")
            config = {**stored["config"], "seed": 0}
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged ({type(error).__name__}: {error}); reproduce it again") from error
        if stored.get("seed") == seed and same_preset(config, row):
            return path, stored
    return None


def _result(row: Row, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `table_runs` makes of a run; scores are means over tasks, for a reproduction keeps no more."""
    evaluation = stored["evaluation"]
    summary, protocol = evaluation["summary"], evaluation["protocol"]
    episodes = protocol["adapt_episodes"] + protocol["eval_episodes"]
    known = {k: np.asarray(v, dtype=float) for k, v in evaluation["references"].items()}
    if row.measure == "trial":
        after = float(np.sum(summary["curve"]["return"]["mean"]["value"]))
        references = {k: float(v[:episodes].sum()) for k, v in known.items() if v.size}
    else:
        after = float(summary["query"]["return"]["mean"]["value"])
        references = {k: float(v[protocol["adapt_episodes"] : episodes].mean()) for k, v in known.items() if v.size}
    if "random_policy" in summary:
        per_episode = float(summary["random_policy"]["return"]["mean"]["value"])
        references.setdefault("random", per_episode * episodes if row.measure == "trial" else per_episode)
    return {
        "before": [float(summary["pre"]["return"]["mean"]["value"])],
        "after": [after],
        "n_tasks": int(summary.get("intervals", summary.get("bootstrap"))["n_tasks"]),  # its name once
        "references": references,
        "task_fingerprint": evaluation["task_fingerprint"],
        "protocol": dict(protocol),
        "train_env_steps": stored["training"]["env_steps"],
        "adapt_episodes": protocol["adapt_episodes"],
        "costs": [stored["costs"]["train"], stored["costs"]["evaluate"]],
    }
