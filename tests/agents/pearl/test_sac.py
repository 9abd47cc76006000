"""Soft actor-critic: the Bellman target by hand, densities by integration, whom gradients reach, and refusals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agent import WorldSpec
from metarl.agents.pearl.sac import SAC, Batch, BoxScale, SACConfig, bellman_target, squash
from metarl.errors import CheckpointError, ConfigError
from metarl.seeding import generator

BOX = spaces.Box(-2.0, 6.0, (2,), np.float32)
SPEC = WorldSpec(spaces.Box(-1, 1, (3,), np.float32), BOX, 5)
SMALL = SACConfig(hidden=(8, 8), batch_size=6)
N, B, LATENT = 2, 6, 2


def sac(config: SACConfig = SMALL, seed: int = 0) -> SAC:
    return SAC(config, SPEC, LATENT, seed=seed)


def batch(seed: int = 0, **changes: Tensor) -> Batch:
    g = generator(seed, "batch")
    made = Batch(
        torch.randn(N, B, 3, generator=g), torch.rand(N, B, 2, generator=g) * 2 - 1, torch.randn(N, B, generator=g),
        torch.randn(N, B, 3, generator=g), torch.zeros(N, B),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def latents(seed: int = 0) -> Tensor:
    return torch.randn(N, B, LATENT, generator=generator(seed, "z"))


def test_trap_5_13_the_target_bootstraps_unless_the_task_terminated() -> None:
    """r = 1, Q' = (5, 3), log pi' = -2, temperature 1/2, gamma 0.9: 1 + 0.9 (3 + 1) = 4.6; terminated: 1."""
    one = torch.ones(1)
    args = (torch.tensor([[5.0], [3.0]]), -2 * one, torch.tensor(0.5), 0.9)
    assert float(bellman_target(one, 0 * one, *args)) == pytest.approx(4.6)
    assert float(bellman_target(one, one, *args)) == pytest.approx(1.0)


def test_the_target_uses_the_target_critics_the_scaled_reward_and_the_flag() -> None:
    agent, data, z = sac(), batch(), latents()
    over = dataclasses.replace(data, terminated=torch.ones(N, B))
    assert torch.equal(agent.target(over, z, generator(0)), agent.config.reward_scale * data.reward)
    before = agent.target(data, z, generator(0))
    with torch.no_grad():
        for value in agent.critics.values():
            value.mul_(3.0)
    assert torch.equal(agent.target(data, z, generator(0)), before)
    agent.polyak_update()
    assert not torch.equal(agent.target(data, z, generator(0)), before)


def test_the_density_of_squashed_actions_integrates_to_one() -> None:
    params = torch.tensor([0.4, -0.3])  # mean, log standard deviation
    a = torch.linspace(-1 + 1e-4, 1 - 1e-4, 20_001, dtype=torch.float64)
    u = a.atanh()[:, None]
    action, log_prob = squash(params.double().expand(len(a), 2), u)
    assert torch.allclose(action[:, 0], a)
    assert float(torch.trapezoid(log_prob.exp(), a)) == pytest.approx(1.0, abs=1e-3)


def test_the_density_stays_finite_far_out_where_the_naive_form_does_not() -> None:
    u = torch.tensor([[40.0]])
    _, log_prob = squash(torch.zeros(1, 2), u)
    assert bool(log_prob.isfinite())
    assert not bool((1 - u.tanh().square()).log().isfinite().all())


def test_both_critics_in_one_product_are_the_two_computed_alone() -> None:
    agent, data, z = sac(), batch(), latents()
    together = agent.q_values(agent.critics, data.obs, data.action, z)
    x = torch.cat([data.obs, data.action, z], dim=-1)
    for i in range(2):
        y = x
        for layer in range(3):
            y = y @ agent.critics[f"net.{layer}.weight"][i].T + agent.critics[f"net.{layer}.bias"][i]
            y = y.relu() if layer < 2 else y
        assert torch.allclose(together[i], y[..., 0], atol=1e-5)
    assert not torch.allclose(together[0], together[1])


def test_the_critics_gradient_reaches_z_and_the_actors_reaches_neither_z_nor_the_critics() -> None:
    agent, data, z = sac(), batch(), latents().requires_grad_()
    loss, _ = agent.actor_loss(data.obs, z, generator(0))
    loss.backward()  # type: ignore[no-untyped-call]
    assert z.grad is None
    assert all(v.grad is None for v in agent.critics.values())
    assert all(v.grad is not None and bool(v.grad.any()) for v in agent.actor.values())
    target = agent.target(data, z, generator(0))
    assert not target.requires_grad
    agent.critic_loss(data, z, target).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert bool(z.grad.any())


def test_the_actor_climbs_the_smaller_critic_less_the_price_of_certainty() -> None:
    """The loss is the mean of temperature log pi - min Q: worked out again from its parts."""
    agent, data, z = sac(dataclasses.replace(SMALL, temperature=0.3)), batch(), latents()
    loss, log_prob = agent.actor_loss(data.obs, z, generator(0))
    action, again = agent.sample(agent.policy(data.obs, z), generator(0))
    q = agent.q_values(agent.critics, data.obs, action, z)
    assert torch.equal(again, log_prob)
    expected = (0.3 * log_prob - torch.minimum(q[0], q[1])).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize(("wanted", "rises"), [(5.0, True), (-50.0, False)])
def test_a_tuned_temperature_rises_while_the_entropy_is_too_low(wanted: float, rises: bool) -> None:
    agent, data = sac(dataclasses.replace(SMALL, target_entropy=wanted)), batch()
    agent.update_actor(data.obs, latents(), generator(0))
    assert (float(agent.temperature) > 1.0) == rises
    fixed = sac()
    fixed.update_actor(data.obs, latents(), generator(0))
    assert float(fixed.temperature) == 1.0


def test_target_critics_move_by_tau() -> None:
    agent = sac(dataclasses.replace(SMALL, tau=0.25))
    start = {k: v.clone() for k, v in agent.targets.items()}
    with torch.no_grad():
        for value in agent.critics.values():
            value.add_(1.0)
    agent.polyak_update()
    for name, value in agent.targets.items():
        assert torch.allclose(value, start[name] + 0.25, atol=1e-6)


def test_actions_reach_the_world_in_its_units_and_come_back() -> None:
    scale = BoxScale(BOX, "cpu")
    assert scale.to_world(torch.tensor([[-1.0, 0.5]])).tolist() == [[-2.0, 4.0]]
    assert scale.from_world(torch.tensor([[-2.0, 4.0]]), 1).tolist() == [[-1.0, 0.5]]
    assert scale.from_world(torch.tensor([[-9.0, 9.0]]), 1).tolist() == [[-1.0, 1.0]]
    assert float(scale.log_volume) == pytest.approx(2 * np.log(4.0))
    matrix = BoxScale(spaces.Box(-1.0, 1.0, (2, 2), np.float32), "cpu")
    assert matrix.to_world(torch.zeros(3, 4)).shape == (3, 2, 2)
    assert matrix.from_world(torch.zeros(5, 3, 2, 2), 2).shape == (5, 3, 4)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.MultiDiscrete([2, 3]),
        spaces.Box(-np.inf, np.inf, (2,), np.float32),
        spaces.Box(np.array([-1, 0], np.float32), np.array([1, 0], np.float32)),
    ],
)
def test_actions_that_are_no_bounded_box_are_refused(space: spaces.Space[Any]) -> None:
    with pytest.raises(ConfigError, match="soft actor-critic"):
        BoxScale(space, "cpu")


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden": ()}, {"hidden": (0,)}, {"lr": 0.0}, {"gamma": 1.0}, {"tau": 0.0}, {"tau": 1.5}, {"batch_size": 0},
        {"reward_scale": -1.0}, {"temperature": 0.0}, {"initial_gain": 0.0}, {"target_entropy": float("inf")},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SACConfig(**wrong)


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(CheckpointError, match="actor"):
        sac().load_state_dict(sac(SACConfig(hidden=(9, 8))).state_dict())
