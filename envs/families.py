"""Task distributions in two shapes: a finite list of tasks, and tasks drawn from a continuous distribution."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from metarl.deprecated import bridge, renamed
from metarl.errors import ConfigError
from metarl.moved import moved
from metarl.seeding import generator as stream
from metarl.spec import WorldSpec
from metarl.task_distribution import built_spec
from metarl.tasks import Tasks, check_split
from metarl.world import World

SPLITS = ("train", "validation", "test")
_SPLIT_SEED = 1337
__getattr__ = moved(__name__, __name__, {"shuffled_cuts": "shuffled_split_indices"})


def check_count(name: str, option: str, value: Any, low: int, high: int) -> int:
    """Return `value`, an option of the family `name`; raises ConfigError unless it is an int in low..high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} option {option} is {value!r}; pass a whole number in {low}..{high}")
    return value


def check_counts(name: str, config: Any, **ranges: tuple[int, int]) -> None:
    """Raise ConfigError unless each field of `config` that `ranges` names is an int in its (lowest, highest)."""
    for option, (low, high) in ranges.items():
        check_count(name, option, getattr(config, option), low, high)


def check_options(name: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise ConfigError for the first, by name, of `options` that the family `name` does not know."""
    known = sorted(known)
    for option in sorted(set(options) - set(known)):
        raise ConfigError(f"{name} has no option {option!r}; it has {', '.join(known)}")


def shuffled_split_indices(name: str, n_tasks: int, n_held_out: int) -> dict[str, list[int]]:
    """Return the indices, in 0..n_tasks - 1, of each split's tasks; `n_held_out` each for validation and test.

    Raises: ConfigError if none would be left to train on.
    """
    if n_held_out < 1 or 2 * n_held_out >= n_tasks:
        raise ConfigError(
            f"{name!r} has {n_tasks} tasks of which {n_held_out} shall be held out twice (validation, test); "
            f"choose 1..{(n_tasks - 1) // 2}"
        )
    order = torch.randperm(n_tasks, generator=stream(_SPLIT_SEED, name, "split")).tolist()
    test, validation, train = order[:n_held_out], order[n_held_out : 2 * n_held_out], order[2 * n_held_out :]
    return {"train": sorted(train), "validation": sorted(validation), "test": sorted(test)}


class Family(ABC):
    """A task distribution of this package: what finite and continuous ones share."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        bridge(cls, {"list_of": "fixed_tasks"})

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self.name = name
        self.settings = dict(settings)
        """What defines the family besides its name, as JSON-able values."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return SPLITS

    def _digest(self, *parts: str) -> str:
        """Return one digest of the name, the settings and `parts`."""
        text = "\x1f".join((self.name, json.dumps(self.settings, sort_keys=True), *parts))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    _spec: WorldSpec | None = None

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are. By default one is built to ask, once; a family that knows says it without."""
        if self._spec is None:
            self._spec = built_spec(self)
        return self._spec

    @abstractmethod
    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> World:
        """Build a world of `num_envs`."""

    @abstractmethod
    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return known policies' expected return per episode index."""


def pick(pool: Tasks, n: int, generator: torch.Generator) -> Tasks:
    """Draw `n` tasks, each as often as any other up to one: whole shuffles of the pool, one after another."""
    rounds = -(-n // len(pool))
    order = [torch.randperm(len(pool), generator=generator, device=generator.device) for _ in range(rounds)]
    return pool[torch.cat(order)[:n].tolist()] if n else pool[:0]


class FiniteFamily(Family):
    """A finite list of tasks, divided into disjoint splits or, if there are very few, the same in each split."""

    @renamed(cuts="split_indices")
    def __init__(
        self, name: str, tasks: Tasks, split_indices: Mapping[str, Sequence[int]] | None, settings: Mapping[str, Any]
    ) -> None:
        """Divide `tasks` by `split_indices` (split -> task numbers); None gives each split all tasks (`exhaustive`)."""
        super().__init__(name, settings)
        self.exhaustive = split_indices is None
        self._splits = {s: tasks if split_indices is None else tasks[split_indices[s]] for s in SPLITS}

    def all(self, split: str) -> Tasks:
        """Return every task of `split`."""
        check_split(self.name, split, SPLITS)
        return self._splits[split]

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` tasks of `split`, each task as often as any other up to one."""
        return pick(self.all(split), n, generator)

    def fingerprint(self) -> str:
        """Return a digest over settings and all splits."""
        return self._digest(*(f"{s}={self._splits[s].fingerprint()}" for s in SPLITS))


class ContinuousFamily(Family):
    """Tasks from a continuous distribution: `train` draws without end, validation and test are fixed task sets.

    Training draws come from other streams of the same distribution, so no task is ever drawn twice, up to collisions of
    float32 numbers. A test counts them. With `n_train` training has a fixed set too, for agents that get to know single
    tasks.
    """

    exhaustive = False

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        *,
        n_validation: int = 200,
        n_test: int = 1000,
        n_train: int | None = None,
    ) -> None:
        """Fix the sizes of the finite splits."""
        super().__init__(name, settings if n_train is None else {**settings, "n_train": n_train})
        self._sizes = {
            "validation": check_count(name, "n_validation", n_validation, 1, 100_000),
            "test": check_count(name, "n_test", n_test, 1, 100_000),
        }
        if n_train is not None:
            self._sizes["train"] = check_count(name, "n_train", n_train, 1, 100_000)
        self._finite: dict[str, Tasks] = {}

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` tasks from the distribution."""

    def all(self, split: str) -> Tasks | None:
        """Return the fixed list of a split; None for a train split that is endless."""
        check_split(self.name, split, SPLITS)
        return self.fixed_tasks(split) if split in self._sizes else None

    def fixed_tasks(self, split: str) -> Tasks:
        """Return the fixed list of a split; for endless train, as many draws of a stream that training never uses.

        References are worked out on it.
        """
        check_split(self.name, split, SPLITS)
        if split not in self._finite:
            n = self._sizes.get(split, self._sizes["test"])
            self._finite[split] = self.draw(n, stream(_SPLIT_SEED, self.name, split))
        return self._finite[split]

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` tasks: fresh ones for endless train; from a list, each as often as any other up to one."""
        pool = self.all(split)
        return self.draw(n, generator) if pool is None else pick(pool, n, generator)

    def fingerprint(self) -> str:
        """Return a digest over settings, the held-out lists and the first training draws of a fixed stream."""
        first = self.draw(16, stream(_SPLIT_SEED, self.name, "fingerprint"))
        held_out = (self.fixed_tasks(s).fingerprint() for s in ("validation", "test"))
        return self._digest(first.fingerprint(), *held_out)
