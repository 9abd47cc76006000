"""Task distributions: what training and evaluation ask of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, Protocol, cast, runtime_checkable

import torch

from .errors import ConfigError
from .kinds import kind_of
from .spec import WorldSpec
from .tasks import Tasks
from .world import World


@runtime_checkable
class TaskDistribution(Protocol):
    """A distribution of tasks with splits, and the world that runs them.

    `train`, `validation` and `test` are always among the splits. They share no task unless `exhaustive` is True: then
    the family is so small that each split is all of it (the 21 goals of the gridworld) and what is held out is the
    randomness, not the task. Evaluation writes that into its results.
    """

    name: str
    exhaustive: bool
    """What it may also have, and what holds where it does not: `spec`, see `spec_of`, and attributes of the names that
    `About` lists."""

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
        """Return a digest of everything that defines the distribution and its splits."""
        ...

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> World:
        """Build a world of `num_envs` that can run any of its tasks."""
        ...

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return known policies' expected return per episode index, by name: "random", "oracle", "bayes_optimal".

        Empty for a family where none is known. Units: undiscounted return per episode.
        """
        ...


@dataclass(frozen=True)
class About:
    """What a task distribution may say of itself in attributes of these names; one that does not has these values."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """What defines it besides its name, as JSON-able values; stored with every evaluation."""
    notes: tuple[str, ...] = ()
    """What a reader of results must know; printed when training begins and stored with every evaluation."""
    upstream_counting: bool = False
    """True if published scores count successes as `metarl.upstream_counting` does; evaluation then gives both."""
    visible_parameters: tuple[str, ...] = ()
    """Entries of its tasks that observations show, by design."""
    n_episodes: int | None = None
    """Episodes that a trial is meant to have, where the distribution fixes them."""


def about(tasks: TaskDistribution) -> About:
    """Return what `tasks` says of itself; not examined, that is `doctor`'s part."""
    said = {f.name: getattr(tasks, f.name) for f in fields(About) if hasattr(tasks, f.name)}
    if callable(said.get("settings")):
        said["settings"] = said["settings"]()
    return About(**said)


def spec_of(tasks: TaskDistribution) -> WorldSpec:
    """Return what the worlds of `tasks` are: its `spec`, or that of a world built to ask, where it has none."""
    return said_spec(tasks) or built_spec(tasks)


def said_spec(tasks: TaskDistribution) -> WorldSpec | None:
    """Return the `spec` of `tasks`, an attribute or a property; None where it has none, or a `spec` of another kind."""
    spec = getattr(tasks, "spec", None)
    return spec if isinstance(spec, WorldSpec) else None


def built_spec(tasks: Any) -> WorldSpec:
    """Return the spec of a world of one environment, which is closed again."""
    world = tasks.make_world(1)
    try:
        spec: WorldSpec = world.spec
        return spec
    finally:
        world.close()


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
