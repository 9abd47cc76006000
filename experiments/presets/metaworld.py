"""Presets of Meta-World: ML1 reach and ML10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .setting import Setting, maml, rl2

if TYPE_CHECKING:
    from metarl.experiments.config import AnyConfig

ML1_REACH = Setting(
    "metaworld/ML1",
    dict(
        n_iterations=300, n_tasks=10, validate_every_iters=10, n_validation_tasks=10, validation_adapt_episodes=10,
        checkpoint_every_iters=5,
    ),
    dict(adapt_episodes=10, eval_episodes=3, n_seeds=1, max_envs=10),
    {"task": "reach-v3"},
)  # fmt: skip
ML10 = Setting(
    "metaworld/ML10",
    {**ML1_REACH.train, "n_tasks": 20, "validate_every_iters": 20, "n_validation_tasks": 20},
    {**ML1_REACH.evaluation, "max_envs": 20},
)


def ml1_reach_quick() -> AnyConfig:
    """RL² on Meta-World ML1 reach: short, to see real physics train; not a result."""
    scored = {"adapt_episodes": 1, "eval_episodes": 1, "n_tasks": 10}
    agent = rl2(episodes_per_trial=2)
    return ML1_REACH.run("ml1-reach-quick", agent, n_iterations=20, validation_adapt_episodes=1, scored=scored)


def maml_ml1_reach() -> AnyConfig:
    """MAML-TRPO on Meta-World ML1 reach: 10 tasks, 10 episodes per step."""
    return ML1_REACH.run("maml-ml1-reach", _maml(), envs_per_task=1)


def rl2_ml10() -> AnyConfig:
    """RL² on Meta-World ML10: 20 tasks per update, 10 episodes per trial."""
    scored = {"adapt_episodes": 9, "eval_episodes": 1}
    agent = rl2(episodes_per_trial=10)
    return ML10.run("rl2-ml10", agent, n_iterations=400, validation_adapt_episodes=9, scored=scored)


def maml_ml10() -> AnyConfig:
    """MAML-TRPO on Meta-World ML10: 20 tasks per update, 10 episodes per step."""
    return ML10.run("maml-ml10", _maml(), envs_per_task=1)


def _maml() -> Any:
    return maml(hidden=(128, 128), episodes_per_step=10)


PRESETS = (ml1_reach_quick, maml_ml1_reach, rl2_ml10, maml_ml10)
