"""Presets of the 5x5 gridworld with a hidden goal: trials of 4 episodes, the last one scored on all 21 goals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .setting import Setting, maml, ppo, rl2, varibad

if TYPE_CHECKING:
    from metarl.experiments.config import AnyConfig

GRIDWORLD = Setting(
    "gridworld",
    dict(
        n_iterations=240, n_tasks=256, validate_every_iters=20, n_validation_tasks=210, validation_adapt_episodes=3,
        checkpoint_every_iters=20,
    ),
    dict(adapt_episodes=3, eval_episodes=1, n_seeds=10),
)  # fmt: skip


def rl2_gridworld() -> AnyConfig:
    """RL² on the 5x5 gridworld with a hidden goal, 4 episodes per trial: minutes on 2 CPU cores."""
    # Much entropy at first keeps several routes alive until their worth for the *second* episode is known; with less,
    # training settles on a route that costs 0.6 per trial there.
    return _memory("rl2-gridworld", lr=3e-3, n_tasks=256)


def rl2_transformer_gridworld() -> AnyConfig:
    """RL² with a causal transformer as memory on the gridworld: minutes on 2 CPU cores."""
    from metarl.agents.memory.transformer import TransformerConfig

    # Narrow, and small batches: what counts is the number of updates. Bayes-optimal in all four episodes after 350.
    options: Any = {"memory": "transformer", "hidden": 32, "transformer": TransformerConfig(layers=1)}
    return _memory("rl2-transformer-gridworld", n_iterations=400, **options)


def rl2_snail_gridworld() -> AnyConfig:
    """RL² with temporal convolutions and attention (SNAIL) as memory on the gridworld."""
    from metarl.agents.memory.snail import SNAILConfig

    # One pair of convolutions and attention reaches over the whole trial; two cost twice as much.
    options: Any = {"memory": "snail", "hidden": 32, "snail": SNAILConfig(blocks=1)}
    return _memory("rl2-snail-gridworld", n_iterations=300, **options)


def rl2_mann_gridworld() -> AnyConfig:
    """RL² with an LSTM and an external memory (MANN) on the gridworld."""
    return _memory("rl2-mann-gridworld", memory="mann")


def _memory(name: str, *, lr: float = 3e-3, n_tasks: int = 128, n_iterations: int = 240, **options: Any) -> AnyConfig:
    """Return RL² with the memory that `options` name."""
    agent = rl2(episodes_per_trial=4, ppo=ppo(n_iterations, lr=lr, entropy_coef=0.1, anneal_to=0.02), **options)
    return GRIDWORLD.run(name, agent, n_iterations=n_iterations, n_tasks=n_tasks)


def varibad_gridworld() -> AnyConfig:
    """VariBAD on the 5x5 gridworld with a hidden goal, 4 episodes per trial: minutes on 2 CPU cores."""
    # Steeper steps on fewer of them than published, and more of the KL: beliefs that wander less are a firmer ground
    # for a policy that learns fast. Small batches pay: what counts is the number of updates.
    vae = {"reward_from": "next_obs", "reward_likelihood": "bernoulli", "kl_weight": 0.05, "updates": 5}
    agent = varibad(vae, episodes_per_trial=4, ppo=ppo(1300, lr=3e-3, entropy_coef=0.1, anneal_to=0.02))
    return GRIDWORLD.run(
        "varibad-gridworld", agent, n_iterations=1300, n_tasks=128, validate_every_iters=100, checkpoint_every_iters=100
    )


def maml_gridworld() -> AnyConfig:
    """MAML-TRPO on the gridworld: one inner step on 20 episodes."""
    loop: Any = {"n_iterations": 100, "n_tasks": 40, "n_validation_tasks": 40, "validation_adapt_episodes": 20}
    return GRIDWORLD.run(
        "maml-gridworld", maml(inner_steps=1, episodes_per_step=20), scored={"adapt_episodes": 20}, **loop
    )


def _oracle(name: str, n_iterations: int, entropy_coef: float, **told: Any) -> AnyConfig:
    """Return a memoryless policy on the oracle observation wrapper: an upper bound for agents that infer the task."""
    settings = ppo(n_iterations, lr=3e-3, entropy_coef=entropy_coef, anneal_to=0.0)
    agent = rl2(memory="none", episodes_per_trial=4, encoder=(64,), ppo=settings)
    setting = replace(GRIDWORLD, world="revealed", options={"world": "gridworld", **told})
    return setting.run(name, agent, n_iterations=n_iterations)


def oracle_gridworld() -> AnyConfig:
    """Known-task oracle on the gridworld: a policy without memory that is shown the goal."""
    return _oracle("oracle-gridworld", 100, 0.02, what="task")


def belief_gridworld() -> AnyConfig:
    """Exact-belief agent on the gridworld: no memory, but shown the posterior over goals and the trial's clock."""
    return _oracle("belief-gridworld", 240, 0.1, what="belief", trial_episodes=4)


PRESETS = (
    rl2_gridworld, rl2_transformer_gridworld, rl2_snail_gridworld, rl2_mann_gridworld, varibad_gridworld,
    maml_gridworld, oracle_gridworld, belief_gridworld,
)  # fmt: skip
