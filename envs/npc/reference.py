"""Reference policies: what a visitor's guide could do who knows nothing, forgets, filters exactly, or knows all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from envs.tensor_world import EpisodeState
from metarl.seeding import derive
from metarl.seeding import generator as stream

if TYPE_CHECKING:
    from .family import NpcFamily
    from .world import NpcWorld


class Policy(ABC):
    """A scripted policy for all copies of a world at once, from the first episode of a trial to its last.

    Only an oracle may look at what is hidden (`world.params`, `world.latent()`). All others use what an agent is shown,
    which `world.state` holds in a handier form; a test gives two visitors the same history and expects equal actions.
    """

    def start(self, world: NpcWorld, generator: torch.Generator) -> None:
        """Begin a trial in every copy; all randomness comes from `generator`."""
        self.world, self.generator = world, generator

    @abstractmethod
    def act(self) -> Tensor:
        """Return actions for the present state of `self.world`."""

    def ready(self) -> None:
        """Prepare for a step from the present state. `act` does so itself; who looks on while others act must ask."""
        return

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, ended: Tensor) -> None:
        """Learn from a step: from `before` to `reached`, with `ended` (bool [B]) where that was an episode's last."""
        return

    def believes(self, copy: int) -> dict[str, Any] | None:
        """Return what is believed of one copy's present visitor, as JSON-able values; None by who keeps no belief.

        The keys are the family's own: those of "hidden" in its frames, where they mean the same.
        """
        return None

    def learned(self) -> dict[str, Tensor]:
        """Return all that `see` changes, [B, ...] per name, for who looks on; see `onlooker`."""
        return {}

    def put_back(self, learned: dict[str, Tensor]) -> None:
        """Know what `learned` says, and no more."""
        return


class Random(Policy):
    """Uniformly random legal actions."""

    def act(self) -> Tensor:
        """Draw one action per copy."""
        world = self.world
        mask = world.action_mask(world.state)
        if mask is not None:
            return torch.multinomial(mask.float(), 1, generator=self.generator).squeeze(1)
        sizes = torch.as_tensor(
            getattr(world.single_action_space, "nvec", [getattr(world.single_action_space, "n", 0)])
        )
        draw = torch.rand(world.num_envs, len(sizes), generator=self.generator, device=world.device)
        chosen = (draw * sizes.to(world.device)).long()
        return chosen if hasattr(world.single_action_space, "nvec") else chosen.squeeze(1)


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
        pool = family.list_of(split)
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
