"""Statistics of scores over seeds and tasks; estimates as in rliable (Agarwal et al. 2021, arXiv:2108.13264).

Scores are float64 arrays [..., S, N]: S seeds (or runs), N tasks; leading axes are free. Intervals of scores are
Student's (`student`): of the two to ten seeds that experiments have, a percentile bootstrap covers far less than it
says.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, NumericalError

Array = NDArray[np.float64]
LEVEL = 0.95
"""Confidence of every interval, unless told otherwise."""


class Interval(NamedTuple):
    """A statistic of scores and its confidence interval, each [...]; low and high are NaN where there is none."""

    value: Array
    low: Array
    high: Array


def mean(scores: Array, weights: Array | None = None) -> Array:
    """Return the mean over seeds, then over tasks with `weights` [N] that sum to 1 (equal ones, if None)."""
    per_task = scores.mean(axis=-2)
    return np.asarray(per_task.mean(axis=-1) if weights is None else per_task @ weights)


def class_weights(groups: Sequence[str]) -> Array | None:
    """Return weights [N] that count every class of tasks alike; None if equal weights do, as for classes of one size.

    Without weights the mean is the same number, and exact where the scores are all 0 or 1.
    """
    _, which, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return None if len(set(sizes.tolist())) == 1 else np.asarray(1.0 / (len(sizes) * sizes[which]))


def median(scores: Array) -> Array:
    """Return the median over tasks of each task's mean over seeds."""
    return np.asarray(np.median(scores.mean(axis=-2), axis=-1))


def iqm(scores: Array) -> Array:
    """Return the interquartile mean: of all S * N scores, the mean without the lowest and the highest quarter.

    The quarter is rounded down, as in scipy's `trim_mean(scores, 0.25)`.
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    n = flat.shape[-1]
    cut = int(0.25 * n)
    middle = np.partition(flat, (cut, n - cut - 1), axis=-1)[..., cut : n - cut]
    return np.asarray(middle.mean(axis=-1))


def optimality_gap(scores: Array, target: float = 1.0) -> Array:
    """Return how far scores fall short of `target` on average; a score above it counts as `target`."""
    return np.asarray(target - np.minimum(scores, target).mean(axis=(-2, -1)))


def probability_of_improvement(x: Array, y: Array) -> Array:
    """Return the chance that a random seed of x beats one of y on a random task, ties counting one half.

    x is [..., S, N] and y [..., S', N], on the same N tasks in the same order; raises ConfigError otherwise.
    """
    if x.shape[-1] != y.shape[-1]:
        raise ConfigError(
            f"probability of improvement needs the same tasks on both sides, got {x.shape[-1]} and {y.shape[-1]}; "
            f"evaluate both with one protocol"
        )
    a, b = x[..., :, None, :], y[..., None, :, :]
    wins = (a > b).astype(np.float64) + 0.5 * (a == b)
    return np.asarray(wins.mean(axis=(-3, -2, -1)))


def performance_profile(scores: Array, thresholds: Array) -> Array:
    """Return the share of all S * N scores strictly above each of `thresholds` [K]: [..., K]."""
    above = scores[..., None] > thresholds
    return np.asarray(above.mean(axis=(-3, -2)))


def student(
    scores: Array,
    statistic: Literal["mean", "iqm"] = "mean",
    *,
    over: Literal["seeds", "tasks"] = "seeds",
    strata: Sequence[str] | None = None,
    weights: Array | None = None,
    level: float = LEVEL,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Return the mean (with `weights` [N], see `mean`) or the IQM of `scores` [..., S, N] with Student's t interval.

    "seeds": seeds are independent draws and the tasks are taken as given, so each task's spread over its seeds counts.
    "tasks": tasks are independent draws, within each of `strata` (one label per task; one stratum, if None), each with
    its mean over seeds. Variances of strata add up, with Satterthwaite's degrees of freedom. The IQM's error is that of
    the mean of its winsorised scores (Tukey and McLaughlin 1963). `bounds` are what the statistic cannot leave.

    low and high are NaN where nothing can be said: a stratum of one score, or scores that are all alike.

    Raises: ConfigError for a size or level out of range; NumericalError for NaN or Inf.
    """
    s, n = _checked(scores, level)
    value, count, cut = mean(scores, weights), s * n, 0
    if statistic == "iqm":
        value, cut, weights = iqm(scores), int(0.25 * count), None
    linear = _winsorised(scores, cut) * (count / (count - 2 * cut))
    share = np.full(n, 1.0 / n) if weights is None else weights
    if over == "seeds":
        parts, freedom = _over_seeds(linear * share), np.full(n, s - 1.0)
    else:
        parts, freedom = _over_tasks(linear.mean(axis=-2), share, strata if strata is not None else [""] * n)
    if len(freedom) == 1:  # one sample: what was winsorised tells nothing of its own
        freedom = np.maximum(freedom - 2 * cut, np.minimum(freedom, 1.0))
    error = np.sqrt(parts.sum(axis=-1))
    alike = error <= 1e-12 * np.abs(scores).max(axis=(-2, -1))
    if freedom.min() < 1.0:
        alike = np.ones_like(alike)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.where(alike, 1.0, error**4 / (parts**2 / freedom).sum(axis=-1))
    half = np.where(alike, np.nan, t_quantile(total, level) * error)
    low, high = np.clip(value - half, *bounds), np.clip(value + half, *bounds)
    return Interval(value, np.minimum(low, value), np.maximum(high, value))


def median_interval(values: Array, level: float = LEVEL) -> Interval:
    """Return the median of independent values [R] and the interval between two of them that covers it.

    Whatever the distribution, the k-th lowest and highest of R leave the true median out with the binomial chance of
    fewer than k heads, or tails, in R tosses (Conover 1999, section 3.2); k is the largest that keeps `level`. low and
    high are NaN if even the extremes cannot, as for fewer than 6 values at 95 %.
    """
    ordered = np.sort(values)
    n, tail, k = len(ordered), 0.0, 0
    for i in range(n // 2):
        tail += math.comb(n, i) / 2.0**n
        if 2.0 * tail > 1.0 - level:
            break
        k = i + 1
    low, high = (ordered[k - 1], ordered[n - k]) if k else (np.nan, np.nan)
    return Interval(*map(np.asarray, (np.median(ordered), low, high)))


def over_runs(scores: Array, *, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    """Return the mean of one score per training run [..., R], and Student's t interval over the runs.

    A run's tasks and evaluation seeds share one trained agent, so the run is what was drawn, its score one number.
    """
    return student(scores[..., None], bounds=bounds)


def rates_over_runs(rates: Array, *, bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """Return the mean of one rate per training run [..., R], and its interval over the runs, which keeps to `bounds`.

    On each side the wider of Student's interval and Wilson's (1927), which has Student's quantile, too, and as many
    tosses as would scatter the mean as the runs do, at least R: the mean of R independent numbers in [0, 1] scatters at
    most like that of R tosses. Away from the bounds both are one; near a bound Student's is too short towards the
    middle, where skewed rates have their mean, and Wilson's never reaches the bound.

    low and high are NaN for one run, and for runs that are all alike.
    """
    n = rates.shape[-1]
    value = rates.mean(axis=-1)
    if n < 2:
        return Interval(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    unit = (value - bounds[0]) / (bounds[1] - bounds[0])
    variance = rates.var(axis=-1, ddof=1) / n / (bounds[1] - bounds[0]) ** 2
    alike = np.sqrt(variance) <= 1e-12
    tosses = np.maximum(unit * (1.0 - unit) / np.where(alike, 1.0, variance), float(n))
    quantile = t_quantile(n - 1.0)
    low, high = _wilson(unit, tosses, quantile)
    low, high = (
        np.minimum(low, unit - quantile * np.sqrt(variance)),
        np.maximum(high, unit + quantile * np.sqrt(variance)),
    )
    low, high = (np.where(alike, np.nan, np.clip(end, 0.0, 1.0)) for end in (low, high))
    low, high = (bounds[0] + end * (bounds[1] - bounds[0]) for end in (low, high))
    return Interval(value, np.minimum(low, value), np.maximum(high, value))


def improvement_over_runs(x: Array, y: Array, level: float = LEVEL) -> Interval:
    """Return `probability_of_improvement` of x [..., R, N] over y [..., R', N], and its interval over the runs.

    Wilson's interval for min(R, R') tosses: whatever the scores, and however much the tasks of a run have in common,
    this statistic scatters at most like the share of heads in so many (van Dantzig 1951). It is wide where tasks are
    independent of each other, and there even if every run of x beats every run of y. NaN where a side has one run.
    """
    value = probability_of_improvement(x, y)
    n = min(x.shape[-2], y.shape[-2])
    if n < 2:
        return Interval(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    return Interval(value, *_wilson(value, np.full_like(value, float(n)), t_quantile(1000.0, level)))


def _wilson(share: Array, tosses: Array, quantile: Array) -> tuple[Array, Array]:
    """Return the ends of Wilson's interval for a `share` of heads."""
    extra = quantile**2 / tosses
    centre, shrink = share + 0.5 * extra, 1.0 / (1.0 + extra)
    half = np.sqrt(np.maximum(0.0, share * (1.0 - share) * extra) + 0.25 * extra**2)
    return np.maximum(0.0, (centre - half) * shrink), np.minimum(1.0, (centre + half) * shrink)


def _checked(scores: Array, level: float) -> tuple[int, int]:
    """Return S and N. Raises: ConfigError for a size out of range; NumericalError for NaN or Inf."""
    s, n = scores.shape[-2:]
    if s < 1 or n < 1 or not 0.0 < level < 1.0:
        raise ConfigError(
            f"an interval needs scores [..., S, N] with S, N >= 1 and level in (0, 1); got S={s}, N={n}, level={level}"
        )
    if not np.isfinite(scores).all():
        raise NumericalError("an interval was asked for scores that are not finite; drop or repair them first")
    return s, n


def _winsorised(scores: Array, cut: int) -> Array:
    """Return `scores` [..., S, N] with the `cut` lowest and highest of all S * N moved to the nearest one kept."""
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    low, high = (flat[..., i, None, None] for i in (cut, flat.shape[-1] - cut - 1))
    return np.asarray(np.clip(scores, low, high))


def _over_seeds(parts: Array) -> Array:
    """Return the variance of each task's mean over seeds [..., N], from its parts of the statistic [..., S, N]."""
    s = parts.shape[-2]
    return np.asarray(parts.var(axis=-2, ddof=1) / s if s > 1 else np.zeros_like(parts[..., 0, :]))


def _over_tasks(scores: Array, weights: Array, strata: Sequence[str]) -> tuple[Array, Array]:
    """Return each stratum's variance [..., H] of the weighted mean of `scores` [..., N], and its degrees of freedom."""
    labels, parts, freedom = np.asarray(strata), [], []
    for label in dict.fromkeys(strata):
        members = labels == label
        x, w, n = scores[..., members], weights[members], int(members.sum())
        centre = (x * w).sum(axis=-1, keepdims=True) / w.sum()
        parts.append(n / max(1, n - 1) * ((w * (x - centre)) ** 2).sum(axis=-1))
        freedom.append(n - 1.0)
    return np.stack(parts, axis=-1), np.array(freedom)


def t_quantile(freedom: Array | float, level: float = LEVEL) -> Array:
    """Return t with P(|T| < t) = `level` for Student's distribution with `freedom` >= 1 degrees [...], to about 1e-5.

    More than 1000 degrees count as 1000, which is 0.1 % too wide.
    """
    inverse = 1.0 / np.clip(np.asarray(freedom, dtype=np.float64), 1.0, 1000.0)
    return np.exp(np.interp(inverse, *_t_table(level)))


@functools.cache
def _t_table(level: float) -> tuple[Array, Array]:
    """Return 1 / freedom and log t, on a grid.

    With t = sqrt(freedom) tan(a) the probability is the integral of cos^(freedom - 1) up to a, over the one up to pi/2.
    """
    n, inverse = 6000, np.linspace(0.001, 1.0, 334)
    edges = np.arange(n + 1) * (0.5 * np.pi / n)
    cosines = np.log(np.cos(edges[:-1] + 0.25 * np.pi / n))
    angles = []
    for freedom in 1.0 / inverse:
        mass = np.concatenate([[0.0], np.cumsum(np.exp((freedom - 1.0) * cosines))])
        angles.append(np.interp(level * mass[-1], mass, edges))
    return inverse, np.log(np.tan(angles)) - 0.5 * np.log(inverse)
