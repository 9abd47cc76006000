"""Meta-World's meta-learning benchmarks as task distributions, stepped by upstream's own environments.

Tasks come from `metaworld.ML1(...).train_tasks` and its relatives, never from the registered `Meta-World/ML1-train`
environment, which hands out the test goals. The goal is hidden: the last three of the 39 observation entries are zero.
Physics, observation and reward are upstream's, in float64; they become float32 at the boundary.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import torch

from envs.gym_world import GymWorld
from metarl.errors import ConfigError, nearest
from metarl.tasks import Tasks, check_split

from .options import EpisodeRules
from .tasks import (
    MAX_STEPS,
    SUPPORTED_VERSION,
    Splits,
    benchmark_splits,
    check_classes,
    class_rows,
)
from .upstream import upstream_world

N_GOALS = 50
"""Goals per class and benchmark split, upstream's constant."""


class MetaWorldTasks:
    """Task distribution over classes and goals of Meta-World; build it with `make_ml1` and its relatives."""

    exhaustive = False
    splits = ("train", "validation", "test")
    visible_parameters = ("class_index", "goal_size", "goal[0]", "goal[1]", "goal[2]")
    """What upstream lets an agent see: the kind of object and where it stands. In classes whose goal vector has six
    entries, the last three are the goal proper, which no observation shows."""

    def __init__(
        self, name: str, parts: Splits, settings: dict[str, Any], *, n_workers: int, rules: EpisodeRules
    ) -> None:
        self.name, self.parts, self.settings = name, parts, settings
        self.notes: tuple[str, ...] = parts.notes
        """What a reader of results must know; evaluation prints and stores it."""
        self.n_workers, self.rules, self.reward_version = n_workers, rules, str(settings["reward_version"])

    @property
    def horizon(self) -> int:
        """Env steps of upstream per episode at most; a world's own `horizon` counts decisions."""
        return self.rules.horizon

    def all(self, split: str) -> Tasks:
        """Return every task of a split, class by class."""
        check_split(self.name, split, self.splits)
        return getattr(self.parts, split)  # type: ignore[no-any-return]

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` tasks, evenly over classes, in the fixed order of the classes.

        If n is a multiple of the number of classes, each gets equally many, so that copies keep their environments.
        Otherwise a random choice of classes gets one more. Goals repeat only if a class has fewer than asked for.
        """
        if n < 1:
            raise ConfigError(f"{self.name!r}: sample needs n >= 1, got {n}")
        tasks = self.all(split)
        rows = list(class_rows(tasks).values())
        extra = set(torch.randperm(len(rows), generator=generator)[: n % len(rows)].tolist())
        chosen: list[int] = []
        for i, goals in enumerate(rows):
            wanted = n // len(rows) + (i in extra)
            while wanted > 0:
                order = torch.randperm(len(goals), generator=generator)[:wanted].tolist()
                chosen += [goals[j] for j in order]
                wanted -= len(order)
        return tasks[chosen]

    def fingerprint(self) -> str:
        """Return a digest of tasks, splits, reward, rules of an episode and Meta-World's version."""
        parts = [self.name, SUPPORTED_VERSION, self.reward_version, *self.rules.identity()]
        parts += [self.all(split).fingerprint() for split in self.splits]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]

    def make_world(self, n_copies: int, *, device: torch.device | str = "cpu") -> GymWorld:
        """Build a world of `n_copies` that can run any task of the family."""
        return upstream_world(
            self.name,
            n_copies,
            rules=self.rules,
            reward_version=self.reward_version,
            n_workers=self.n_workers,
            device=device,
        )

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return nothing: no policy's expected return is known in closed form."""
        check_split(self.name, split, self.splits)
        return {}


def make_ml1(task: str = "reach-v3", **options: Any) -> MetaWorldTasks:
    """Return one task class: 50 goals to train and validate on, 50 others to test on.

    Options (of all `make_...` here): `seed` of upstream's goals; `n_workers` processes (default: one per usable CPU;
    0: none); `reward_version` "v2" or "v1"; `validation_goals` per train class; `horizon`, env steps, at most 500;
    `action_repeat`, env steps that each action lasts; `terminate_on_success`, see `options` for what both mean;
    `backend`, only "upstream".

    Raises: ConfigError for an unknown class or a bad option.
    """
    check_classes([task], "metaworld/ML1")
    return _make("metaworld/ML1", "ML1", (task,), (task,), **options)


def make_ml10(**options: Any) -> MetaWorldTasks:
    """Return ML10: 10 classes to train on, 5 others to test on, 50 goals each; options as in `make_ml1`."""
    return _make("metaworld/ML10", "ML10", **options)


def make_ml25(**options: Any) -> MetaWorldTasks:
    """Return ML25: 25 train classes and the 4 upstream test classes that are not among them; see `notes`."""
    return _make("metaworld/ML25", "ML25", **options)


def make_ml45(**options: Any) -> MetaWorldTasks:
    """Return ML45: 45 classes to train on, 5 others to test on, 50 goals each; options as in `make_ml1`."""
    return _make("metaworld/ML45", "ML45", **options)


def make_custom(train: Sequence[str], test: Sequence[str], **options: Any) -> MetaWorldTasks:
    """Return classes of your choice; options as in `make_ml1`. Raises ConfigError if train and test overlap."""
    check_classes(train, "metaworld/custom train")
    check_classes(test, "metaworld/custom test")
    both = sorted(set(train) & set(test))
    if both:
        raise ConfigError(f"metaworld/custom: {', '.join(both)} in both train and test; held-out classes must be new")
    return _make("metaworld/custom", "custom", tuple(train), tuple(test), **options)


_DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "n_workers": None,
    "reward_version": "v2",
    "validation_goals": 10,
    "horizon": MAX_STEPS,
    "action_repeat": 1,
    "terminate_on_success": False,
    "backend": "upstream",
}
"""The options that all benchmarks share."""

RULES = ("horizon", "action_repeat", "terminate_on_success")
"""Those that say how an episode goes."""


def _make(
    name: str, kind: str, train: tuple[str, ...] = (), test: tuple[str, ...] = (), **options: Any
) -> MetaWorldTasks:
    chosen = _checked(name, options)
    parts = benchmark_splits(kind, train, test, chosen["seed"], chosen["validation_goals"])
    workers, rules = chosen.pop("n_workers"), EpisodeRules(**{key: chosen[key] for key in RULES})
    classes = {"train_classes": list(class_rows(parts.train)), "test_classes": list(class_rows(parts.test))}
    return MetaWorldTasks(name, parts, chosen | classes, n_workers=workers, rules=rules)


def _checked(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the shared options with defaults filled in; raises ConfigError for an unknown one or a bad value."""
    for option in options:
        if option not in _DEFAULTS:
            raise ConfigError(f"world {name!r} has no option {option!r}; {nearest(option, _DEFAULTS)}")
    chosen = _DEFAULTS | options
    if chosen["n_workers"] is None:
        chosen["n_workers"] = len(os.sched_getaffinity(0))
    if chosen["backend"] != "upstream":
        raise ConfigError(f"{name}: unknown backend {chosen['backend']!r}; the only one is 'upstream'")
    if chosen["reward_version"] not in ("v1", "v2"):
        raise ConfigError(f"{name}: reward_version must be 'v1' or 'v2', got {chosen['reward_version']!r}")
    ranges = {"validation_goals": (1, N_GOALS - 1), "n_workers": (0, 1024), "horizon": (1, MAX_STEPS)}
    ranges["action_repeat"] = (1, MAX_STEPS)
    ranges["seed"] = (0, 2**32 - 2)  # NumPy's range, and upstream adds 1
    for option, (low, high) in ranges.items():
        value = chosen[option]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"{name}: {option} must be a whole number from {low} to {high}, got {value!r}")
    EpisodeRules(**{key: chosen[key] for key in RULES})  # what only holds of them together
    return chosen
