"""Settings of a stable-baselines3 reference; readable without SB3."""

from __future__ import annotations

from dataclasses import dataclass

from metarl.checks import check_choices, check_layers, check_ranges
from metarl.deprecated import renamed_fields
from metarl.errors import MOST, ConfigError

ALGORITHMS = ("ppo", "sac", "recurrent-ppo")


@renamed_fields(copies="num_envs")
@dataclass(frozen=True)
class SB3Config:
    """One algorithm and how long it trains on each task; what is not named here is SB3's default."""

    algorithm: str = "ppo"
    """"ppo", "sac" (Box actions only) or "recurrent-ppo" (sb3-contrib; forgets at the end of an episode)."""
    steps: int = 50_000
    """Env steps of training per task, over all envs, >= 1; PPO rounds up to whole rollouts."""
    num_envs: int = 8
    """Envs that collect side by side, >= 1."""
    rollout_steps: int = 128
    """Steps per env between two updates of PPO, >= 1."""
    minibatches: int = 4
    """Minibatches per epoch of PPO, >= 1; divides rollout_steps * num_envs and leaves 2 steps or more to each."""
    hidden: tuple[int, ...] = (64, 64)
    """Units per hidden layer of policy and value networks."""
    lr: float = 3e-4
    """Step size of Adam, > 0."""
    gamma: float = 0.99
    """Discount, in [0, 1]."""

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        check_choices(self, "baseline ", {"algorithm": ALGORITHMS})
        check_layers(self, "baseline ", "hidden")
        counts = "steps num_envs rollout_steps minibatches"
        check_ranges(self, "baseline ", {f"1 to {MOST}": counts, "> 0 and finite": "lr", "in [0, 1]": "gamma"})
        rows = self.rollout_steps * self.num_envs
        if self.algorithm != "sac" and (rows % self.minibatches or rows // self.minibatches < 2):
            raise ConfigError(
                f"{self.minibatches} minibatches cannot share rollout_steps * num_envs = {rows} steps evenly, 2 or "
                f"more each; choose a divisor"
            )
