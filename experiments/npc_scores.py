"""Scores of NPC worlds: how much of the way from the best policy that does not adapt to one that knows all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.commandline import command
from metarl.errors import ConfigError
from metarl.results import Evaluation

FLOOR, FORGETFUL, CEILING = "non_adaptive", "forgetful", "oracle"
_RESAMPLES = 2000
_LEVEL = 0.95

Array = NDArray[np.float64]


def _reference(evaluation: Evaluation, name: str) -> Array:
    if name not in evaluation.references:
        measure = command("worlds", "NAME", "--measure", "N", "--write")
        raise ConfigError(
            f"world {evaluation.world['name']!r} has no reference {name!r} on this split (it has: "
            f"{', '.join(evaluation.references) or 'none'}); `{measure}` measures them"
        )
    found: Array = np.asarray(evaluation.references[name], dtype=float)
    return found


def returns_of(evaluation: Evaluation) -> Array:
    """Return each task's mean return per episode over evaluation seeds: [tasks, episodes]."""
    found: Array = np.asarray(evaluation.trials.returns, dtype=float).mean(0)
    return found


def resampled_means(returns: Array, *, seed: int = 0, n: int = _RESAMPLES) -> Array:
    """Return bootstrap means per episode, tasks being what is drawn again: [n, episodes]."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(returns), np.full(len(returns), 1 / len(returns)), size=n)
    means: Array = counts @ returns / len(returns)
    return means


def normalised(evaluation: Evaluation, ceiling: str = CEILING) -> dict[str, Any]:
    """Return the normalised scores A_k = (R_k - floor_k) / (ceiling_k - floor_k) of every episode, with intervals.

    "curve", "low" and "high" are per episode (95 % percentile bootstrap over tasks); "area" is the mean over episodes;
    "exploration_price" is what the first episode cost against not adapting; "beyond_forgetful" is R_K minus the
    forgetful policy's, with its interval. One training run: the intervals are about visitors, not about training.
    """
    returns = returns_of(evaluation)
    floor, top = _reference(evaluation, FLOOR), _reference(evaluation, ceiling)
    drawn = resampled_means(returns)
    mean = returns.mean(0)
    low, high = (np.quantile((drawn - floor) / (top - floor), q, axis=0) for q in _tails())
    curve = (mean - floor) / (top - floor)
    found: dict[str, Any] = {
        "ceiling": ceiling,
        "curve": curve.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "area": float(curve.mean()),
        "exploration_price": float(floor[0] - mean[0]),
    }
    if FORGETFUL in evaluation.references:
        forgetful = _reference(evaluation, FORGETFUL)
        last = drawn[:, -1] - forgetful[-1]
        least, most = (float(np.quantile(last, q)) for q in _tails())
        found["beyond_forgetful"] = {"value": float(mean[-1] - forgetful[-1]), "low": least, "high": most}
    return found


def _tails() -> tuple[float, float]:
    return (1 - _LEVEL) / 2, (1 + _LEVEL) / 2


def last_share(ceiling: str = CEILING) -> Any:
    """Return a measure: A_K, the share of the gap that the last episode closes."""
    return lambda evaluation: float(normalised(evaluation, ceiling)["curve"][-1])


def beyond_forgetful(evaluation: Evaluation) -> float:
    """Return the lower end of the 95 % interval of the last episode's return minus the forgetful policy's."""
    _reference(evaluation, FORGETFUL)
    return float(normalised(evaluation)["beyond_forgetful"]["low"])
