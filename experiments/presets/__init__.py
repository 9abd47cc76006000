"""Presets: functions that return the config of a run. A preset fixes the types; the command line changes values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from metarl.containment import going_on
from metarl.errors import ConfigError, MetarlError, nearest
from metarl.evaluation import Protocol
from metarl.experiments.config import AnyConfig, ExperimentConfig, WorldConfig
from metarl.loop import LoopSettings
from metarl.registry import load_target
from metarl.stranger_probe import told

from .across import ACROSS_PRESETS
from .maml import GRADIENT_PRESETS, maml_navigation
from .metric import METRIC_PRESETS
from .npc import NPC_PRESETS
from .npc_others import NPC_OTHER_PRESETS
from .oracle import ORACLE_PRESETS


def rl2_gridworld() -> AnyConfig:
    """RL² on the 5x5 gridworld with a hidden goal, 4 episodes per trial: minutes on 2 CPU cores."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.rl2.agent import RL2Config

    # Much entropy at first keeps several routes alive until their worth for the *second* episode is known; with less,
    # training settles on a route that costs 0.6 per trial there.
    ppo = PPOConfig(lr=3e-3, gamma=0.99, lam=0.95, entropy_coef=0.1, anneal_iters=240, anneal_to=0.02)
    return ExperimentConfig(
        name="rl2-gridworld",
        world=WorldConfig("gridworld"),
        agent=RL2Config(episodes_per_trial=4, ppo=ppo),
        train=LoopSettings(
            n_iterations=240,
            n_tasks=256,
            validate_every_iters=20,
            n_validation_tasks=210,
            validation_adapt_episodes=3,
            checkpoint_every_iters=20,
        ),
        evaluation=Protocol(adapt_episodes=3, eval_episodes=1, n_seeds=10),
    )


def rl2_transformer_gridworld() -> AnyConfig:
    """RL² with a causal transformer as memory on the gridworld: minutes on 2 CPU cores."""
    from metarl.agents.memory.transformer import TransformerConfig

    # Narrow, and small batches: what counts is the number of updates. Bayes-optimal in all four episodes after 350.
    return _gridworld_memory(
        "transformer", lr=3e-3, n_tasks=128, n_iterations=400, hidden=32, transformer=TransformerConfig(layers=1)
    )


def rl2_snail_gridworld() -> AnyConfig:
    """RL² with temporal convolutions and attention (SNAIL) as memory on the gridworld."""
    from metarl.agents.memory.snail import SNAILConfig

    # One pair of convolutions and attention reaches over the whole trial; two cost twice as much.
    return _gridworld_memory("snail", lr=3e-3, n_tasks=128, n_iterations=300, hidden=32, snail=SNAILConfig(blocks=1))


def rl2_mann_gridworld() -> AnyConfig:
    """RL² with an LSTM and an external memory (MANN) on the gridworld."""
    return _gridworld_memory("mann", lr=3e-3, n_tasks=128)


def _gridworld_memory(
    memory: Any, *, lr: float, n_tasks: int = 256, n_iterations: int = 240, **options: Any
) -> AnyConfig:
    """Return `rl2_gridworld` with another memory."""
    base = rl2_gridworld()
    ppo = dataclasses.replace(base.agent.ppo, lr=lr, anneal_iters=n_iterations)
    agent = dataclasses.replace(base.agent, memory=memory, ppo=ppo, **options)
    train = dataclasses.replace(base.train, n_iterations=n_iterations, n_tasks=n_tasks)
    return dataclasses.replace(base, name=f"rl2-{memory}-gridworld", agent=agent, train=train)


def varibad_gridworld() -> AnyConfig:
    """VariBAD on the 5x5 gridworld with a hidden goal, 4 episodes per trial: minutes on 2 CPU cores."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.varibad.agent import VariBADConfig
    from metarl.agents.varibad.vae import VAEConfig

    # Steeper steps on fewer of them than published, and more of the KL: beliefs that wander less are a firmer ground
    # for a policy that learns fast. Small batches pay: what counts is the number of updates.
    vae = VAEConfig(
        reward_from="next_obs", reward_likelihood="bernoulli", kl_weight=0.05, horizons=16, lr=3e-3, updates=5
    )
    ppo = PPOConfig(lr=3e-3, gamma=0.99, lam=0.95, entropy_coef=0.1, anneal_iters=1300, anneal_to=0.02)
    return ExperimentConfig(
        name="varibad-gridworld",
        world=WorldConfig("gridworld"),
        agent=VariBADConfig(episodes_per_trial=4, hidden=(64, 64), vae=vae, ppo=ppo),
        train=LoopSettings(
            n_iterations=1300,
            n_tasks=128,
            validate_every_iters=100,
            n_validation_tasks=210,
            validation_adapt_episodes=3,
            checkpoint_every_iters=100,
        ),
        evaluation=Protocol(adapt_episodes=3, eval_episodes=1, n_seeds=10),
    )


def rl2_bandit() -> AnyConfig:
    """RL² on 5-armed Bernoulli bandits, 100 pulls per trial (Duan et al. 2016, section 3.1)."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.rl2.agent import RL2Config

    # A large step on small batches, and entropy that is taken away slowly: policies that stop exploring early settle on
    # a favourite arm (a total of about 70).
    ppo = PPOConfig(lr=2e-3, gamma=0.99, lam=0.8, entropy_coef=0.05, anneal_iters=1000, anneal_to=0.02)
    return ExperimentConfig(
        name="rl2-bandit",
        world=WorldConfig("bandit", {"n_arms": 5, "n_pulls": 100}),
        agent=RL2Config(episodes_per_trial=100, layer_norm=True, ppo=ppo),  # a pull is an episode
        train=LoopSettings(
            n_iterations=1000,
            n_tasks=256,
            validate_every_iters=50,
            n_validation_tasks=200,
            validation_adapt_episodes=99,
            checkpoint_every_iters=50,
        ),
        evaluation=Protocol(adapt_episodes=99, eval_episodes=1, n_seeds=3, greedy=True, greedy_adaptation=True),
    )


def rl2_tabular_mdp() -> AnyConfig:
    """RL² on random 10-state MDPs, 10 episodes per trial (Duan et al. 2016, section 3.2)."""
    from metarl.agents.ppo import PPOConfig
    from metarl.agents.rl2.agent import RL2Config

    ppo = PPOConfig(lr=2e-3, gamma=0.99, lam=0.7, entropy_coef=0.05, anneal_iters=900, anneal_to=0.03)
    return ExperimentConfig(
        name="rl2-tabular-mdp",
        world=WorldConfig("tabular-mdp"),
        agent=RL2Config(episodes_per_trial=10, hidden=128, layer_norm=True, ppo=ppo),
        train=LoopSettings(
            n_iterations=900,
            n_tasks=256,
            validate_every_iters=50,
            n_validation_tasks=200,
            validation_adapt_episodes=9,
            checkpoint_every_iters=25,
        ),
        evaluation=Protocol(adapt_episodes=9, eval_episodes=1, n_seeds=3, greedy=True, greedy_adaptation=True),
    )


def rl2_matching_tabular_mdp() -> AnyConfig:
    """RL² on random MDPs with a memory that files what happened under the state in which it happened."""
    from metarl.agents.memory.matching import MatchingConfig
    from metarl.agents.ppo import PPOConfig

    plain, n = rl2_tabular_mdp(), 300
    agent = dataclasses.replace(
        plain.agent,
        memory="matching",
        hidden=64,
        layer_norm=False,
        normalise_inputs=False,
        foresight_coef=0.5,
        matching=MatchingConfig(identity=(), pooled=True),
        ppo=PPOConfig(lr=2e-3, gamma=0.99, lam=0.7, entropy_coef=0.05, anneal_iters=n, anneal_to=0.03),
    )
    train = dataclasses.replace(plain.train, n_iterations=n)
    return dataclasses.replace(plain, name="rl2-matching-tabular-mdp", agent=agent, train=train)


def finetune_navigation() -> AnyConfig:
    """Multi-task PPO with gradient fine-tuning on 2-D navigation: what MAML has to beat."""
    from metarl.agents.baselines.finetune import FinetuneConfig

    return ExperimentConfig(
        name="finetune-navigation",
        world=WorldConfig("navigation"),
        agent=FinetuneConfig(),
        train=LoopSettings(
            n_iterations=50,
            n_tasks=20,
            validate_every_iters=10,
            n_validation_tasks=20,
            validation_adapt_episodes=20,
            validation_eval_episodes=20,
        ),
        evaluation=Protocol(adapt_episodes=60, eval_episodes=20, n_seeds=1, n_tasks=100),
    )


def scratch_navigation() -> AnyConfig:
    """Fresh PPO on each 2-D navigation task's adaptation episodes: nothing is meta-trained."""
    from metarl.agents.baselines.scratch import ScratchConfig

    return ExperimentConfig(
        name="scratch-navigation",
        world=WorldConfig("navigation"),
        agent=ScratchConfig(),
        # One iteration makes the run directory that `evaluate` reads; the agent learns nothing from it.
        train=LoopSettings(n_iterations=1, n_tasks=1, validate_every_iters=0),
        evaluation=Protocol(adapt_episodes=60, eval_episodes=20, n_seeds=1, n_tasks=100),
    )


def pearl_sparse_point_robot() -> AnyConfig:
    """PEARL on the sparse point robot: a goal on a half-circle, paid within 0.2 of it (Rakelly et al. 2019)."""
    from metarl.agents.pearl.agent import PEARLConfig
    from metarl.agents.pearl.sac import SACConfig

    # Reward is met once in a thousand episodes of a policy that only trembles. A fresh actor that walks off another way
    # for each z meets it in one of fifteen; the first iterations collect with it.
    #
    # What decides whether anything is learnt is how many of the contexts that the encoder learns from hold a reward at
    # all. Where one does not, z is little more than noise, the critics average over all goals, and the actor learns to
    # stand in the middle for any z, which meets no reward: a trap. Hence whole trials of 30 episodes as contexts, most
    # of them after the belief has moved, and a low price of information (one that rises from 0.03 to 0.15 per nat ended
    # in the trap; the authors' is 0.0025 in units of this reward scale). Their random length teaches the encoder to
    # make do with few episodes: trained on long contexts only, one episode with reward out of nine was worth 3 points
    # in the tenth, four were worth 10. What a policy does not visit drops out of the latest contexts, and then out of
    # what z can say: one seed in three never learnt an end of the half-circle. Hence a long warm-up, whose trials meet
    # all goals alike, and twenty trials per task as contexts. A second guess per episode meets more goals: the way from
    # one to the next follows the half-circle.
    sac = SACConfig(
        hidden=(64, 64),
        lr=1e-3,
        gamma=0.9,
        tau=0.01,
        batch_size=64,
        reward_scale=5.0,
        temperature=0.1,
        target_entropy=0.1,
        initial_gain=8.0,
    )
    return ExperimentConfig(
        name="pearl-sparse-point-robot",
        world=WorldConfig("sparse-point-robot"),
        agent=PEARLConfig(
            prior_episodes=10,
            posterior_episodes=20,
            extra_episodes=0,
            explore_episodes=3,
            encoder="prior-product",
            encoder_hidden=(64, 64),
            context_order="trial",
            context_size=600,
            context_least=40,
            context_trials=20,
            redraw_steps=12,
            kl_weight=0.03,
            kl_first=0.01,
            kl_iters=60,
            dense_reward=True,
            meta_batch=12,
            grad_steps=200,
            warmup_iters=10,
            anneal_iters=130,
            replay_tasks=70,
            sac=sac,
        ),
        train=LoopSettings(
            n_iterations=130,
            n_tasks=40,
            validate_every_iters=20,
            n_validation_tasks=100,
            validation_adapt_episodes=9,
            checkpoint_every_iters=20,
        ),
        evaluation=Protocol(adapt_episodes=9, eval_episodes=1, n_seeds=10, greedy=True),
    )


def ml1_reach_quick() -> AnyConfig:
    """RL² on Meta-World ML1 reach: short, to see real physics train; not a result."""
    from metarl.agents.rl2.agent import RL2Config

    return ExperimentConfig(
        name="ml1-reach-quick",
        world=WorldConfig("metaworld/ML1", {"task": "reach-v3"}),
        agent=RL2Config(episodes_per_trial=2),
        train=LoopSettings(
            n_iterations=20,
            n_tasks=10,
            validate_every_iters=10,
            n_validation_tasks=10,
            validation_adapt_episodes=1,
            checkpoint_every_iters=5,
        ),
        evaluation=Protocol(adapt_episodes=1, eval_episodes=1, n_seeds=1, max_copies=10, n_tasks=10),
    )


def maml_ml1_reach() -> AnyConfig:
    """MAML-TRPO on Meta-World ML1 reach: 10 tasks, 10 episodes per step."""
    from metarl.agents.maml.agent import MAMLConfig

    return ExperimentConfig(
        name="maml-ml1-reach",
        world=WorldConfig("metaworld/ML1", {"task": "reach-v3"}),
        agent=MAMLConfig(hidden=(128, 128), episodes_per_step=10),
        train=LoopSettings(
            n_iterations=300,
            n_tasks=10,
            copies_per_task=1,
            validate_every_iters=10,
            n_validation_tasks=10,
            validation_adapt_episodes=10,
            validation_eval_episodes=1,
            checkpoint_every_iters=5,
        ),
        evaluation=Protocol(adapt_episodes=10, eval_episodes=3, n_seeds=1, max_copies=10),
    )


def rl2_ml10() -> AnyConfig:
    """RL² on Meta-World ML10: 20 tasks per update, 10 episodes per trial."""
    from metarl.agents.rl2.agent import RL2Config

    return ExperimentConfig(
        name="rl2-ml10",
        world=WorldConfig("metaworld/ML10"),
        agent=RL2Config(episodes_per_trial=10),
        train=LoopSettings(
            n_iterations=400,
            n_tasks=20,
            validate_every_iters=20,
            n_validation_tasks=20,
            validation_adapt_episodes=9,
            checkpoint_every_iters=5,
        ),
        evaluation=Protocol(adapt_episodes=9, eval_episodes=1, n_seeds=1, max_copies=20),
    )


def maml_ml10() -> AnyConfig:
    """MAML-TRPO on Meta-World ML10: 20 tasks per update, 10 episodes per step."""
    from metarl.agents.maml.agent import MAMLConfig

    return ExperimentConfig(
        name="maml-ml10",
        world=WorldConfig("metaworld/ML10"),
        agent=MAMLConfig(hidden=(128, 128), episodes_per_step=10),
        train=LoopSettings(
            n_iterations=300,
            n_tasks=20,
            copies_per_task=1,
            validate_every_iters=20,
            n_validation_tasks=20,
            validation_adapt_episodes=10,
            validation_eval_episodes=1,
            checkpoint_every_iters=5,
        ),
        evaluation=Protocol(adapt_episodes=10, eval_episodes=3, n_seeds=1, max_copies=20),
    )


PRESETS: dict[str, Callable[[], AnyConfig]] = {
    "rl2-gridworld": rl2_gridworld,
    "rl2-transformer-gridworld": rl2_transformer_gridworld,
    "rl2-snail-gridworld": rl2_snail_gridworld,
    "rl2-mann-gridworld": rl2_mann_gridworld,
    "varibad-gridworld": varibad_gridworld,
    "rl2-bandit": rl2_bandit,
    "rl2-tabular-mdp": rl2_tabular_mdp,
    "rl2-matching-tabular-mdp": rl2_matching_tabular_mdp,
    "maml-navigation": maml_navigation,
    "finetune-navigation": finetune_navigation,
    "scratch-navigation": scratch_navigation,
    "pearl-sparse-point-robot": pearl_sparse_point_robot,
    "ml1-reach-quick": ml1_reach_quick,
    "maml-ml1-reach": maml_ml1_reach,
    "rl2-ml10": rl2_ml10,
    "maml-ml10": maml_ml10,
    **GRADIENT_PRESETS,
    **ACROSS_PRESETS,
    **METRIC_PRESETS,
    **ORACLE_PRESETS,
    **NPC_PRESETS,
    **NPC_OTHER_PRESETS,
}


def load_preset(name: str) -> AnyConfig:
    """Return the config of a preset, or of a function `package.module:function` of your own.

    Raises: ConfigError naming the nearest presets, or what the function returned instead of a config.
    """
    make = load_target(name, "preset") if ":" in name else PRESETS.get(name)
    if make is None:
        raise ConfigError(f"unknown preset {name!r}; {nearest(name, PRESETS)}")
    try:
        with going_on():
            config = make()
    except (Exception, SystemExit) as error:
        if name in PRESETS or isinstance(error, MetarlError):
            raise
        raise ConfigError(f"preset {name!r} cannot be built: {told(error)}") from error
    if not isinstance(config, ExperimentConfig):
        raise ConfigError(f"preset {name!r} returned a {type(config).__name__}; it must return an ExperimentConfig")
    return config


def describe_presets() -> str:
    """Return one line per preset: its name and what it is."""
    width = max(map(len, PRESETS)) + 2
    return "\n".join(f"  {name:<{width}}{(make.__doc__ or '').splitlines()[0]}" for name, make in PRESETS.items())
