"""Agents may learn from a world's dense reward where its own is rare; what they see and are scored by stays its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from metarl import envs
from metarl.agents.nn.reward_scale import objective_reward
from metarl.agents.pearl.agent import PEARLConfig
from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.agents.varibad.agent import VariBADConfig
from metarl.agents.varibad.vae import VAEConfig
from metarl.checkpoint import state_fingerprint
from metarl.errors import ConfigError
from metarl.rollout import Trial
from metarl.seeding import generator
from metarl.trial import run_trial

PPO = PPOConfig(epochs=1, minibatches=1)
CONFIGS: dict[str, Any] = {
    "rl2": RL2Config(episodes_per_trial=2, hidden=8, ppo=PPO, dense_reward=True),
    "varibad": VariBADConfig(
        episodes_per_trial=2, hidden=(8,), ppo=PPO, dense_reward=True,
        vae=VAEConfig(hidden=8, decoder=(8,), embedding=(8,), batch_trials=2, updates=1),
    ),
}  # fmt: skip


def trained(config: Any, dense_shift: float, seed: int = 0) -> tuple[Any, Trial]:
    """Return an agent after one update on three tasks, whose dense reward was changed at the last step of all."""
    world = envs.make("sparse-point-robot").make_world(3)
    agent = config.build(world.spec, seed=seed)
    trial = run_trial(world, agent, envs.make("sparse-point-robot").all("train")[:3], agent.train_phases, seed=seed)
    rollout = trial.query
    assert rollout.dense_reward is not None
    dense, own = rollout.dense_reward.clone(), rollout.reward.clone()
    dense[-1, 0] += dense_shift
    own[3, 0] = 0.9  # as if it had met the goal once
    trial = Trial(trial.tasks, (dataclasses.replace(rollout, dense_reward=dense, reward=own),))
    agent.update(trial, generator=generator(seed))
    return agent, trial


def test_the_objective_is_the_dense_reward_if_asked_for() -> None:
    _, trial = trained(CONFIGS["rl2"], 0.0)
    assert torch.equal(objective_reward(trial.query, dense=False), trial.query.reward)
    assert objective_reward(trial.query, dense=True) is trial.query.dense_reward
    assert float(objective_reward(trial.query, dense=True).max()) < 0.0 <= float(trial.query.reward.min())


@pytest.mark.parametrize("name", CONFIGS)
def test_the_update_follows_the_dense_reward_only_if_asked_for(name: str) -> None:
    for dense, same in ((True, False), (False, True)):
        config = dataclasses.replace(CONFIGS[name], dense_reward=dense)
        one, two = (state_fingerprint(trained(config, shift)[0].state_dict()) for shift in (0.0, 5.0))
        assert (one == two) == same


@pytest.mark.parametrize("name", CONFIGS)
def test_what_the_agent_sees_is_the_worlds_own_reward(name: str) -> None:
    agent, trial = trained(CONFIGS[name], 0.0)
    if name == "rl2":
        seen = agent.sequence_inputs(trial.query)[1:, :, -2]
        assert bool((seen > 0).any())
        assert torch.equal(seen > 0, trial.query.reward[:-1] > 0)
    else:
        assert torch.equal(agent.rows(trial.query)["reward"], trial.query.reward)


@pytest.mark.parametrize("config", [*CONFIGS.values(), PEARLConfig(dense_reward=True)], ids=[*CONFIGS, "pearl"])
def test_a_world_without_a_dense_reward_is_refused(config: Any) -> None:
    world = envs.make("navigation").make_world(2)
    with pytest.raises(ConfigError, match=rf"{config.algorithm}\.dense_reward is set, but the world gives no dense"):
        config.build(world.spec, seed=0)
