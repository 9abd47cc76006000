"""Run directories with nothing wrong: the one that is damaged, and others to take parts of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.experiments.config import ExperimentConfig, LogConfig, WorldConfig
from metarl.experiments.overrides import Request
from metarl.experiments.train import start
from metarl.loop import LoopSettings
from metarl.protocol import Protocol
from metarl.signals import StopSignals

OTHERS: dict[str, dict[str, Any]] = {
    "a run like it": {},
    "another seed's run": {"seed": 1},
    "another world's run": {"world": WorldConfig("bandit", {"n_pulls": 4})},
    "another network's run": {"agent": RL2Config(episodes_per_trial=2, hidden=4, ppo=PPOConfig(epochs=1))},
}
"""Runs that lie beside the intact one, by what they have for its settings."""


def make_good(folder: Path) -> Path:
    """Return an intact run of two iterations with one checkpoint, so that there is none to fall back to.

    Beside it others are made, whose files are put into copies of it.
    """
    config = ExperimentConfig(
        name="good",
        world=WorldConfig("gridworld", {"held_out": 3}),
        agent=RL2Config(episodes_per_trial=2, hidden=8, ppo=PPOConfig(epochs=1, minibatches=1)),
        train=LoopSettings(
            n_iterations=2, n_tasks=3, validate_every_iters=2, n_validation_tasks=2, checkpoint_every_iters=2
        ),
        evaluation=Protocol(adapt_episodes=1, n_seeds=1, n_tasks=3),
        log=LogConfig(wandb="disabled", progress="off"),
        threads=1,
    )
    for name, settings in {"good": {}, **OTHERS}.items():
        assert start(Request(replace(config, **settings), folder / name, going_on=False), StopSignals()) == 0
    return folder / "good"
