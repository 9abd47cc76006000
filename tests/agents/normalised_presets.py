"""A run of a few seconds with every running statistic switched on, for tests that stop and resume it."""

from __future__ import annotations

import dataclasses

from metarl.agents.nn.normaliser import NormaliserConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.experiments.config import AnyConfig
from metarl.loop import LoopSettings
from tests.experiments import tiny_presets

NORMALISER = NormaliserConfig(observations=True)
LOOP = LoopSettings(
    n_iterations=12, n_tasks=8, validate_every_iters=5, n_validation_tasks=3, validation_adapt_episodes=2,
    validation_eval_episodes=2, checkpoint_every_iters=2,
)  # fmt: skip


def rl2() -> AnyConfig:
    """RL² with normalised observations, rewards in units of the trial, and an objective in units of the class."""
    plain = tiny_presets.rl2()
    assert isinstance(plain.agent, RL2Config)
    agent = dataclasses.replace(
        plain.agent, normaliser=NORMALISER, reward_input="trial", reward_objective="class", see_transition=True
    )
    log = dataclasses.replace(plain.log, wandb="disabled")
    return dataclasses.replace(plain, name="rl2-normalised", agent=agent, train=LOOP, log=log)
