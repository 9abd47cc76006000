"""PEARL learns to act on what it has inferred: a seeded training run with a bound, and a negative control."""

from __future__ import annotations

import pytest
from torch import Tensor

from metarl import envs
from metarl.agents.pearl.agent import PEARLConfig
from metarl.agents.pearl.sac import SACConfig
from metarl.episodes import join_tables
from metarl.seeding import derive, generator
from metarl.trial import run_trial
from tests.agents.learning_bounds import half_width

N_TASKS = 400
MARGIN = 3.0
"""Return by which a greedy episode after two of adaptation beats the first one, with 99 % confidence. The oracle earns
-5.2 per episode, standing still -20.8."""


def _gains(n_iterations: int) -> Tensor:
    """Meta-train on the point robot; return the last episode's return minus the first's on held-out goals: [400]."""
    family = envs.make("point-robot", n_validation=10, n_test=N_TASKS)
    n = 20
    world = family.make_world(n)
    agent = PEARLConfig(
        prior_episodes=2, extra_episodes=1, encoder_hidden=(64, 64), context_size=32, context_least=8, grad_steps=40,
        kl_weight=0.003, meta_batch=16, replay_tasks=200, replay_steps=60,
        sac=SACConfig(hidden=(64, 64), batch_size=32, lr=2e-3, gamma=0.9, tau=0.02, reward_scale=5.0, temperature=0.1),
    ).build(world.spec, seed=0)  # fmt: skip
    for i in range(n_iterations):
        tasks = family.sample("train", n, generator(0, "tasks", i))
        trial = run_trial(world, agent, tasks, agent.train_phases, seed=derive(0, "trial", i))
        agent.update(trial, generator=generator(0, "update", i))
    test = family.all("test")
    assert test is not None
    flags = (False, False, True)
    trial = run_trial(family.make_world(N_TASKS), agent, test, (1, 1, 1), seed=1, greedy=flags)
    returns = join_tables(trial.rollouts).returns
    return returns[:, 2] - returns[:, 0]


@pytest.mark.learning
def test_pearl_learns_to_walk_to_a_goal_that_it_inferred() -> None:
    gain = _gains(n_iterations=25)
    assert float(gain.mean()) - half_width(gain) > MARGIN


@pytest.mark.learning
def test_pearl_without_training_gains_nothing_from_what_it_infers() -> None:
    """Negative control: the gain comes from the updates."""
    gain = _gains(n_iterations=0)
    assert float(gain.mean()) + half_width(gain) < MARGIN
