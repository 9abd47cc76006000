"""Soft actor-critic on choices: exact expectations, and a policy that must become the softmax of the rewards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch.nn import functional as F

from metarl import envs
from metarl.agent import TimeStep, WorldSpec
from metarl.agents.pearl.agent import PEARLConfig
from metarl.agents.pearl.sac import SAC, Batch, SACConfig
from metarl.agents.pearl.sac_discrete import ChoiceScale, DiscreteSAC, make_sac
from metarl.errors import ConfigError
from metarl.seeding import generator

OBS = spaces.Box(-1.0, 1.0, (2,))


def spec(actions: Any) -> WorldSpec:
    return WorldSpec(OBS, actions, horizon=5)


def made(actions: Any, **options: Any) -> DiscreteSAC:
    sac = make_sac(SACConfig(hidden=(16,), **options), spec(actions), 3, seed=0)
    assert isinstance(sac, DiscreteSAC)
    return sac


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(4), spaces.Discrete(3, start=2), spaces.MultiDiscrete([4, 4, 5]), spaces.MultiDiscrete([2])],
)
def test_every_action_has_its_own_place_and_comes_back(space: Any) -> None:
    scale = ChoiceScale(space, "cpu")
    every = scale.to_world(torch.eye(scale.n))
    assert len({tuple(a.reshape(-1).tolist()) for a in every}) == scale.n
    assert all(space.contains(a.numpy().astype(space.dtype)) for a in every)
    assert torch.equal(scale.from_world(every, batch_dims=1), torch.eye(scale.n))
    twice = torch.stack([every, every])
    assert torch.equal(scale.from_world(twice, batch_dims=2), torch.eye(scale.n).expand(2, -1, -1))


def batch(n: int, b: int, a: int) -> Batch:
    g = generator(3)
    draw = [torch.rand(n, b, k, generator=g) for k in (2, 2)]
    action = F.one_hot(torch.randint(a, (n, b), generator=g), a).float()
    ends = torch.tensor([[0.0, 1.0, 0.0]]).expand(n, b)
    return Batch(draw[0], action, torch.rand(n, b, generator=g), draw[1], ends)


def test_the_target_is_the_expectation_over_actions_by_hand() -> None:
    sac = made(spaces.Discrete(4), gamma=0.9, reward_scale=2.0, temperature=0.3)
    rows, z = batch(2, 3, 4), torch.randn(2, 3, 3, generator=generator(1))
    with torch.no_grad():
        p = sac.policy(rows.next_obs, z).softmax(-1)
        each = torch.stack(
            [
                sac.q_values(sac.targets, rows.next_obs, F.one_hot(torch.full((2, 3), a), 4).float(), z)
                for a in range(4)
            ],
            dim=-1,
        )  # [2 critics, 2, 3, 4]
        value = torch.zeros(2, 3)
        for a in range(4):
            value += p[..., a] * (each[..., a].amin(0) - 0.3 * p[..., a].log())
    expected = 2.0 * rows.reward + 0.9 * (1 - rows.terminated) * value
    assert torch.allclose(sac.target(rows, z, generator(0)), expected, atol=1e-5)
    assert not torch.allclose(expected, 2.0 * rows.reward + 0.9 * value, atol=1e-2)  # the end of a task counts


def test_the_actors_gradient_is_the_mean_of_the_one_that_sampling_would_give() -> None:
    sac = made(spaces.Discrete(3), temperature=0.5)
    obs, z = torch.rand(1, 1, 2, generator=generator(5)), torch.zeros(1, 1, 3)
    leaves = list(sac.actor.values())
    exact = torch.autograd.grad(sac.actor_loss(obs, z, generator(0))[0], leaves)
    # REINFORCE: sum_a pi(a) grad log pi(a) (temperature log pi(a) - Q(a)), the sum taken by hand.
    log_p = sac.policy(obs, z).log_softmax(-1)[0, 0]
    with torch.no_grad():
        cost = 0.5 * log_p - sac.all_q(sac.critics, obs, z).amin(0)[0, 0]
    by_hand = torch.autograd.grad((log_p.exp().detach() * cost * log_p).sum(), leaves)
    assert max(float((a - b).abs().max()) for a, b in zip(exact, by_hand, strict=True)) < 1e-6
    assert max(float(a.abs().max()) for a in exact) > 1e-4


def test_the_policy_becomes_the_softmax_of_the_rewards() -> None:
    # One step, two tasks told apart by z alone: the optimum of return plus temperature x entropy is softmax(r / T).
    reward = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.8, 0.2]])
    sac = made(spaces.Discrete(3), lr=1e-2, temperature=0.4, reward_scale=1.0)
    critics = torch.optim.Adam(list(sac.critics.values()), lr=1e-2)
    z = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])[:, None].expand(2, 32, 3)
    g = generator(2)
    for _ in range(400):
        choice = torch.randint(3, (2, 32), generator=g)
        obs = torch.rand(2, 32, 2, generator=g)
        rows = Batch(obs, F.one_hot(choice, 3).float(), reward.gather(1, choice), obs, torch.ones(2, 32))
        loss = sac.critic_loss(rows, z, sac.target(rows, z, g))
        critics.zero_grad()
        loss.backward()
        critics.step()
        sac.update_actor(rows.obs, z, g)
    found = sac.policy(torch.full((2, 1, 2), 0.5), z[:, :1]).softmax(-1).squeeze(1)
    assert (found - (reward / 0.4).softmax(-1)).abs().max() < 0.03


def test_the_temperature_finds_the_entropy_it_is_told() -> None:
    sac = made(spaces.Discrete(4), lr=1e-2, temperature=3.0, target_entropy=0.7)
    obs, z = torch.zeros(1, 8, 2), torch.zeros(1, 8, 3)
    with torch.no_grad():
        for key, value in sac.critics.items():
            value.zero_()
            if key.endswith("1.bias"):
                value.copy_(torch.tensor([0.0, 0.5, 1.0, 2.0]).expand_as(value))
    for _ in range(1500):
        metrics = sac.update_actor(obs, z, generator(0))
    assert float(metrics["entropy"]) == pytest.approx(0.7, abs=0.03)


def test_pearl_plays_choices_and_boxes() -> None:
    assert type(make_sac(SACConfig(), spec(spaces.Box(-1.0, 1.0, (2,))), 3, seed=0)) is SAC
    world = envs.make("gridworld").make_world(3)
    agent = PEARLConfig(latent=3).build(world.spec, seed=0)
    step = TimeStep(torch.zeros(3, 2), torch.zeros(3, 5), torch.zeros(3), torch.zeros(3, dtype=torch.bool))
    _, decision = agent.act(agent.init(3), step, generator=generator(0))
    assert decision.action.dtype == torch.int64
    assert decision.action.shape == (3,)
    assert (decision.log_prob < 0).all()


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 1024"):
        make_sac(SACConfig(), spec(spaces.MultiDiscrete([40, 40])), 3, seed=0)
    with pytest.raises(ConfigError, match="needs a Box with finite bounds, Discrete or MultiDiscrete"):
        make_sac(SACConfig(), spec(spaces.MultiBinary(3)), 3, seed=0)
    world = envs.make("gridworld").make_world(1)
    agent = PEARLConfig().build(world.spec, seed=0)
    step = TimeStep(
        torch.zeros(1, 2), torch.zeros(1, 5), torch.zeros(1), torch.zeros(1, dtype=torch.bool),
        torch.ones(1, 5, dtype=torch.bool),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="does not know of illegal actions"):
        agent.act(agent.init(1), step, generator=generator(0))
