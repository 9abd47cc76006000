"""Run directories as `train` leaves them, made in a fraction of a second: scripted agents, two meta-iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metarl.experiments.config import AnyConfig, ExperimentConfig, LogConfig, WorldConfig
from metarl.experiments.overrides import Request
from metarl.experiments.train import start
from metarl.loop import LoopSettings
from metarl.protocol import Protocol
from metarl.signals import StopSignals
from tests.metarl.line_world import LearnerConfig


def line_config(agent: Any = None, *, seed: int = 0, **options: Any) -> AnyConfig:
    return ExperimentConfig(
        name="line",
        world=WorldConfig("tests.metarl.line_world:Line", options),
        agent=agent or LearnerConfig(),
        train=LoopSettings(n_iterations=2, n_tasks=4, validate_every_iters=1, n_validation_tasks=4),
        evaluation=Protocol(adapt_episodes=2, eval_episodes=1, n_seeds=2),
        log=LogConfig(wandb="disabled", progress="off"),
        seed=seed,
        threads=1,
    )


def make_run(folder: Path, config: AnyConfig) -> Path:
    assert start(Request(config, folder, going_on=False), StopSignals()) == 0
    return folder
