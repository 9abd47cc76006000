"""The metric-based agent learns: what looks alike transfers, and starting from it beats the average-task policy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.agents.metric.agent import Metric, MetricConfig
from metarl.episodes import episode_table
from metarl.seeding import derive, generator
from metarl.trial import run_trial
from tests.agents.learning_bounds import half_width

EPISODES, N_TEST = 10, 60
CONFIG = MetricConfig(
    n_library=20, encoder="matching", hidden=(16,), metric_lr=3e-3, metric_steps=10, metric_tasks=12, warmup_iters=5,
    policy_lr=1e-2, context_size=32, reader_hidden=(32, 32),
)  # fmt: skip


def _train(n_iterations: int) -> Metric:
    family = envs.make("navigation", n_train=20)
    world = family.make_world(20 * EPISODES)
    agent = CONFIG.build(world.spec, seed=0)
    for i in range(n_iterations):
        tasks = family.sample("train", 20, generator(0, "tasks", i))
        trial = run_trial(world, agent, tasks, agent.train_phases, seed=derive(0, "trial", i))
        agent.update(trial, generator=generator(0, "update", i))
    return agent


def _lead(agent: Metric) -> Tensor:
    """Return what held-out tasks earn more right after the first phase than in it: [N_TEST]."""
    family = envs.make("navigation", n_train=20)
    test = family.sample("test", N_TEST, generator(1))
    trial = run_trial(family.make_world(N_TEST * EPISODES), agent, test, (EPISODES, EPISODES), seed=2)
    before, after = (episode_table(r).returns.mean(1) for r in trial.rollouts)
    return after - before


@pytest.mark.learning
def test_starting_from_similar_tasks_beats_the_average_task_policy_and_from_random_ones_does_not() -> None:
    agent = _train(n_iterations=25)
    lead = _lead(agent)
    assert float(lead.mean()) - half_width(lead) > 0
    # Negative control: the same policies under other tasks' contexts.
    order = torch.randperm(20, generator=generator(3))
    agent.library.contexts = agent.library.contexts[order]
    shuffled = _lead(agent)
    assert float(shuffled.mean()) + half_width(shuffled) < float(lead.mean()) - half_width(lead)
    assert float(shuffled.mean()) - half_width(shuffled) < 0
