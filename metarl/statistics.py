"""Statistics of scores over seeds and tasks, with the definitions of rliable (Agarwal et al. 2021, arXiv:2108.13264).

Scores are float64 arrays [..., S, N]: S seeds (or runs), N tasks; leading axes are free. Everything random takes a
generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, NumericalError

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""Maps scores [..., S, N] to [...]."""

_CHUNK = 4_000_000
"""Numbers that one chunk of resamples may hold; bounds memory at about 32 MB per temporary."""


class Interval(NamedTuple):
    """A statistic of scores and its confidence interval, each [...]."""

    value: Array
    low: Array
    high: Array


def mean(scores: Array, weights: Array | None = None) -> Array:
    """Return the mean over seeds, then over tasks with `weights` [N] that sum to 1 (equal ones, if None)."""
    per_task = scores.mean(axis=-2)
    return np.asarray(per_task.mean(axis=-1) if weights is None else per_task @ weights)


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


def stratified_bootstrap(
    scores: Array,
    statistic: Statistic,
    generator: np.random.Generator,
    *,
    resample: Literal["seeds", "tasks"] = "seeds",
    strata: Sequence[str] | None = None,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return `statistic` of `scores` [..., S, N] with its percentile bootstrap interval.

    "seeds": each task draws its S seeds anew with replacement, independently of the other tasks (rliable's stratified
    bootstrap; the tasks are taken as given). "tasks": whole tasks are drawn with replacement within each of `strata`
    (one label per task; one stratum, if None), for when there is a single seed. Leading axes share the drawn indices,
    so that a curve's points stay comparable.

    Raises: ConfigError if there is nothing to resample or a size is out of range; NumericalError for NaN or Inf.
    """
    s, n = scores.shape[-2:]
    if s < 1 or n < 1 or n_resamples < 1 or not 0.0 < level < 1.0:
        raise ConfigError(
            f"bootstrap needs scores [..., S, N] with S, N >= 1, n_resamples >= 1 and level in (0, 1); "
            f"got S={s}, N={n}, n_resamples={n_resamples}, level={level}"
        )
    if not np.isfinite(scores).all():
        raise NumericalError("bootstrap got scores that are not finite; drop or repair them first")
    rows = max(1, _CHUNK // max(1, scores.size))
    parts: list[Array] = []
    for start in range(0, n_resamples, rows):
        count = min(rows, n_resamples - start)
        if resample == "seeds":
            drawn = scores[..., generator.integers(0, s, (count, s, n)), np.arange(n)]
        else:
            columns = _draw_within(strata if strata is not None else [""] * n, count, generator)
            drawn = np.moveaxis(scores[..., columns], -3, -2)
        parts.append(statistic(drawn))
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(np.concatenate(parts, axis=-1), (tail, 100.0 - tail), axis=-1)
    return Interval(statistic(scores), low, high)


def _draw_within(strata: Sequence[str], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw each stratum's columns with replacement from that stratum: [count, N]."""
    labels = np.asarray(strata)
    out = np.empty((count, len(labels)), dtype=np.int64)
    for label in dict.fromkeys(strata):
        (members,) = np.nonzero(labels == label)
        out[:, members] = members[generator.integers(0, len(members), (count, len(members)))]
    return out
