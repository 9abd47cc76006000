"""Figures of evaluations and training curves, readable in print, in grey and by colour-blind eyes.

Figures are built on matplotlib's objects alone: no pyplot, no global state, no screen.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from metarl.checkpoint import replace_file
from metarl.experiments.cli import safe_text
from metarl.results import Evaluation
from metarl.summary import summarise

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, which colour-blind readers tell apart."""

STYLE: Any = {
    "font.size": 9.5,
    "font.family": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "metarl",
    "figure.dpi": 100,
}

REFERENCES: dict[str, tuple[str, Any, str]] = {
    "random": ("uniform random policy", (0, (1, 1.5)), "#777777"),
    "bayes_optimal": ("Bayes-optimal", (0, (6, 2)), "#000000"),
    "oracle": ("oracle (told the task)", (0, (6, 2, 1, 2)), "#777777"),
}
# A world's own reference policies, in the order it names them: told apart by dashes and by colour (Okabe and Ito 2008).
_OTHERS: tuple[tuple[Any, str], ...] = (
    ((0, (5, 1.5)), "#D55E00"),
    ((0, (3, 1, 1, 1, 1, 1)), "#009E73"),
    ((0, (1, 1)), "#CC79A7"),
    ((0, (8, 2, 2, 2)), "#8C6D00"),
)

_CHARACTERS_PER_INCH = 17
"""Of a legend's text, its lines and margins allowed for."""

METRICS = {
    "return": "Mean return per episode (undiscounted)",
    "success_any": "Success rate (any step)",
    "success_last": "Success rate (last step)",
}


@dataclass(frozen=True)
class Shown:
    """One run in a figure."""

    label: str
    evaluation: Evaluation
    records: list[dict[str, Any]]
    """Records of metrics.jsonl; may be empty."""

    @property
    def adapts_within_episode(self) -> bool:
        """Whether the agent's first episode has adaptation in it."""
        return self.evaluation.adapts_within_episode

    @property
    def before(self) -> str:
        """What the first score of a trial is called."""
        return "first episode" if self.adapts_within_episode else "before adaptation"

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The evaluation's numbers, computed once."""
        return summarise(self.evaluation)


def adaptation_figure(shown: Sequence[Shown]) -> Figure:
    """Return the adaptation curves: score against episode on a new task, with intervals and reference lines."""
    metrics = ["return"]
    if all("success_any" in s.summary["curve"] for s in shown):
        metrics.append("success_any")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8 * len(metrics) if len(metrics) > 1 else 7.0, 4.2), layout="constrained")
        for axes, metric in zip(np.atleast_1d(figure.subplots(1, len(metrics))), metrics, strict=True):
            for i, run in enumerate(shown):
                _curve(axes, run, metric, COLOURS[i % len(COLOURS)], alone=len(shown) == 1)
            _references(axes, shown[0], metric)
            _mark_phases(axes, shown)
            axes.set_xlabel("Episode on the new task (0 = nothing seen yet)")
            axes.set_ylabel(METRICS[metric])
            _limits(axes, metric)
        _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    """Explain all panels' lines once, in two columns if the widest label leaves room for a second one."""
    handles = {str(h.get_label()): h for a in figure.axes for h in a.get_legend_handles_labels()[0]}
    room = float(figure.get_figwidth()) * _CHARACTERS_PER_INCH / 2
    ncols = 2 if max(map(len, handles), default=0) <= room else 1
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=ncols, handlelength=2.8)


def _curve(axes: Axes, run: Shown, metric: str, colour: str, *, alone: bool) -> None:
    """Draw one run: per-episode means where episodes differ, phase means where they do not."""
    estimate = run.summary["curve"][metric]["mean"]
    value, low, high = (np.asarray(estimate[k], dtype=float) for k in ("value", "low", "high"))
    at = np.arange(len(value))
    how = run.summary["intervals"]
    band = f"{how['level']:.0%} interval over {'evaluation seeds' if how['over'] == 'seeds' else 'tasks'}"
    label = safe_text.figure(run.label)
    name = f"{label}: mean over tasks and seeds, {band}" if alone else label
    if not run.evaluation.agent["parallel_episodes"]:
        axes.fill_between(at, low, high, color=colour, alpha=0.22, linewidth=0)
        marker = "o" if len(at) <= 40 else ""
        axes.plot(at, value, color=colour, marker=marker, markersize=4.5, linewidth=1.8, label=name, zorder=3)
        return
    # Episodes of a phase are played by one policy: their common mean is the curve, the episodes are its scatter.
    axes.plot(at, value, ".", color=colour, alpha=0.45, markersize=4.5, zorder=2)
    edges: list[float] = []
    levels: list[float] = []
    lows: list[float] = []
    highs: list[float] = []
    for phase in run.summary["phases"]:
        edges += [phase["start"] - 0.5, phase["stop"] - 0.5]
        mean = phase[metric]["mean"]
        for column, key in ((levels, "value"), (lows, "low"), (highs, "high")):
            column += [float(mean[key])] * 2
    axes.fill_between(edges, lows, highs, color=colour, alpha=0.22, linewidth=0)
    axes.plot(edges, levels, color=colour, linewidth=1.8, label=name, zorder=3)


def _references(axes: Axes, run: Shown, metric: str) -> None:
    """Draw known policies, or the measured random one, as dashed lines."""
    evaluation = run.evaluation
    if metric == "return":
        others = [name for name in evaluation.references if name not in REFERENCES]
        styles = dict(zip(others, cycle(_OTHERS), strict=False))
        for name, values in evaluation.references.items():
            label, dashes, colour = REFERENCES.get(name) or (safe_text.figure(name.replace("_", " ")), *styles[name])
            _dashed(axes, np.asarray(values, dtype=float), f"{label}, mean", dashes, colour)
    measured = run.summary.get("random_policy", {}).get(metric)
    if measured is not None:
        label, dashes, colour = REFERENCES["random"]
        level = np.full(evaluation.protocol.n_episodes, float(measured["mean"]["value"]))
        _dashed(axes, level, f"{label}, mean (measured)", dashes, colour)


def _dashed(axes: Axes, values: Any, label: str, dashes: Any, colour: str) -> None:
    # With a single episode a line has no length: draw it across the episode's width.
    at = np.arange(len(values), dtype=float)
    if len(values) == 1:
        at, values = np.array([-0.4, 0.4]), np.repeat(values, 2)
    axes.plot(at, values, color=colour, linestyle=dashes, linewidth=1.4, label=label, zorder=2.5)


def _mark_phases(axes: Axes, shown: Sequence[Shown]) -> None:
    """Shade the scored episodes, if all runs score the same ones."""
    queries = {(s.evaluation.query.start, s.evaluation.query.stop) for s in shown}
    if len(queries) != 1:
        return
    ((start, stop),) = queries
    axes.set_xlim(-0.5, stop - 0.5)
    if stop <= 15:
        axes.set_xticks(range(stop))
    else:
        axes.locator_params(axis="x", integer=True)
    axes.axvspan(start - 0.5, stop - 0.5, color="#f2efe6", zorder=0, label="scored episodes")


def _limits(axes: Axes, metric: str) -> None:
    if metric.startswith("success"):
        axes.set_ylim(-0.03, 1.03)
    else:
        axes.margins(y=0.08)


def training_figure(shown: Sequence[Shown]) -> Figure | None:
    """Return training curves against env steps (adaptation included); None if no run has a record."""
    shown = [s for s in shown if s.records]
    if not shown:
        return None
    metrics = ["return"]
    if all(any("train/post_success" in r for r in s.records) for s in shown):
        metrics.append("success")
    names = {"return": METRICS["return"], "success": METRICS["success_any"]}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8 * len(metrics) if len(metrics) > 1 else 7.0, 4.0), layout="constrained")
        for axes, metric in zip(np.atleast_1d(figure.subplots(1, len(metrics))), metrics, strict=True):
            for i, run in enumerate(shown):
                _training(axes, run, metric, i, alone=len(shown) == 1)
            axes.set_xlabel("Env steps, adaptation included")
            axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4), useMathText=True)
            axes.set_ylabel(names[metric])
            _limits(axes, metric)
        _legend(figure)
    return figure


def _training(axes: Axes, run: Shown, metric: str, index: int, *, alone: bool) -> None:
    """Draw one run's history: before and after adaptation if it is alone, after adaptation only if there are others."""
    last = COLOURS[index % len(COLOURS)]
    lines = [("post", "after adaptation", last)]
    if alone:
        lines.insert(0, ("pre", run.before, COLOURS[(index + 1) % len(COLOURS)]))
    for part, text, colour in lines:
        label = text if alone else safe_text.figure(run.label)
        steps, values = series(run.records, f"train/{part}_{metric}")
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(steps, smooth(values), color=colour, linewidth=1.7, label=f"{label}, training tasks")
        steps, values = series(run.records, f"validation/{part}_{metric}")
        if len(values):
            axes.plot(
                steps, values, color=colour, linestyle=(0, (4, 2)), marker="s", markersize=3.5, linewidth=1.1,
                label=f"{label}, validation tasks",
            )  # fmt: skip


def series(records: Sequence[Mapping[str, Any]], key: str) -> tuple[Any, Any]:
    """Return env steps and values of the records that have `key`."""
    found = [(r["env_steps"], r[key]) for r in records if r.get(key) is not None and "env_steps" in r]
    table = np.asarray(found, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def smooth(values: Any) -> Any:
    """Return a centred running mean over a twentieth of the curve, shorter at its ends; never beyond the data."""
    half = len(values) // 40
    if half == 0:
        return values
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    reach = np.minimum(half, np.minimum(at, len(values) - 1 - at))
    return (total[at + reach + 1] - total[at - reach]) / (2 * reach + 1)


def classes_figure(run: Shown) -> Figure | None:
    """Return scores per class before and after adaptation, side by side; None if there is one class."""
    groups = run.summary["groups"]
    if len(groups) < 2:
        return None
    metric = "success_any" if "success_any" in run.summary["curve"] else "return"
    rows = np.arange(len(groups))[::-1]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 1.3 + 0.32 * len(groups)), layout="constrained")
        axes = figure.subplots()
        for part, shift, colour, marker, label in (
            ("pre", 0.13, COLOURS[1], "o", run.before),
            ("query", -0.13, COLOURS[0], "s", "after adaptation"),
        ):
            means = [g[part][metric]["mean"] for g in groups.values()]
            value, low, high = (np.array([float(m[k]) for m in means]) for k in ("value", "low", "high"))
            error = np.maximum(0.0, np.stack([value - low, high - value]))
            axes.errorbar(value, rows + shift, xerr=error, fmt=marker, color=colour, label=label, capsize=2)
        axes.set_yticks(rows, [safe_text.figure(name) for name in groups])
        axes.set_xlabel(METRICS[metric])
        axes.grid(axis="y", visible=False)
        if metric.startswith("success"):
            axes.set_xlim(-0.03, 1.03)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def to_svg(figure: Figure) -> str:
    """Return `figure` as an <svg> element to put inside a page."""
    stream = io.StringIO()
    with mpl.rc_context(STYLE):
        FigureCanvasSVG(figure)
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    return text[text.index("<svg") :]


def save_png(figure: Figure, path: Path, dpi: int = 180) -> None:
    """Write `figure` to `path` as PNG."""
    stream = io.BytesIO()
    with mpl.rc_context(STYLE):
        FigureCanvasAgg(figure)
        figure.savefig(stream, dpi=dpi, format="png")
    replace_file(path, stream.getvalue())
