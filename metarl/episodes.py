"""Episode tables: each episode of a trial counted exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .agent import Agent
from .rollout import Rollout, Trial


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
    first_success: Tensor | None = None
    """Env steps up to and including the first successful one; 0 if there was none."""
    cost: Tensor | None = None
    """Sum of `info["cost"]`, what the episode cost in safety; None if the world has no such notion."""


def episode_table(rollout: Rollout) -> EpisodeTable:
    """Sum a rollout up per episode, each episode counted exactly once.

    Episode e of env m stands in column e * M + m: envs play side by side, so those columns share their age.
    """
    has = rollout.success
    return EpisodeTable(
        returns=_total(rollout, rollout.reward),
        length=_total(rollout, torch.ones_like(rollout.reward)).long(),
        success_any=None if has is None else _total(rollout, has.float()) > 0,
        success_last=None if has is None else _total(rollout, (has & rollout.last).float()) > 0,
        first_success=None if has is None else _first_success(rollout, has & rollout.valid),
        cost=None if rollout.cost is None else _total(rollout, rollout.cost),
    )


def _by_age(rollout: Rollout, value: Tensor) -> Tensor:
    """Reorder [B, episodes per env] to [N, episodes per task], oldest first."""
    n, m = rollout.n_tasks, rollout.envs_per_task
    return value.reshape(n, m, -1).transpose(1, 2).reshape(n, -1)


def _total(rollout: Rollout, value: Tensor) -> Tensor:
    """Sum `value` [T, B] over the valid steps of each episode: float64 [N, E]."""
    shape = (value.shape[1], rollout.n_episodes // rollout.envs_per_task)
    out = torch.zeros(shape, dtype=torch.float64, device=value.device)
    out.scatter_add_(1, rollout.episode.T, (value * rollout.valid).T.to(torch.float64))
    return _by_age(rollout, out)


def _first_success(rollout: Rollout, success: Tensor) -> Tensor:
    """Return the step of the episode, counted from 1, at which `success` (bool [T, B]) is first True, or 0: [N, E]."""
    never = len(success)
    at = torch.arange(never, device=success.device)[:, None].expand_as(success)

    def earliest(chosen: Tensor) -> Tensor:
        shape = (success.shape[1], rollout.n_episodes // rollout.envs_per_task)
        out = torch.full(shape, never, device=success.device)
        return out.scatter_reduce_(1, rollout.episode.T, torch.where(chosen, at, never).T, "amin")

    first = earliest(success)
    return _by_age(rollout, torch.where(first < never, first - earliest(rollout.valid) + 1, 0))


def join_tables(rollouts: Sequence[Rollout]) -> EpisodeTable:
    """Return the table of several phases of one trial, episodes in order."""
    return concatenate_tables([episode_table(r) for r in rollouts], dim=1)


def concatenate_tables(tables: Sequence[EpisodeTable], dim: int) -> EpisodeTable:
    """Return one table of several: later episodes of the same tasks (dim=1), or further tasks (dim=0)."""

    def join(name: str) -> Tensor | None:
        parts = [getattr(t, name) for t in tables]
        return None if parts[0] is None else torch.cat(parts, dim=dim)

    return EpisodeTable(**{f.name: join(f.name) for f in fields(EpisodeTable)})  # type: ignore[arg-type]


def pre_post_columns(phases: Sequence[int], agent: Agent) -> tuple[slice, slice]:
    """Return which episodes of a trial count as played before any adaptation, and which as played after all of it.

    An agent with memory (`parallel_episodes` False) learns during every episode, so these are its first and its last
    one. Any other agent stays the same within a phase, so these are the first phase and the last.
    """
    total = sum(phases)
    if not agent.parallel_episodes:
        return slice(0, 1), slice(total - 1, total)
    return slice(0, phases[0]), slice(total - phases[-1], total)


def pre_post(trial: Trial, agent: Agent) -> dict[str, float]:
    """Return the scores before any adaptation and after all of it, averaged over tasks and episodes.

    Keys: `pre_return` and `post_return` (undiscounted), and, if the world knows success, `pre_success` and
    `post_success` (share of episodes with success at any step), and, if it has a cost, `pre_cost` and `post_cost`.
    `pre_post_columns` says which episodes count.
    """
    table = join_tables(trial.rollouts)
    pre, post = pre_post_columns([r.n_episodes for r in trial.rollouts], agent)
    scores = {"pre_return": table.returns[:, pre], "post_return": table.returns[:, post]}
    if table.success_any is not None:
        scores |= {"pre_success": table.success_any[:, pre], "post_success": table.success_any[:, post]}
    if table.cost is not None:
        scores |= {"pre_cost": table.cost[:, pre], "post_cost": table.cost[:, post]}
    return {k: float(v.double().mean()) for k, v in scores.items()}
