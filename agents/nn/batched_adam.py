"""Adam for many parameter sets at once: each row has its own moments, its own count and its own gradient bound."""

from __future__ import annotations

import torch

from .functional import Params

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's constants, those of the paper (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1)."""


@torch.no_grad()
def adam_rows(
    phi: Params,
    grads: Params,
    first: Params,
    second: Params,
    count: torch.Tensor,
    *,
    lr: float,
    max_grad_norm: float,
) -> tuple[Params, Params, Params]:
    """Return parameters and both moments after one step, row by row; every tensor is [N, ...].

    Args:
        phi: parameters.
        grads: gradients, by the same names.
        first: running means of the gradients.
        second: running means of their squares.
        count: the number of this step in each row, from 1: [N].
        lr: step size.
        max_grad_norm: longest gradient of a row, Euclidean over all parameters; longer ones are shortened to it.
    """
    squares = torch.stack([g.flatten(1).square().sum(1) for g in grads.values()])
    shrink = (max_grad_norm / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
    moved: Params = {}
    means: Params = {}
    spreads: Params = {}
    for name, value in phi.items():
        rows = (-1, *[1] * (value.dim() - 1))
        grad, t = grads[name] * shrink.reshape(rows), count.reshape(rows)
        means[name] = BETA_1 * first[name] + (1.0 - BETA_1) * grad
        spreads[name] = BETA_2 * second[name] + (1.0 - BETA_2) * grad.square()
        mean, spread = means[name] / (1.0 - BETA_1**t), spreads[name] / (1.0 - BETA_2**t)
        moved[name] = value - lr * mean / (spread.sqrt() + EPSILON)
    return moved, means, spreads
