"""The table as a picture: per world, each agent's score before and after adaptation, beside the known policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metarl.experiments.cli.safe_text import figure
from metarl.experiments.figures.plots import COLOURS, REFERENCES, STYLE

_BEFORE, _AFTER = COLOURS[5], COLOURS[0]


def table_figure(table: Mapping[str, Any]) -> Figure:
    """Return one panel per world of an aggregated table with at least one row."""
    worlds = table["worlds"]
    heights = [1.5 + len(found["rows"]) for found in worlds.values()]
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(8.0, 0.36 * sum(heights) + 0.8), layout="constrained")
        panels = np.atleast_1d(drawing.subplots(len(worlds), 1, gridspec_kw={"height_ratios": heights}))
        for axes, (world, found) in zip(panels, worlds.items(), strict=True):
            _panel(axes, world, found)
        handles = {h.get_label(): h for a in drawing.axes for h in a.get_legend_handles_labels()[0]}
        drawing.legend(
            handles=list(handles.values()), loc="outside lower center", ncols=3, handlelength=2.4,
            title=f"Means; bars: {table['level']:.0%} intervals (Student's t) over training seeds",
        )  # fmt: skip
    return drawing


def _panel(axes: Axes, world: str, found: Mapping[str, Any]) -> None:
    """Draw one world: points with intervals over training seeds, references as vertical lines."""
    rows = found["rows"]
    for part, colour, offset, label in (
        ("before", _BEFORE, -0.14, "first episode"),
        ("after", _AFTER, 0.14, "after adaptation"),
    ):
        shown = [(i, row) for i, row in enumerate(rows) if part == "after" or row["measure"] == "episode"]
        for i, row in shown:
            score = row[part]
            ends = [[0.0], [0.0]]
            if score["low"] is not None:
                ends = [[score["value"] - score["low"]], [score["high"] - score["value"]]]
            axes.errorbar(
                [score["value"]], [i + offset], xerr=ends, fmt="o", color=colour, markersize=5, capsize=2.5,
                markerfacecolor=colour if part == "after" else "white", label=label if i == shown[0][0]
                else None,
            )  # fmt: skip
    for name, value in found["references"].items():
        if value is not None and name in REFERENCES:
            label, dashes, colour = REFERENCES[name]
            axes.axvline(value, color=colour, linestyle=dashes, linewidth=1.3, label=f"{label}, mean", zorder=1)
    axes.set_yticks(range(len(rows)), [f"{figure(row['agent'])} ({len(row['seeds'])})" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(figure(world))
    axes.set_xlabel("return of a trial" if rows[0]["measure"] == "trial" else "return per episode")
