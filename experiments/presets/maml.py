"""Presets of MAML and its relatives: 2-D navigation for all, and the four corners for those that credit exploration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metarl.evaluation import Protocol
from metarl.experiments.config import AnyConfig, ExperimentConfig, WorldConfig
from metarl.loop import LoopSettings


def _navigation(name: str, **options: Any) -> AnyConfig:
    """Return a run on 2-D navigation: 20 tasks of 20 episodes per step, as in section 5.3 of the MAML paper."""
    from metarl.agents.maml.agent import MAMLConfig

    return ExperimentConfig(
        name=name,
        world=WorldConfig("navigation"),
        agent=MAMLConfig(**options),
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


def maml_navigation() -> AnyConfig:
    """MAML-TRPO on 2-D navigation: 20 tasks of 20 episodes per step (Finn et al. 2017, section 5.3)."""
    return _navigation("maml-navigation")


def fomaml_navigation() -> AnyConfig:
    """First-order MAML on 2-D navigation: the inner gradient counts as a constant."""
    return _navigation("fomaml-navigation", second_order=False)


def reptile_navigation() -> AnyConfig:
    """Reptile on 2-D navigation: theta moves towards the mean of the adapted parameters."""
    return _navigation("reptile-navigation", outer="reptile", second_order=False, alpha=1.0, reptile_step=1.0)


def anil_navigation() -> AnyConfig:
    """ANIL on 2-D navigation: only the last layer adapts."""
    return _navigation("anil-navigation", adapt=("head",), alpha=0.3)


def meta_sgd_navigation() -> AnyConfig:
    """Meta-SGD on 2-D navigation: one learned inner step size per parameter."""
    return _navigation("meta-sgd-navigation", step_sizes="per-parameter")


def cavia_navigation() -> AnyConfig:
    """CAVIA on 2-D navigation: only a context vector of 5 inputs adapts (Zintgraf et al. 2019)."""
    return _navigation("cavia-navigation", adapt=("context",), context=5, alpha=0.3)


def promp_navigation() -> AnyConfig:
    """ProMP on 2-D navigation: several clipped outer steps per batch instead of one trust-region step."""
    return _navigation("promp-navigation", outer="ppo")


def dice_navigation() -> AnyConfig:
    """MAML with DiCE on 2-D navigation: an inner objective whose derivatives of any order are unbiased."""
    return _navigation("dice-navigation", inner_objective="dice")


def lstm_navigation() -> AnyConfig:
    """A learned optimiser on 2-D navigation: an LSTM turns gradients and losses into inner steps."""
    return _navigation("lstm-navigation", inner_rule="lstm", second_order=False)


def _corner(name: str, **options: Any) -> AnyConfig:
    """Return a run on the four corners: 20 tasks of 20 episodes before and after one inner step."""
    from metarl.agents.maml.agent import MAMLConfig

    return ExperimentConfig(
        name=name,
        world=WorldConfig("corner-point"),
        agent=MAMLConfig(**options),
        train=LoopSettings(
            n_iterations=60,
            n_tasks=20,
            validate_every_iters=20,
            n_validation_tasks=4,
            validation_adapt_episodes=20,
            validation_eval_episodes=20,
        ),
        evaluation=Protocol(adapt_episodes=20, eval_episodes=20, n_seeds=1),
    )


def maml_corner() -> AnyConfig:
    """MAML-TRPO on the four corners: actions before adaptation get no credit for what they find."""
    return _corner("maml-corner", inner_objective="log-likelihood")


def emaml_corner() -> AnyConfig:
    """E-MAML on the four corners: actions before adaptation get credit for the return after it."""
    return _corner("emaml-corner", exploration_coef=1.0)


def promp_corner() -> AnyConfig:
    """ProMP on the four corners: low-variance curvature, several clipped outer steps per batch."""
    return _corner("promp-corner", outer="ppo")


GRADIENT_PRESETS: dict[str, Callable[[], AnyConfig]] = {
    "fomaml-navigation": fomaml_navigation,
    "reptile-navigation": reptile_navigation,
    "anil-navigation": anil_navigation,
    "meta-sgd-navigation": meta_sgd_navigation,
    "cavia-navigation": cavia_navigation,
    "promp-navigation": promp_navigation,
    "dice-navigation": dice_navigation,
    "lstm-navigation": lstm_navigation,
    "maml-corner": maml_corner,
    "emaml-corner": emaml_corner,
    "promp-corner": promp_corner,
}
