"""The best tour within a budget: prizes add up, ways and looks take time, and every subset of exhibits is tried.

C[S, j], the least time to have seen all of S when one stands before j, which is in S, follows from smaller sets,

    C[S, j] = e_j + min over i in S without j of d(j, i) + C[S without j, i],

and the best is the set with the most prizes among those with min_j d(here, j) + C[S, j] within the budget. Sets of one
size are worked out at once, for all rows: M steps, no loop over rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

NEVER = 1.0e6
"""A time that no budget allows."""


@dataclass(frozen=True)
class Tour:
    """The best tours of B rows."""

    value: Tensor
    """float32 [B]: the sum of prizes, >= 0."""
    first: Tensor
    """int64 [B]: where to go first, or M for nowhere."""


@dataclass(frozen=True, eq=False)
class _Level:
    """All (set, member) pairs of sets of one size."""

    sets: Tensor
    """int64 [pairs]"""
    members: Tensor
    """int64 [pairs]"""
    rest: Tensor
    """int64 [pairs]: the set without the member"""


@cache
def _levels(m: int, device: str) -> tuple[tuple[_Level, ...], Tensor]:
    """Return the levels, and which exhibit is in which set, float32 [M, 2^M]."""
    sets = torch.arange(2**m)
    inside = (sets[:, None] >> torch.arange(m)) & 1
    size = inside.sum(1)
    levels = []
    for k in range(1, m + 1):
        of_size = sets[size == k]
        where, members = inside[of_size].nonzero(as_tuple=True)
        chosen = of_size[where]
        levels.append(_Level(chosen.to(device), members.to(device), (chosen - (1 << members)).to(device)))
    return tuple(levels), inside.T.float().to(device)


def best_tour(prize: Tensor, stay: Tensor, between: Tensor, here: Tensor, budget: Tensor) -> Tour:
    """Return the best tours.

    Args:
        prize: float32 [B, M], what each exhibit gives (negative ones are left out of tours by themselves).
        stay: float32 [B, M], time that it takes there; `NEVER` for what cannot be visited.
        between: float32 [B, M, M], time from one to the other.
        here: float32 [B, M], time from where one stands.
        budget: float32 [B].
    """
    b, m = prize.shape
    levels, inside = _levels(m, str(prize.device))
    least = torch.full((b, 2**m, m), NEVER, device=prize.device)
    for k, level in enumerate(levels):
        if k == 0:
            time = stay.index_select(1, level.members)
        else:
            onward = least.index_select(1, level.rest) + between.index_select(1, level.members)
            time = stay.index_select(1, level.members) + onward.amin(2)
        least[:, level.sets, level.members] = time
    arrive = least + here[:, None]
    soonest, first = arrive.min(2)
    total = prize @ inside
    total = torch.where(soonest <= budget[:, None], total, -NEVER)
    total[:, 0], soonest[:, 0] = 0.0, 0.0
    value, chosen = total.max(1)
    first = first.gather(1, chosen[:, None]).squeeze(1)
    return Tour(value, torch.where(chosen == 0, torch.full_like(first, m), first))
