"""Numbers as text: the same rows for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .plots import REFERENCES, Shown

HEADINGS = {
    "return": "return",
    "success_any": "success (any step)",
    "success_last": "success (last step)",
}


def number(value: Any, metric: str = "return") -> str:
    """Return a return with four significant digits or so, or a success rate in percent; a dash for nothing."""
    if value is None:
        return "–"
    x = float(value)
    if x != x:
        return "–"
    if metric.startswith("success"):
        return f"{100 * x:.1f} %"
    size = abs(x)
    return f"{x:.0f}" if size >= 1000 else f"{x:.1f}" if size >= 100 else f"{x:.2f}" if size >= 1 else f"{x:.3f}"


def interval(estimate: Mapping[str, Any], metric: str = "return") -> str:
    """Return "value [low, high]", or the value alone if it has no interval."""
    if estimate.get("low") is None:
        return number(estimate["value"], metric)
    low, high = number(estimate["low"], metric), number(estimate["high"], metric)
    return f"{number(estimate['value'], metric)} [{low}, {high}]"


def scores_table(shown: Shown) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: before and after adaptation, the gain, and what to compare them with."""
    summary, protocol = shown.summary, shown.evaluation.protocol
    metrics = list(summary["query"])
    n_adapt = protocol.adapt_episodes
    header = ["", *(f"{HEADINGS[m]}, {kind}" for m in metrics for kind in ("mean", "IQM"))]
    parts = [
        ("before adaptation", summary["pre"]),
        (f"after {n_adapt} adaptation episode{'s' * (n_adapt != 1)}", summary["query"]),
        ("gain", summary["gain"]),
        ("never adapted", summary["without_adaptation"]),
    ]
    if "random_policy" in summary:
        parts.append((f"{REFERENCES['random'][0]} (measured)", summary["random_policy"]))
    rows = [
        [label, *(interval(scores[m][kind], m) for m in metrics for kind in ("mean", "iqm"))] for label, scores in parts
    ]
    blank = [""] * (2 * len(metrics) - 1)
    for name, value in summary["references"].items():
        label = REFERENCES.get(name, (name.replace("_", " "),))[0]
        rows.append([f"{label} (exact)", number(value), *blank])
    return header, rows


def groups_table(shown: Shown) -> tuple[list[str], list[list[str]]]:
    """Return header and rows per class: tasks, then each metric before and after adaptation."""
    metrics = list(shown.summary["query"])
    header = ["class", "tasks", *(f"{HEADINGS[m]}, {w}" for m in metrics for w in ("before", "after"))]
    rows = [
        [name, str(g["n_tasks"]), *(interval(g[p][m]["mean"], m) for m in metrics for p in ("pre", "query"))]
        for name, g in shown.summary["groups"].items()
    ]
    return header, rows


def tasks_table(shown: Shown) -> tuple[list[str], list[list[str]]]:
    """Return header and rows per task: each metric before and after adaptation, means over seeds."""
    summary, metrics = shown.summary, list(shown.summary["query"])
    header = ["task", *(f"{HEADINGS[m]}, {w}" for m in metrics for w in ("before", "after"))]
    rows = []
    for i, name in enumerate(shown.evaluation.task_names):
        cells = [
            interval({k: None if v is None else v[i] for k, v in summary["tasks"][part][m].items()}, m)
            for m in metrics
            for part in ("pre", "query")
        ]
        rows.append([name, *cells])
    return header, rows


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text: first column to the left, the others to the right."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]

    def line(row: list[str]) -> str:
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(table[0]), "  ".join("-" * w for w in widths), *map(line, table[1:])])
