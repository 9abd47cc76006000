"""The best policy for one asset whose moods have known size and restlessness: value iteration on a grid of beliefs.

The belief b = P(good mood) decides everything with the position and the number of steps left: returns are seen whatever
one holds, so beliefs move by themselves. Between grid points values are linear in b.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from metarl.errors import ConfigError

from .regime import RegimeConfig

GRID = 201
"""Beliefs 0, 0.005, ..., 1."""
_NODES = 64


@dataclass(frozen=True)
class Solution:
    """What is best in the long run."""

    action_values: Tensor
    """float32 [K H, GRID, 2, 2]: growth still to come, by step of the trial, belief, position before and after (0 is
    the asset, 1 is cash)."""
    value: float
    """Expected growth of a whole trial that begins with belief 1/2."""


@cache
def solve(config: RegimeConfig) -> Solution:
    """Return the best policy; raises ConfigError for more than one asset or level."""
    if config.n_assets != 1 or len(config.pairs) != 1:
        raise ConfigError(f"only a market of one asset with one drift and one switch has an exact solution, got "
                          f"{config.n_assets} assets and {len(config.pairs)} pairs of levels")  # fmt: skip
    drift, switch, noise = config.drifts[0], config.switches[0], config.noise_sd
    z, weight = np.polynomial.hermite_e.hermegauss(_NODES)
    weight = weight / weight.sum()
    belief = np.linspace(0.0, 1.0, GRID)
    returns = np.stack([drift + noise * z, -drift + noise * z])  # [mood, node]
    growth = (np.log1p(np.maximum(returns, -0.9)) * weight).sum(1)
    odds = np.exp(2.0 * drift * returns / noise**2)  # likelihood of a return in a good mood over that in a bad one
    # Next belief [grid, mood, node], by Bayes' rule and then a possible flip; then its two neighbours on the grid.
    good = belief[:, None, None] * odds
    after = good / (good + 1.0 - belief[:, None, None])
    after = (1.0 - switch) * after + switch * (1.0 - after)
    at = after * (GRID - 1)
    low = np.minimum(at.astype(np.int64), GRID - 2)
    share = at - low
    chance = np.stack([belief, 1.0 - belief], axis=1)[:, :, None] * weight
    n_steps = config.n_episodes * config.horizon
    gain = np.zeros((GRID, 2, 2))
    gain[:, :, 0] = (belief * growth[0] + (1.0 - belief) * growth[1])[:, None]
    gain[:, 0, 1] -= config.fee
    gain[:, 1, 0] -= config.fee
    table = np.zeros((n_steps, GRID, 2, 2))
    value = np.zeros((GRID, 2))
    for step in reversed(range(n_steps)):
        if (step + 1) % config.horizon == 0:
            value = np.repeat(value[:, 1:], 2, axis=1)  # the next episode begins with cash, free of charge
        future = np.stack(
            [(chance * ((1.0 - share) * value[low, p] + share * value[low + 1, p])).sum((1, 2)) for p in (0, 1)], axis=1
        )
        table[step] = gain + future[:, None, :]
        value = table[step].max(2)
    return Solution(torch.from_numpy(table).to(torch.float32), float(np.interp(0.5, belief, value[:, 1])))
