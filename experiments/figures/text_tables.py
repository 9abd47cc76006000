"""Numbers as text: the same rows for the terminal and for the page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from metarl.experiments.cli.safe_text import columns, one_line

from .plots import REFERENCES, Shown

HEADINGS = {
    "return": "return",
    "success_any": "success (any step)",
    "success_last": "success (last step)",
    "cost": "cost",
}


KINDS = {"mean": "mean", "iqm": "IQM"}


def number(value: Any, metric: str = "return", scale: float | None = None) -> str:
    """Return a return with three significant digits or so, or a success rate in percent; a dash for nothing.

    `scale` is the size that decides the digits, so that numbers side by side have equally many.
    """
    if value is None or float(value) != float(value):
        return "–"
    x = float(value)
    if metric.startswith("success"):
        return _signed(f"{100 * x:.1f} %")
    size = abs(x) if scale is None else scale
    return _signed(f"{x:.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 1 else 3}f}")


def _signed(text: str) -> str:
    """Return `text` with a true minus sign, and none before a zero."""
    if text.startswith("-") and not any(c in "123456789" for c in text):
        return text[1:]
    return text.replace("-", "\N{MINUS SIGN}")


def interval(estimate: Mapping[str, Any], metric: str = "return") -> str:
    """Return "value [low, high]"; "value [–]" if the interval could not be computed (see `NOT_COMPUTED`)."""
    low = estimate["low"]
    if low is None or float(low) != float(low):
        return f"{number(estimate['value'], metric)} [–]"
    three = [float(estimate[k]) for k in ("value", "low", "high")]
    scale = max(map(abs, three))
    value, low, high = (number(x, metric, scale) for x in three)
    if metric.startswith("success"):  # one percent sign says it for all three
        low, high = low.removesuffix(" %"), high.removesuffix(" %")
    return f"{value} [{low}, {high}]"


COMPARABLE = (
    "to compare agents take “without earlier episodes” (every scored episode a trial of its own) and “gain from "
    "earlier episodes”, which mean the same for all; “before adaptation” does not"
)


def about_before(shown: Shown) -> str:
    """Return what the first score of a trial is, and what is comparable between agents."""
    if not shown.adapts_within_episode:
        return f"nothing was adapted before or during the episodes of “before adaptation”; {COMPARABLE}"
    return f"this agent adapts while an episode goes on, so its first episode has adaptation in it; {COMPARABLE}"


def scores_table(shown: Shown) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: before and after adaptation, the gains, and what to compare them with."""
    summary, protocol = shown.summary, shown.evaluation.protocol
    columns = _columns(summary["query"])
    n_adapt = protocol.adapt_episodes
    header = ["", *(f"{HEADINGS[m]}, {KINDS[kind]}" for m, kind in columns)]
    parts = [
        (f"{shown.before}{' (adapts within it)' * shown.adapts_within_episode}", summary["pre"]),
        (f"after {n_adapt} adaptation episode{'s' * (n_adapt != 1)}", summary["query"]),
        ("gain", summary["gain"]),
        ("without earlier episodes", summary["without_adaptation"]),
        ("gain from earlier episodes", summary["gain_from_episodes"]),
    ]
    if "random_policy" in summary:
        parts.append((f"{REFERENCES['random'][0]} (measured)", summary["random_policy"]))
    rows = [[label, *(interval(scores[m][kind], m) for m, kind in columns)] for label, scores in parts]
    blank = [""] * (len(columns) - 1)
    for name, value in summary["references"].items():
        label = REFERENCES.get(name, (name.replace("_", " "),))[0]
        rows.append([f"{label} (computed mean)", number(value), *blank])
    inflated = summary.get("upstream_counting", {}).get("success_rate")
    if inflated is not None:
        cells = [number(inflated, m) if (m, kind) == ("success_any", "mean") else "" for m, kind in columns]
        rows.append(["upstream-counting (inflated)", *cells])
    return header, rows


def _columns(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (metric, statistic) per column; success at the last step and cost are footnotes, a mean is enough."""
    return [(m, kind) for m in scores for kind in KINDS if not (m in ("success_last", "cost") and kind == "iqm")]


def groups_table(shown: Shown) -> tuple[list[str], list[list[str]]]:
    """Return header and rows per class: tasks, then each metric before and after adaptation."""
    metrics = [m for m in shown.summary["query"] if m != "success_last"]
    header = ["class", "tasks", *(f"{HEADINGS[m]}, {w}" for m in metrics for w in (shown.before, "after"))]
    rows = [
        [name, str(g["n_tasks"]), *(interval(g[p][m]["mean"], m) for m in metrics for p in ("pre", "query"))]
        for name, g in shown.summary["groups"].items()
    ]
    return header, rows


def tasks_table(shown: Shown) -> tuple[list[str], list[list[str]]]:
    """Return header and rows per task: each metric before and after adaptation, means over seeds."""
    summary, metrics = shown.summary, [m for m in shown.summary["query"] if m != "success_last"]
    header = ["task", *(f"{HEADINGS[m]}, {w}" for m in metrics for w in (shown.before, "after"))]
    rows = []
    for i, name in enumerate(shown.evaluation.task_names):
        cells = [
            interval({k: v[i] for k, v in summary["tasks"][part][m].items()}, m)
            for m in metrics
            for part in ("pre", "query")
        ]
        rows.append([name, *cells])
    return header, rows


_NAMES = 34
"""Columns that names keep where a table has to be folded."""


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Return rows as aligned text in at most `width` columns: first column to the left, the others to the right.

    Without `width` that is the terminal's, or 100. What is too wide is folded: headings and names over several lines,
    then the last columns into a block of their own below, which begins with the names again.
    """
    room = width or columns()
    table = [[one_line(cell) for cell in row] for row in (header, *rows)]
    natural = [max(len(row[i]) for row in table) for i in range(len(header))]
    if sum(natural) + 2 * (len(header) - 1) <= room:
        return _block(table, natural)
    least = [max(len(row[i]) for row in table[1:] or table) for i in range(len(header))]
    widths = [max([w, *map(len, h.split())]) for w, h in zip(least, table[0], strict=True)]
    widths[0] = min(natural[0], max(_NAMES, room - sum(w + 2 for w in widths[1:])))
    blocks: list[list[int]] = [[]]
    for i in range(1, len(header)):
        if blocks[-1] and widths[0] + sum(widths[k] + 2 for k in (*blocks[-1], i)) > room:
            blocks.append([])
        blocks[-1].append(i)
    parts = [[0, *block] for block in blocks]
    return "\n\n".join(_block([[row[i] for i in p] for row in table], [widths[i] for i in p]) for p in parts)


def _block(table: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    """Return a header, a rule and rows, cells folded into their columns."""
    lines = []
    for number, row in enumerate(table):
        cells = [textwrap.wrap(cell, max(w, 1)) or [""] for cell, w in zip(row, widths, strict=True)]
        height = max(map(len, cells))
        for k in range(height):
            # Headings stand on the rule, numbers on the first line of a long name.
            at = [k - (height - len(c)) if number == 0 else k for c in cells]
            words = [c[j] if 0 <= j < len(c) else "" for c, j in zip(cells, at, strict=True)]
            pairs = enumerate(zip(words, widths, strict=True))
            lines.append("  ".join(t.rjust(w) if i else t.ljust(w) for i, (t, w) in pairs).rstrip())
        if number == 0:
            lines.append("  ".join("-" * w for w in widths))
    return "\n".join(lines)
