"""Task distributions in two shapes: a finite list of tasks, and tasks drawn from a continuous law."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod

import torch

from metarl.errors import ConfigError
from metarl.seeding import generator as stream
from metarl.tasks import Tasks, check_split
from metarl.world import World

SPLITS = ("train", "validation", "test")
_SPLIT_SEED = 1337


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


class FiniteFamily(ABC):
    """A list of tasks cut into disjoint splits by a fixed shuffle; with `held_out=0` each split is the whole list."""

    def __init__(self, name: str, tasks: Tasks, *, held_out: int) -> None:
        """Keep `held_out` tasks each for validation and for test."""
        if 2 * held_out >= len(tasks):
            raise ConfigError(f"{name!r} has {len(tasks)} tasks; held_out={held_out} leaves none to train on")
        self.name, self.exhaustive = name, held_out == 0
        order = torch.randperm(len(tasks), generator=stream(_SPLIT_SEED, name, "split")).tolist()
        cuts = {"test": order[:held_out], "validation": order[held_out : 2 * held_out], "train": order[2 * held_out :]}
        self._splits = {s: tasks if self.exhaustive else tasks[sorted(cuts[s])] for s in SPLITS}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return SPLITS

    def all(self, split: str) -> Tasks:
        """Return every task of `split`."""
        check_split(self.name, split, SPLITS)
        return self._splits[split]

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` tasks of `split`, each task as often as any other up to one: whole shuffles, one after another."""
        pool = self.all(split)
        rounds = -(-n // len(pool))
        order = torch.cat([torch.randperm(len(pool), generator=generator) for _ in range(rounds)])
        return pool[order[:n]]

    def fingerprint(self) -> str:
        """Return a digest over all splits."""
        return _digest(self.name, *(f"{s}={self._splits[s].fingerprint()}" for s in SPLITS))

    @abstractmethod
    def make_world(self, n_copies: int, *, device: torch.device | str = "cpu") -> World:
        """Build a world of `n_copies`."""

    @abstractmethod
    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return known policies' expected return per episode index."""


class ContinuousFamily(ABC):
    """Tasks from a continuous law: `train` draws without end, validation and test are fixed lists drawn beforehand.

    Training draws come from other streams of the same law, so no task is ever drawn twice (up to float32 collisions,
    which a test counts).
    """

    exhaustive = False

    def __init__(self, name: str, *, n_validation: int = 200, n_test: int = 1000) -> None:
        """Fix the sizes of the two finite splits."""
        if n_validation < 1 or n_test < 1:
            raise ConfigError(f"{name!r} needs at least 1 validation and test task, got {n_validation} and {n_test}")
        self.name, self._sizes = name, {"validation": n_validation, "test": n_test}
        self._finite: dict[str, Tasks] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return SPLITS

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` tasks from the law."""

    def all(self, split: str) -> Tasks | None:
        """Return the fixed list of a held-out split; None for train, which is endless."""
        check_split(self.name, split, SPLITS)
        if split == "train":
            return None
        if split not in self._finite:
            self._finite[split] = self.draw(self._sizes[split], stream(_SPLIT_SEED, self.name, split))
        return self._finite[split]

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` tasks: fresh ones for train, without replacement (as far as possible) from a held-out list."""
        pool = self.all(split)
        if pool is None:
            return self.draw(n, generator)
        rounds = -(-n // len(pool))
        order = torch.cat([torch.randperm(len(pool), generator=generator) for _ in range(rounds)])
        return pool[order[:n]]

    def fingerprint(self) -> str:
        """Return a digest over the held-out lists and the first training draws of a fixed stream."""
        first = self.draw(16, stream(_SPLIT_SEED, self.name, "fingerprint"))
        lists = [self.all(s) for s in ("validation", "test")]
        return _digest(self.name, first.fingerprint(), *(t.fingerprint() for t in lists if t is not None))

    @abstractmethod
    def make_world(self, n_copies: int, *, device: torch.device | str = "cpu") -> World:
        """Build a world of `n_copies`."""

    @abstractmethod
    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return known policies' expected return per episode index."""
