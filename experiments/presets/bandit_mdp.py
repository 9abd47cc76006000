"""Presets of Bernoulli bandits and random MDPs: whole trials count, actions are the most likely ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .setting import Setting, maml, ppo, rl2

if TYPE_CHECKING:
    from metarl.experiments.config import AnyConfig

BANDIT = Setting(
    "bandit",
    dict(
        n_iterations=1000, n_tasks=256, validate_every_iters=50, n_validation_tasks=200, validation_adapt_episodes=99,
        checkpoint_every_iters=50,
    ),
    dict(adapt_episodes=99, eval_episodes=1, n_seeds=3, greedy=True, greedy_adaptation=True),
    {"n_arms": 5, "n_pulls": 100},
)  # fmt: skip
TABULAR_MDP = Setting(
    "tabular-mdp",
    {**BANDIT.train, "n_iterations": 900, "validation_adapt_episodes": 9, "checkpoint_every_iters": 25},
    {**BANDIT.evaluation, "adapt_episodes": 9},
)


def rl2_bandit() -> AnyConfig:
    """RL² on 5-armed Bernoulli bandits, 100 pulls per trial (Duan et al. 2016, section 3.1)."""
    # A large step on small batches, and entropy that is taken away slowly: policies that stop exploring early settle on
    # a favourite arm (a total of about 70).
    settings = ppo(1000, lr=2e-3, lam=0.8, entropy_coef=0.05, anneal_to=0.02)
    return BANDIT.run("rl2-bandit", rl2(episodes_per_trial=100, layer_norm=True, ppo=settings))  # a pull is an episode


def rl2_tabular_mdp() -> AnyConfig:
    """RL² on random 10-state MDPs, 10 episodes per trial (Duan et al. 2016, section 3.2)."""
    settings = ppo(900, lr=2e-3, lam=0.7, entropy_coef=0.05, anneal_to=0.03)
    agent = rl2(episodes_per_trial=10, hidden=128, layer_norm=True, ppo=settings)
    return TABULAR_MDP.run("rl2-tabular-mdp", agent)


def rl2_matching_tabular_mdp() -> AnyConfig:
    """RL² on random MDPs with a memory that files what happened under the state in which it happened."""
    from metarl.agents.memory.matching import MatchingConfig

    agent = rl2(
        episodes_per_trial=10, memory="matching", hidden=64, normalise_inputs=False, reward_prediction_coef=0.5,
        matching=MatchingConfig(identity=(), pooled=True),
        ppo=ppo(300, lr=2e-3, lam=0.7, entropy_coef=0.05, anneal_to=0.03),
    )  # fmt: skip
    return TABULAR_MDP.run("rl2-matching-tabular-mdp", agent, n_iterations=300)


def _maml(name: str, setting: Setting, episodes: int) -> AnyConfig:
    """Return MAML-TRPO with four inner steps of so many `episodes` and a query of as many, with actions drawn."""
    adapt = 4 * episodes
    return setting.run(
        name, maml(inner_steps=4, episodes_per_step=episodes), n_iterations=60, n_tasks=200, validate_every_iters=20,
        validation_adapt_episodes=adapt, validation_eval_episodes=episodes, checkpoint_every_iters=20,
        scored={"adapt_episodes": adapt, "eval_episodes": episodes, "greedy": False, "greedy_adaptation": False},
    )  # fmt: skip


def maml_bandit() -> AnyConfig:
    """MAML-TRPO on Bernoulli bandits: four inner steps of 20 pulls and a query of 20, 100 pulls in all."""
    return _maml("maml-bandit", BANDIT, 20)


def maml_tabular_mdp() -> AnyConfig:
    """MAML-TRPO on random MDPs: four inner steps of 2 episodes and a query of 2, 10 episodes in all."""
    return _maml("maml-tabular-mdp", TABULAR_MDP, 2)


PRESETS = (rl2_bandit, rl2_tabular_mdp, rl2_matching_tabular_mdp, maml_bandit, maml_tabular_mdp)
