"""Whether a world that steps Gymnasium environments gives them actions of their own action space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import torch
from torch import Tensor

from .probe import Fault, Probe, random_action


@runtime_checkable
class StepsEnvironments(Protocol):
    """What such a world says of itself."""

    env_action_space: gym.Space[Any]
    """As one environment declares it, dtype and bounds included."""

    def env_actions(self, actions: Tensor) -> Sequence[Any]:
        """Return what each env's environment is given for a batch of the world's actions."""
        ...


def check_env_actions(probe: Probe) -> str:
    """Every action an environment is given, edges of a Box included, is an element of its own action space."""
    world = probe.world()
    if not isinstance(world, StepsEnvironments):
        return "the world gives its actions to no environment with a space of its own"
    noise = probe.noise(world, probe.n_steps, "env actions")
    edges = [torch.full_like(noise[0], side) for side in (0.0, 1.0)]
    for values in [*edges, *noise]:
        actions = random_action(world, values, None)
        for env, given in enumerate(world.env_actions(actions)):
            if not world.env_action_space.contains(given):
                raise Fault(
                    f"the environment of env {env} is given {given!r} for the action {actions[env].tolist()}, which "
                    f"is no element of its {world.env_action_space}; convert and clip actions to the environment's own"
                )
    return f"{(len(noise) + 2) * world.num_envs} actions lie in the environments' own {world.env_action_space}"
