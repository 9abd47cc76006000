"""Meta-World's meta-learning benchmarks as task distributions, stepped by the engine or by upstream's environments.

Tasks come from `metaworld.ML1(...).train_tasks` and its relatives, never from the registered `Meta-World/ML1-train`
environment, which hands out the test goals. The goal is hidden: the last three of the 39 observation entries are zero.
Physics, observation and reward are upstream's to the bit, in float64; they become float32 at the boundary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from metarl.errors import ConfigError, nearest
from metarl.spec import WorldSpec
from metarl.tasks import Tasks, check_split
from metarl.world import World

from .backends import Backend
from .options import EpisodeRules
from .tasks import MAX_STEPS, Splits, benchmark_splits, check_classes, class_rows
from .upstream import world_spec
from .versions import accept_installed, check_installed, installed_version, mismatch_notes

N_GOALS = 50
"""Goals per class and benchmark split, upstream's constant."""


class MetaWorldTasks:
    """Task distribution over classes and goals of Meta-World; build it with `make_ml1` and its relatives."""

    exhaustive = False
    upstream_counting = True
    """Published scores count successes as `metarl.upstream_counting` does; evaluation gives that figure as well."""
    splits = ("train", "validation", "test")
    visible_parameters = ("class_index", "goal_size", "goal[0]", "goal[1]", "goal[2]")
    """What upstream lets an agent see: the kind of object and where it stands. In classes whose goal vector has six
    entries, the last three are the goal proper, which no observation shows."""

    def __init__(
        self, name: str, parts: Splits, settings: dict[str, Any], *, backend: Backend, rules: EpisodeRules
    ) -> None:
        self.name, self.parts, self.settings = name, parts, settings
        self.notes: tuple[str, ...] = (*parts.notes, *mismatch_notes())
        """What a reader of results must know; evaluation prints and stores it."""
        self.backend, self.rules, self.reward_version = backend, rules, str(settings["reward_version"])

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

        If n is a multiple of the number of classes, each gets equally many, so that envs keep their environments.
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
        """Return a digest of tasks, splits, reward, rules of an episode and Meta-World's version.

        Backend, core, threads and processes are no part of it: they do not change a single bit of what agents see.
        """
        parts = [self.name, installed_version("metaworld"), self.reward_version, *self.rules.identity()]
        parts += [self.all(split).fingerprint() for split in self.splits]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return world_spec(self.name, self.rules)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> World:
        """Build a world of `num_envs` that can run any task of the family."""
        world = self.backend.make_world(self.name, num_envs, self.rules, self.reward_version, device)
        core = getattr(world, "core", None)
        if core is not None:
            self.settings["core"] = core.kind  # for results: what "auto" came to
        return world

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return nothing: no policy's expected return is known in closed form."""
        check_split(self.name, split, self.splits)
        return {}


def make_ml1(task: str = "reach-v3", **options: Any) -> MetaWorldTasks:
    """Return one task class: 50 goals to train and validate on, 50 others to test on.

    Options (of all `make_...` here): `seed` of upstream's goals; `reward_version` "v2" or "v1"; `validation_goals` per
    train class; `horizon`, env steps, at most 500; `action_repeat`, env steps that each action lasts;
    `terminate_on_success` (`envs/metaworld/options.py` says what these two mean).

    How it is computed, with equal results: `backend` "engine" or "upstream"; for the engine `core` "auto", "compiled"
    or "python" and `n_threads` (default: one per usable CPU); for upstream `n_workers` processes (default: one per
    usable CPU; 0: none), which the engine ignores. `allow_version_mismatch=True` accepts other releases of Meta-World
    and MuJoCo than those that were checked.

    Raises: ConfigError for an unknown class or a bad option.
    """
    _check_versions(options)
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
    _check_versions(options)
    check_classes(train, "metaworld/custom train")
    check_classes(test, "metaworld/custom test")
    both = sorted(set(train) & set(test))
    if both:
        raise ConfigError(f"metaworld/custom: {', '.join(both)} in both train and test; held-out classes must be new")
    return _make("metaworld/custom", "custom", tuple(train), tuple(test), **options)


_DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "reward_version": "v2",
    "validation_goals": 10,
    "horizon": MAX_STEPS,
    "action_repeat": 1,
    "terminate_on_success": False,
    "backend": "engine",
    "core": "auto",
    "n_threads": None,
    "n_workers": None,
    "allow_version_mismatch": False,
}
"""The options that all benchmarks share."""

RULES = ("horizon", "action_repeat", "terminate_on_success")
"""Those that say how an episode goes."""

HOW = ("backend", "core", "n_threads", "n_workers")
"""Those that say how it is computed."""

_UNRECORDED = ("n_threads", "n_workers", "allow_version_mismatch")
"""Those that are no part of the settings in results: they fit a machine, or a note says what they led to."""


def _make(
    name: str, kind: str, train: tuple[str, ...] = (), test: tuple[str, ...] = (), **options: Any
) -> MetaWorldTasks:
    chosen = _checked(name, options)
    rules, backend = EpisodeRules(**{k: chosen[k] for k in RULES}), Backend(**{k: chosen[k] for k in HOW})
    parts = benchmark_splits(kind, train, test, chosen["seed"], chosen["validation_goals"])
    settings = {key: value for key, value in chosen.items() if key not in _UNRECORDED}
    classes = {"train_classes": list(class_rows(parts.train)), "test_classes": list(class_rows(parts.test))}
    return MetaWorldTasks(name, parts, settings | classes, backend=backend, rules=rules)


def _checked(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the shared options with defaults filled in; raises ConfigError for an unknown one or a bad value."""
    for option in options:
        if option not in _DEFAULTS:
            raise ConfigError(f"world {name!r} has no option {option!r}; {nearest(option, _DEFAULTS)}")
    _check_versions(options)
    chosen = _DEFAULTS | options
    if chosen["reward_version"] not in ("v1", "v2"):
        raise ConfigError(f"{name}: reward_version must be 'v1' or 'v2', got {chosen['reward_version']!r}")
    ranges = {"validation_goals": (1, N_GOALS - 1), "horizon": (1, MAX_STEPS), "action_repeat": (1, MAX_STEPS)}
    ranges["seed"] = (0, 2**32 - 2)  # NumPy's range, and upstream adds 1
    for option, (low, high) in ranges.items():
        value = chosen[option]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"{name}: {option} must be a whole number from {low} to {high}, got {value!r}")
    return chosen


def _check_versions(options: dict[str, Any]) -> None:
    """Raise ConfigError for releases that were not checked, unless the user accepts them."""
    allowed = options.get("allow_version_mismatch", False)
    if not isinstance(allowed, bool):
        raise ConfigError(f"metaworld: allow_version_mismatch is True or False, got {allowed!r}")
    if allowed:
        accept_installed()
    check_installed()
