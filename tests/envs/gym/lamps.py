"""A small family of sound tensor worlds, one for each kind of action and observation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.families import FiniteFamily, shuffled_split_indices
from metarl.envs.tensor_world import TensorWorld
from metarl.spec import WorldSpec
from metarl.tasks import Tasks
from metarl.world import World

BOX = spaces.Box(-9.0, 9.0, (2,), np.float32)


class Lamps(TensorWorld):
    """A hidden lamp on a line; the nearer, the better. Starts anywhere and shows place and a gust of wind."""

    seen: spaces.Space[Any] = BOX
    actions: spaces.Space[Any] = spaces.Discrete(3)
    ends = False
    knows_success = False
    length = 5
    more: Mapping[str, Any] = {}
    """Further entries of its spec."""

    def __init__(self, num_envs: int, device: torch.device | str = "cpu") -> None:
        spec = WorldSpec(
            self.seen, self.actions, self.length, name="lamps", fixed_horizon=not self.ends,
            has_success=self.knows_success, **self.more,
        )  # fmt: skip
        super().__init__(spec, num_envs, device)

    def initial(self, streams: Any, episode: Tensor) -> Any:
        return {"place": 2.0 * streams.uniform(episode, 2) - 1.0}

    def move(self, actions: Tensor) -> Tensor:
        return actions.float() - 1.0

    def transition(self, state: Any, actions: Tensor, streams: Any, clock: Tensor) -> Any:
        place = (state["place"] + 0.5 * torch.stack([self.move(actions), streams.normal(clock, 1)[:, 0]], 1)).clamp(
            -9, 9
        )
        far = (place[:, 0] - self.params["lamp"]).abs()
        near = far < 0.3
        return {"place": place}, -far, near if self.ends else None, near if self.knows_success else None

    def observation(self, state: Any) -> Any:
        return state["place"].clone()


class Buttons(Lamps):
    """Two choices at once."""

    actions = spaces.MultiDiscrete([3, 2])

    def move(self, actions: Tensor) -> Tensor:
        return actions[:, 0] - 1.0 + 0.1 * actions[:, 1]


class Drive(Lamps):
    """A push of any strength, to either side."""

    actions = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def move(self, actions: Tensor) -> Tensor:
        return actions[:, 0]


class Rooms(Lamps):
    """Says in which third of the line it is, beside the place; ends at the lamp, which is a success."""

    seen = spaces.Dict({"place": BOX, "third": spaces.Discrete(3)})
    ends = knows_success = True

    def observation(self, state: Any) -> Any:
        place = state["place"]
        return {"place": place.clone(), "third": ((place[:, 0] + 9.0) / 6.0).floor().long().clamp(0, 2)}


class Walls(Lamps):
    """Walking is forbidden at the ends of the line."""

    def action_mask(self, state: Any) -> Any:
        x = state["place"][:, 0]
        return torch.stack([x > -8.0, torch.ones_like(x, dtype=torch.bool), x < 8.0], 1)


class Family(FiniteFamily):
    """Forty lamps."""

    world: type[World] = Lamps

    def __init__(self) -> None:
        lamps = torch.linspace(-3.0, 3.0, 40)
        super().__init__("lamps", Tasks.of("lamps", lamp=lamps), shuffled_split_indices("lamps", 40, 10), {"n": 40})

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> World:
        return self.world(num_envs, device)  # type: ignore[call-arg,arg-type]

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        return {}
