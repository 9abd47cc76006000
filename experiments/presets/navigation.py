"""Presets of 2-D navigation: 20 tasks of 20 episodes per step (section 5.3 of the MAML paper), scored on 100 tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .setting import Setting, maml, ppo, rl2, varibad

if TYPE_CHECKING:
    from metarl.experiments.config import AnyConfig

NAVIGATION = Setting(
    "navigation",
    dict(
        n_iterations=50, n_tasks=20, validate_every_iters=10, n_validation_tasks=20, validation_adapt_episodes=20,
        validation_eval_episodes=20,
    ),
    dict(adapt_episodes=60, eval_episodes=20, n_seeds=1, n_tasks=100),
)  # fmt: skip
TRIALS = Setting(
    "navigation",
    dict(
        n_iterations=150, n_tasks=100, validate_every_iters=20, n_validation_tasks=40, validation_adapt_episodes=1,
        checkpoint_every_iters=20,
    ),
    dict(adapt_episodes=1, eval_episodes=1, n_seeds=10, n_tasks=100, greedy=False),
)  # fmt: skip
"""Of agents with memory: two episodes, scored with noise, as they were trained; means stay farther from the goal."""


def maml_navigation() -> AnyConfig:
    """MAML-TRPO on 2-D navigation: 20 tasks of 20 episodes per step (Finn et al. 2017, section 5.3)."""
    return NAVIGATION.run("maml-navigation", maml())


def fomaml_navigation() -> AnyConfig:
    """First-order MAML on 2-D navigation: the inner gradient counts as a constant."""
    return NAVIGATION.run("fomaml-navigation", maml(second_order=False))


def reptile_navigation() -> AnyConfig:
    """Reptile on 2-D navigation: theta moves towards the mean of the adapted parameters."""
    agent = maml(outer="reptile", second_order=False, alpha=1.0, reptile_step=1.0)
    return NAVIGATION.run("reptile-navigation", agent)


def anil_navigation() -> AnyConfig:
    """ANIL on 2-D navigation: only the last layer adapts."""
    return NAVIGATION.run("anil-navigation", maml(adapt=("head",), alpha=0.3))


def meta_sgd_navigation() -> AnyConfig:
    """Meta-SGD on 2-D navigation: one learned inner step size per parameter."""
    return NAVIGATION.run("meta-sgd-navigation", maml(step_sizes="per-parameter"))


def cavia_navigation() -> AnyConfig:
    """CAVIA on 2-D navigation: only a context vector of 5 inputs adapts (Zintgraf et al. 2019)."""
    return NAVIGATION.run("cavia-navigation", maml(adapt=("context",), context=5, alpha=0.3))


def promp_navigation() -> AnyConfig:
    """ProMP on 2-D navigation: several clipped outer steps per batch instead of one trust-region step."""
    return NAVIGATION.run("promp-navigation", maml(outer="ppo"))


def dice_navigation() -> AnyConfig:
    """MAML with DiCE on 2-D navigation: an inner objective whose derivatives of any order are unbiased."""
    return NAVIGATION.run("dice-navigation", maml(inner_objective="dice"))


def lstm_navigation() -> AnyConfig:
    """A learned optimiser on 2-D navigation: an LSTM turns gradients and losses into inner steps."""
    return NAVIGATION.run("lstm-navigation", maml(inner_rule="lstm", second_order=False))


def finetune_navigation() -> AnyConfig:
    """Multi-task PPO with gradient fine-tuning on 2-D navigation: what MAML has to beat."""
    from metarl.agents.baselines.finetune import FinetuneConfig

    return NAVIGATION.run("finetune-navigation", FinetuneConfig())


def scratch_navigation() -> AnyConfig:
    """Fresh PPO on each 2-D navigation task's adaptation episodes: nothing is meta-trained."""
    from metarl.agents.baselines.scratch import ScratchConfig

    # One iteration makes the run directory that `evaluate` reads; the agent learns nothing from it.
    unused = dict(n_iterations=1, n_tasks=1, validate_every_iters=0)
    return replace(NAVIGATION, train=unused).run("scratch-navigation", ScratchConfig())


def rl2_navigation() -> AnyConfig:
    """RL² on 2-D navigation: two episodes; distances met on the way give the goal away within a few steps."""
    settings = ppo(150, lr=2e-3, entropy_coef=0.0, anneal_to=0.0)
    return TRIALS.run("rl2-navigation", rl2(episodes_per_trial=2, encoder=(64,), min_std=0.02, ppo=settings))


def varibad_navigation() -> AnyConfig:
    """VariBAD on 2-D navigation, two episodes per trial."""
    settings = ppo(100, lr=1e-3, entropy_coef=0.0, anneal_to=0.0)
    agent = varibad({"kl_weight": 0.01, "updates": 15}, episodes_per_trial=2, ppo=settings, min_std=0.02)
    return TRIALS.run("varibad-navigation", agent, n_iterations=100)


def oracle_navigation() -> AnyConfig:
    """Known-task oracle on 2-D navigation: a policy without memory that is shown the goal."""
    settings = ppo(200, lr=2e-3, entropy_coef=0.0, anneal_to=0.0)
    agent = rl2(memory="none", episodes_per_trial=1, encoder=(64,), min_std=0.01, ppo=settings)
    loop = dict(
        n_iterations=200, n_tasks=200, validate_every_iters=10, n_validation_tasks=100, validation_adapt_episodes=0
    )
    nothing_to_adapt_to = dict(adapt_episodes=0, eval_episodes=1, n_seeds=20, n_tasks=100)
    told = {"world": "navigation", "what": "task"}
    return Setting("revealed", loop, nothing_to_adapt_to, told).run("oracle-navigation", agent)


def _metric(name: str, **options: Any) -> AnyConfig:
    """Return the metric-based agent on navigation with 80 training goals, each with a policy in the library."""
    from metarl.agents.metric.agent import MetricConfig

    agent = MetricConfig(
        n_library=80, metric_tasks=16, metric_steps=15, metric_lr=3e-3, initial="weights", finetune_lr=0.03, **options
    )
    # An endless list of training goals would bring no goal back for its policy to be trained on. As many adaptation
    # episodes as MAML has: 10 to recognise the task by, 5 x 10 to learn.
    return replace(NAVIGATION, options={"n_train": 80}).run(
        name, agent, n_iterations=60, n_tasks=40, validate_every_iters=20,
        validation_eval_episodes=10, checkpoint_every_iters=20, scored={"n_seeds": 3},
    )  # fmt: skip


def metric_navigation() -> AnyConfig:
    """Siamese network on 2-D navigation: start from the policies of the most similar of 80 known goals."""
    return _metric("metric-navigation")


def matching_navigation() -> AnyConfig:
    """Matching network on 2-D navigation: attention over the policies of 80 known goals."""
    return _metric("matching-navigation", encoder="matching")


PRESETS = (
    maml_navigation, fomaml_navigation, reptile_navigation, anil_navigation, meta_sgd_navigation, cavia_navigation,
    promp_navigation, dice_navigation, lstm_navigation, finetune_navigation, scratch_navigation, rl2_navigation,
    varibad_navigation, metric_navigation, matching_navigation, oracle_navigation,
)  # fmt: skip
