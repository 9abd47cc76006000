"""Statistics against hand-worked values, scipy, and their own definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metarl.errors import ConfigError, NumericalError
from metarl.statistics import (
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)

SCORES = np.array([[0.0, 1.0, 2.0], [4.0, 3.0, 8.0]])  # 2 seeds, 3 tasks


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_point_estimates_equal_hand_worked_values():
    assert mean(SCORES) == pytest.approx(3.0)
    assert median(SCORES) == pytest.approx(2.0)  # task means 2, 2, 5
    assert iqm(SCORES) == pytest.approx((1 + 2 + 3 + 4) / 4)  # int(6 / 4) = 1 off each end
    assert optimality_gap(SCORES, 2.0) == pytest.approx(2.0 - (0 + 1 + 2 + 2 + 2 + 2) / 6)


def test_mean_weighs_tasks_as_told():
    assert mean(SCORES, np.array([0.5, 0.25, 0.25])) == pytest.approx(0.5 * 2 + 0.25 * 2 + 0.25 * 5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 1000))
def test_iqm_equals_scipys_trimmed_mean_for_every_size(s: int, n: int, seed: int):
    scores = rng(seed).normal(size=(s, n))
    assert iqm(scores) == pytest.approx(stats.trim_mean(scores, proportiontocut=0.25, axis=None))


def test_leading_axes_are_handled_one_by_one():
    many = rng().normal(size=(4, 3, 5))
    for statistic in (mean, median, iqm, optimality_gap):
        np.testing.assert_allclose(statistic(many), [float(statistic(m)) for m in many])


def test_iqm_ignores_an_outlier_that_moves_the_mean():
    scores = np.ones((4, 5))
    scores[0, 0] = 1e6
    assert iqm(scores) == pytest.approx(1.0)
    assert mean(scores) > 1000


def test_probability_of_improvement_counts_pairs_and_halves_ties():
    x, y = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[2.0, 5.0]])
    assert probability_of_improvement(x, y) == pytest.approx((0.5 + 0.5) / 2)  # task 0: 1 of 2; task 1: two ties
    assert probability_of_improvement(y, x) == pytest.approx(0.5)
    assert probability_of_improvement(x + 10, y) == pytest.approx(1.0)


def test_probability_of_improvement_equals_the_mann_whitney_statistic():
    x, y = rng(1).integers(0, 6, (7, 4)).astype(float), rng(2).integers(0, 6, (5, 4)).astype(float)
    per_task = [stats.mannwhitneyu(x[:, i], y[:, i]).statistic / (7 * 5) for i in range(4)]
    assert probability_of_improvement(x, y) == pytest.approx(np.mean(per_task))


def test_probability_of_improvement_refuses_different_task_sets():
    with pytest.raises(ConfigError, match="same tasks"):
        probability_of_improvement(np.zeros((2, 3)), np.zeros((2, 4)))


def test_performance_profile_is_strict_and_falls_from_one_to_zero():
    np.testing.assert_allclose(performance_profile(SCORES, np.array([-1.0, 0.0, 2.0, 8.0])), [1, 5 / 6, 3 / 6, 0])


def test_bootstrap_over_seeds_keeps_each_tasks_own_scores_together():
    # Tasks differ by far, seeds within a task not at all: no resampling of seeds can move any statistic.
    scores = np.tile(np.array([0.0, 10.0, 100.0]), (5, 1))
    interval = stratified_bootstrap(scores, mean, rng())
    assert interval.low == interval.high == interval.value == pytest.approx(110 / 3)
    over_tasks = stratified_bootstrap(scores, mean, rng(), resample="tasks")
    assert over_tasks.low < 5 < 60 < over_tasks.high


def test_bootstrap_over_tasks_stays_within_strata():
    scores = np.array([[0.0, 0.0, 10.0, 10.0]])
    within = stratified_bootstrap(scores, mean, rng(), resample="tasks", strata=["a", "a", "b", "b"])
    assert within.low == within.high == pytest.approx(5.0)
    across = stratified_bootstrap(scores, mean, rng(), resample="tasks")
    assert across.low < 4.0 < 6.0 < across.high


def test_bootstrap_equals_scipys_percentile_bootstrap_of_one_task():
    sample = rng(3).normal(size=40)
    ours = stratified_bootstrap(sample[:, None], mean, rng(4), n_resamples=20_000)
    theirs = stats.bootstrap((sample,), np.mean, n_resamples=20_000, method="percentile", rng=rng(5))
    assert float(ours.low) == pytest.approx(theirs.confidence_interval.low, abs=0.01)
    assert float(ours.high) == pytest.approx(theirs.confidence_interval.high, abs=0.01)


@pytest.mark.parametrize(("statistic", "lowest"), [(mean, 0.92), (iqm, 0.92)])
def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says(statistic, lowest: float):
    # 400 experiments of 20 seeds x 4 tasks with known task means; the truth of both statistics is 1.5 by symmetry.
    hits, source = 0, rng(7)
    for _ in range(400):
        scores = np.arange(4.0) + source.normal(size=(20, 4))
        interval = stratified_bootstrap(scores, statistic, source, n_resamples=400)
        hits += bool(interval.low <= 1.5 <= interval.high)
    assert lowest <= hits / 400 <= 0.985  # a 95 % interval; the bootstrap of 20 is slightly narrow


def test_bootstrap_of_a_curve_equals_bootstraps_of_its_points():
    curve = rng(8).normal(size=(3, 4, 5))
    whole = stratified_bootstrap(curve, iqm, rng(9), n_resamples=300)
    for i in range(3):
        point = stratified_bootstrap(curve[i], iqm, rng(9), n_resamples=300)
        assert [float(v) for v in point] == pytest.approx([float(v[i]) for v in whole], rel=1e-12)


def test_bootstrap_depends_on_its_generator_alone():
    scores = rng(10).normal(size=(6, 5))
    first = stratified_bootstrap(scores, mean, rng(1))
    assert [float(v) for v in first] == [float(v) for v in stratified_bootstrap(scores, mean, rng(1))]
    assert [float(v) for v in first] != [float(v) for v in stratified_bootstrap(scores, mean, rng(2))]


def test_bootstrap_refuses_scores_that_are_not_finite_and_senseless_sizes():
    with pytest.raises(NumericalError, match="not finite"):
        stratified_bootstrap(np.array([[1.0, np.nan]]), mean, rng())
    with pytest.raises(ConfigError, match="level"):
        stratified_bootstrap(SCORES, mean, rng(), level=95)
