"""Auxiliary losses of a memory: what is predicted, by their definitions; and that they train it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from metarl import envs
from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.agents.rl2.auxiliary_losses import AuxiliaryLosses
from metarl.agents.rl2.row_net import RowsConfig
from metarl.errors import ConfigError
from metarl.rollout import Rollout
from metarl.seeding import generator
from metarl.trial import run_trial

FAMILY = envs.make("npc/assistant")
SPEC = FAMILY.spec
CONFIG = RL2Config(episodes_per_trial=2, hidden=24, rows=RowsConfig("offers", 16, products=8), task_inference_coef=1.0)


def collected(config: RL2Config, n: int = 5, seed: int = 0, *, training: bool = True) -> Rollout:
    world = FAMILY.make_world(n)
    agent = config.build(world.spec, seed=0)
    return run_trial(world, agent, FAMILY.sample("train", n, generator(seed)), (2,), seed=seed, training=training).query


def test_outputs_of_the_losses_follow_each_other() -> None:
    losses = AuxiliaryLosses(SPEC, 19, reward_prediction_coef=0.5, task_inference_coef=2.0)
    assert (losses.reward_prediction, losses.task_inference, losses.per_action) == (
        slice(19, 38),
        slice(38, 46),
        [0, 19],
    )
    without = AuxiliaryLosses(SPEC, 19, reward_prediction_coef=0.0, task_inference_coef=2.0)
    assert (without.reward_prediction, without.task_inference, without.per_action) == (
        slice(19, 19),
        slice(19, 27),
        [0],
    )


def test_losses_are_squared_errors_of_valid_steps_by_their_weights() -> None:
    spec = replace(SPEC, n_privileged=2)
    losses = AuxiliaryLosses(spec, 1, reward_prediction_coef=0.5, task_inference_coef=2.0)
    out = torch.zeros(1, 2, 1 + 19 + 2)
    out[..., 1 + 3], out[..., 20], out[..., 21] = 0.7, 1.0, -1.0
    action = torch.zeros(1, 2, 19)
    action[..., 3] = 1.0
    targets = {
        "action": action,
        "reward": torch.full((1, 2), 0.2),
        "hidden": torch.tensor([[[1.0, 3.0], [9.0, 9.0]]]),
    }
    loss, errors = losses.loss(out, targets, torch.tensor([[True, False]]))
    assert float(errors["foresight_loss"]) == pytest.approx(0.25)
    assert float(errors["inference_loss"]) == pytest.approx(8.0)  # the mean of 0 and 16
    assert float(loss) == pytest.approx(0.5 * 0.25 + 2.0 * 8.0)


def test_rollouts_say_what_was_hidden_before_each_step_to_those_who_need_it_only() -> None:
    told = collected(CONFIG)
    assert told.privileged_info is not None
    assert told.privileged_info.shape == (*told.reward.shape, 8)
    assert told.privileged_info[..., 6:].sum(-1).eq(1.0).all()
    for copy in range(5):
        at = told.valid[:, copy]
        tastes, intents = told.privileged_info[at, copy, :6], told.privileged_info[at, copy, 6:]
        assert torch.equal(tastes, tastes[:1].expand_as(tastes))  # one visitor per trial
        for episode in range(2):
            of_one = intents[told.episode[at, copy] == episode]
            assert torch.equal(of_one, of_one[:1].expand_as(of_one))  # one intent per dialogue
    assert collected(replace(CONFIG, task_inference_coef=0.0)).privileged_info is None
    assert collected(CONFIG, training=False).privileged_info is None  # an evaluation never asks


def test_what_is_hidden_never_reaches_the_policy() -> None:
    """The same agent does the same whatever the world would say is hidden."""
    agent = CONFIG.build(SPEC, seed=0)
    trials = []
    for say in (lambda world: world.latent()["beta"].new_zeros(5, 8), lambda world: torch.full((5, 8), 7.0)):
        world = FAMILY.make_world(5)
        world.privileged_info = lambda world=world, say=say: say(world)
        trials.append(
            run_trial(world, agent, FAMILY.sample("train", 5, generator(0)), (2,), seed=1, training=True).query
        )
    assert torch.equal(trials[0].obs, trials[1].obs)
    assert torch.equal(trials[0].action, trials[1].action)


def test_the_memory_learns_to_tell_what_is_hidden_from_what_was_said() -> None:
    """Negative control: a memory that is not taught tells nothing, an error of about 0.8 (variances 1 and 1/4)."""
    errors = []
    for coef in (1.0, 1e-9):
        ppo = PPOConfig(lr=3e-3, entropy_coef=0.5)  # much entropy: questions go on being asked
        world = FAMILY.make_world(64)
        agent = replace(CONFIG, task_inference_coef=coef, ppo=ppo).build(world.spec, seed=0)
        noise, metrics = generator(0), {}
        for i in range(30):
            tasks = FAMILY.sample("train", 64, noise)
            metrics = agent.update(run_trial(world, agent, tasks, (2,), seed=i, training=True), generator=noise)
        errors.append(metrics["inference_loss"])
    assert errors[0] < 0.9 * errors[1]


def test_a_world_that_does_not_say_what_is_hidden_is_refused() -> None:
    spec = envs.make("gridworld").spec
    with pytest.raises(ConfigError, match=r"n_privileged is 0.*set it to 0"):
        RL2Config(task_inference_coef=1.0).build(spec, seed=0)
    with pytest.raises(ConfigError, match=r"task_inference_coef must be >= 0"):
        RL2Config(task_inference_coef=-1.0)
