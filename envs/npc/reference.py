"""Reference policies: non-adaptive, without memory across episodes, exact Bayes filter, and known-task oracle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from metarl.envs.tensor_world import EpisodeState

from .world import NpcWorld


class Policy(ABC):
    """A scripted policy for all envs of a world at once, from the first episode of a trial to its last.

    Only an oracle may look at what is hidden (`world.params`, `world.latent()`). All others use what an agent is shown,
    which `world.state` holds in a handier form; a test gives two visitors the same history and expects equal actions.
    """

    def start(self, world: NpcWorld, generator: torch.Generator) -> None:
        """Begin a trial in every env; all randomness comes from `generator`."""
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

    def believes(self, env: int) -> dict[str, Any] | None:
        """Return what is believed of one env's present visitor, as JSON-able values; None by who keeps no belief.

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
        """Draw one action per env."""
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
