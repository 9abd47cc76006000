"""Exact values of the gridworld: random moves, known goal, and the Bayes-optimal policy by dynamic programming."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

SIZE, HORIZON = 5, 15
GOAL_REWARD, STEP_REWARD = 1.0, -0.1
MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
GOALS = tuple((x, y) for x in range(SIZE) for y in range(SIZE) if x > 1 or y > 1)


def _transition() -> Tensor:
    """Return P[s, a, s'] over the 25 cells: float64 [25, 5, 25]."""
    table = torch.zeros(SIZE * SIZE, len(MOVES), SIZE * SIZE, dtype=torch.float64)
    for x in range(SIZE):
        for y in range(SIZE):
            for a, (dx, dy) in enumerate(MOVES):
                to = min(max(x + dx, 0), SIZE - 1) * SIZE + min(max(y + dy, 0), SIZE - 1)
                table[x * SIZE + y, a, to] = 1.0
    return table


def random_returns(goals: Tensor, n_episodes: int) -> list[float]:
    """Return the expected return of uniformly random moves, averaged over `goals` (int64 [n, 2]), per episode."""
    step = _transition().mean(1)
    where = torch.zeros(SIZE * SIZE, dtype=torch.float64)
    where[0] = 1.0
    total = torch.zeros((), dtype=torch.float64)
    cells = goals[:, 0] * SIZE + goals[:, 1]
    for _ in range(HORIZON):
        where = where @ step
        total = total + (STEP_REWARD + (GOAL_REWARD - STEP_REWARD) * where[cells]).mean()
    return [float(total)] * n_episodes


def known_goal_returns(goals: Tensor, n_episodes: int) -> list[float]:
    """Return the mean return of walking straight to the goal and staying: the oracle."""
    distance = goals.sum(1).double()
    value = (distance - 1) * STEP_REWARD + (HORIZON - distance + 1) * GOAL_REWARD
    return [float(value.mean())] * n_episodes
