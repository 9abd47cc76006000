"""Statistics against hand-worked values, scipy, and their own definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metarl.errors import ConfigError, NumericalError
from metarl.statistics import (
    class_weights,
    improvement_over_runs,
    iqm,
    mean,
    median,
    median_interval,
    optimality_gap,
    over_runs,
    performance_profile,
    probability_of_improvement,
    rates_over_runs,
    student,
    t_quantile,
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


@pytest.mark.parametrize("freedom", [1, 1.7, 2, 4.3, 9, 30, 500])
def test_students_quantile_is_the_one_of_the_books(freedom: float):
    assert float(t_quantile(freedom)) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-4)
    assert float(t_quantile(freedom, 0.5)) == pytest.approx(stats.t.ppf(0.75, freedom), rel=1e-4)


def test_three_runs_have_students_interval_and_not_a_fourth_of_it():
    scores = np.array([-1.87, -2.14, -2.09])
    found = over_runs(scores)
    expected = stats.t.interval(0.95, 2, loc=scores.mean(), scale=stats.sem(scores))
    assert [float(v) for v in found] == pytest.approx([-2.0333, *expected], abs=1e-4)
    assert (float(found.low), float(found.high)) == pytest.approx((-2.390, -1.677), abs=1e-3)


def test_an_interval_over_one_seed_set_of_one_task_is_scipys():
    sample = rng(3).normal(size=(7, 1))
    expected = stats.t.interval(0.95, 6, loc=sample.mean(), scale=stats.sem(sample[:, 0]))
    assert [float(v) for v in student(sample)][1:] == pytest.approx(expected, rel=1e-4)
    assert [float(v) for v in student(sample.T, over="tasks")][1:] == pytest.approx(expected, rel=1e-4)


def test_two_strata_have_welchs_interval():
    a, b = rng(4).normal(size=5), rng(5).normal(size=5) * 4
    welch = stats.ttest_ind(a, -b, equal_var=False).confidence_interval()
    found = student(np.stack([a, b], axis=-1))  # the mean of both is half of their sum
    assert (2 * found.low, 2 * found.high) == pytest.approx((welch.low, welch.high), rel=1e-4)
    labelled = student(np.concatenate([a, b])[None], over="tasks", strata=["a"] * 5 + ["b"] * 5)
    assert (2 * labelled.low, 2 * labelled.high) == pytest.approx((welch.low, welch.high), rel=1e-4)


def test_the_iqm_of_one_sample_has_yuens_standard_error():
    sample = rng(6).normal(size=12)
    trimmed = np.sort(sample)[3:9]
    winsorised = np.clip(sample, trimmed[0], trimmed[-1])
    error = winsorised.std(ddof=1) / (0.5 * np.sqrt(12))
    found = student(sample[None], "iqm", over="tasks")
    assert float(found.value) == pytest.approx(trimmed.mean())
    assert float(found.high - found.value) == pytest.approx(stats.t.ppf(0.975, 5) * error, rel=1e-4)


def test_seeds_within_tasks_leave_the_differences_between_tasks_out_and_tasks_do_not():
    scores = np.array([0.0, 10.0, 100.0]) + 0.01 * rng().normal(size=(5, 3))
    within, across = student(scores), student(scores, over="tasks")
    assert within.high - within.low < 0.1
    assert across.low < 0 < 80 < across.high


def test_where_nothing_can_be_said_there_is_no_interval():
    for scores, over in (
        (np.ones((1, 4)), "seeds"),  # one seed
        (rng().normal(size=(1, 4)), "seeds"),
        (rng().normal(size=(3, 1)), "tasks"),  # one task
        (np.full((3, 4), 0.1), "seeds"),  # all alike, though 0.1 + 0.1 + 0.1 is not 0.3
    ):
        found = student(scores, over=over)  # type: ignore[arg-type]
        assert np.isfinite(found.value)
        assert np.isnan(found.low)
        assert np.isnan(found.high)
    assert np.isnan(over_runs(np.array([2.0])).low)


def test_a_rate_stays_between_its_bounds():
    found = student(np.array([[1.0], [1.0], [0.0]]), bounds=(0.0, 1.0))
    assert (float(found.low), float(found.high)) == (0.0, 1.0)
    free = student(np.array([[1.0], [1.0], [0.0]]))
    assert float(free.low) < 0 < 1 < float(free.high)


def test_classes_count_alike_however_many_tasks_they_have():
    assert class_weights(["a", "a", "b", "b"]) is None
    np.testing.assert_allclose(class_weights(["a", "b", "b"]), [1 / 2, 1 / 4, 1 / 4])


def test_intervals_of_a_curve_equal_those_of_its_points():
    curve = rng(8).normal(size=(3, 4, 5))
    for statistic in ("mean", "iqm"):
        whole = student(curve, statistic)  # type: ignore[arg-type]
        points = [student(point, statistic) for point in curve]  # type: ignore[arg-type]
        for part in range(3):
            np.testing.assert_allclose(whole[part], [p[part] for p in points])


def test_an_interval_of_scores_that_are_not_finite_or_of_a_senseless_level_is_refused():
    with pytest.raises(NumericalError, match="not finite"):
        student(np.array([[1.0, np.nan]]))
    with pytest.raises(ConfigError, match="level"):
        student(SCORES, level=95)


def test_the_medians_interval_is_the_one_of_the_sign_test():
    assert [float(v) for v in median_interval(np.arange(7.0))] == [3.0, 0.0, 6.0]
    assert [float(v) for v in median_interval(np.arange(9.0))] == [4.0, 1.0, 7.0]
    assert np.isnan(median_interval(np.arange(5.0)).low)


def test_rates_far_from_their_bounds_have_students_interval_and_keep_to_them_near():
    middle = np.array([0.52, 0.5, 0.51, 0.49, 0.5])
    assert [float(v) for v in rates_over_runs(middle)] == pytest.approx([float(v) for v in over_runs(middle)], abs=1e-3)
    near = rates_over_runs(np.array([1.0, 1.0, 0.9]))
    assert float(near.high) == 1.0
    assert float(near.low) < float(over_runs(np.array([1.0, 1.0, 0.9])).low)  # Student's is 0.82
    gain = rates_over_runs(np.array([0.9, 1.0, 0.8]), bounds=(-1.0, 1.0))
    assert -1.0 <= float(gain.low) < 0.9 < float(gain.high) <= 1.0
    for nothing in ([0.4], [1.0, 1.0, 1.0]):
        assert np.isnan(rates_over_runs(np.array(nothing)).low)


def test_improvement_has_wilsons_interval_for_the_runs_of_the_smaller_side():
    x, y = np.full((7, 3), 2.0), np.zeros((5, 3))
    found = improvement_over_runs(x, y)
    wilson = stats.binomtest(5, 5).proportion_ci(method="wilson")  # as if 5 of 5 tosses were heads
    assert [float(v) for v in found] == pytest.approx([1.0, wilson.low, wilson.high], abs=2e-3)
    back = improvement_over_runs(y, x)
    assert (float(back.low), float(back.high)) == pytest.approx((1.0 - found.high, 1.0 - found.low))
    assert np.isnan(improvement_over_runs(x[:1], y).low)
