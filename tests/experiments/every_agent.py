"""Small runs of every agent in all its kinds, as presets: `train tests.experiments.every_agent:rl2_gru`.

What a kind keeps between updates differs (optimisers, buffers, statistics, libraries, counters), so each is a run of
its own. The module's names are made when they are asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from metarl.agents.baselines.finetune import FinetuneConfig
from metarl.agents.baselines.random_policy import RandomConfig
from metarl.agents.baselines.scratch import ScratchConfig
from metarl.agents.maml.agent import MAMLConfig
from metarl.agents.maml.promp import OuterPPOConfig
from metarl.agents.memory.mann import MANNConfig
from metarl.agents.memory.snail import SNAILConfig
from metarl.agents.memory.transformer import TransformerConfig
from metarl.agents.metric.agent import MetricConfig
from metarl.agents.nn.normaliser import NormaliserConfig
from metarl.agents.pearl.agent import PEARLConfig
from metarl.agents.pearl.sac import SACConfig
from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.agents.varibad.agent import VariBADConfig
from metarl.agents.varibad.vae import VAEConfig
from metarl.evaluation import Protocol
from metarl.experiments.config import AnyConfig, ExperimentConfig, LogConfig, WorldConfig
from metarl.loop import LoopSettings

N_ITERATIONS, CHECKPOINT_EVERY = 4, 2
GRIDWORLD = WorldConfig("gridworld", {"held_out": 3})
POINT = WorldConfig("point-robot", {"n_validation": 4, "n_test": 4})
SPARSE = WorldConfig("sparse-point-robot")
COMPANION = WorldConfig("npc/companion", {"identity": "id"})
PPO = PPOConfig(epochs=2, minibatches=2, anneal_iters=N_ITERATIONS)
SEEN = NormaliserConfig(observations=True)
RL2 = RL2Config(
    episodes_per_trial=2, hidden=8, ppo=PPO, transformer=TransformerConfig(heads=2), mann=MANNConfig(slots=4, width=4),
    snail=SNAILConfig(filters=3, key_size=4, value_size=4),
)  # fmt: skip
MAML = MAMLConfig(hidden=(8,), episodes_per_step=2, normaliser=SEEN)
# More training tasks than the replay or the library holds, and fewer transitions than its tasks give.
PEARL = PEARLConfig(
    prior_episodes=1, posterior_episodes=1, extra_episodes=1, latent=2, encoder_hidden=(8,), dense_reward=True,
    meta_batch=3, grad_steps=2, warmup_iters=1, kl_first=0.03, kl_iters=4, replay_tasks=6, replay_steps=50,
    normaliser=SEEN, sac=SACConfig(hidden=(8,), batch_size=8, target_entropy=-1.0),
)  # fmt: skip
METRIC = MetricConfig(
    n_library=6, embedding=3, reader_hidden=(8,), context_size=8, metric_steps=2, hidden=(8,), support_episodes=2,
    episodes_per_step=2, warmup_iters=1, policy_steps=2, normaliser=SEEN,
)  # fmt: skip
VARIBAD = VariBADConfig(
    episodes_per_trial=2, hidden=(8,), ppo=PPO,
    vae=VAEConfig(latent=2, embedding=(8,), hidden=8, decoder=(8,), updates=2, batch_trials=3, buffer_trials=10),
)  # fmt: skip
FINETUNE = FinetuneConfig(hidden=(8,), episodes_per_task=2, episodes_per_adapt=2, ppo=PPO, normaliser=SEEN)

_with = dataclasses.replace
KINDS: dict[str, tuple[WorldConfig, Any]] = {
    "rl2_gru": (GRIDWORLD, RL2),
    "rl2_lstm": (GRIDWORLD, _with(RL2, memory="lstm", bptt_steps=10)),
    "rl2_mann": (GRIDWORLD, _with(RL2, memory="mann")),
    "rl2_transformer": (GRIDWORLD, _with(RL2, memory="transformer")),
    "rl2_snail": (GRIDWORLD, _with(RL2, memory="snail")),
    "rl2_matching": (COMPANION, _with(RL2, memory="matching")),
    "rl2_none": (GRIDWORLD, _with(RL2, memory="none")),
    "rl2_with_all_statistics": (
        POINT,
        _with(RL2, normaliser=SEEN, reward_input="trial", reward_objective="class", separate_value=True,
           see_transition=True),
    ),
    "varibad": (GRIDWORLD, VARIBAD),
    "varibad_state_decoder": (
        POINT,
        _with(VARIBAD, vae=_with(VARIBAD.vae, state_coef=1.0), rl_through_encoder=True),
    ),
    "maml": (POINT, MAML),
    "maml_fisher_rows": (POINT, _with(MAML, fisher_rows=10, inner_steps=2)),
    "first_order_maml": (POINT, _with(MAML, second_order=False)),
    "anil": (POINT, _with(MAML, adapt=("head",))),
    "meta_sgd": (POINT, _with(MAML, step_sizes="per-parameter")),
    "meta_sgd_per_step": (POINT, _with(MAML, step_sizes="per-parameter-and-step", inner_steps=2)),
    "cavia": (POINT, _with(MAML, adapt=("context",), context=3)),
    "reptile": (POINT, _with(MAML, outer="reptile", second_order=False)),
    "promp": (POINT, _with(MAML, outer="ppo", ppo=OuterPPOConfig())),
    "emaml_dice": (POINT, _with(MAML, exploration_coef=1.0, inner_objective="dice")),
    "maml_log_likelihood": (POINT, _with(MAML, inner_objective="log-likelihood")),
    "lstm_rule": (POINT, _with(MAML, inner_rule="lstm", second_order=False)),
    "pearl_product": (SPARSE, PEARL),
    "pearl_prior_product": (SPARSE, _with(PEARL, encoder="prior-product")),
    "pearl_gru": (SPARSE, _with(PEARL, encoder="gru", context_order="trial")),
    "pearl_discrete": (
        GRIDWORLD, _with(PEARL, dense_reward=False, sac=_with(PEARL.sac, target_entropy=0.5)),
    ),
    "metric_siamese": (POINT, METRIC),
    "metric_matching": (POINT, _with(METRIC, encoder="matching", reader="gru")),
    "finetune": (POINT, FINETUNE),
    "scratch": (POINT, ScratchConfig(hidden=(8,))),
    "random": (POINT, RandomConfig()),
}  # fmt: skip


def config_of(name: str) -> AnyConfig:
    """Return the run of one kind of agent."""
    world, agent = KINDS[name]
    train = LoopSettings(
        n_iterations=N_ITERATIONS, n_tasks=4, validate_every_iters=0, checkpoint_every_iters=CHECKPOINT_EVERY
    )
    return ExperimentConfig(
        name=name, world=world, agent=agent, train=train, evaluation=Protocol(adapt_episodes=2, n_seeds=1),
        log=LogConfig(wandb="disabled", progress="off"),
    )  # fmt: skip


def __getattr__(name: str) -> Callable[[], AnyConfig]:
    if name in KINDS:
        return lambda: config_of(name)
    raise AttributeError(name)
