"""What a reproduction is: a preset, its evaluation, and the levels to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metarl.errors import ConfigError
from metarl.results import Evaluation

Measure = Callable[[Evaluation], float]


@dataclass(frozen=True)
class Level:
    """A number the reproduction must reach."""

    name: str
    measure: Measure
    at_least: float
    source: str
    """Where the level comes from, or what it compares with."""


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


def query_success(evaluation: Evaluation) -> float:
    """Return the share of scored episodes with success at any step."""
    success = evaluation.trials.success_any
    if success is None:
        raise ConfigError(f"world {evaluation.world['name']!r} knows no success; choose another measure")
    return float(success[..., evaluation.query].mean())
