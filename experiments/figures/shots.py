"""Scores against the number of adaptation episodes, from several evaluations of one run: its k-shot curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from metarl.experiments.cli import safe_text

from .plots import COLOURS, METRICS, STYLE, Shown
from .text_tables import HEADINGS, KINDS, interval


def same_but_shots(one: Shown, others: Sequence[Shown]) -> list[Shown]:
    """Return those of `others` that differ from `one` in the adaptation episodes alone, fewest first."""

    def fixed(shown: Shown) -> tuple[Any, ...]:
        evaluation = shown.evaluation
        protocol = replace(evaluation.protocol, adapt_episodes=0)
        agent = evaluation.agent.get("checkpoint"), evaluation.agent.get("iteration")
        return protocol, evaluation.task_fingerprint, *agent

    alike = {o.evaluation.protocol.adapt_episodes: o for o in others if fixed(o) == fixed(one)}
    return [alike[k] for k in sorted(alike)]


def _points(curve: Sequence[Shown]) -> list[tuple[int, Mapping[str, Any]]]:
    """Return (adaptation episodes, scores); 0 is every scored episode a trial of its own."""
    points = [(s.evaluation.protocol.adapt_episodes, s.summary["query"]) for s in curve]
    return points if points[0][0] == 0 else [(0, curve[0].summary["without_adaptation"]), *points]


def shots_table(curves: Sequence[Sequence[Shown]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: one per run and number of adaptation episodes."""
    shared = _shared(curves)
    header = ["run", "adaptation episodes", *(f"{HEADINGS[m]}, {KINDS[k]}" for m in shared for k in KINDS)]
    rows = [
        [curve[0].label, str(n), *(interval(scores[m][k], m) for m in shared for k in KINDS)]
        for curve in curves
        for n, scores in _points(curve)
    ]
    return header, rows


def shots_figure(curves: Sequence[Sequence[Shown]]) -> Figure:
    """Return mean scores against adaptation episodes, a line per run, with each evaluation's own intervals."""
    shared = _shared(curves)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8 * len(shared) if len(shared) > 1 else 7.0, 3.8), layout="constrained")
        for axes, metric in zip(np.atleast_1d(figure.subplots(1, len(shared))), shared, strict=True):
            for i, curve in enumerate(curves):
                points = _points(curve)
                means = [scores[metric]["mean"] for _, scores in points]
                value, low, high = (np.array([float(m[k]) for m in means]) for k in ("value", "low", "high"))
                axes.errorbar(
                    [n for n, _ in points], value, yerr=np.stack([value - low, high - value]), marker="o", capsize=2.5,
                    color=COLOURS[i % len(COLOURS)], label=safe_text.figure(curve[0].label),
                )  # fmt: skip
            axes.set_xlabel("Adaptation episodes before the scored ones")
            axes.set_ylabel(METRICS[metric])
            axes.locator_params(axis="x", integer=True)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _shared(curves: Sequence[Sequence[Shown]]) -> list[str]:
    """Return the metrics that all curves have."""
    return [m for m in ("return", "success_any") if all(m in s.summary["query"] for curve in curves for s in curve)]
