"""A guide that walks: it goes where a planner says by the shortest way and waits where the visitor falls behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metarl.envs.npc.reference import Policy
from metarl.envs.tensor_world import EpisodeState

from .micro import EAST, LOST, PRESENT, WAIT, GuideMicro
from .references import Planner


class Leader(Policy):
    """Plans as `planner` does, at the start of an episode and after each exhibit, and walks there step by step."""

    world: GuideMicro

    def __init__(self, planner: Planner) -> None:
        """Follow the plans of `planner`."""
        self.planner = planner

    def start(self, world: Any, generator: torch.Generator) -> None:
        """Have no plan yet."""
        super().start(world, generator)
        self.planner.start(world, generator)
        self._target = torch.full((world.num_envs,), world.n_exhibits, device=world.device)
        self._asks = torch.ones(world.num_envs, dtype=torch.bool, device=world.device)
        self._field = world.places.layouts.fields(world.state["layout"])

    def act(self) -> Tensor:
        """Take a step, wait, or present."""
        if bool(self._asks.any()):
            rows = self._asks.nonzero().squeeze(1)
            self._target = self._target.index_copy(0, rows, self.planner.plan(rows).first)
        return self.planner.press(self.way())

    def way(self) -> Tensor:
        """Return what leads towards the target: int64 [B]."""
        world, state = self.world, self.world.state
        places = world.places.layouts
        field = self._field[torch.arange(len(self._target), device=world.device), self._target].long()
        around = torch.tensor([-places.width, places.width, -1, 1], device=world.device)
        last = field.shape[1] - 1
        steps = field.gather(1, (state["cell"][:, None] + around[: EAST + 1]).clamp(0, last))
        ahead = state["laid"] - state["eaten"]
        there = field.gather(1, state["cell"][:, None]).squeeze(1) == 0
        done = self._target == world.n_exhibits
        walk = torch.where(ahead < LOST, steps.argmin(1), WAIT)
        look = torch.where(ahead <= 1, PRESENT, WAIT)
        return torch.where(done, WAIT, torch.where(there, look, walk))

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, ended: Tensor) -> None:
        """Let the planner learn, and ask it again after an exhibit and in a new episode."""
        self.planner.see(before, actions, reached, ended)
        self._asks = ended | (reached["reaction"] > 0)
        if bool(ended.any()):
            self._field = self._field.clone()
            self._field[ended] = self.world.places.layouts.fields(self.world.state["layout"][ended])


def led_by(make: Callable[[], Policy]) -> Callable[[], Policy]:
    """Return a maker of leaders that follow the plans of what `make` makes."""

    def leader() -> Policy:
        planner = make()
        assert isinstance(planner, Planner)
        return Leader(planner)

    return leader
