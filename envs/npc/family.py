"""Task distributions of NPC worlds: visitors, splits that each vary one factor, and reference policies."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

from metarl.envs.families import Family, check_count, pick
from metarl.seeding import generator as stream
from metarl.tasks import Tasks, check_split

from .reference import Policy
from .world import NpcWorld

GOLDEN = Path(__file__).parent / "golden"
_SPLIT_SEED = 1337


class NpcFamily(Family):
    """Visitors drawn from one prior per split: `train` without end, every other split a fixed list.

    A subclass draws tasks, builds the world and names its reference policies. `test` is visitors never met in
    training, in surroundings of the kinds known from it; further splits are named by what is new in them.
    """

    exhaustive = False
    version = "v0"
    """Changes whenever the numbers of a world or its tasks would."""

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        *,
        n_episodes: int,
        extra_splits: tuple[str, ...] = (),
        n_validation: int = 256,
        n_test: int = 1024,
    ) -> None:
        """Fix the episodes of a trial and the sizes of the held-out lists."""
        super().__init__(name, {**settings, "version": self.version, "n_episodes": n_episodes})
        self.n_episodes = n_episodes
        self._splits = ("train", "validation", "test", *extra_splits)
        check_count(name, "n_validation", n_validation, 1, 100_000)
        check_count(name, "n_test", n_test, 1, 100_000)
        self._sizes = {s: n_validation if s == "validation" else n_test for s in self._splits}
        self._lists: dict[str, Tasks] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return self._splits

    @abstractmethod
    def draw(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` tasks from the prior of `split`."""

    @abstractmethod
    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> NpcWorld:
        """Build a world of `num_envs`."""

    @abstractmethod
    def policies(self, split: str) -> dict[str, Callable[[], Policy]]:
        """Return makers of the reference policies by name: at least "random", "non_adaptive" and "oracle"."""

    def onlooker(self, split: str) -> Policy | None:
        """Return the Bayes filter whose belief pages show while somebody else acts; None if the family has none.

        It reckons with a shift, or with combinations that training left out, where a policy for `split` does.
        """
        known = self.policies(split)
        name = next((n for n in ("bayes_hazard", "bayes_smoothed", "bayes_greedy") if n in known), None)
        return None if name is None else known[name]()

    def all(self, split: str) -> Tasks | None:
        """Return the fixed list of a held-out split; None for train, which is endless."""
        check_split(self.name, split, self._splits)
        return None if split == "train" else self.fixed_tasks(split)

    def fixed_tasks(self, split: str) -> Tasks:
        """Return the fixed list of a held-out split; for train, draws of a stream that training never uses."""
        check_split(self.name, split, self._splits)
        if split not in self._lists:
            self._lists[split] = self.draw(split, self._sizes[split], stream(_SPLIT_SEED, self.name, split))
        return self._lists[split]

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` tasks: fresh ones for train; from a held-out list, each as often as any other up to one."""
        pool = self.all(split)
        return self.draw(split, n, generator) if pool is None else pick(pool, n, generator)

    def fingerprint(self) -> str:
        """Return a digest over settings, the held-out lists and the first training draws of a fixed stream."""
        first = self.draw("train", 16, stream(_SPLIT_SEED, self.name, "fingerprint"))
        held_out = (self.fixed_tasks(s).fingerprint() for s in self._splits if s != "train")
        return self._digest(first.fingerprint(), *held_out)

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return reference policies' mean return per episode, measured beforehand (`golden/`); empty if they were not.

        They are those of this family's exact settings, and of at most as many episodes as a trial has.
        """
        check_split(self.name, split, self._splits)
        known = golden(self.name).get(self.fingerprint(), {}).get("splits", {}).get(split, {})
        return {n: v["mean"][:n_episodes] for n, v in known.items() if len(v["mean"]) >= n_episodes}


def settings_of(config: Any) -> dict[str, Any]:
    """Return the fields of a frozen dataclass as a family's settings.

    `reward_in_obs` is among them only where it is set: it is younger than the fingerprints of worlds without it.
    """
    return {k: v for k, v in asdict(config).items() if k != "reward_in_obs" or v}


def golden_file(name: str) -> Path:
    """Return where the reference values of a family are committed."""
    return GOLDEN / f"{name.replace('/', '-')}.json"


@cache
def golden(name: str) -> dict[str, Any]:
    """Return the committed reference values of a family by fingerprint; see `measure.measure`."""
    path = golden_file(name)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
