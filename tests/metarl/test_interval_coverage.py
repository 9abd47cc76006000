"""Every kind of interval, on experiments whose truth is known: how often does a nominal 95 % interval cover it?

Scores are made as evaluations make them: an effect of the training run, one of the task, one of both together, and the
noise of the episodes, whose size differs from task to task; Gaussian or skewed (exponential). The least coverage that a
case must have is its expected one less what 2000 experiments may miss it by: 95 % for means of Gaussian scores from 2
seeds on, about 90 % where a handful of exponential scores is all there is.
"""

from __future__ import annotations

import numpy as np
import pytest

from metarl.statistics import Interval, iqm, mean, median_interval, over_runs, rates_over_runs, student
from tests.interval_coverage import CASES, LEAST_AT_5, table

N_EXPERIMENTS = 2000
MARGIN = 4 * (0.95 * 0.05 / N_EXPERIMENTS) ** 0.5
"""Four standard errors of a measured coverage."""


def noise(kind: str, shape: tuple[int, ...], source: np.random.Generator) -> np.ndarray:
    return source.normal(size=shape) if kind == "gauss" else source.exponential(size=shape) - 1.0


def coverage(found: Interval, truth: float | np.ndarray) -> float:
    """Return how often the intervals cover `truth`, of the experiments that have one."""
    there = np.isfinite(found.low)
    assert there.mean() > 0.5
    return float(((found.low <= truth) & (truth <= found.high))[there].mean())


def runs(kind: str, n_runs: int, source: np.random.Generator, n_tasks: int = 8) -> np.ndarray:
    """Return scores [experiments, runs, tasks] around 0: one trained agent plays all tasks of its run."""
    shape = (N_EXPERIMENTS, n_runs, n_tasks)
    run = noise(kind, (*shape[:2], 1), source)
    task = 2.0 * np.linspace(-1.0, 1.0, n_tasks)
    return run + task + 0.5 * source.normal(size=shape) + 0.3 * noise(kind, shape, source)


@pytest.mark.parametrize(
    ("kind", "n_runs", "least"),
    [
        *(("gauss", 3, 0.95), ("gauss", 5, 0.95), ("gauss", 10, 0.95)),
        *(("skew", 3, 0.9), ("skew", 5, 0.9), ("skew", 10, 0.91)),
    ],
)
@pytest.mark.parametrize("of", ["mean", "iqm"])
def test_intervals_over_training_runs_cover(kind: str, n_runs: int, least: float, of: str):
    source = np.random.default_rng(n_runs)
    scores = runs(kind, n_runs, source)[..., None, :]  # each run by itself: [..., runs, 1, tasks]
    per_run = mean(scores) if of == "mean" else iqm(scores)
    found = coverage(over_runs(per_run), 0.0 if of == "mean" else per_run.mean())
    assert least - MARGIN <= found <= 0.95 + MARGIN + 0.005


def test_redrawing_the_runs_of_each_task_by_itself_does_not_cover():
    """What a stratified bootstrap does: it takes one agent on eight tasks for eight agents."""
    source = np.random.default_rng(0)
    scores = runs("gauss", 3, source)[:400]
    tasks = np.arange(scores.shape[-1])
    drawn = scores[:, source.integers(0, 3, (200, 3, len(tasks))), tasks].mean((-2, -1))
    low, high = np.percentile(drawn, (2.5, 97.5), axis=-1)
    assert ((low <= 0.0) & (high >= 0.0)).mean() < 0.5


def evaluations(kind: str, n_seeds: int, n_tasks: int, source: np.random.Generator, n: int) -> tuple[np.ndarray, float]:
    """Return one agent's scores [n, seeds, tasks] on fixed tasks, and their true mean."""
    given = np.random.default_rng(n_tasks)
    task, spread = 2.0 * given.normal(size=n_tasks), np.exp(0.5 * given.normal(size=n_tasks))
    return task + spread * noise(kind, (n, n_seeds, n_tasks), source), float(task.mean())


@pytest.mark.parametrize("n_tasks", [1, 4, 20])
@pytest.mark.parametrize(
    ("kind", "n_seeds", "least"),
    [
        *(("gauss", 2, 0.93), ("gauss", 3, 0.9), ("gauss", 5, 0.91)),
        *(("skew", 2, 0.88), ("skew", 3, 0.87), ("skew", 5, 0.86)),
    ],
)
def test_intervals_over_evaluation_seeds_cover_what_the_same_tasks_give(
    kind: str, n_seeds: int, n_tasks: int, least: float
):
    source = np.random.default_rng(n_seeds)
    scores, truth = evaluations(kind, n_seeds, n_tasks, source, N_EXPERIMENTS)
    least = 0.925 if n_tasks == 20 else least  # errors of tasks average out
    assert coverage(student(scores), truth) >= least
    assert coverage(student(scores, "iqm"), float(iqm(scores).mean())) >= least


@pytest.mark.parametrize(
    ("kind", "n_tasks", "least"),
    [
        *(("gauss", 3, 0.93), ("gauss", 5, 0.9), ("gauss", 20, 0.92)),
        *(("skew", 3, 0.86), ("skew", 5, 0.86), ("skew", 20, 0.9)),
    ],
)
def test_intervals_over_tasks_cover_what_other_tasks_give(kind: str, n_tasks: int, least: float):
    source = np.random.default_rng(n_tasks)
    scores = noise(kind, (N_EXPERIMENTS, 1, n_tasks), source)
    assert coverage(student(scores, over="tasks"), 0.0) >= least
    assert coverage(student(scores, "iqm", over="tasks"), float(iqm(scores).mean())) >= least


def test_intervals_over_tasks_within_classes_cover_the_mean_over_classes():
    source = np.random.default_rng(2)
    sizes, levels = (3, 4, 8), (0.0, 5.0, -20.0)
    strata = [str(i) for i, n in enumerate(sizes) for _ in range(n)]
    drawn = [source.normal(size=(N_EXPERIMENTS, 1, n)) for n in sizes]
    scores = np.concatenate([level + (i + 1) * drawn[i] for i, level in enumerate(levels)], axis=-1)
    weights = np.concatenate([np.full(n, 1 / (3 * n)) for n in sizes])
    found = coverage(student(scores, over="tasks", strata=strata, weights=weights), float(np.mean(levels)))
    assert 0.94 <= found <= 0.97


@pytest.mark.parametrize(("n_seeds", "n_tasks"), [(2, 20), (3, 10), (5, 4), (10, 4)])
def test_intervals_of_success_rates_cover_and_stay_between_0_and_1(n_seeds: int, n_tasks: int):
    source = np.random.default_rng(n_tasks)
    chance = np.linspace(0.3, 0.95, n_tasks)
    scores = (source.uniform(size=(N_EXPERIMENTS, n_seeds, n_tasks)) < chance).astype(float)
    found = student(scores, bounds=(0.0, 1.0))
    assert coverage(found, float(chance.mean())) >= 0.93
    assert np.nanmin(found.low) >= 0.0
    assert np.nanmax(found.high) <= 1.0


@pytest.mark.parametrize("n_rounds", [6, 7, 12])
def test_intervals_of_a_median_over_rounds_cover(n_rounds: int):
    rounds = np.exp(np.random.default_rng(n_rounds).normal(size=(2000, n_rounds)))
    hits = [found.low <= 1.0 <= found.high for found in map(median_interval, rounds)]
    assert 0.94 <= np.mean(hits) <= 0.99


def test_what_a_report_prints_over_training_runs_covers_at_five_of_them():
    """A small part of `python -m tests.interval_coverage`, which asks for 90 % in 4000 experiments each."""
    some = {k: CASES[k] for k in ("skewed", "success near 1", "unequal task spreads")}
    found = table(600, some, n_truth=20_000)
    shares = [cells["5"]["coverage"] for kinds in found.values() for cells in kinds.values()]
    assert len(shares) == 3 * 7
    assert min(shares) >= LEAST_AT_5 - 4 * (LEAST_AT_5 * (1 - LEAST_AT_5) / 600) ** 0.5


def test_near_1_students_interval_of_a_success_rate_covers_too_little_and_the_one_of_rates_enough():
    source = np.random.default_rng(0)
    chance = 1.0 / (1.0 + np.exp(-(4.0 + source.normal(size=(N_EXPERIMENTS, 5)))))
    truth = float(np.mean(1.0 / (1.0 + np.exp(-(4.0 + np.random.default_rng(1).normal(size=400_000))))))
    rates = source.binomial(200, chance) / 200
    assert coverage(over_runs(rates, bounds=(0.0, 1.0)), truth) < 0.88
    assert coverage(rates_over_runs(rates), truth) > 0.9
