"""Presets of agents that are told what others must find out: the task itself, or the exact belief about it.

They have no memory. What they reach is what a meta-learner with perfect inference would: the known task's value, and
the Bayes-optimal one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metarl.evaluation import Protocol
from metarl.experiments.config import AnyConfig, ExperimentConfig, WorldConfig
from metarl.loop import LoopSettings


def _gridworld(name: str, n_iterations: int, entropy_coef: float, options: dict[str, Any]) -> AnyConfig:
    """Return a policy without memory on the gridworld, trained on trials of 4 episodes."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.rl2.agent import RL2Config

    ppo = PPOConfig(lr=3e-3, gamma=0.99, lam=0.95, entropy_coef=entropy_coef, anneal_iters=n_iterations, anneal_to=0.0)
    return ExperimentConfig(
        name=name,
        world=WorldConfig("revealed", {"world": "gridworld", **options}),
        agent=RL2Config(memory="none", episodes_per_trial=4, encoder=(64,), ppo=ppo),
        train=LoopSettings(
            n_iterations=n_iterations,
            n_tasks=256,
            validate_every_iters=20,
            n_validation_tasks=210,
            validation_adapt_episodes=3,
            checkpoint_every_iters=20,
        ),
        evaluation=Protocol(adapt_episodes=3, eval_episodes=1, n_seeds=10),
    )


def oracle_gridworld() -> AnyConfig:
    """Known-task oracle on the gridworld: a policy without memory that is shown the goal."""
    return _gridworld("oracle-gridworld", 100, 0.02, {"what": "task"})


def belief_gridworld() -> AnyConfig:
    """Exact-belief agent on the gridworld: no memory, but shown the posterior over goals and the trial's clock."""
    return _gridworld("belief-gridworld", 240, 0.1, {"what": "belief", "trial_episodes": 4})


def oracle_navigation() -> AnyConfig:
    """Known-task oracle on 2-D navigation: a policy without memory that is shown the goal."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.rl2.agent import RL2Config

    ppo = PPOConfig(lr=2e-3, gamma=0.99, lam=0.95, entropy_coef=0.0, anneal_iters=200, anneal_to=0.0)
    return ExperimentConfig(
        name="oracle-navigation",
        world=WorldConfig("revealed", {"world": "navigation", "what": "task"}),
        agent=RL2Config(memory="none", episodes_per_trial=1, encoder=(64,), min_std=0.01, ppo=ppo),
        train=LoopSettings(
            n_iterations=200,
            n_tasks=200,
            validate_every_iters=10,
            n_validation_tasks=100,
            validation_adapt_episodes=0,
        ),
        evaluation=Protocol(adapt_episodes=0, eval_episodes=1, n_seeds=20, n_tasks=100),  # nothing to adapt to
    )


ORACLE_PRESETS: dict[str, Callable[[], AnyConfig]] = {
    "oracle-gridworld": oracle_gridworld,
    "belief-gridworld": belief_gridworld,
    "oracle-navigation": oracle_navigation,
}
