"""The comparison as rows of text, for the terminal and the page, and as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from metarl.experiments.figures.text_tables import HEADINGS, interval

Table = tuple[list[str], list[list[str]]]
_NAMES = {
    "without_adaptation": "without earlier episodes", "pre": "first score", "query": "adapted", "gain": "gain",
    "iqm": "adapted, IQM",
}  # fmt: skip


def scores_table(one: Mapping[str, Any]) -> Table:
    """Return header and rows of a set of tasks: each method's scores, and what it took."""
    header, parts = ["method", "training seeds"], []
    for metric, target in one["target"].items():
        names = _NAMES | ({} if target is None else {"gap": f"short of {target}"})
        header += [f"{HEADINGS[metric]}, {name}" for name in names.values()]
        parts += [(metric, part) for part in names]
    header += ["env steps of training", "CPU h per run"]
    rows = []
    for method in one["methods"]:
        cells = [interval(method["scores"][m][part], m) for m, part in parts]
        steps, hours = method["cost"]["train_env_steps"], method["cost"]["cpu_hours"]
        cost = ["–" if steps is None else f"{steps:,.0f}", "–" if hours is None else f"{hours:.3g}"]
        rows.append([method["name"], str(len(method["runs"])), *cells, *cost])
    return header, rows


def improvement_table(one: Mapping[str, Any]) -> Table | None:
    """Return P(row beats column) on a random task, on success where it is known; None for a single method."""
    names = [m["name"] for m in one["methods"]]
    metric = next(iter(one["metrics"]))
    if len(names) < 2:
        return None
    rows = [
        [name, *("–" if cell is None else interval(cell) for cell in cells)]
        for name, cells in zip(names, one["improvement"][metric], strict=True)
    ]
    return [f"P(row beats column), {HEADINGS[metric]}", *names], rows


def cost_table(one: Mapping[str, Any]) -> Table:
    """Return what a run of each method took, on average."""
    header = ["method", "env steps of training", "env steps of evaluation", "CPU h, all attempts", "wall h of training"]
    keys = ("train_env_steps", "evaluation_env_steps", "cpu_hours", "training_wall_hours")
    rows = []
    for method in one["methods"]:
        steps, hours = ([method["cost"][key] for key in some] for some in (keys[:2], keys[2:]))
        rows.append([
            method["name"], *("–" if v is None else f"{v:,.0f}" for v in steps),
            *("–" if v is None else f"{v:.3g}" for v in hours),
        ])  # fmt: skip
    return header, rows


def as_csv(sets: Sequence[Mapping[str, Any]]) -> str:
    """Return every number of the scores as one row of CSV; what is not known is empty."""
    stream = io.StringIO()
    out = csv.writer(stream, lineterminator="\n")
    out.writerow(["tasks", "method", "training_seeds", "metric", "what", "value", "low", "high"])
    for one in sets:
        for i, method in enumerate(one["methods"]):
            front = [one["title"], method["name"], len(method["runs"])]
            for metric, parts in method["scores"].items():
                for part, e in parts.items():
                    if e is not None:
                        out.writerow([*front, metric, part, e["value"], e["low"], e["high"]])
                for j, e in enumerate(one["improvement"][metric][i]):
                    if e is not None:
                        what = f"beats {one['methods'][j]['name']}"
                        out.writerow([*front, metric, what, e["value"], e["low"], e["high"]])
            for what, value in method["cost"].items():
                out.writerow([*front, "cost", what, value, None, None])
    return stream.getvalue()
