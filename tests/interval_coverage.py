"""How often the intervals that `report` prints cover the truth, by simulation.

    python -m tests.interval_coverage --into experiments/results/interval-coverage.json [--plot FILE.png]

Each experiment draws the training runs of one or two methods, with a mean per task, as evaluations give them: an
effect of the run, which all of its tasks share, and noise of run and task together. The truth is that of 100 000 runs.
An interval that is not given (runs that are all alike) counts neither way; the share of experiments that have one is
told beside. Cases under "limits" are known to be covered too rarely; they are told, and not required.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from metarl.statistics import (
    Array,
    Interval,
    improvement_over_runs,
    iqm,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from metarl.summary import run_interval

N_RUNS = (3, 5, 10)
N_TASKS = 8
LEAST_AT_5 = 0.90
N_TRUTH = 100_000
Draw = Callable[[int, int, np.random.Generator], Array]
"""Scores [n, R, N] of n experiments."""


def _additive(effect: Callable[[np.random.Generator, tuple[int, ...]], Array], spread: Array) -> Draw:
    def draw(n: int, n_runs: int, source: np.random.Generator) -> Array:
        tasks = np.linspace(-1.0, 1.0, N_TASKS)
        return effect(source, (n, n_runs, 1)) + tasks + spread * source.normal(size=(n, n_runs, N_TASKS))

    return draw


def _rates(centre: float, n_episodes: int = 20) -> Draw:
    """Return draws of success rates whose chance varies from run to run and from task to task."""

    def draw(n: int, n_runs: int, source: np.random.Generator) -> Array:
        tasks = np.linspace(-0.7, 0.7, N_TASKS)
        chance = 1.0 / (1.0 + np.exp(-(centre + 0.8 * source.normal(size=(n, n_runs, 1)) + tasks)))
        return source.binomial(n_episodes, chance) / n_episodes

    return draw


ALIKE, UNEQUAL = np.full(N_TASKS, 0.6), np.exp(np.linspace(-2.0, 1.5, N_TASKS))
CASES: dict[str, tuple[str, Draw]] = {
    "gaussian": ("return", _additive(lambda s, shape: s.normal(size=shape), ALIKE)),
    "unequal task spreads": ("return", _additive(lambda s, shape: 0.5 * s.normal(size=shape), UNEQUAL)),
    "skewed": ("return", _additive(lambda s, shape: s.gamma(2.0, size=shape) - 2.0, ALIKE)),
    "bimodal, half of runs": ("return", _additive(lambda s, shape: 3.0 * (s.uniform(size=shape) < 0.5), ALIKE)),
    "success near 1": ("success_any", _rates(3.0)),
    "success near 0": ("success_any", _rates(-3.0)),
    "success in the middle": ("success_any", _rates(0.0)),
}
LIMITS: dict[str, tuple[str, Draw]] = {
    "exponential, no other noise": ("return", _additive(lambda s, shape: s.exponential(size=shape), 0 * ALIKE)),
    "log-normal, no other noise": ("return", _additive(lambda s, shape: np.exp(s.normal(size=shape)), 0 * ALIKE)),
    "one run in five fails": ("return", _additive(lambda s, shape: -5.0 * (s.uniform(size=shape) < 0.2), ALIKE)),
}


def per_run(what: str, metric: str, scores: Array, before: Array, target: float) -> Array:
    """Return each run's number, [..., R] of scores [..., R, N]; a profile and a curve have more axes in front."""
    alone = scores[..., None, :]
    if what == "mean":
        return np.asarray(scores.mean(-1))
    if what == "IQM":
        return iqm(alone)
    if what == "gain":
        return np.asarray((scores - before).mean(-1))
    if what == "optimality gap":
        return optimality_gap(alone, 1.0 if metric.startswith("success") else target)
    if what == "profile":
        at = np.linspace(0.05, 0.95, 7) if metric.startswith("success") else target + np.linspace(-2.0, 1.0, 7)
        return np.moveaxis(performance_profile(alone, at), -1, 0)
    return np.stack([before.mean(-1), 0.5 * (before + scores).mean(-1), scores.mean(-1)])


def covered(found: Interval, truth: Array) -> tuple[float, float]:
    """Return the share of intervals that cover, pointwise the least over points, and the share there is."""
    there = np.isfinite(found.low).reshape(-1, np.shape(found.low)[-1])
    hits = ((found.low <= truth[..., None] + 1e-12) & (truth[..., None] - 1e-12 <= found.high)).reshape(there.shape)
    shares = [hits[i][there[i]].mean() for i in range(len(there)) if there[i].mean() > 0.25]
    return (float(min(shares)) if shares else float("nan")), float(there.mean())


WHAT = ("mean", "IQM", "gain", "optimality gap", "profile", "curve")


def measure(
    metric: str, draw: Draw, n: int, seed: int, n_truth: int = N_TRUTH
) -> Iterator[tuple[str, int, float, float]]:
    """Yield (statistic, runs, coverage, share of experiments with an interval)."""
    many, earlier = (draw(1, n_truth, np.random.default_rng([seed, k])) for k in (1, 2))
    shift = 0.0 if metric.startswith("success") else 1.5
    target = float(np.quantile(many, 0.8))
    others = many - 0.7 if shift else earlier
    for n_runs in N_RUNS:
        source = np.random.default_rng([seed, n_runs])
        scores, before = draw(n, n_runs, source), draw(n, n_runs, source) - shift
        for what in WHAT:
            truth = per_run(what, metric, many, earlier - shift, target).mean(-1)[..., 0]
            name = "success_any" if what == "profile" else metric  # a share, as a rate is
            found = run_interval(per_run(what, metric, scores, before, target), name, difference=what == "gain")
            yield what, n_runs, *covered(found, np.atleast_1d(truth))
        rival = draw(n, n_runs, source) - (0.7 if shift else 0.0)
        halves = many[0, : n_truth // 2], others[0, n_truth // 2 :]
        truth = np.mean([probability_of_improvement(halves[0][i::97][:400], halves[1][i::97][:400]) for i in range(4)])
        yield "probability of improvement", n_runs, *covered(improvement_over_runs(scores, rival), np.array([truth]))


def table(n: int, cases: dict[str, tuple[str, Draw]], n_truth: int = N_TRUTH) -> dict[str, Any]:
    """Return {case: {statistic: {runs: {"coverage", "given"}}}}."""
    found: dict[str, Any] = {}
    for seed, (case, (metric, draw)) in enumerate(cases.items()):
        for what, n_runs, share, given in measure(metric, draw, n, seed, n_truth):
            cell = {"coverage": round(share, 4) if share == share else None, "given": round(given, 4)}
            found.setdefault(case, {}).setdefault(what, {})[str(n_runs)] = cell
    return found


def too_low(found: dict[str, Any]) -> list[str]:
    """Return what covers less than is required at 5 runs."""
    return [
        f"{case}: {what}: {cells['5']['coverage']}"
        for case, kinds in found.items()
        for what, cells in kinds.items()
        if cells["5"]["coverage"] is not None and cells["5"]["coverage"] < LEAST_AT_5
    ]


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw coverage against the number of runs, one panel per statistic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = [*WHAT, "probability of improvement"]
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    axes = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
    for ax, what in zip(axes, kinds, strict=False):
        for part, style in (("required", "-o"), ("limits", ":s")):
            for case, found in results[part].items():
                y = [found[what][str(r)]["coverage"] for r in N_RUNS]
                ax.plot(N_RUNS, [np.nan if v is None else v for v in y], style, markersize=4, linewidth=1.2, label=case)
        ax.axhline(0.95, color="#777777", linewidth=0.8)
        ax.axhline(LEAST_AT_5, color="#777777", linewidth=0.8, linestyle="--")
        ax.set_title(what, fontsize=10)
        ax.set_xticks(N_RUNS)
        ax.set_ylim(0.6, 1.01)
    axes[-1].set_axis_off()
    axes[-1].legend(*axes[0].get_legend_handles_labels(), fontsize=7.5, loc="center", frameon=False)
    figure.supxlabel("training runs", fontsize=10)
    figure.supylabel("coverage of nominal 95 %", fontsize=10)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)


def main() -> int:
    """Measure, write, and say whether everything that is required holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="default: beside the JSON")
    parser.add_argument("--experiments", type=int, default=4000, metavar="N")
    arguments = parser.parse_args()
    required = table(arguments.experiments, CASES)
    results = {
        "command": "python -m tests.interval_coverage", "experiments": arguments.experiments, "nominal": 0.95,
        "least_at_5_runs": LEAST_AT_5, "required": required, "limits": table(arguments.experiments, LIMITS),
    }  # fmt: skip
    arguments.into.write_text(json.dumps(results, indent=1) + "\n")
    plot(results, arguments.plot or arguments.into.with_suffix(".png"))
    missed = too_low(required)
    print("\n".join(missed) if missed else f"every required interval covers at least {LEAST_AT_5:.0%} at 5 runs")
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
