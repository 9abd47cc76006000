"""Flat float views of Gymnasium spaces: what networks eat.

Agents see observations and previous actions only through `flatten`, so a world may use Box, Discrete, MultiDiscrete,
MultiBinary or Dict without any agent knowing.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from .errors import ConfigError


def flat_dim(space: gym.Space[Any]) -> int:
    """Return the number of floats that `flatten` gives for one element of `space`.

    Raises: ConfigError for a space without a flat view.
    """
    if isinstance(space, spaces.Box):
        return int(torch.Size(space.shape).numel())
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    if isinstance(space, spaces.MultiBinary):
        return int(torch.Size(space.shape).numel())
    if isinstance(space, spaces.Dict):
        return sum(flat_dim(s) for s in space.values())
    raise ConfigError(
        f"space {space} is not supported; use Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these"
    )


def flatten(space: gym.Space[Any], value: Tensor | dict[str, Tensor], batch_dims: int = 1) -> Tensor:
    """Return `value`, a batch of elements of `space`, as float32 [*batch, flat_dim(space)].

    Box is reshaped, Discrete and MultiDiscrete become one-hot (counted from `start`), Dict concatenates its entries in
    the space's own order. `batch_dims` leading axes are kept.
    """
    if isinstance(space, spaces.Dict) and isinstance(value, dict):
        return torch.cat([flatten(s, value[k], batch_dims) for k, s in space.items()], dim=-1)
    if not isinstance(value, Tensor):
        raise ConfigError(f"{space} needs a tensor, got {type(value).__name__}; worlds hand over torch tensors")
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        if value.dtype is torch.float32 and value.dim() == batch_dims + 1:
            return value  # most worlds, at every step
        return value.to(torch.float32).flatten(batch_dims) if value.dim() > batch_dims else value.float().unsqueeze(-1)
    if isinstance(space, spaces.Discrete):
        return F.one_hot(value.long() - int(space.start), int(space.n)).to(torch.float32)
    if isinstance(space, spaces.MultiDiscrete):
        columns = zip(value.long().unbind(-1), space.nvec.tolist(), space.start.tolist(), strict=True)
        return torch.cat([F.one_hot(v - s, n).to(torch.float32) for v, n, s in columns], dim=-1)
    raise ConfigError(
        f"space {space} is not supported; use Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these"
    )


def torch_dtype(space: gym.Space[Any]) -> torch.dtype:
    """Return the dtype in which worlds hand over elements of `space`: float32 for Box, int64 for the discrete ones."""
    return torch.float32 if isinstance(space, spaces.Box) else torch.int64


def zeros(space: gym.Space[Any], n: int, device: torch.device) -> Tensor:
    """Return a batch of `n` all-zero elements of an action space (Box, Discrete or MultiDiscrete)."""
    return torch.zeros((n, *(space.shape or ())), dtype=torch_dtype(space), device=device)
