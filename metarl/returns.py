"""Returns and advantages as pure functions on [T, B] tensors, time first."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import ConfigError


def discounted_returns(reward: Tensor, last: Tensor, gamma: float) -> Tensor:
    """Return the discounted sum of rewards from each step to its episode's end: [T, B].

    `last` (bool [T, B]) cuts the sum. Units: those of a reward, summed. Raises ConfigError if gamma is not in [0, 1].
    """
    _check_unit("gamma", gamma)
    out = torch.empty_like(reward)
    running = torch.zeros_like(reward[0])
    keep = gamma * (~last).to(reward.dtype)
    for t in range(len(reward) - 1, -1, -1):
        running = reward[t] + keep[t] * running
        out[t] = running
    return out


def gae(
    reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, last: Tensor, gamma: float, lam: float
) -> Tensor:
    """Return the generalised advantage of each step, cut at episode ends: [T, B].

    Equation 16 of Schulman et al. 2016 (arXiv:1506.02438). `terminated` stops the bootstrap, `last` (terminated or
    truncated) stops the sum. `next_value` is V of the state reached, before any reset.

    Units: those of a return. Raises ConfigError if gamma or lam is outside [0, 1].
    """
    _check_unit("gamma", gamma)
    _check_unit("lam", lam)
    delta = reward + gamma * next_value * (~terminated).to(reward.dtype) - value
    out = torch.empty_like(reward)
    running = torch.zeros_like(reward[0])
    keep = gamma * lam * (~last).to(reward.dtype)
    for t in range(len(reward) - 1, -1, -1):
        running = delta[t] + keep[t] * running
        out[t] = running
    return out


def standardise(value: Tensor, valid: Tensor, dims: tuple[int, ...], eps: float = 1e-8) -> Tensor:
    """Return `value` shifted and scaled to mean 0 and *standard deviation* 1 over `dims`, counting `valid` rows only.

    Dividing by the variance instead, as some published code does, makes the size of a gradient step depend on the
    scale of the rewards. Rows that are not valid come back as 0. Where values reach 1e15 all is worked out in units of
    2^100, because float32 does not hold their squares: a power of two, which changes no digit.
    """
    weight = valid.to(value.dtype)
    unit = torch.where((value * weight).abs().amax(dims, keepdim=True) < 1e15, 1.0, 2.0**-100).to(value.dtype)
    value = value * unit
    count = weight.sum(dims, keepdim=True).clamp(min=1.0)
    mean = (value * weight).sum(dims, keepdim=True) / count
    centred = (value - mean) * weight
    std = (centred.square().sum(dims, keepdim=True) / count).sqrt()
    return centred / (std + eps * unit)


def masked_mean(value: Tensor, valid: Tensor, dims: tuple[int, ...] | None = None) -> Tensor:
    """Return the mean of the valid entries over `dims` (all, if None); 0 where there is none."""
    weight = valid.to(value.dtype)
    if dims is None:
        return (value * weight).sum() / weight.sum().clamp(min=1.0)
    return (value * weight).sum(dims) / weight.sum(dims).clamp(min=1.0)


def _check_unit(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name} is {value}; it must lie in [0, 1]")
