"""In a world that hides its rewards, what an agent does while it acts must not depend on them; learning may."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from metarl import envs
from metarl.agent import Agent
from metarl.agents.pearl.agent import PEARLConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.agents.varibad.agent import VariBADConfig
from metarl.seeding import generator
from metarl.tasks import Tasks
from metarl.trial import run_trial

CONFIGS: dict[str, Any] = {
    "rl2": RL2Config(episodes_per_trial=2, hidden=8),
    "rl2-trial-units": RL2Config(episodes_per_trial=2, hidden=8, reward_input="trial"),
    "rl2-transformer": RL2Config(episodes_per_trial=2, hidden=8, memory="transformer"),
    "varibad": VariBADConfig(episodes_per_trial=2, hidden=(8,)),
    "pearl": PEARLConfig(),
}


def trial(name: str, *, shows: bool, goal: list[float]) -> Any:
    """Play a point robot, whose observations do not tell where the goal is; only the reward does."""
    world = envs.make("point-robot").make_world(2)
    world.spec = replace(world.spec, reward_observable=shows)
    agent: Agent = CONFIGS[name].build(world.spec, seed=0, device="cpu")
    tasks = Tasks.of("point-robot", goal=torch.tensor([goal, [0.5, 0.5]]))
    # PEARL takes its context in between phases, the others while they act.
    return run_trial(world, agent, tasks, (1, 1) if name == "pearl" else (2,), seed=3)


@pytest.mark.parametrize("name", CONFIGS)
def test_actions_ignore_rewards_that_are_not_shown(name: str) -> None:
    here, there = trial(name, shows=False, goal=[1.0, 0.0]), trial(name, shows=False, goal=[-1.0, 0.0])
    assert not torch.equal(here.query.reward[:, 0], there.query.reward[:, 0])
    assert torch.equal(here.query.action, there.query.action)
    assert torch.equal(here.query.shown_reward, torch.zeros_like(here.query.reward))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_agents_heed_rewards_that_are_shown(name: str) -> None:
    here, there = trial(name, shows=True, goal=[1.0, 0.0]), trial(name, shows=True, goal=[-1.0, 0.0])
    assert not torch.equal(here.query.action[:, 0], there.query.action[:, 0])
    assert torch.equal(here.query.shown_reward, here.query.reward)


def test_the_memory_is_trained_on_what_it_saw_while_acting() -> None:
    world = envs.make("point-robot").make_world(2)
    world.spec = replace(world.spec, reward_observable=False)
    agent = RL2Config(episodes_per_trial=2, hidden=8).build(world.spec, seed=0, device="cpu")
    tasks = envs.make("point-robot").sample("train", 2, generator(0))
    rollout = run_trial(world, agent, tasks, (2,), seed=0).query
    told = agent.sequence_inputs(replace(rollout, reward_observable=True))
    assert not torch.equal(agent.sequence_inputs(rollout), told)
    out, _ = agent.network.unroll(agent.sequence_inputs(rollout), agent.init(2))
    value = out[..., -1]
    assert torch.allclose(value, rollout.aux["value"], atol=1e-5)
    astray, _ = agent.network.unroll(told, agent.init(2))
    assert not torch.allclose(astray[..., -1], rollout.aux["value"], atol=1e-5)
