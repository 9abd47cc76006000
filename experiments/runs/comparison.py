"""Several runs side by side: runs that differ only in their training seed are one entry, with intervals over runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl import statistics
from metarl.experiments.figures.plots import Shown
from metarl.experiments.figures.text_tables import COMPARABLE, HEADINGS, interval, number
from metarl.summary import over_runs

_NOT_THE_METHOD = ("seed", "log", "device", "threads", "evaluation", "schema_version")
"""Parts of a config that may differ between runs of one method."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """Runs of equal settings, apart from the training seed."""

    label: str
    runs: tuple[Shown, ...]

    @property
    def train_env_steps(self) -> float | None:
        """Env steps of training, mean over runs; None if it is not known of all."""
        steps = [r.evaluation.provenance.get("train_env_steps") for r in self.runs]
        return None if None in steps else float(np.mean([s for s in steps if s is not None]))

    def scores(self, metric: str) -> Array:
        """Return [R, N]: each run's score per task, averaged over evaluation seeds and scored episodes."""
        columns = [r.evaluation.trials.metrics()[metric][..., r.evaluation.query] for r in self.runs]
        return np.stack([c.mean(axis=(0, -1)) for c in columns])

    def estimate(self, metric: str, part: str = "query") -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the means over runs of each run's mean and IQM, with intervals over runs; none for one run."""
        kinds = ("mean", "iqm")
        mean, iqm = (
            over_runs(np.array([float(r.summary[part][metric][kind]["value"]) for r in self.runs]), metric)
            for kind in kinds
        )
        return mean, iqm


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


ALIKE = 1.05
"""Training budgets whose ratio is smaller count as equal: episodes may differ in length."""
_MOST_NAMED = 5
"""Of more different budgets the least and the most are named."""


def unequal(budgets: Sequence[tuple[str, float | None]], what: str, unit: str, tolerance: float = 1.0) -> str:
    """Return "" if all known budgets are equal up to a ratio of `tolerance`, else a warning that names them."""
    known = [(name, value) for name, value in budgets if value is not None]
    values = [value for _, value in known]
    if not known or max(values) <= tolerance * min(values):
        return ""
    by_value: dict[float, list[str]] = {}
    for name, value in sorted(known, key=lambda x: x[1]):
        by_value.setdefault(value, []).append(name)
    parts = [f"{', '.join(dict.fromkeys(names))}: {value:,.0f}" for value, names in by_value.items()]
    parts = parts if len(parts) <= _MOST_NAMED else [parts[0], "…", parts[-1]]
    return f"Unequal {what} side by side, in {unit}: {'; '.join(parts)}."


def warnings(compared: Sequence[Method]) -> list[str]:
    """Return what a reader must know before comparing scores: other tasks, unequal budgets, other kinds of agents.

    Seeds of one method may differ in env steps, where episodes differ in length, but not in iterations.
    """
    shown = [r for method in compared for r in method.runs]
    protocols = [(r.label, r.evaluation.protocol) for r in shown]
    iterations = [
        unequal([(r.label, r.evaluation.agent.get("iteration")) for r in method.runs], "training", "iterations")
        for method in compared
    ]
    found = [
        comparable(shown),
        unequal([(m.label, m.train_env_steps) for m in compared], "training", "env steps", ALIKE),
        *iterations,
        unequal([(n, p.adapt_episodes) for n, p in protocols], "adaptation", "episodes per task"),
        unequal([(n, p.eval_episodes) for n, p in protocols], "scoring", "episodes per task"),
    ]
    if len({p.greedy for _, p in protocols}) > 1:
        modes = ", ".join(f"{n} {'take the mode' if p.greedy else 'sample'}" for n, p in protocols)
        found.append(f"Scored episodes choose their actions differently: {modes}.")
    if len({r.adapts_within_episode for r in shown}) > 1:
        names = ", ".join(r.label for r in shown if r.adapts_within_episode)
        found.append(f"While an episode goes on adapt only: {names}. {COMPARABLE[0].upper()}{COMPARABLE[1:]}.")
    return [text for text in found if text]


def methods_table(found: Sequence[Method]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: each method's scores without earlier episodes and after adaptation."""
    shared = [m for m in ("return", "success_any") if all(m in r.summary["query"] for x in found for r in x.runs)]
    columns = ("without earlier episodes, mean", "adapted, mean", "adapted, IQM")
    header = ["method", "training seeds", *(f"{HEADINGS[m]} {kind}" for m in shared for kind in columns)]
    rows = []
    for method in found:
        cells = [
            interval(e, m) for m in shared for e in (method.estimate(m, "without_adaptation")[0], *method.estimate(m))
        ]
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
