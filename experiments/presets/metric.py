"""Presets of the metric-based agent: 2-D navigation with a fixed list of training goals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metarl.evaluation import Protocol
from metarl.experiments.config import AnyConfig, ExperimentConfig, WorldConfig
from metarl.loop import LoopSettings


def _navigation(name: str, **options: Any) -> AnyConfig:
    """Return a run on navigation with 80 training goals, each with a policy in the library."""
    from metarl.agents.metric.agent import MetricConfig

    settings: dict[str, Any] = {
        "n_library": 80, "metric_tasks": 16, "metric_steps": 15, "metric_lr": 3e-3, "initial": "weights",
        "finetune_lr": 0.03,
    }  # fmt: skip
    return ExperimentConfig(
        name=name,
        # An endless list of training goals would bring no goal back for its policy to be trained on.
        world=WorldConfig("navigation", {"n_train": 80}),
        agent=MetricConfig(**{**settings, **options}),
        train=LoopSettings(
            n_iterations=60,
            n_tasks=40,
            validate_every_iters=20,
            n_validation_tasks=20,
            validation_adapt_episodes=20,
            validation_eval_episodes=10,
            checkpoint_every_iters=20,
        ),
        # As many adaptation episodes as MAML has there: 10 to recognise the task by, 5 x 10 to learn.
        evaluation=Protocol(adapt_episodes=60, eval_episodes=20, n_seeds=3, n_tasks=100),
    )


def metric_navigation() -> AnyConfig:
    """Siamese network on 2-D navigation: start from the policies of the most similar of 80 known goals."""
    return _navigation("metric-navigation")


def matching_navigation() -> AnyConfig:
    """Matching network on 2-D navigation: attention over the policies of 80 known goals."""
    return _navigation("matching-navigation", encoder="matching")


METRIC_PRESETS: dict[str, Callable[[], AnyConfig]] = {
    "metric-navigation": metric_navigation,
    "matching-navigation": matching_navigation,
}
