"""Episode tables: each episode of a trial counted exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .rollout import Rollout


@dataclass(frozen=True)
class EpisodeTable:
    """Per task and episode, in the order they were played: tensors [N, E]."""

    returns: Tensor
    """Undiscounted sum of rewards."""
    length: Tensor
    """Env steps."""
    success_any: Tensor | None
    """Success at any step of the episode (upstream Meta-World's definition)."""
    success_last: Tensor | None
    """Success at the last step of the episode."""


def episode_table(rollout: Rollout) -> EpisodeTable:
    """Sum a rollout up per episode, each episode counted exactly once.

    Episode e of copy m stands in column e * M + m: copies play side by side, so those columns share their age.
    """
    n, m = rollout.n_tasks, rollout.n_copies
    per_copy = rollout.n_episodes // m
    device = rollout.reward.device

    def total(value: Tensor) -> Tensor:
        out = torch.zeros(n * m, per_copy, dtype=torch.float64, device=device)
        out.scatter_add_(1, rollout.episode.T, (value * rollout.valid).T.to(torch.float64))
        return out.reshape(n, m, per_copy).transpose(1, 2).reshape(n, per_copy * m)

    has = rollout.success
    return EpisodeTable(
        returns=total(rollout.reward),
        length=total(torch.ones_like(rollout.reward)).long(),
        success_any=None if has is None else total(has.float()) > 0,
        success_last=None if has is None else total((has & rollout.last).float()) > 0,
    )


def join_tables(rollouts: Sequence[Rollout]) -> EpisodeTable:
    """Return the table of several phases of one trial, episodes in order."""
    tables = [episode_table(r) for r in rollouts]
    any_, last = [t.success_any for t in tables], [t.success_last for t in tables]
    return EpisodeTable(
        returns=torch.cat([t.returns for t in tables], dim=1),
        length=torch.cat([t.length for t in tables], dim=1),
        success_any=torch.cat([s for s in any_ if s is not None], dim=1) if any_[0] is not None else None,
        success_last=torch.cat([s for s in last if s is not None], dim=1) if last[0] is not None else None,
    )
