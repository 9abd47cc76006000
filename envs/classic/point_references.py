"""Known policies in the point worlds, worked out by playing them: the straight walk, standing still, random moves.

The straight walk moves each axis towards the goal by as much as is left or allowed. No policy is nearer the goal at any
step, so it is the best one wherever only the distance counts (all worlds but the corners').
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.seeding import derive, generator
from metarl.tasks import Tasks

from .point_worlds import PointWorld

Policy = Callable[[Tensor, Tensor], Tensor]
"""Position [B, 2] and goal [B, 2] to the action [B, 2]."""
_ROWS = 4000


def play(make_world: Callable[[int], PointWorld], tasks: Tasks, policy: Policy) -> float:
    """Return the mean return of `policy` over one episode each of about 4000 envs, every task equally often.

    Exact up to rounding where start and policy are fixed; elsewhere a seeded average.
    """
    repeats = -(-_ROWS // len(tasks))
    rows = tasks.to("cpu").repeat(repeats)
    world = make_world(len(rows))
    world.set_tasks(rows)
    position, _ = world.reset(seed=derive(0, "references", world.name))
    goal = rows.values["goal"]
    total, alive = torch.zeros(len(rows), dtype=torch.float64), torch.ones(len(rows), dtype=torch.bool)
    for _ in range(world.horizon):
        assert isinstance(position, Tensor)
        position, reward, terminated, truncated, _ = world.step(policy(position, goal))
        total += reward * alive
        alive &= ~(terminated | truncated)
    return float(total.mean())


def straight_walk(action_limit: float, step_size: float) -> Policy:
    """Return the policy that walks straight to the goal, axis by axis, and stays there."""
    scale = action_limit / step_size
    return lambda position, goal: ((goal - position) * scale).clamp(-action_limit, action_limit)


def stand_still(position: Tensor, goal: Tensor) -> Tensor:
    """Do not move."""
    return torch.zeros_like(position)


def random_moves(action_limit: float) -> Policy:
    """Return the policy that draws each action uniformly from the action box (seeded)."""
    noise = generator(0, "references", "random")
    return lambda position, goal: (2.0 * torch.rand(position.shape, generator=noise) - 1.0) * action_limit
