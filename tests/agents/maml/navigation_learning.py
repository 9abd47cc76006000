"""Small seeded meta-training on 2-D navigation, for tests that MAML and its relatives learn to adapt."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metarl import envs
from metarl.agents.maml.agent import MAMLConfig
from metarl.episodes import episode_table
from metarl.seeding import derive, generator
from metarl.trial import run_trial


def learned_returns(n_iterations: int, **options: Any) -> tuple[Tensor, Tensor]:
    """Meta-train at a small scale; return held-out returns before and after one inner step [160]."""
    family, n_tasks, episodes = envs.make("navigation"), 10, 10
    world = family.make_world(n_tasks * episodes)
    agent = MAMLConfig(hidden=(32, 32), episodes_per_step=episodes, **options).build(world.spec, seed=0)
    for i in range(n_iterations):
        tasks = family.sample("train", n_tasks, generator(0, "tasks", i))
        trial = run_trial(world, agent, tasks, agent.train_phases, seed=derive(0, "trial", i))
        agent.update(trial, generator=generator(0, "update", i))
    test = family.sample("test", 160, generator(1))
    trial = run_trial(family.make_world(160 * episodes), agent, test, (episodes, episodes), seed=2)
    before, after = (episode_table(rollout).returns.mean(1) for rollout in trial.rollouts)
    return before, after
