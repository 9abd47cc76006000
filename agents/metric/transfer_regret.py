"""How good a metric on tasks is: does what looks near transfer well?

The regret of playing task i with the policy of task j is what that costs beside the policy of task i itself. A metric
is good for picking policies if tasks at small distances have small regrets; what counts is the order, hence Spearman's
rank correlation.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from metarl.errors import ConfigError

RegretKind = Literal["ratio", "range"]


def transfer_regret(values: Tensor, own: Tensor) -> tuple[Tensor, RegretKind]:
    """Return the regret of each policy on each task [N, S], and in which unit it is.

    Args:
        values: V(pi_j; task i), mean return of policy j on task i: float [N, S].
        own: which policy is task i's own: int64 [N].

    "ratio" where all values are positive: 1 - V(pi_j; i) / V(pi_i; i). Otherwise a ratio has no meaning, and it is
    "range": (V(pi_i; i) - V(pi_j; i)) / (max_j V(pi_j; i) - min_j V(pi_j; i)), 0 for a task on which all policies are
    alike. In both the own policy has regret 0, worse ones more, and a policy that does better than the own one less.
    """
    mine = values.gather(1, own[:, None])
    if bool((values > 0).all()):
        return 1.0 - values / mine, "ratio"
    span = values.amax(1, keepdim=True) - values.amin(1, keepdim=True)
    return (mine - values) / torch.where(span > 0, span, 1.0), "range"


def ranks(x: Tensor) -> Tensor:
    """Return ranks along the last axis, from 0; equal entries share the mean of their ranks: float64 [..., n]."""
    less = (x[..., None, :] < x[..., :, None]).sum(-1)
    equal = (x[..., None, :] == x[..., :, None]).sum(-1)
    return less.double() + 0.5 * (equal - 1).double()


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's rank correlation along the last axis: [..., n], [..., n] -> float64 [...].

    0 where one of the two is constant. Raises: ConfigError for fewer than 3 entries, which have no order to speak of.
    """
    if a.shape != b.shape or a.shape[-1] < 3:
        raise ConfigError(
            f"a rank correlation needs two equal shapes of at least 3 entries, got {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        )
    x, y = (r - r.mean(-1, keepdim=True) for r in (ranks(a), ranks(b)))
    scale = (x.square().sum(-1) * y.square().sum(-1)).sqrt()
    return (x * y).sum(-1) / torch.where(scale > 0, scale, 1.0)


def others(matrix: Tensor, own: Tensor) -> Tensor:
    """Return a matrix [N, S] without the entry `own[i]` (int64 [N]) of each row: [N, S - 1]."""
    kept = torch.ones_like(matrix, dtype=torch.bool).scatter_(1, own[:, None], False)
    return matrix[kept].reshape(len(matrix), -1)
