"""What a reproduction is: a preset, its evaluation, and the levels to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl import statistics
from metarl.errors import ConfigError
from metarl.results import Evaluation

Array = NDArray[np.float64]
Measure = Callable[[Evaluation], float]


@dataclass(frozen=True)
class Level:
    """A number the reproduction must reach."""

    name: str
    measure: Measure
    at_least: float
    source: str
    """Where the level comes from, or what it compares with."""

    def judge(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return what was measured, and whether that reaches the level."""
        value, least = self.measure(evaluation), self.at_least
        return {
            "name": self.name, "value": value, "at_least": least, "reached": value >= least, "source": self.source
        }  # fmt: skip


@dataclass(frozen=True)
class Reproduction:
    """One experiment: which preset, how it is evaluated, what it must reach."""

    preset: str
    about: str
    levels: tuple[Level, ...]
    train: tuple[str, ...] = ()
    """Extra arguments of `train`."""
    evaluate: tuple[str, ...] = ()
    """Extra arguments of `evaluate`."""
    scores: Callable[[Evaluation], dict[str, Any]] | None = None
    """Further numbers for the result, JSON-able."""
    studies: tuple[str, ...] = ()
    """Of the group `study`, called with the run directory after `evaluate`; each one's JSON becomes a result too."""


def episode_mean(start: int, stop: int) -> Measure:
    """Return a measure: the mean return of episodes `start` .. `stop` - 1 of a trial."""
    return lambda evaluation: float(evaluation.trials.returns[..., start:stop].mean())


def worst_episode(start: int, stop: int) -> Measure:
    """Return a measure: the lowest of the mean returns of episodes `start` .. `stop` - 1."""
    return lambda evaluation: float(evaluation.trials.returns[..., start:stop].mean((0, 1)).min())


def trial_total(evaluation: Evaluation) -> float:
    """Return the mean return of a whole trial, all its episodes summed."""
    return float(evaluation.trials.returns.sum(-1).mean())


def phase_mean(phase: int) -> Measure:
    """Return a measure: the mean return of the episodes after `phase` adaptation steps."""

    def measure(evaluation: Evaluation) -> float:
        start = sum(evaluation.phases[:phase])
        return float(evaluation.trials.returns[..., start : start + evaluation.phases[phase]].mean())

    return measure


def phase_lead(phase: int) -> Callable[[Evaluation], Array]:
    """Return a function: what each task earns more after `phase` adaptation steps than before any, [N]."""

    def lead(evaluation: Evaluation) -> Array:
        bounds = np.cumsum([0, *evaluation.phases])
        parts = [evaluation.trials.returns[..., bounds[i] : bounds[i + 1]].mean((0, -1)) for i in (0, phase)]
        return np.asarray(parts[1] - parts[0])

    return lead


def phase_lead_low(phase: int) -> Measure:
    """Return a measure: the low end of the 95 % interval (Student's t over tasks) of the mean of `phase_lead`."""
    return lambda evaluation: float(statistics.student(phase_lead(phase)(evaluation)[None], over="tasks").low)


def query_success(evaluation: Evaluation) -> float:
    """Return the share of scored episodes with success at any step."""
    success = evaluation.trials.success_any
    if success is None:
        raise ConfigError(f"world {evaluation.world['name']!r} knows no success; choose another measure")
    return float(success[..., evaluation.query].mean())
