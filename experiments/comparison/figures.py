"""The comparison's plots as files, drawn by matplotlib from the numbers that the page draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metarl.checkpoint import replace_file
from metarl.experiments.cli import safe_text
from metarl.experiments.figures.plots import STYLE, save_png, to_svg


def save(sets: Sequence[Mapping[str, Any]], folder: Path, kind: str) -> list[Path]:
    """Write every figure into `folder` as "png" or "svg" and return where."""
    written = []
    for k, one in enumerate(sets):
        for name, figure in figures(one).items():
            path = folder / f"{name}{f'-{k + 1}' if len(sets) > 1 else ''}.{kind}"
            if kind == "png":
                save_png(figure, path)
            else:
                replace_file(path, (to_svg(figure) + "\n").encode())
            written.append(path)
    return written


def figures(one: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures of one set of tasks by name."""
    found: dict[str, Figure] = {}
    with mpl.rc_context(STYLE):
        for metric, label in one["metrics"].items():
            methods, short = one["methods"], metric.split("_")[0]
            adaptation = [(m, m["adaptation"][metric]) for m in methods]
            training = [(m, m["training"][metric]) for m in methods if metric in m["training"]]
            profile = [(m, {"x": one["thresholds"][metric], **m["profile"][metric]}) for m in methods]
            found[f"scores-{short}"] = _scores(methods, metric, label)
            found[f"adaptation-{short}"] = _lines(adaptation, "Episode on the new task", label)
            if training:
                found[f"training-{short}"] = _lines(training, "Env steps, adaptation included", label)
            found[f"profile-{short}"] = _lines(profile, f"Score: {label.lower()}", "Share of runs and tasks above it")
            if len(methods) > 1:
                found[f"improvement-{short}"] = _improvement(one, metric)
            found[f"tasks-{short}"] = _heat(one, metric, label)
    return found


def _canvas(height: float, title: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.0, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes


def _lines(curves: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], x_label: str, y_label: str) -> Figure:
    figure, axes = _canvas(4.2)
    for method, curve in curves:
        value, low, high = (np.array(curve[k], dtype=float) for k in ("value", "low", "high"))
        style: Any = "--" if method["dashed"] else "-"
        marker = "o" if len(value) <= 30 else ""
        axes.fill_between(curve["x"], low, high, color=method["colour"], alpha=0.2, linewidth=0)
        axes.plot(
            curve["x"], value, style, color=method["colour"], marker=marker, markersize=4,
            label=safe_text.figure(f"{method['name']} ({len(method['runs'])} seeds)"),
        )  # fmt: skip
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _scores(methods: Sequence[Mapping[str, Any]], metric: str, label: str) -> Figure:
    parts = {"pre": "first score", "query": "adapted", "gain": "gain"}
    figure = Figure(figsize=(8.4, 1.4 + 0.36 * len(methods)), layout="constrained")
    for axes, (part, text) in zip(figure.subplots(1, 3, sharey=True), parts.items(), strict=True):
        for row, method in enumerate(methods):
            found = method["scores"][metric][part]
            axes.plot(found["runs"], [row] * len(found["runs"]), "|", color=method["colour"], alpha=0.5)
            _bar(axes, found, row, method["colour"])
        axes.set_title(text)
        axes.set_yticks(range(len(methods)), [safe_text.figure(m["name"]) for m in methods])
    axes.invert_yaxis()
    figure.supxlabel(label, fontsize="medium")
    return figure


def _bar(axes: Axes, found: Mapping[str, Any], row: float, colour: str) -> None:
    if found["low"] is not None:
        axes.plot([found["low"], found["high"]], [row, row], color=colour, linewidth=2.5, solid_capstyle="butt")
    axes.plot(found["value"], row, "o", color=colour, markersize=6)


def _improvement(one: Mapping[str, Any], metric: str) -> Figure:
    methods, table = one["methods"], one["improvement"][metric]
    pairs = [(i, j) for i in range(len(methods)) for j in range(i + 1, len(methods)) if table[i][j] is not None]
    figure, axes = _canvas(1.2 + 0.3 * len(pairs))
    for row, (i, j) in enumerate(pairs):
        _bar(axes, table[i][j], row, methods[i]["colour"])
    names = [safe_text.figure(f"{methods[i]['name']} > {methods[j]['name']}") for i, j in pairs]
    axes.set_yticks(range(len(pairs)), names)
    axes.invert_yaxis()
    axes.axvline(0.5, color="#777777", linestyle=":")
    axes.set_xlim(0, 1)
    axes.set_xlabel("Probability that a random run scores higher on a random task")
    return figure


def _heat(one: Mapping[str, Any], metric: str, label: str) -> Figure:
    heat, methods = one["heat"][metric], one["methods"]
    figure, axes = _canvas(1.4 + 0.22 * len(heat["rows"]), heat["note"])
    limits: Any = {"vmin": 0.0, "vmax": 1.0} if metric.startswith("success") else {}
    image = axes.imshow(np.array(heat["values"]), aspect="auto", cmap="cividis", **limits)
    axes.set_yticks(range(len(heat["rows"])), [safe_text.figure(r) for r in heat["rows"]])
    axes.set_xticks(range(len(methods)), [safe_text.figure(m["name"]) for m in methods], rotation=20, ha="right")
    axes.grid(visible=False)
    figure.colorbar(image, label=label)
    return figure
