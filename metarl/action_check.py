"""What a world of tensors does first with the actions it is given: check, clip, convert."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from .errors import ConfigError, WorldError
from .kinds import kind_of


class ActionCheck:
    """Holds the actions of the `n` envs of a world to their space."""

    def __init__(self, name: str, space: gym.Space[Any], n: int, device: torch.device) -> None:
        """Raises ConfigError for a space that holds no actions."""
        self.name, self.space, self.device = name, space, device
        self.shape = (n, *(space.shape or ()))
        # Looking at numbers would make a GPU's queue run dry at each step.
        self.looks = device.type == "cpu"
        low, high, self.dtype = _bounds(space)
        self.low, self.high = (torch.as_tensor(b, dtype=self.dtype, device=device) for b in (low, high))

    def __call__(self, chosen: Any) -> Tensor:
        """Return actions on the device: float32 clipped to a Box, or int64 in range; raises WorldError."""
        try:
            actions: Tensor = torch.as_tensor(chosen, device=self.device)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise WorldError(
                f"world {self.name!r} got {kind_of(chosen)} for actions, which is no array of numbers: {error}"
            ) from error
        if actions.shape != self.shape:
            raise WorldError(
                f"world {self.name!r} got actions of shape {tuple(actions.shape)}, expected {self.shape}: "
                f"one row per env"
            )
        if self.dtype is torch.float32:
            actions = actions.to(torch.float32)
            # The sum is one number: NaN or Inf anywhere shows in it, at the price of a single reduction.
            if self.looks and not torch.isfinite(actions.sum()):
                self._refuse(~actions.isfinite(), actions, "a NaN or infinite action", "finite numbers")
            return torch.clamp(actions, self.low, self.high)
        if actions.is_floating_point() or actions.dtype is torch.bool:
            raise WorldError(f"world {self.name!r} got actions of {actions.dtype}, expected integers of {self.space}")
        actions = actions.long()
        if self.looks and not torch.equal(torch.clamp(actions, self.low, self.high), actions):
            outside = (actions < self.low) | (actions > self.high)
            self._refuse(outside, actions, "an action out of range", f"an element of {self.space}")
        return actions

    def _refuse(self, bad: Tensor, actions: Tensor, what: str, expected: str) -> None:
        at = bad.reshape(len(bad), -1).any(1).nonzero()
        if len(at):  # a sum of finite numbers may overflow
            env = int(at[0])
            raise WorldError(
                f"world {self.name!r} got {what} for env {env}: {actions[env].tolist()}; expected {expected}"
            )


def _bounds(space: gym.Space[Any]) -> tuple[Any, Any, torch.dtype]:
    """Return the least and the greatest action, and the dtype of actions."""
    if isinstance(space, spaces.Box):
        return space.low, space.high, torch.float32
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1, torch.int64
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1, torch.int64
    raise ConfigError(f"action space {space} is not supported; use Box, Discrete or MultiDiscrete")
