"""Drawing by inversion with operations that are deterministic on every device."""

from __future__ import annotations

import torch
from torch import Tensor


def running_sums(values: Tensor) -> Tensor:
    """Return the sums up to and with each of the few entries of the last axis.

    One by one: `cumsum` of floats is not deterministic on a GPU, and a matrix product may round one row by itself in
    another way than the same row among many.
    """
    return torch.stack([values[..., : i + 1].sum(-1) for i in range(values.shape[-1])], dim=-1)


def pick(probabilities: Tensor, u: Tensor) -> Tensor:
    """Return the outcome, int64 [B], that a uniform draw u [B] stands for, of n with `probabilities` [B, n]."""
    return (u[:, None] >= running_sums(probabilities)[:, :-1]).sum(1)


def tally(numbers: Tensor, n: int) -> Tensor:
    """Return how often each of 0..n-1 is among int64 `numbers` [k]: int64 [n]."""
    return torch.nn.functional.one_hot(numbers, n).sum(0)
