"""Distributions of tasks: what a family of tasks is to training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Protocol, cast, runtime_checkable

import torch

from .errors import ConfigError
from .kinds import kind_of
from .tasks import Tasks
from .world import World


@runtime_checkable
class TaskDistribution(Protocol):
    """A family of tasks with splits, and the world that runs them.

    `train`, `validation` and `test` are always among the splits. They share no task unless `exhaustive` is True: then
    the family is so small that each split is all of it (the 21 goals of the gridworld) and what is held out is the
    randomness, not the task. Evaluation writes that into its results.
    """

    name: str
    exhaustive: bool

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        ...

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` tasks of `split`; the result depends on `generator` alone."""
        ...

    def all(self, split: str) -> Tasks | None:
        """Return every task of a finite split in a fixed order, or None if the split is infinite."""
        ...

    def fingerprint(self) -> str:
        """Return a digest of everything that defines the family and its splits."""
        ...

    def make_world(self, n_copies: int, *, device: torch.device | str = "cpu") -> World:
        """Build a world of `n_copies` that can run any task of the family."""
        ...

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return known policies' expected return per episode index, by name: "random", "oracle", "bayes_optimal".

        Empty for a family where none is known. Units: undiscounted return per episode.
        """
        ...


_MEMBERS = ("name", "exhaustive", "splits", "sample", "all", "fingerprint", "make_world", "references")


def lacks(candidate: object) -> list[str]:
    """Return the members of a TaskDistribution that `candidate` does not have; a class has none of an instance's."""
    return [m for m in _MEMBERS if isinstance(candidate, type) or not _has(candidate, m)]


def _has(candidate: object, member: str) -> bool:
    """Return whether `candidate` has `member`, be it one that raises when it is looked at."""
    try:
        return hasattr(candidate, member)
    except Exception:  # of whoever wrote it; the checks then say what it raises
        return True


def check_distribution(candidate: object) -> TaskDistribution:
    """Return `candidate`; raises ConfigError naming what it lacks to be a task distribution."""
    missing = lacks(candidate)
    if missing:
        raise ConfigError(
            f"{type(candidate).__name__} is no task distribution: it lacks {', '.join(missing)}; see "
            f"metarl.task_distribution.TaskDistribution"
        )
    return cast(TaskDistribution, candidate)


def checked_references(tasks: TaskDistribution, split: str, n_episodes: int) -> dict[str, list[float]]:
    """Return the references of `tasks`; raises ConfigError unless each is `n_episodes` numbers."""
    references = tasks.references(split, n_episodes)
    if not isinstance(references, Mapping):
        raise ConfigError(f"references() gave {kind_of(references)}; return a dict, empty if nothing is known")
    for name, values in references.items():
        numbers = isinstance(values, Sequence) and all(isinstance(value, Real) for value in values)
        if not isinstance(name, str) or not numbers or len(values) != n_episodes:
            raise ConfigError(f"reference {name!r} is {values}; give {n_episodes} finite returns, one per episode")
    return {name: [float(value) for value in values] for name, values in references.items()}


def check_split(name: str, split: str, splits: Sequence[str]) -> None:
    """Raise ConfigError if `split` is not one of `splits` of the distribution `name`."""
    if split not in splits:
        raise ConfigError(f"{name!r} has no split {split!r}; choose one of {', '.join(splits)}")
