"""From a network's raw outputs to the parameters of an action distribution, in the units of the action space."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from metarl import action_distributions


class ActionHead(nn.Module):
    """The last, parameter-poor step of a policy network.

    Discrete and MultiDiscrete: the outputs are the logits. Box: the outputs are the mean in units of half the Box's
    range, measured from its middle (1 and 0 where it is unbounded), so that a fresh policy explores a Box of any size
    alike; the log standard deviation is a parameter per dimension, or further outputs.
    """

    _half: Tensor
    _log_half: Tensor
    _middle: Tensor
    log_std: nn.Parameter | None

    def __init__(
        self,
        space: gym.Space[Any],
        *,
        init_std: float,
        min_std: float,
        state_dependent_std: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Both standard deviations are in units of half the Box's range; raises ConfigError for other spaces."""
        super().__init__()
        self.distribution = action_distributions.for_space(space)
        self.n_outputs, self.log_std = self.distribution.n_params, None
        self._shape = space.shape if isinstance(space, spaces.Box) else None
        if not isinstance(space, spaces.Box):
            return
        low, high = (torch.as_tensor(v, dtype=torch.float32, device=device).flatten() for v in (space.low, space.high))
        bounded = low.isfinite() & high.isfinite()
        half = torch.where(bounded, 0.5 * (high - low), torch.ones_like(low))
        self.register_buffer("_half", half, persistent=False)
        self.register_buffer("_log_half", half.log(), persistent=False)
        middle = torch.where(bounded, 0.5 * (high + low), torch.zeros_like(low))
        self.register_buffer("_middle", middle, persistent=False)
        self._init_log_std, self._min_log_std = math.log(init_std), math.log(min_std)
        if not state_dependent_std:
            self.n_outputs //= 2
            self.log_std = nn.Parameter(torch.full_like(half, self._init_log_std))

    def forward(self, out: Tensor, action_mask: Tensor | None = None) -> Tensor:
        """Return distribution parameters [..., n_params] from the first `n_outputs` of `out` [..., >= n_outputs]."""
        out = out[..., : self.n_outputs]
        if self._shape is None:
            return action_distributions.mask_logits(out, action_mask)
        if self.log_std is not None:
            mean, log_std = out, self.log_std.expand_as(out)
        else:
            mean, log_std = out.chunk(2, dim=-1)
            log_std = log_std + self._init_log_std
        log_std = log_std.clamp(min=self._min_log_std) + self._log_half
        return torch.cat([mean * self._half + self._middle, log_std], dim=-1)

    def flat_action(self, action: Tensor, batch_dims: int) -> Tensor:
        """Return actions of the world [*batch, ...] as the distribution wants them: a Box's own axes become one."""
        if self._shape is None:
            return action
        return action.flatten(batch_dims) if action.dim() > batch_dims else action.unsqueeze(-1)

    def world_action(self, action: Tensor) -> Tensor:
        """Return [rows, ...] actions of the distribution in the shape of the world's action space."""
        return action if self._shape is None else action.reshape(len(action), *self._shape)
