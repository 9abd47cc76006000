"""Presets of agents on worlds that are not those of their papers, so that the table compares them everywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from metarl.evaluation import Protocol
from metarl.experiments.config import AnyConfig, ExperimentConfig, WorldConfig
from metarl.loop import LoopSettings


def _trials(
    name: str,
    world: WorldConfig,
    agent: Any,
    n_iterations: int,
    n_tasks: int,
    *,
    greedy: bool,
    n_test: int | None = None,
) -> AnyConfig:
    """Return a run of an agent that keeps its memory through a trial, whose last episode is scored."""
    adapt = agent.episodes_per_trial - 1
    return ExperimentConfig(
        name=name,
        world=world,
        agent=agent,
        train=LoopSettings(
            n_iterations=n_iterations,
            n_tasks=n_tasks,
            validate_every_iters=20,
            n_validation_tasks=40,
            validation_adapt_episodes=adapt,
            checkpoint_every_iters=20,
        ),
        evaluation=Protocol(adapt_episodes=adapt, eval_episodes=1, n_seeds=10, n_tasks=n_test, greedy=greedy),
    )


def _memory(episodes: int, n_iterations: int, **options: Any) -> Any:
    """Return RL² on trials of `episodes` episodes."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.rl2.agent import RL2Config

    ppo = PPOConfig(lr=2e-3, gamma=0.99, lam=0.95, entropy_coef=0.0, anneal_iters=n_iterations, anneal_to=0.0)
    return RL2Config(episodes_per_trial=episodes, encoder=(64,), min_std=0.02, ppo=ppo, **options)


def _belief(episodes: int, n_iterations: int, vae: dict[str, Any] | None = None, **options: Any) -> Any:
    """Return VariBAD on trials of `episodes` episodes."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.varibad.agent import VariBADConfig
    from metarl.agents.varibad.vae import VAEConfig

    inference = VAEConfig(kl_weight=0.01, horizons=16, lr=3e-3, updates=15, **(vae or {}))
    ppo = PPOConfig(lr=1e-3, gamma=0.99, lam=0.95, entropy_coef=0.0, anneal_iters=n_iterations, anneal_to=0.0)
    return VariBADConfig(
        episodes_per_trial=episodes, hidden=(64, 64), vae=inference, ppo=ppo, min_std=0.02, **options
    )  # fmt: skip


# On navigation both are scored as they were trained, with noise: the means alone stay farther from the goal.
def rl2_navigation() -> AnyConfig:
    """RL² on 2-D navigation: two episodes; distances met on the way give the goal away within a few steps."""
    world = WorldConfig("navigation")
    return _trials("rl2-navigation", world, _memory(2, 150), 150, 100, greedy=False, n_test=100)


def varibad_navigation() -> AnyConfig:
    """VariBAD on 2-D navigation, two episodes per trial."""
    world = WorldConfig("navigation")
    return _trials("varibad-navigation", world, _belief(2, 100), 100, 100, greedy=False, n_test=100)


def rl2_sparse_point_robot() -> AnyConfig:
    """RL² on the sparse point robot: it learns from the dense reward, as PEARL does; its memory sees the sparse one."""
    agent = _memory(10, 150, hidden=128, dense_reward=True)
    return _trials("rl2-sparse-point-robot", WorldConfig("sparse-point-robot"), agent, 150, 128, greedy=True)


def varibad_sparse_point_robot() -> AnyConfig:
    """VariBAD on the sparse point robot: the policy learns from the dense reward, the belief from the sparse one."""
    told = {"reward_from": "next_obs", "reward_likelihood": "bernoulli"}
    agent = _belief(10, 150, told, dense_reward=True)
    return _trials("varibad-sparse-point-robot", WorldConfig("sparse-point-robot"), agent, 150, 128, greedy=True)


def _gradient(name: str, world: WorldConfig, inner_steps: int, episodes: int, n_iterations: int) -> AnyConfig:
    """Return MAML-TRPO with `inner_steps` steps of `episodes` episodes each, then one scored episode."""
    from metarl.agents.maml.agent import MAMLConfig

    adapt = inner_steps * episodes
    return ExperimentConfig(
        name=name,
        world=world,
        agent=MAMLConfig(inner_steps=inner_steps, episodes_per_step=episodes),
        train=LoopSettings(
            n_iterations=n_iterations,
            n_tasks=40,
            validate_every_iters=20,
            n_validation_tasks=40,
            validation_adapt_episodes=adapt,
            checkpoint_every_iters=20,
        ),
        evaluation=Protocol(adapt_episodes=adapt, eval_episodes=1, n_seeds=10),
    )


def maml_gridworld() -> AnyConfig:
    """MAML-TRPO on the gridworld: one inner step on 20 episodes."""
    return _gradient("maml-gridworld", WorldConfig("gridworld"), 1, 20, 100)


def maml_bandit() -> AnyConfig:
    """MAML-TRPO on Bernoulli bandits: four inner steps of 20 pulls and a query of 20, 100 pulls in all."""
    world = WorldConfig("bandit", {"n_arms": 5, "n_pulls": 100})
    return _whole_trial(_gradient("maml-bandit", world, 4, 20, 60), query=20)


def maml_tabular_mdp() -> AnyConfig:
    """MAML-TRPO on random MDPs: four inner steps of 2 episodes and a query of 2, 10 episodes in all."""
    return _whole_trial(_gradient("maml-tabular-mdp", WorldConfig("tabular-mdp"), 4, 2, 60), query=2)


def _whole_trial(config: AnyConfig, query: int) -> AnyConfig:
    """Return a run of which all episodes count, the last `query` after all inner steps."""
    train = dataclasses.replace(config.train, n_tasks=200, n_validation_tasks=200, validation_eval_episodes=query)
    protocol = dataclasses.replace(config.evaluation, eval_episodes=query, n_seeds=3, n_tasks=None)
    return dataclasses.replace(config, train=train, evaluation=protocol)


ACROSS_PRESETS: dict[str, Callable[[], AnyConfig]] = {
    "rl2-navigation": rl2_navigation,
    "rl2-sparse-point-robot": rl2_sparse_point_robot,
    "varibad-navigation": varibad_navigation,
    "varibad-sparse-point-robot": varibad_sparse_point_robot,
    "maml-gridworld": maml_gridworld,
    "maml-bandit": maml_bandit,
    "maml-tabular-mdp": maml_tabular_mdp,
}
