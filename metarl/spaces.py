"""Flat float views of Gymnasium spaces: the inputs of networks.

Agents see observations and previous actions only through `flatten`, so a world may use Box, Discrete, MultiDiscrete,
MultiBinary or Dict without any agent knowing.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from .errors import ConfigError

SUPPORTED = "use Box, Discrete, MultiDiscrete of one axis, MultiBinary (observations only) or a Dict of these"
MOST_FLOATS = 1_000_000
"""Longest flat view of a space: a first layer of 64 units then weighs 2.5 GB."""
_LONGEST = 80
"""Characters of a space that an error shows."""


def check_spaces(name: str, observation_space: object, action_space: object) -> None:
    """Raise ConfigError unless a world `name` of these spaces can be played: names the entry and what to use.

    Every `World` goes through here when it is built, so nothing that cannot work gets as far as a file or an episode.
    Spaces without a bound are fine, in actions too: there a policy starts with mean 0 and standard deviations in units
    of 1.
    """
    for what, space in (("observation", observation_space), ("action", action_space)):
        for path, part in entries(space):
            fault = _fault(part, what)
            if fault:
                at = f"entry {'/'.join(map(str, path))!r} of the {what} space" if path else f"the {what} space"
                shown = " ".join(str(part).split()) if isinstance(part, gym.Space) else f"a {type(part).__name__}"
                shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
                raise ConfigError(f"world {name!r}: {at} is {shown}, and {fault}")
    if isinstance(action_space, spaces.Dict):
        raise ConfigError(
            f"world {name!r}: the action space is a Dict, and actions are one Box, Discrete or MultiDiscrete; put all "
            f"numbers into one Box, or all choices into one MultiDiscrete"
        )
    for what, space in (("observation", observation_space), ("action", action_space)):
        assert isinstance(space, gym.Space)
        if flat_dim(space) > MOST_FLOATS:
            raise ConfigError(
                f"world {name!r}: the {what} space has a flat view of {flat_dim(space):,} numbers (choices count one "
                f"each), at most {MOST_FLOATS:,} are supported; describe it in fewer numbers"
            )


def entries(space: object, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """Return path and space of each plain part of `space`; an empty Dict is such a part, for want of any inside."""
    if isinstance(space, spaces.Dict) and len(space.spaces):
        return [entry for key, part in space.spaces.items() for entry in entries(part, (*path, key))]
    return [(path, space)]


def entry_at(space: gym.Space[Any], index: int) -> str:
    """Return what to call number `index` of the flat view of `space`: its entry in a Dict, its place in there."""
    for path, part in entries(space):
        size = flat_dim(part)
        if index < size:
            shape = part.shape if isinstance(part, spaces.Box | spaces.MultiBinary) else (size,)
            place = [int(i) for i in np.unravel_index(index, shape or (1,))]
            return f"entry {'/'.join(map(str, path))!r} at {place}" if path else f"entry {place}"
        index -= size
    raise IndexError(index)


def _fault(space: object, what: str) -> str:
    """Say why a plain part of an observation or action space cannot be used, and what can; "" if it can."""
    if callable(space) and not isinstance(space, gym.Space):
        return (
            "a space itself is needed, not what returns one; an environment of several agents (PettingZoo) needs a "
            "wrapper that shows one of them"
        )
    if not isinstance(space, gym.Space):
        return f"a gymnasium space is needed; {SUPPORTED}"
    if isinstance(space, spaces.Dict):
        return "it has no entries; give it one, or a Box of one constant"
    if isinstance(space, spaces.Box):
        return _box_fault(space, what)
    if isinstance(space, spaces.Discrete):
        return "" if space.n >= 1 else "it holds nothing; at least 1 choice is needed"
    if isinstance(space, spaces.MultiDiscrete):
        if space.nvec.ndim != 1:
            return f"a MultiDiscrete needs one axis, not {space.nvec.ndim}; flatten it"
        return "" if space.nvec.size and (space.nvec >= 1).all() else "it holds nothing; each axis needs a choice"
    if isinstance(space, spaces.MultiBinary):
        if what == "action":
            return f"it is no action space here; use MultiDiscrete([2] * {int(np.prod(space.shape))})"
        return "" if np.prod(space.shape) else "it holds nothing; at least 1 number is needed"
    return f"that kind is not supported; {SUPPORTED}"


def _box_fault(space: spaces.Box, what: str) -> str:
    """Say why a Box cannot be used, or return ""."""
    if 0 in space.shape:
        return "it holds no number; at least 1 is needed"
    low, high = space.low, space.high
    if np.isnan(low).any() or np.isnan(high).any():
        return "a bound is NaN; use -np.inf or np.inf where there is none"
    if (low > high).any():
        return "a lower bound lies above the upper one; exchange them"
    if (low == np.inf).any() or (high == -np.inf).any():
        return "a lower bound is inf or an upper one -inf; exchange them"
    if what == "observation":
        return ""
    with np.errstate(over="ignore", invalid="ignore"):
        least, most = low.astype(np.float32), high.astype(np.float32)
        # In a Box of integers an unbounded side is the dtype's own limit.
        span = np.where(np.isfinite(low) & np.isfinite(high), most - least, np.float32(1.0))
    if not np.isfinite(span).all():
        return "its range overflows float32; give closer bounds, or -np.inf and np.inf if there is none"
    if (span <= 0).any():
        return (
            f"action {np.argwhere(np.atleast_1d(span) <= 0)[0].tolist()} has one value only (in float32); leave it out"
        )
    return ""


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
