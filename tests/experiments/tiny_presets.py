"""Runs of a few seconds for tests of the command line: `train tests.experiments.tiny_presets:tiny`."""

from __future__ import annotations

import dataclasses

from metarl.agents.baselines.finetune import FinetuneConfig
from metarl.agents.maml.agent import MAMLConfig
from metarl.agents.pearl.agent import PEARLConfig
from metarl.agents.pearl.sac import SACConfig
from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.evaluation import Protocol
from metarl.experiments.config import AnyConfig, ExperimentConfig, LogConfig, WorldConfig
from metarl.loop import LoopSettings
from tests.metarl.tiny import TinyConfig

LOOP = LoopSettings(
    n_iterations=6, n_tasks=4, validate_every_iters=3, n_validation_tasks=3, validation_adapt_episodes=2,
    validation_eval_episodes=2, checkpoint_every_iters=2,
)  # fmt: skip
LONG = dataclasses.replace(LOOP, n_iterations=40, validate_every_iters=7, checkpoint_every_iters=3)


def tiny() -> AnyConfig:
    """REINFORCE on the gridworld."""
    return ExperimentConfig(
        name="tiny",
        world=WorldConfig("gridworld", {"held_out": 3}),
        agent=TinyConfig(),
        train=LOOP,
        evaluation=Protocol(adapt_episodes=2, n_seeds=1),
        log=LogConfig(wandb="disabled", progress="off"),
        threads=1,
    )


def tiny_on_a_plane() -> AnyConfig:
    """An agent of choices in a world of pushes."""
    return dataclasses.replace(tiny(), world=WorldConfig("point-robot"))


def rl2() -> AnyConfig:
    """RL² on the gridworld, slow enough to be killed in the middle."""
    agent = RL2Config(episodes_per_trial=2, hidden=16, ppo=PPOConfig(epochs=2, minibatches=2))
    log = LogConfig(wandb="offline", progress="off")
    return dataclasses.replace(tiny(), name="rl2", agent=agent, train=dataclasses.replace(LONG, n_tasks=16), log=log)


def maml() -> AnyConfig:
    """MAML-TRPO on 2-D navigation, slow enough to be killed in the middle."""
    world = WorldConfig("navigation", {"n_validation": 10, "n_test": 10})
    agent = MAMLConfig(hidden=(8,), episodes_per_step=2)
    return dataclasses.replace(tiny(), name="maml", world=world, agent=agent, train=LONG)


def pearl() -> AnyConfig:
    """PEARL on the sparse point robot, with more tasks than its replay holds."""
    agent = PEARLConfig(
        prior_episodes=1, posterior_episodes=1, extra_episodes=0, latent=2, encoder_hidden=(8,), dense_reward=True,
        meta_batch=3, grad_steps=2, replay_tasks=12, replay_steps=90, sac=SACConfig(hidden=(8,), batch_size=8),
    )  # fmt: skip
    world = WorldConfig("sparse-point-robot")
    return dataclasses.replace(tiny(), name="pearl", world=world, agent=agent, train=LONG)


def finetune() -> AnyConfig:
    """Multi-task PPO with fine-tuning on 2-D navigation."""
    return dataclasses.replace(maml(), name="finetune", agent=FinetuneConfig(hidden=(8,)))


def not_a_config() -> int:
    """A function that is no preset."""
    return 3


def of_a_stranger() -> AnyConfig:
    """A world whose factory returns something else."""
    return dataclasses.replace(tiny(), world=WorldConfig("os:getcwd"))
