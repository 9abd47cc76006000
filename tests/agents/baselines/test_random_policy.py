"""The uniform policy covers its action space evenly and refuses what has no uniform distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.agent import TimeStep, WorldSpec
from metarl.agents.baselines.random_policy import RandomConfig
from metarl.errors import CheckpointError, ConfigError

OBSERVATION = spaces.Box(-1, 1, (2,), np.float32)


def draw(action_space: spaces.Space, n: int, mask: torch.Tensor | None = None):
    agent = RandomConfig().build(WorldSpec(OBSERVATION, action_space, 5), seed=0)
    step = TimeStep(
        torch.zeros(n, 2), torch.zeros(n, agent.spec.action_dim), torch.zeros(n), torch.zeros(n).bool(), mask
    )
    _, decision = agent.act(agent.init(n), step, generator=torch.Generator().manual_seed(1))
    return decision


def test_box_actions_fill_the_box_evenly_with_the_density_as_log_prob():
    low, high = np.array([-1.0, 2.0], np.float32), np.array([3.0, 2.5], np.float32)
    decision = draw(spaces.Box(low, high), 4000)
    assert bool((decision.action >= torch.tensor(low)).all() and (decision.action <= torch.tensor(high)).all())
    torch.testing.assert_close(decision.action.mean(0), torch.tensor([1.0, 2.25]), atol=0.08, rtol=0)
    torch.testing.assert_close(decision.log_prob, torch.full((4000,), -math.log(4.0 * 0.5)))


def test_discrete_actions_start_where_the_space_starts_and_respect_the_mask():
    mask = torch.tensor([True, False, True, True]).repeat(6000, 1)
    decision = draw(spaces.Discrete(4, start=10), 6000, mask)
    values, counts = decision.action.unique(return_counts=True)
    assert values.tolist() == [10, 12, 13]
    assert bool(((counts / 6000 - 1 / 3).abs() < 0.03).all())
    torch.testing.assert_close(decision.log_prob, torch.full((6000,), -math.log(3.0)))


def test_multi_discrete_actions_are_uniform_per_dimension():
    decision = draw(spaces.MultiDiscrete([2, 5], start=[0, 1]), 5000)
    assert decision.action.dtype == torch.int64
    counts = torch.bincount(decision.action[:, 1], minlength=6)
    assert counts[0] == 0
    assert bool(((counts[1:] / 5000 - 0.2).abs() < 0.03).all())
    torch.testing.assert_close(decision.log_prob, torch.full((5000,), -math.log(10.0)))


def test_an_unbounded_box_is_refused():
    with pytest.raises(ConfigError, match="finite bounds"):
        draw(spaces.Box(-np.inf, np.inf, (2,)), 1)


def test_a_space_without_a_uniform_distribution_is_refused():
    with pytest.raises(ConfigError, match="Box, Discrete or MultiDiscrete"):
        RandomConfig().build(WorldSpec(OBSERVATION, spaces.Dict({"a": spaces.Discrete(2)}), 5), seed=0)


def test_a_foreign_checkpoint_is_refused():
    agent = RandomConfig().build(WorldSpec(OBSERVATION, spaces.Discrete(2), 5), seed=0)
    agent.load_state_dict(agent.state_dict())
    with pytest.raises(CheckpointError, match="another agent"):
        agent.load_state_dict({"weight": torch.zeros(1)})
