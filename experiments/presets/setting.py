"""A world with its protocol and training loop, stated once; presets put agents into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metarl.experiments.config import AnyConfig


@dataclass(frozen=True)
class Setting:
    """What runs on a world have in common. Configs are made in `run`: a list of all presets takes no torch."""

    world: str
    train: Mapping[str, Any]
    """Of `LoopSettings`."""
    evaluation: Mapping[str, Any]
    """Of `Protocol`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the world."""

    def run(self, name: str, agent: Any, *, scored: Mapping[str, Any] | None = None, **train: Any) -> AnyConfig:
        """Return the preset `name`: other settings of the loop as keywords, of the protocol in `scored`."""
        from metarl.experiments.config import ExperimentConfig, WorldConfig
        from metarl.loop import LoopSettings
        from metarl.protocol import Protocol

        return ExperimentConfig(
            name=name,
            world=WorldConfig(self.world, dict(self.options)),
            agent=agent,
            train=LoopSettings(**{**self.train, **train}),
            evaluation=Protocol(**{**self.evaluation, **(scored or {})}),
        )


def ppo(n_iterations: int, **options: Any) -> Any:
    """Return PPO that credits whole trials, and whose steps and entropy are annealed over the run."""
    from metarl.agents.ppo import PPOConfig

    return PPOConfig(**{"gamma": 0.99, "lam": 0.95, "anneal_iters": n_iterations} | options)


def rl2(**options: Any) -> Any:
    """Return RL² with these settings."""
    from metarl.agents.rl2.agent import RL2Config

    return RL2Config(**options)


def varibad(vae: Mapping[str, Any], **options: Any) -> Any:
    """Return VariBAD with these settings, those of its inference in `vae`."""
    from metarl.agents.varibad.agent import VariBADConfig
    from metarl.agents.varibad.vae import VAEConfig

    return VariBADConfig(hidden=(64, 64), vae=VAEConfig(horizons=16, lr=3e-3, **vae), **options)


def maml(**options: Any) -> Any:
    """Return MAML-TRPO, or a relative, with these settings."""
    from metarl.agents.maml.agent import MAMLConfig

    return MAMLConfig(**options)
