"""Settings of a stable-baselines3 reference; readable without SB3."""

from __future__ import annotations

import math
from dataclasses import dataclass

from metarl.errors import MOST, ConfigError, nearest

ALGORITHMS = ("ppo", "sac", "recurrent-ppo")


@dataclass(frozen=True)
class SB3Config:
    """One algorithm and how long it trains on each task; what is not named here is SB3's default."""

    algorithm: str = "ppo"
    """"ppo", "sac" (Box actions only) or "recurrent-ppo" (sb3-contrib; forgets at the end of an episode)."""
    steps: int = 50_000
    """Env steps of training per task, over all envs, >= 1; PPO rounds up to whole rollouts."""
    copies: int = 8
    """Envs that collect side by side, >= 1."""
    rollout_steps: int = 128
    """Steps per env between two updates of PPO, >= 1."""
    minibatches: int = 4
    """Minibatches per epoch of PPO, >= 1; divides rollout_steps * copies and leaves 2 steps or more to each."""
    hidden: tuple[int, ...] = (64, 64)
    """Units per hidden layer of policy and value networks."""
    lr: float = 3e-4
    """Step size of Adam, > 0."""
    gamma: float = 0.99
    """Discount, in [0, 1]."""

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        if self.algorithm not in ALGORITHMS:
            raise ConfigError(f"unknown SB3 algorithm {self.algorithm!r}; {nearest(self.algorithm, ALGORITHMS)}")
        for name in ("steps", "copies", "rollout_steps", "minibatches"):
            if not 1 <= getattr(self, name) <= MOST:
                raise ConfigError(f"baseline {name} must be 1 to {MOST}, got {getattr(self, name)}")
        if any(size < 1 for size in self.hidden):
            raise ConfigError(f"baseline hidden is {self.hidden}; every layer needs at least 1 unit")
        if not 0 < self.lr < math.inf or not 0 <= self.gamma <= 1:
            raise ConfigError(f"baseline needs lr > 0 and gamma in [0, 1], got {self.lr} and {self.gamma}")
        rows = self.rollout_steps * self.copies
        if self.algorithm != "sac" and (rows % self.minibatches or rows // self.minibatches < 2):
            raise ConfigError(
                f"{self.minibatches} minibatches cannot share rollout_steps * copies = {rows} steps evenly, 2 or more "
                f"each; choose a divisor"
            )
