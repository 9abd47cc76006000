"""Several runs side by side: runs that differ only in their training seed are one entry, with intervals over runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl import statistics
from metarl.seeding import derive
from metarl.summary import LEVEL, N_RESAMPLES

from .plots import Shown
from .tables import HEADINGS, interval, number

_NOT_THE_METHOD = ("seed", "log", "device", "threads", "evaluation", "schema_version")
"""Parts of a config that may differ between runs of one method."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """Runs of equal settings, apart from the training seed."""

    label: str
    runs: tuple[Shown, ...]

    def scores(self, metric: str) -> Array:
        """Return [R, N]: each run's score per task, averaged over evaluation seeds and scored episodes."""
        columns = [r.evaluation.trials.metrics()[metric][..., r.evaluation.query] for r in self.runs]
        return np.stack([c.mean(axis=(0, -1)) for c in columns])

    def estimate(self, metric: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return mean and IQM; with two runs or more their intervals come from resampling runs."""
        if len(self.runs) == 1:
            scores = self.runs[0].summary["query"][metric]
            return scores["mean"], scores["iqm"]
        found = []
        for name, statistic in (("mean", statistics.mean), ("iqm", statistics.iqm)):
            generator = np.random.default_rng(derive(0, "comparison", self.label, metric, name))
            found.append(
                statistics.stratified_bootstrap(
                    self.scores(metric), statistic, generator, n_resamples=N_RESAMPLES, level=LEVEL
                )._asdict()
            )
        return found[0], found[1]


def methods(shown: Sequence[Shown], configs: Sequence[Mapping[str, Any]]) -> list[Method]:
    """Group runs by config and by what was evaluated, in the order they first appear."""
    found: dict[str, list[Shown]] = {}
    for run, config in zip(shown, configs, strict=True):
        kept = {k: v for k, v in config.items() if k not in _NOT_THE_METHOD}
        key = json.dumps([kept, _what(run)], sort_keys=True, default=str)
        found.setdefault(key, []).append(run)
    return [
        Method(runs[0].label if len(runs) == 1 else f"{runs[0].label} and {len(runs) - 1} more", tuple(runs))
        for runs in found.values()
    ]


def _what(run: Shown) -> list[Any]:
    """Return what makes two evaluations comparable: the tasks and the number of episodes."""
    protocol = run.evaluation.protocol
    return [run.evaluation.task_fingerprint, protocol.adapt_episodes, protocol.eval_episodes]


def comparable(shown: Sequence[Shown]) -> str:
    """Return "" if all runs were scored on the same tasks with the same protocol, else what differs."""
    if len({r.evaluation.task_fingerprint for r in shown}) > 1:
        return "The runs were scored on different tasks, so their scores cannot be compared directly."
    if len({str(_what(r)) for r in shown}) > 1:
        return "The runs had different numbers of adaptation or scored episodes."
    return ""


def methods_table(found: Sequence[Method]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: scores of each method after adaptation."""
    shared = [m for m in ("return", "success_any") if all(m in r.summary["query"] for x in found for r in x.runs)]
    header = ["method", "training seeds", *(f"{HEADINGS[m]}, {kind}" for m in shared for kind in ("mean", "IQM"))]
    rows = []
    for method in found:
        cells = [interval(e, m) for m in shared for e in method.estimate(m)]
        rows.append([method.label, str(len(method.runs)), *cells])
    return header, rows


def improvement_table(found: Sequence[Method]) -> tuple[list[str], list[list[str]]] | None:
    """Return P(row beats column) on a random task, or None if the methods were not scored on the same tasks."""
    runs = [r for method in found for r in method.runs]
    if len(found) < 2 or comparable(runs):
        return None
    metric = "success_any" if all("success_any" in r.summary["query"] for r in runs) else "return"
    header = [f"P(row beats column), {HEADINGS[metric]}", *(m.label for m in found)]
    rows = [
        [
            row.label,
            *(
                "–"
                if row is column
                else number(statistics.probability_of_improvement(row.scores(metric), column.scores(metric)))
                for column in found
            ),
        ]
        for row in found
    ]
    return header, rows
