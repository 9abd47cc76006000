"""What optimisers of several agents share: a linear schedule, and setting a step size."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def annealing(n_updates: int, anneal_iters: int | None, anneal_to: float) -> float:
    """Return the factor after `n_updates` updates: linear from 1 to `anneal_to` at `anneal_iters` (None: 1)."""
    if anneal_iters is None:
        return 1.0
    return 1.0 - (1.0 - anneal_to) * min(n_updates / anneal_iters, 1.0)


def set_lr(optimisers: Sequence[torch.optim.Optimizer], lr: float) -> None:
    """Set the step size of all parameters of some optimisers."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = lr
