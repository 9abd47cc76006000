"""ProMP's outer step: clipped after re-adaptation, held near the policies before it."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agent import WorldSpec
from metarl.agents.maml.agent import MAML, MAMLConfig
from metarl.agents.maml.promp import OuterPPO, OuterPPOConfig, adapted_coef
from metarl.agents.maml.trust_region import flatten
from metarl.errors import CheckpointError, ConfigError
from metarl.returns import masked_mean
from metarl.rollout import Trial
from metarl.seeding import generator
from tests.agents.synthetic import synthetic_rollout, trial_of

BOX = spaces.Box(-1, 1, (2,), np.float32)


def _agent(inner_steps: int = 1, **ppo: object) -> MAML:
    config = MAMLConfig(
        hidden=(4,), episodes_per_step=2, outer="ppo", inner_steps=inner_steps,
        ppo=OuterPPOConfig(**ppo),  # type: ignore[arg-type]
    )  # fmt: skip
    return config.build(WorldSpec(BOX, BOX, 6), seed=1)


def _trial(agent: MAML) -> Trial:
    state, phases = agent.init(3), []
    for phase in range(agent.config.inner_steps + 1):
        phi = {k.removeprefix("param/"): v for k, v in state.items() if k.startswith("param/")}
        phases.append(synthetic_rollout(agent.net, agent.spec, phi, n_tasks=3, seed=phase))
        state = agent.adapt(state, phases[-1])
    return trial_of(*phases)


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_the_first_epoch_follows_the_meta_gradient(inner_steps: int) -> None:
    """Nothing is clipped yet and no divergence has a slope: Adam's first step is lr * sign(meta-gradient)."""
    agent = _agent(inner_steps, epochs=1, lr=1e-3, inner_kl_coef=10.0)
    trial, before = _trial(agent), agent.parameters()
    theta = {k: v.clone().requires_grad_() for k, v in before.items()}
    loss, _, _ = agent.objective(theta, agent.meta_batch(trial), differentiable=True)
    gradients = torch.autograd.grad(loss, list(theta.values()))
    metrics = agent.update(trial, generator=generator(0))
    assert metrics["gradient_norm"] == pytest.approx(float(flatten(gradients).norm()), rel=1e-4)
    for (name, value), gradient in zip(before.items(), gradients, strict=True):
        clear = gradient.abs() > 1e-4
        torch.testing.assert_close(
            (agent.parameters()[name] - value)[clear], -1e-3 * gradient.sign()[clear], rtol=1e-2, atol=1e-6
        )
    assert bool(clear.any())


def test_several_epochs_lower_the_loss_and_report_the_divergence_before_adaptation() -> None:
    agent = _agent(epochs=5, lr=3e-3)
    trial, theta = _trial(agent), agent.parameters()
    metrics = agent.update(trial, generator=generator(0))
    assert metrics["improvement"] > 0
    support = agent.meta_batch(trial).supports[0]
    old, new = agent.net(theta, support.obs), agent.net(agent.parameters(), support.obs)
    there, back = (masked_mean(agent.net.distribution.kl(*pair), support.valid) for pair in ((old, new), (new, old)))
    assert metrics["support_kl"] == pytest.approx(float(there), rel=1e-3)
    assert abs(float(back - there)) > 1e-3 * float(there)


def test_a_heavy_penalty_holds_the_policy_before_adaptation() -> None:
    moved = {}
    for coef in (0.0, 1e4):
        agent = _agent(epochs=20, lr=3e-3, inner_kl_coef=coef)
        moved[coef] = agent.update(_trial(agent), generator=generator(0))["support_kl"]
    assert 0 < moved[1e4] < 0.3 * moved[0.0]


class _OneNumber:
    """theta is one number x, the surrogate is the clipped one of ratio x and advantage 1."""

    def __init__(self, clip: float) -> None:
        self.outer = OuterPPO(OuterPPOConfig(lr=0.1, epochs=30, inner_kl_coef=0.0), {"x": torch.ones(())}, n_steps=1)
        self.clip = clip

    def __call__(self, theta: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        x = theta["x"]
        return -torch.minimum(x, x.clamp(max=1 + self.clip)), 0 * x.reshape(1)


def test_unlike_an_unbounded_one_a_clipped_objective_stops_pulling() -> None:
    ends = {}
    for clip in (0.3, math.inf):
        problem = _OneNumber(clip)
        new, metrics = problem.outer.step({"x": torch.ones(())}, problem)
        ends[clip] = float(new["x"])
        assert metrics["improvement"] == pytest.approx(min(ends[clip], 1 + clip) - 1, rel=1e-5)
    assert 1.3 < ends[0.3] < 2.5  # Adam coasts on
    assert ends[math.inf] == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize(
    ("divergence", "expected"), [(0.0, 0.5), (0.0066, 0.5), (0.0067, 1.0), (0.0149, 1.0), (0.0151, 2.0)]
)
def test_the_penalty_doubles_and_halves_outside_a_band_about_its_target(divergence: float, expected: float) -> None:
    assert adapted_coef(1.0, divergence, 0.01) == expected


def test_each_inner_step_has_its_own_penalty_and_none_moves_without_a_target() -> None:
    agent, fixed = _agent(2, lr=1e-6), _agent(2, lr=1e-6, inner_kl_target=None)
    assert agent.outer_ppo is not None
    assert fixed.outer_ppo is not None
    for one in (agent, fixed):
        one.update(_trial(one), generator=generator(0))
    assert agent.outer_ppo.kl_coef == [2.5e-4, 2.5e-4]
    assert fixed.outer_ppo.kl_coef == [5e-4, 5e-4]


def test_a_restart_keeps_adams_moments() -> None:
    """Negative control: without them the next step is another."""
    agent, whole, bare = _agent(), _agent(), _agent()
    agent.update(_trial(agent), generator=generator(0))
    whole.load_state_dict(agent.state_dict())
    bare.load_state_dict({**agent.state_dict(), "outer": bare.state_dict()["outer"]})
    trial = _trial(agent)
    for one in (agent, whole, bare):
        one.update(trial, generator=generator(1))
    weight = "policy.1.weight"
    assert torch.equal(agent.parameters()[weight], whole.parameters()[weight])
    assert not torch.equal(agent.parameters()[weight], bare.parameters()[weight])
    with pytest.raises(CheckpointError, match="no outer optimiser"):
        bare.load_state_dict({"theta": agent.parameters()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "ppo.lr must be > 0 and finite, got 0.0"),
        ({"clip": -0.1}, "ppo.clip"),
        ({"epochs": 0}, "ppo.epochs must be >= 1, got 0"),
        ({"inner_kl_coef": -1.0}, "ppo.inner_kl_coef"),
        ({"inner_kl_target": 0.0}, "ppo.inner_kl_target"),
    ],
)
def test_a_setting_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OuterPPOConfig(**options)  # type: ignore[arg-type]
