"""Upstream's recordings played again by the engine, many envs at once, and every number compared.

Two ways in: `play_core` hands the core the actions as upstream got them, even those outside the action space; then
`play_world` goes through the World contract, with its resets in mid-batch, changing goals and float32 tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.envs.metaworld.engine import EngineWorld
from metarl.envs.metaworld.options import EpisodeRules
from metarl.envs.metaworld.program import INFO
from metarl.seeding import generator
from metarl.tasks import concatenate

from .recording import BEYOND, Recording

Array = NDArray[Any]

QUANTITIES = ("obs", "reward", *INFO)
"""What is compared in float64. `success`, one of `INFO`, is 0 or 1."""

MAX_EXAMPLES = 5
"""Differences that a tally remembers one by one, per class."""


@dataclass(frozen=True)
class Arrangement:
    """One way of arranging recordings into batches."""

    core: str
    """"compiled" or "python"."""
    n_threads: int
    batch: int
    """Envs per batch; recordings of all classes and behaviours are shuffled over batches and positions."""
    through: str
    """"core" or "world"; the latter leaves out actions outside the action space, which worlds clip and upstream does
    not."""
    shuffle: int
    """Seed of the order."""
    every: int = 1
    """Play each k-th recording only."""

    @property
    def name(self) -> str:
        """Return a label for tables: "compiled core, 2 threads, batches of 16, through the world"."""
        threads = f"{self.n_threads} thread{'s' if self.n_threads > 1 else ''}"
        return f"{self.core} core, {threads}, batches of {self.batch}, through the {self.through}"

    def batches(self, recordings: Sequence[Recording]) -> Iterator[list[Recording]]:
        """Deal recordings out."""
        chosen = [r for r in recordings if self.through == "core" or r.behaviour != BEYOND]
        order = torch.randperm(len(chosen), generator=generator(self.shuffle, "arrangement")).tolist()[:: self.every]
        for start in range(0, len(order), self.batch):
            yield [chosen[i] for i in order[start : start + self.batch]]


@dataclass
class Tally:
    """Differences found in one class: how many numbers were compared, how many were not the same bits, how far off."""

    steps: int = 0
    episodes: int = 0
    unequal: dict[str, int] = field(default_factory=lambda: dict.fromkeys(QUANTITIES, 0))
    """Numbers whose bits differ (−0 is not 0), per quantity; for "obs" each of the 39 entries counts."""
    worst: dict[str, float] = field(default_factory=lambda: dict.fromkeys(QUANTITIES, 0.0))
    """Largest absolute difference."""
    boundary: int = 0
    """Entries of tensors (float32 observations and rewards, success, ends of episodes) that differ."""
    examples: list[dict[str, Any]] = field(default_factory=list)

    def merge(self, other: Tally) -> None:
        """Add what another tally of the class found."""
        self.steps += other.steps
        self.episodes += other.episodes
        self.boundary += other.boundary
        for key in QUANTITIES:
            self.unequal[key] += other.unequal[key]
            self.worst[key] = max(self.worst[key], other.worst[key])
        self.examples = (self.examples + other.examples)[:MAX_EXAMPLES]

    @property
    def exact(self) -> bool:
        """Return whether every number was the same bits."""
        return not any(self.unequal.values()) and not self.boundary


Tallies = dict[str, Tally]


def replay(arrangement: Arrangement, recordings: Sequence[Recording], make_world: Callable[..., Any]) -> Tallies:
    """Play all recordings in this arrangement; return what differed, per class.

    `make_world(num_envs, horizon=, core=, n_threads=)` builds an engine world for the recordings' reward version.
    """
    tallies: Tallies = {}
    for batch in arrangement.batches(recordings):
        world = make_world(
            len(batch), horizon=batch[0].reward.shape[1], core=arrangement.core, n_threads=arrangement.n_threads
        )
        try:
            (play_core if arrangement.through == "core" else play_world)(world, batch, tallies)
        finally:
            world.close()
    return tallies


class Episode:
    """What upstream returned in episode `e` of a batch of recordings, step by step; and the comparison with it."""

    def __init__(self, batch: Sequence[Recording], e: int, tallies: Tallies) -> None:
        self.batch, self.e = batch, e
        self.tallies = [tallies.setdefault(r.name, Tally()) for r in batch]
        self.tasks = concatenate([r.tasks[e] for r in batch])
        self.first = np.stack([r.first[e] for r in batch])
        self.actions, self.obs, self.reward, self.info = (
            np.ascontiguousarray(np.stack([getattr(r, key)[e] for r in batch], axis=1))
            for key in ("actions", "obs", "reward", "info")
        )
        self.n_steps = len(self.reward)
        for recording, tally in zip(batch, self.tallies, strict=True):
            tally.episodes += 1
            tally.steps += self.n_steps
            assert recording.reward.shape[1] == self.n_steps

    def check_core(self, core: Any, t: int) -> None:
        """Compare a core's arrays after step `t`, in float64."""
        pairs = {"obs": (self.obs[t], core.obs), "reward": (self.reward[t], core.reward), "": (self.info[t], core.info)}
        for quantity, (theirs, ours) in pairs.items():
            different = (theirs.view(np.int64) != ours.view(np.int64)).reshape(len(self.batch), -1)
            if not different.any():
                continue
            for i in np.flatnonzero(different.any(axis=1)):
                columns = np.flatnonzero(different[i])
                mine = np.asarray(ours[i]).reshape(-1)
                self._differ(t, int(i), quantity, columns, np.asarray(theirs[i]).reshape(-1), mine)

    def _differ(self, t: int, i: int, quantity: str, columns: Array, theirs: Array, ours: Array) -> None:
        tally, recording = self.tallies[i], self.batch[i]
        for c in columns.tolist():
            name = quantity or INFO[c]
            gap = float(np.nan_to_num(abs(theirs[c] - ours[c]), nan=np.inf))
            tally.unequal[name] += 1
            tally.worst[name] = max(tally.worst[name], gap)
            if len(tally.examples) < MAX_EXAMPLES:
                values = {"quantity": name, "entry": c, "upstream": float(theirs[c]), "engine": float(ours[c])}
                place = {"episode": self.e, "step": t, "position": i, "of": len(self.batch)}
                goal = {"task": recording.tasks.names[self.e], "behaviour": recording.behaviour}
                tally.examples.append({**values, **goal, **place})

    def check_tensors(self, pairs: Mapping[str, tuple[torch.Tensor, Array]]) -> None:
        """Compare tensors at the world's boundary with upstream's numbers, rounded to their dtype."""
        for ours, theirs in pairs.values():
            got = ours.cpu().numpy()
            expected = np.broadcast_to(theirs, got.shape).astype(got.dtype)
            if expected.tobytes() == got.tobytes():
                continue
            different = (expected != got) & ~((expected != expected) & (got != got))
            for tally, row in zip(self.tallies, different.reshape(len(self.batch), -1), strict=True):
                tally.boundary += int(row.sum())


def make_engine(num_envs: int, *, horizon: int, core: str, n_threads: int, reward_version: str) -> EngineWorld:
    """Build an engine world, which holds any classes."""
    rules = EpisodeRules(horizon=horizon)
    return EngineWorld("parity", num_envs, n_threads=n_threads, rules=rules, reward_version=reward_version, core=core)


def play_core(world: Any, batch: Sequence[Recording], tallies: Tallies) -> None:
    """Reset through the world, then step its core with the recorded actions as they are."""
    for e in range(len(batch[0].tasks)):
        episode = Episode(batch, e, tallies)
        world.set_tasks(episode.tasks)
        first, _ = world.reset(seed=e)
        episode.check_tensors({"first": (first, episode.first)})
        for t in range(episode.n_steps):
            world.core.step(episode.actions[t])
            episode.check_core(world.core, t)


def play_world(world: Any, batch: Sequence[Recording], tallies: Tallies) -> None:
    """Step the world; episodes follow each other by its own resets, to the tasks it was given meanwhile."""
    episodes = [Episode(batch, e, tallies) for e in range(len(batch[0].tasks))]
    world.set_tasks(episodes[0].tasks)
    first, _ = world.reset(seed=0)
    episodes[0].check_tensors({"first": (first, episodes[0].first)})
    for episode, following in zip(episodes, [*episodes[1:], None], strict=True):
        for t in range(episode.n_steps):
            last = t == episode.n_steps - 1
            if last and following is not None:
                world.set_tasks(following.tasks)
            obs, reward, terminated, truncated, info = world.step(torch.from_numpy(episode.actions[t].copy()))
            episode.check_core(world.core, t)
            pairs = {
                "final_obs": (info["final_obs"], episode.obs[t]),
                "reward": (reward, episode.reward[t]),
                "success": (info["success"], episode.info[t, :, 0]),
                "terminated": (terminated, np.zeros(1)),
                "truncated": (truncated, np.full(1, last)),
            }
            if not last:
                pairs["obs"] = (obs, episode.obs[t])
            elif following is not None:
                pairs["obs"] = (obs, following.first)
            episode.check_tensors(pairs)
