"""What is told of methods side by side, as numbers: scores, profiles, improvement, curves, cost, settings.

Everything here is over training runs: each run gives one number, the interval is `metarl.summary.run_interval`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metarl import statistics
from metarl.experiments.figures.plots import METRICS, REFERENCES, Shown, series, smooth
from metarl.experiments.runs.comparison import Method, settings_of
from metarl.statistics import Array, Interval
from metarl.summary import run_interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D00")
"""Okabe and Ito's palette, which colour-blind readers tell apart; lines of further methods are dashed."""
PARTS = ("without_adaptation", "pre", "query", "gain", "iqm", "gap")
N_STEPS = 120
"""Points of the common grid of env steps."""
MOST_ROWS = 60
"""Of more tasks those are shown on which methods differ most."""


def measured(methods: Sequence[Method], cpu_s: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Return one entry for each set of tasks on which methods were scored; `cpu_s` is known by the runs' labels."""
    by_tasks: dict[str, list[tuple[int, Method]]] = {}
    for i, method in enumerate(methods):
        by_tasks.setdefault(method.runs[0].evaluation.task_fingerprint, []).append((i, method))
    return [_set(found, cpu_s) for found in by_tasks.values()]


def _set(found: Sequence[tuple[int, Method]], cpu_s: Mapping[str, float | None]) -> dict[str, Any]:
    methods = [method for _, method in found]
    runs = [r for method in methods for r in method.runs]
    metrics = [m for m in ("success_any", "return") if all(m in r.summary["query"] for r in runs)]
    target = next((n for n in ("bayes_optimal", "oracle") if all(n in r.evaluation.references for r in runs)), None)
    scores = {m: [method.scores(m) for method in methods] for m in metrics}
    thresholds = {m: _thresholds(m, scores[m]) for m in metrics}
    evaluation, training = runs[0].evaluation, [_training(method) for method in methods]
    return {
        "title": f"{evaluation.world['name']}, {evaluation.protocol.split} split, {len(evaluation.task_names)} tasks",
        "metrics": {m: METRICS[m] for m in metrics},
        "target": {m: _about_target(m, target) for m in metrics},
        "methods": [
            {
                "name": method.label,
                "colour": COLOURS[i % len(COLOURS)],
                "dashed": i >= len(COLOURS),
                "adapts_within_episode": method.runs[0].adapts_within_episode,
                "runs": [r.label for r in method.runs],
                "seeds": [r.evaluation.provenance.get("train_seed") for r in method.runs],
                "scores": {m: _scores(method, m, target) for m in metrics},
                "profile": {m: _profile(scores[m][k], thresholds[m]) for m in metrics},
                "adaptation": {m: _adaptation(method, m) for m in metrics},
                "training": training[k],
                "cost": _cost(method, cpu_s),
            }
            for k, (i, method) in enumerate(found)
        ],
        "thresholds": {m: x.tolist() for m, x in thresholds.items()},
        "without_curve": [m.label for m, curves in zip(methods, training, strict=True) if "return" not in curves],
        "references": _references(runs),
        "heat": {m: _heat(evaluation.task_names, evaluation.task_groups, scores[m]) for m in metrics},
        "improvement": {
            m: [[_improvement(x, y) if i != j else None for j, y in enumerate(per)] for i, x in enumerate(per)]
            for m, per in scores.items()
        },
    }  # fmt: skip


def _references(runs: Sequence[Shown]) -> dict[str, list[float]]:
    """Return known policies' returns per episode, of the run whose trials are longest."""
    longest = max(runs, key=lambda r: r.evaluation.protocol.n_episodes)
    known = longest.evaluation.references.items()
    return {REFERENCES.get(n, (n.replace("_", " "),))[0]: [float(x) for x in v] for n, v in known}


def _about_target(metric: str, target: str | None) -> str | None:
    if metric.startswith("success"):
        return "success 1"
    return None if target is None else REFERENCES[target][0]


def _scores(method: Method, metric: str, target: str | None) -> dict[str, Any]:
    """Return each part's estimate and every run's own number."""
    found: dict[str, Any] = {}
    for part in ("without_adaptation", "pre", "query", "gain"):
        per_run = _per_run(method, part, metric)
        found[part] = _estimate(per_run, metric, difference=part == "gain")
    found["iqm"] = _estimate(_per_run(method, "query", metric, "iqm"), metric)
    if metric.startswith("success"):
        found["gap"] = _estimate(
            np.array([float(statistics.optimality_gap(x[None])) for x in method.scores(metric)]), metric
        )
    elif target is not None:  # a reference is a mean, which single tasks exceed: nothing is cut off
        best = np.array([float(r.summary["references"][target]) for r in method.runs])
        found["gap"] = _estimate(best - _per_run(method, "query", metric), metric)
    else:
        found["gap"] = None
    return found  # fmt: skip


def _per_run(method: Method, part: str, metric: str, kind: str = "mean") -> Array:
    return np.array([float(r.summary[part][metric][kind]["value"]) for r in method.runs])


def _estimate(per_run: Array, metric: str, *, difference: bool = False) -> dict[str, Any]:
    return {**_plain(run_interval(per_run, metric, difference=difference)), "runs": per_run.tolist()}


def _plain(found: Interval) -> dict[str, Any]:
    """Return an interval as JSON values: null where there is none."""

    def values(x: Array) -> Any:
        return [float(v) if np.isfinite(v) else None for v in x] if x.ndim else float(x) if np.isfinite(x) else None

    return {k: values(np.asarray(v)) for k, v in found._asdict().items()}


def _thresholds(metric: str, scores: Sequence[Array]) -> Array:
    if metric.startswith("success"):
        return np.linspace(0.0, 1.0, 41)
    low, high = min(float(x.min()) for x in scores), max(float(x.max()) for x in scores)
    margin = 0.02 * (high - low)
    return np.linspace(low - margin, high + margin, 61)


def _profile(scores: Array, thresholds: Array) -> dict[str, Any]:
    """Return the share of (run, task) scores above each threshold, its band from each run's own share."""
    return _plain(statistics.rates_over_runs(statistics.performance_profile(scores[:, None, :], thresholds).T))


def _improvement(x: Array, y: Array) -> dict[str, Any] | None:
    return _plain(statistics.improvement_over_runs(x, y)) if x.shape[-1] == y.shape[-1] else None


def _adaptation(method: Method, metric: str) -> dict[str, Any]:
    curves = np.stack([np.asarray(r.summary["curve"][metric]["mean"]["value"], dtype=float) for r in method.runs], -1)
    return {"x": list(range(len(curves))), **_plain(run_interval(curves, metric))}


def _training(method: Method) -> dict[str, Any]:
    """Return, for return and success, the curve over env steps: of validation tasks, or else of training tasks."""
    found: dict[str, Any] = {}
    for metric, key in (("return", "post_return"), ("success_any", "post_success")):
        for split in ("validation", "train"):
            curves = [series(r.records, f"{split}/{key}") for r in method.runs]
            if min(len(x) for x, _ in curves) < 2:
                continue
            if split == "train":
                curves = [(x, smooth(y)) for x, y in curves]
            x, values = on_common_steps(curves)
            if len(x):
                found[metric] = {"x": x.tolist(), "tasks": split, **_plain(run_interval(values, metric))}
                break
    return found


def on_common_steps(curves: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return env steps [K] that all curves reach, and the curves there [K, R], straight between their points."""
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if last <= first:
        return np.empty(0), np.empty((0, len(curves)))
    own = curves[0][0]
    alike = all(np.array_equal(x, own) for x, _ in curves)
    steps = own if alike and len(own) <= N_STEPS else np.linspace(first, last, N_STEPS)
    return steps, np.stack([np.interp(steps, x, y) for x, y in curves], axis=-1)


def _cost(method: Method, cpu_s: Mapping[str, float | None]) -> dict[str, Any]:
    """Return means per run; None where it is not known of all."""
    seconds = [cpu_s.get(r.label) for r in method.runs]
    wall = [r.records[-1].get("wall_s") if r.records else None for r in method.runs]
    return {
        "train_env_steps": method.train_env_steps,
        "cpu_hours": _hours(seconds),
        "training_wall_hours": _hours(wall),
        "evaluation_env_steps": float(np.mean([r.evaluation.env_steps for r in method.runs])),
    }


def _hours(seconds: Sequence[float | None]) -> float | None:
    known = [s for s in seconds if s is not None]
    return float(np.mean(known)) / 3600 if len(known) == len(seconds) else None


def _heat(names: Sequence[str], groups: Sequence[str], scores: Sequence[Array]) -> dict[str, Any]:
    """Return each method's mean per class, or per task if there is one class: values [rows][methods]."""
    table = np.stack([x.mean(axis=0) for x in scores], axis=-1)
    rows, of = list(names), "task"
    if len(set(groups)) > 1:
        rows, of = list(dict.fromkeys(groups)), "class"
        table = np.stack([table[np.asarray(groups) == g].mean(axis=0) for g in rows])
    note = ""
    if len(rows) > MOST_ROWS:
        chosen = np.sort(np.argsort(-np.ptp(table, axis=1), kind="stable")[:MOST_ROWS])
        note = f"the {MOST_ROWS} of {len(rows)} on which methods differ most"
        rows, table = [rows[i] for i in chosen], table[chosen]
    return {"of": of, "rows": rows, "values": table.tolist(), "note": note}


def differences(methods: Sequence[Method], configs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return the settings that are not the same for all methods: name, then each method's value."""
    flat = [settings_of(configs[m.runs[0].label]) for m in methods]
    keys = sorted({key for one in flat for key in one})
    rows = [[key, *(one.get(key, "–") for one in flat)] for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]
