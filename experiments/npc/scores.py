"""Scores of NPC worlds: how much of the way from the best policy that does not adapt to one that knows all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl import statistics
from metarl.commandline import command
from metarl.errors import ConfigError
from metarl.results import Evaluation, plain

FLOOR, FORGETFUL, CEILING = "non_adaptive", "forgetful", "oracle"
ABOUT = (
    "95 % intervals (Student's t) over tasks, each with its mean over evaluation seeds; the references are taken as "
    "exact, other training seeds are not covered"
)

Array = NDArray[np.float64]


def _reference(evaluation: Evaluation, name: str) -> Array:
    if name not in evaluation.references:
        measure = command("worlds", "show", "NAME", "--measure", "N", "--write")
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


def normalised(evaluation: Evaluation, ceiling: str = CEILING) -> dict[str, Any]:
    """Return the normalised scores A_k = (R_k - floor_k) / (ceiling_k - floor_k) of every episode, with intervals.

    "curve", "low" and "high" are per episode; "area" is the mean over episodes; "exploration_price" is what the first
    episode cost against not adapting; "beyond_forgetful" is R_K minus the forgetful policy's, with its interval. See
    `ABOUT` for what the intervals are; their ends are None where there is none.
    """
    returns = returns_of(evaluation)
    floor, top = _reference(evaluation, FLOOR), _reference(evaluation, ceiling)
    mean, *ends = statistics.student(returns.T[:, None], over="tasks")
    curve, low, high = ((x - floor) / (top - floor) for x in (mean, *ends))
    found: dict[str, Any] = {
        "ceiling": ceiling,
        "intervals": ABOUT,
        "curve": curve.tolist(),
        "low": plain(low),
        "high": plain(high),
        "area": float(curve.mean()),
        "exploration_price": float(floor[0] - mean[0]),
    }
    if FORGETFUL in evaluation.references:
        forgetful = _reference(evaluation, FORGETFUL)
        last = {k: x[-1] - forgetful[-1] for k, x in zip(("value", "low", "high"), (mean, *ends), strict=True)}
        found["beyond_forgetful"] = plain(last)
    return found


def last_share(ceiling: str = CEILING) -> Any:
    """Return a measure: A_K, the share of the gap that the last episode closes."""
    return lambda evaluation: float(normalised(evaluation, ceiling)["curve"][-1])


def beyond_forgetful(evaluation: Evaluation) -> float:
    """Return the lower end of the 95 % interval of the last episode's return minus the forgetful policy's."""
    _reference(evaluation, FORGETFUL)
    low = normalised(evaluation)["beyond_forgetful"]["low"]
    return float("nan") if low is None else float(low)
