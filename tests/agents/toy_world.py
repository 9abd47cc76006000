"""A tiny world with every kind of action space, whose episodes pay at their last step only."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.tensor_world import TensorWorld
from metarl.rollout import Trial
from metarl.seeding import EnvStreams
from metarl.spec import WorldSpec
from metarl.tasks import Tasks
from metarl.trial import run_trial

ACTION_SPACES: dict[str, gym.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "masked": spaces.Discrete(3),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "box": spaces.Box(-2.0, 6.0, (2,), np.float32),
    "matrix-box": spaces.Box(-np.inf, np.inf, (2, 2), np.float32),
}


class ToyWorld(TensorWorld):
    """Episodes of `params["length"]` steps that pay `params["prize"]` at the last one; the observation is the age.

    An episode of full length is cut by the time limit, a shorter one terminates. With actions "masked", action 2 is
    illegal at even ages.
    """

    def __init__(self, num_envs: int, actions: str = "discrete", *, horizon: int = 4, ends: bool = True) -> None:
        self.masked, self.ends = actions == "masked", ends
        seen = spaces.Box(0.0, float(horizon), (1,), np.float32)
        super().__init__(WorldSpec(seen, ACTION_SPACES[actions], horizon, name="toy", fixed_horizon=not ends), num_envs)

    def initial(self, streams: EnvStreams, episode: Tensor) -> dict[str, Tensor]:
        return {"age": torch.zeros(self.num_envs)}

    def transition(
        self, state: dict[str, Tensor], actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor | None, Tensor | None]:
        age = state["age"] + 1
        over = age >= self.params["length"]
        ended = over & (age < self.horizon)
        return {"age": age}, over * self.params["prize"], ended if self.ends else None, None

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        return state["age"][:, None].clone()

    def action_mask(self, state: dict[str, Tensor]) -> Tensor | None:
        if not self.masked:
            return None
        odd = state["age"] % 2 == 1
        return torch.stack([torch.ones_like(odd), torch.ones_like(odd), odd], dim=1)


def toy_tasks(n: int, horizon: int = 4) -> Tasks:
    """Return tasks with lengths 1, 2, ... horizon, 1, ... and prizes 1, 2, ... n."""
    index = torch.arange(n)
    return Tasks.of("toy", length=1.0 + index % horizon, prize=1.0 + index)


def toy_trial(
    config: Any, n: int = 6, *, actions: str = "discrete", seed: int = 0, **options: Any
) -> tuple[Any, Trial]:
    """Build an agent for the toy world and run one training trial of it on `n` tasks, one env each."""
    world = ToyWorld(n, actions, **options)
    agent = config.build(world.spec, seed=seed)
    return agent, run_trial(world, agent, toy_tasks(n, world.horizon), agent.train_phases, seed=seed)
