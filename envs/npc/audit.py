"""Checks of an NPC benchmark itself: adaptation gains, exploration pays, and observations leak no task parameter.

Small numbers of trials do for a quick look; `make worlds-audit` plays many. Every check says what it measured and what
it takes, so that a table of them can stand beside the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.seeding import generator
from metarl.task_distribution import about
from metarl.tasks import Tasks

from .family import NpcFamily, golden
from .measure import Played, play


@dataclass(frozen=True)
class Check:
    """What one check found."""

    name: str
    value: float
    """What was measured."""
    bound: float
    """What it takes."""
    holds: bool

    @classmethod
    def at_least(cls, name: str, value: float, bound: float) -> Check:
        """Return a check that holds if `value` reaches `bound`."""
        return cls(name, value, bound, value >= bound)

    @classmethod
    def at_most(cls, name: str, value: float, bound: float) -> Check:
        """Return a check that holds if `value` does not exceed `bound`."""
        return cls(name, value, bound, value <= bound)


def play_named(
    family: NpcFamily, split: str, names: Iterable[str] | None = None, *, n: int, seed: int = 0
) -> dict[str, Played]:
    """Play the reference policies `names` (None: all) on the same `n` trials of `split`."""
    makers: Mapping[str, Callable[..., object]] = family.policies(split)
    chosen = list(makers if names is None else names)
    return {name: play(family, family.policies(split)[name](), split, n=n, seed=seed) for name in chosen}


def share_of_gap(
    played: Mapping[str, Played], name: str, *, ceiling: str = "oracle", episode: int | None = None
) -> float:
    """Return how much of the way from `non_adaptive` to `ceiling` the policy `name` goes, on average or in one episode.

    `episode` counts from 0, or from the end if negative.
    """

    def mean(which: str) -> float:
        returns = played[which].returns
        return float(returns.mean() if episode is None else returns[:, episode].mean())

    floor = mean("non_adaptive")
    return (mean(name) - floor) / (mean(ceiling) - floor)


def headroom(played: Mapping[str, Played], *, ceiling: str = "oracle", least: float = 0.45) -> Check:
    """There is something to gain by adapting: (oracle - non-adaptive) / (oracle - random)."""
    top, floor, random = (float(played[k].returns.mean()) for k in (ceiling, "non_adaptive", "random"))
    return Check.at_least("headroom", (top - floor) / (top - random), least)


def capturable(played: Mapping[str, Played], best: str, *, ceiling: str = "oracle", least: float = 0.7) -> Check:
    """A filter that starts from nothing gets most of it by the last episode."""
    return Check.at_least(f"capturable by {best}", share_of_gap(played, best, ceiling=ceiling, episode=-1), least)


def not_one_episode(played: Mapping[str, Played], *, ceiling: str = "oracle", most: float = 0.5) -> Check:
    """Whoever forgets between episodes gets little of it."""
    return Check.at_most("forgetful share", share_of_gap(played, "forgetful", ceiling=ceiling), most)


def exploration(played: Mapping[str, Played], greedy: str, explorer: str, *, least: float = 3.0) -> Check:
    """Seeking information pays: the mean difference on the same trials, in standard errors."""
    difference = (played[explorer].returns - played[greedy].returns).mean(1)
    error = float(difference.std()) / len(difference) ** 0.5
    return Check.at_least(f"{explorer} beyond {greedy}, standard errors", float(difference.mean()) / error, least)


def no_leak(family: NpcFamily, *, n: int = 64, seed: int = 0) -> Check:
    """With other visitors and the same seed the first observation is the same, bit for bit: count entries that differ.

    Visitors are permuted among the envs; what a split says of all of them alike stays, and so do the parameters that
    a family declares as `visible_parameters` (what a catalogue shows anyway).
    """
    tasks = family.sample("train", n, generator(seed, "no-leak"))
    order = torch.tensor([*range(1, n), 0])
    visible = about(family).visible_parameters
    others = Tasks({k: v if k in visible else v[order] for k, v in tasks.values.items()}, tasks.names, tasks.groups)
    seen = []
    for chosen in (tasks, others):
        world = family.make_world(n)
        world.set_tasks(chosen)
        obs, _ = world.reset(seed=seed)
        seen.append(list(obs.values()) if isinstance(obs, dict) else [obs])
    differing = sum(int((a != b).sum()) for a, b in zip(*seen, strict=True))
    return Check.at_most("entries of first observations that tell the visitor", float(differing), 0.0)


def alone_as_among_many(family: NpcFamily, *, n: int = 64, n_steps: int = 40, seed: int = 0) -> Check:
    """Env 0 of 1 does what env 0 of `n` does: count entries of rewards and observations that differ."""
    tasks = family.sample("train", n, generator(seed, "alone"))
    runs: list[list[Tensor]] = []
    for size in (1, n):
        world = family.make_world(size)
        world.set_tasks(tasks[:size])
        _, info = world.reset(seed=seed)
        rows: list[Tensor] = []
        for step in range(n_steps):
            noise = generator(seed, "alone", step)
            actions = _legal_action(world, info, noise)
            obs, reward, *_, info = world.step(actions)
            parts = obs.values() if isinstance(obs, dict) else [obs]
            rows += [reward[0].reshape(1), *(p[0].flatten() for p in parts)]
        runs.append(rows)
    differing = sum(int((a != b).sum()) for a, b in zip(*runs, strict=True))
    return Check.at_most("entries that differ between one env and many", float(differing), 0.0)


def _legal_action(world: object, info: Mapping[str, Tensor], noise: torch.Generator) -> Tensor:
    """Return one legal action for env 0, done by all envs that may."""
    space, size = world.single_action_space, world.num_envs  # type: ignore[attr-defined]
    if "action_mask" in info:
        mask = info["action_mask"]
        first = torch.multinomial(mask[0].float(), 1, generator=noise)
        return torch.where(mask.gather(1, first.expand(size)[:, None]).squeeze(1), first, mask.long().argmax(1))
    if hasattr(space, "n"):
        return torch.randint(int(space.n), (1,), generator=noise).expand(size)
    if hasattr(space, "nvec"):
        drawn = torch.rand(len(space.nvec), generator=noise) * torch.as_tensor(space.nvec)
        return drawn.long().expand(size, -1)
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
    return (low + (high - low) * torch.rand(low.shape, generator=noise)).expand(size, *low.shape)


def agrees_with_golden(family: NpcFamily, played: Mapping[str, Played], split: str, *, most: float = 4.0) -> Check:
    """What was played agrees with the committed values: the largest difference of a trial's mean, in standard errors.

    Infinite if the family's exact settings have no committed values.
    """
    name = f"golden values of {split}, standard errors off"
    known = golden(family.name).get(family.fingerprint(), {}).get("splits", {}).get(split, {})
    if not set(played) <= set(known):
        return Check(name, float("inf"), most, holds=False)
    off = []
    for policy, found in played.items():
        mean, error = torch.tensor(known[policy]["mean"]).mean(), torch.tensor(known[policy]["se"])
        per_trial = found.returns.mean(1)
        here = float(per_trial.std()) / len(per_trial) ** 0.5
        # Episodes of a trial go together: the mean's error is at most the mean of theirs.
        spread = max((here**2 + float(error.mean()) ** 2) ** 0.5, 1e-9)  # cash earns 0, always
        off.append(abs(float(per_trial.mean() - mean)) / spread)
    return Check.at_most(name, max(off), most)


def golden_checks(
    family: NpcFamily, played: Mapping[str, Played], n: int, splits: Iterable[str] | None = None
) -> list[Check]:
    """Return `agrees_with_golden` on each of `splits` (None: all), `n` trials each; `played` is that of train."""
    return [
        agrees_with_golden(family, played if split == "train" else play_named(family, split, n=n), split)
        for split in splits or family.splits
    ]
