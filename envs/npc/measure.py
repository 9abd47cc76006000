"""Trials played by reference policies, and what these got, per episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.seeding import derive
from metarl.seeding import generator as stream

from .family import NpcFamily
from .reference import Policy


@dataclass(frozen=True)
class Played:
    """What a policy got: float64 tensors [n, K], one row per trial."""

    returns: Tensor
    cost: Tensor
    steps: Tensor
    """Decisions per episode."""

    def mean(self) -> list[float]:
        """Return the mean return per episode."""
        return [float(x) for x in self.returns.mean(0)]

    def standard_error(self) -> list[float]:
        """Return the standard error of `mean`, trials being independent."""
        return [float(x) for x in self.returns.std(0) / len(self.returns) ** 0.5]


@torch.no_grad()
def play(
    family: NpcFamily, policy: Policy, split: str, *, n: int, seed: int = 0, device: torch.device | str = "cpu"
) -> Played:
    """Play one trial on each of `n` tasks of `split` and return what each episode gave."""
    world = family.make_world(n, device=device)
    episodes = family.n_episodes
    try:
        pool = family.fixed_tasks(split)
        tasks = pool[:n] if n <= len(pool) else family.draw(split, n, stream(seed, family.name, split, "play"))
        world.set_tasks(tasks)
        world.reset(seed=derive(seed, "play"))
        policy.start(world, stream(seed, "policy", device=device))
        totals = {k: torch.zeros(n, episodes, dtype=torch.float64, device=device) for k in ("returns", "cost", "steps")}
        rows = torch.arange(n, device=device)
        number = torch.zeros(n, dtype=torch.int64, device=device)
        for _ in range(episodes * world.horizon):
            before, actions = world.state, policy.act()
            _, reward, terminated, truncated, info = world.step(actions)
            at, playing = number.clamp(max=episodes - 1), (number < episodes).double()
            totals["returns"][rows, at] += reward.double() * playing
            totals["cost"][rows, at] += info["cost"].double() * playing
            totals["steps"][rows, at] += playing
            ended = terminated | truncated
            policy.see(before, actions, world.reached, ended)
            number = number + ended.long()
            if bool((number >= episodes).all()):
                break
    finally:
        world.close()
    return Played(**totals)


def measure(family: NpcFamily, *, n: int, seed: int = 0, splits: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return the golden values of a family: mean, standard error and cost per policy, split and episode.

    Written to `golden/` under the family's fingerprint, they are what `NpcFamily.references` returns.
    """
    found: dict[str, Any] = {}
    for split in splits or family.splits:
        for name, make in family.policies(split).items():
            played = play(family, make(), split, n=n, seed=seed)
            found.setdefault(split, {})[name] = {
                "mean": [round(x, 5) for x in played.mean()],
                "se": [round(x, 5) for x in played.standard_error()],
                "cost": [round(float(x), 5) for x in played.cost.mean(0)],
                "steps": [round(float(x), 4) for x in played.steps.mean(0)],
            }
    return {"settings": family.settings, "n": n, "seed": seed, "splits": found}
