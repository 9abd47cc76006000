"""Relatives of MAML on the shared inner loop: what adapts (ANIL, CAVIA), how far (Meta-SGD), and Reptile."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agent import WorldSpec
from metarl.agents.maml.agent import MAML, MAMLConfig
from metarl.agents.maml.inner_rule import GradientRule
from metarl.agents.maml.learned_optimiser import LSTMRuleConfig
from metarl.agents.maml.trust_region import flatten
from metarl.errors import CheckpointError, ConfigError
from metarl.rollout import Trial
from metarl.seeding import generator
from tests.agents.maml.meta_gradients import ACTIONS, F64, OBS, finite_differences, setup, surrogate
from tests.agents.synthetic import synthetic_rollout, trial_of

FAMILY: dict[str, dict[str, object]] = {
    "anil": {"adapt": ("head",)},
    "anil-and-std": {"adapt": ("policy.1.*", "log_std")},
    "meta-sgd": {"step_sizes": "per-parameter"},
    "meta-sgd-per-step": {"step_sizes": "per-parameter-and-step", "inner_steps": 2},
    "cavia": {"adapt": ("context",), "context": 3},
    "cavia-meta-sgd": {"adapt": ("context",), "context": 3, "step_sizes": "per-parameter", "inner_steps": 2},
    "everything-and-context": {"context": 1},
    "emaml": {"exploration_coef": 0.5, "inner_steps": 2},
}
# Their surrogates are no functions whose differences mean anything; `test_credit.py` has their derivatives.
OTHERS: dict[str, dict[str, object]] = {
    "dice": {"inner_objective": "dice", "inner_steps": 2},
    "promp": {"outer": "ppo", "inner_steps": 2},
    "lstm": {"inner_rule": "lstm", "second_order": False, "inner_steps": 2, "lstm": LSTMRuleConfig(hidden=2)},
    "promp-meta-sgd": {"outer": "ppo", "step_sizes": "per-parameter"},
}
ALL = FAMILY | OTHERS
REPTILE: dict[str, object] = {"outer": "reptile", "second_order": False}


def _agent(options: dict[str, object], kind: str = "box") -> MAML:
    config = MAMLConfig(**{"hidden": (4,), "episodes_per_step": 2, **options})  # type: ignore[arg-type]
    return config.build(WorldSpec(OBS, ACTIONS[kind], 6), seed=1)


def _trial(agent: MAML, seed: int = 0) -> Trial:
    """Return a trial of three tasks, each phase collected by the policies that the one before it led to."""
    state, phases = agent.init(3), []
    for phase in range(agent.config.inner_steps + 1):
        phi = {k.removeprefix("param/"): v for k, v in state.items() if k.startswith("param/")}
        phases.append(synthetic_rollout(agent.net, agent.spec, phi, n_tasks=3, seed=10 * seed + phase))
        state = agent.adapt(state, phases[-1])
    return trial_of(*phases)


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# What every relative owes


@pytest.mark.parametrize("name", FAMILY)
def test_the_meta_gradient_of_a_relative_equals_finite_differences(name: str) -> None:
    """Theta and learned step sizes alike."""
    agent, theta, batch = setup("box", **FAMILY[name])
    exact = surrogate(agent, theta, batch, flatten(list(theta.values())), differentiable=True)
    numeric = finite_differences(agent, theta, batch)
    assert float((exact - numeric).norm() / numeric.norm()) < 1e-5
    first_order, _, _ = setup("box", second_order=False, **FAMILY[name])
    other = surrogate(first_order, theta, batch, flatten(list(theta.values())), differentiable=True)
    assert float((other - numeric).norm() / numeric.norm()) > 1e-3


@pytest.mark.parametrize("options", [*ALL.values(), REPTILE], ids=[*ALL, "reptile"])
def test_a_relative_goes_on_bit_for_bit_after_a_restart(options: dict[str, object]) -> None:
    agent, other = _agent(options), replace(_agent(options).config).build(_agent(options).spec, seed=99)
    before = agent.parameters()
    metrics = agent.update(_trial(agent), generator=generator(0))
    assert all(math.isfinite(v) for v in metrics.values())
    assert all(not torch.equal(v, before[k]) for k, v in agent.parameters().items())
    other.load_state_dict(agent.state_dict())
    trial = _trial(agent, seed=1)
    for one in (agent, other):
        one.update(trial, generator=generator(1))
    assert _same(agent.parameters(), other.parameters())
    assert _same(agent.adapt(agent.init(3), trial.rollouts[0]), other.adapt(other.init(3), trial.rollouts[0]))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["box", "multi"])
def test_adapting_arrives_where_the_outer_loss_thinks_it_does(name: str, kind: str) -> None:
    """`adapt` while collecting, and the re-adaptation inside `update`, are the same function of theta."""
    if "log_std" in str(ALL[name]) and kind != "box":
        pytest.skip("categorical policies have no standard deviation")
    agent = _agent(ALL[name], kind)
    trial = _trial(agent)
    state = agent.init(3)
    for rollout in trial.supports:
        state = agent.adapt(state, rollout)
    leaves = {k: v.detach().requires_grad_() for k, v in agent.parameters().items()}
    phi = agent.adapted(leaves, agent.meta_batch(trial), differentiable=True)
    assert {f"param/{k}" for k in phi} == {k for k in state if k.startswith("param/")}
    for key, value in phi.items():
        torch.testing.assert_close(value.detach(), state[f"param/{key}"], rtol=1e-5, atol=1e-6)


# Which parameters adapt


@pytest.mark.parametrize(
    ("adapt", "moved"),
    [
        (("*",), {"policy.0.weight", "policy.0.bias", "policy.1.weight", "policy.1.bias", "log_std"}),
        (("head",), {"policy.1.weight", "policy.1.bias"}),
        (("head", "log_std"), {"policy.1.weight", "policy.1.bias", "log_std"}),
        (("*.bias",), {"policy.0.bias", "policy.1.bias"}),
    ],
)
def test_only_the_chosen_parameters_adapt(adapt: tuple[str, ...], moved: set[str]) -> None:
    agent = _agent({"adapt": adapt})
    before = agent.init(3)
    after = agent.adapt(before, _trial(agent).rollouts[0])
    assert {k.removeprefix("param/") for k in before if k != "k" and not torch.equal(before[k], after[k])} == moved


def test_anil_moves_the_head_as_maml_does() -> None:
    """One step from the same theta: the head's gradient does not ask what else moves."""
    maml, anil = _agent({}), _agent({"adapt": ("head",)})
    rollout = _trial(maml).rollouts[0]
    whole, head = maml.adapt(maml.init(3), rollout), anil.adapt(anil.init(3), rollout)
    for key in ("param/policy.1.weight", "param/policy.1.bias"):
        torch.testing.assert_close(head[key], whole[key], rtol=1e-6, atol=1e-7)


def _bandit_rollouts(agent: MAML) -> Trial:
    """Return arm 1 paying, pulls 0, 1, 1, 0 by a fair policy, as support and as query: advantages are -1 and 1."""
    base = synthetic_rollout(
        agent.net, agent.spec, agent.parameters(), n_tasks=1, envs_per_task=4, n_steps=1, early_end=False
    )
    action = torch.tensor([[0, 1, 1, 0]])
    rollout = replace(
        base, obs=torch.ones(1, 4, 1), next_obs=torch.ones(1, 4, 1), action=action,
        log_prob=torch.full((1, 4), math.log(0.5)), reward=action.float(),
    )  # fmt: skip
    return trial_of(rollout, rollout)


def _bandit_agent(**options: object) -> MAML:
    spec = WorldSpec(spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(2), 1)
    agent = MAMLConfig(hidden=(), alpha=0.3, **options).build(spec, seed=0)  # type: ignore[arg-type]
    agent.load_state_dict({**agent.state_dict(), "theta": {k: 0 * v for k, v in agent.parameters().items()}})
    return agent


def test_the_context_takes_the_step_worked_by_hand() -> None:
    """z = w_o + w_c c + b with w_c = (-1, 1): dL/dz = (1/2, -1/2), so dL/dc = -1 and c goes from 0 to alpha."""
    agent = _bandit_agent(adapt=("context",), context=1)
    theta = agent.parameters()
    theta["policy.0.weight"] = torch.tensor([[0.0, -1.0], [0.0, 1.0]])
    agent.load_state_dict({"theta": theta})
    state = agent.init(1)
    assert state["param/context"].tolist() == [[0.0]]
    after = agent.adapt(state, _bandit_rollouts(agent).rollouts[0])
    assert after["param/context"].tolist() == [[pytest.approx(0.3)]]
    assert torch.equal(after["param/policy.0.weight"][0], theta["policy.0.weight"])
    logits = agent.net({k.removeprefix("param/"): v for k, v in after.items()}, torch.ones(1, 1, 1))
    assert logits.flatten().tolist() == pytest.approx([-0.3, 0.3])


def test_a_context_without_a_path_to_the_action_does_not_move() -> None:
    """Negative control: with w_c = 0 its gradient is 0."""
    agent = _bandit_agent(adapt=("context",), context=1)
    after = agent.adapt(agent.init(1), _bandit_rollouts(agent).rollouts[0])
    assert after["param/context"].tolist() == [[0.0]]


# Learned step sizes, on L(w) = (x w - y)²

X = torch.tensor([0.5, -1.2, 2.0], dtype=F64)
Y = torch.tensor([1.0, 0.3, -0.7], dtype=F64)


def _quadratic(kind: str, sizes: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the outer gradient in w and in the step sizes after 2 inner steps, and phi_0, phi_1, phi_2 [3]."""
    rule = GradientRule(("w",), alpha=0.1, n_steps=2, later_factors=(1.0,), step_sizes=kind)  # type: ignore[arg-type]
    theta = {
        "w": torch.tensor(0.4, dtype=F64, requires_grad=True),
        "alpha.w": sizes.clone().requires_grad_(),
    }
    phi, trail = {"w": theta["w"].expand(3)}, []
    for k in range(2):
        trail.append(phi["w"].detach())
        phi, _ = rule.step(theta, phi, {}, lambda p: (X * p["w"] - Y).square(), k, create_graph=True)
    by_w, by_size = torch.autograd.grad((X * phi["w"] - Y).square().sum(), [theta["w"], theta["alpha.w"]])
    return by_w, by_size, [*trail, phi["w"].detach()]


def test_the_gradient_in_learned_step_sizes_equals_the_closed_form() -> None:
    """d phi_2 / d a_1 = -L'(phi_1) and d phi_2 / d a_0 = -(1 - 2 a_1 x²) L'(phi_0), each times L'(phi_2)."""
    sizes = torch.tensor([0.07, 0.02], dtype=F64)
    by_w, by_size, (w0, w1, w2) = _quadratic("per-parameter-and-step", sizes)
    slope = [2 * X * (X * w - Y) for w in (w0, w1, w2)]
    torch.testing.assert_close(w1, w0 - sizes[0] * slope[0], rtol=1e-13, atol=0)
    shrink = [1 - 2 * a * X.square() for a in sizes]
    expected = torch.stack([-(slope[2] * shrink[1] * slope[0]).sum(), -(slope[2] * slope[1]).sum()])
    torch.testing.assert_close(by_size, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(by_w, (slope[2] * shrink[0] * shrink[1]).sum(), rtol=1e-12, atol=0)


def test_one_step_size_for_all_steps_collects_their_gradients() -> None:
    size = torch.tensor(0.05, dtype=F64)
    _, shared, _ = _quadratic("per-parameter", size)
    _, apart, _ = _quadratic("per-parameter-and-step", size.expand(2))
    torch.testing.assert_close(shared, apart.sum(), rtol=1e-12, atol=0)
    assert abs(float(shared - apart[0])) > 1e-3


def test_each_parameter_gets_its_own_learned_step_size() -> None:
    agent = _agent({"step_sizes": "per-parameter"})
    theta, plain = agent.parameters(), _agent({})
    assert theta["alpha.policy.0.weight"].shape == theta["policy.0.weight"].shape
    rollout = _trial(agent).rollouts[0]
    same, before = plain.adapt(plain.init(3), rollout), agent.init(3)
    assert _same(agent.adapt(before, rollout), same)  # at the start all are alpha
    theta["alpha.policy.0.weight"] = theta["alpha.policy.0.weight"].clone()
    theta["alpha.policy.0.weight"][1, 0] *= -3
    agent.load_state_dict({"theta": theta})
    key = "param/policy.0.weight"
    ratio = (agent.adapt(before, rollout)[key] - before[key]) / (same[key] - before[key])
    assert ratio[:, 1, 0].tolist() == pytest.approx([-3] * 3, rel=1e-3)
    assert ratio[:, 0, 0].tolist() == pytest.approx([1] * 3)


# Step sizes at test


@pytest.mark.parametrize("kind", ["fixed", "per-parameter", "per-parameter-and-step"])
def test_steps_beyond_the_trained_ones_follow_the_schedule(kind: str) -> None:
    agent = _agent({"inner_steps": 2, "later_alpha_factors": (0.5, 0.1), "step_sizes": kind})
    rows = synthetic_rollout(agent.net, agent.spec, agent.parameters(), n_tasks=6, seed=0)
    fresh = agent.init(6)
    whole, mixed = agent.adapt(fresh, rows), agent.adapt({**fresh, "k": torch.arange(6)}, rows)
    for key in fresh.keys() - {"k"}:
        move, scaled = whole[key] - fresh[key], mixed[key] - fresh[key]
        for row, factor in enumerate([1, 1, 0.5, 0.1, 0.1, 0.1]):
            torch.testing.assert_close(scaled[row], factor * move[row], rtol=2e-2, atol=1e-6)


# Reptile


def test_reptile_takes_the_step_worked_by_hand() -> None:
    """Logits (-z, z), each half weight and half bias; a step on z in the likelihood-ratio form adds 4 alpha p (1 - p).

    From p = 1/2: z_1 = alpha, then z_2 = alpha + 4 alpha p (1 - p) with p = sigmoid(2 alpha). Theta goes half-way.
    """
    agent = _bandit_agent(outer="reptile", second_order=False, reptile_step=0.5)
    metrics = agent.update(_bandit_rollouts(agent), generator=generator(0))
    p = 1 / (1 + math.exp(-0.6))
    z = 0.3 + 4 * 0.3 * p * (1 - p)
    theta = agent.parameters()
    assert theta["policy.0.bias"].tolist() == pytest.approx([-z / 4, z / 4], rel=1e-5)
    assert theta["policy.0.weight"].flatten().tolist() == pytest.approx([-z / 4, z / 4], rel=1e-5)
    assert metrics["step_norm"] == pytest.approx(z / 2, rel=1e-5)


def test_reptile_goes_towards_the_mean_of_the_adapted_parameters() -> None:
    agent = _agent({**REPTILE, "reptile_step": 1.0, "inner_steps": 2, "later_alpha_factor": 1.0})
    trial, theta = _trial(agent), agent.parameters()
    state = agent.init(3)
    for rollout in trial.rollouts:
        state = agent.adapt(state, rollout)
    agent.update(trial, generator=generator(0))
    for name, value in agent.parameters().items():
        torch.testing.assert_close(value, state[f"param/{name}"].mean(0), rtol=1e-5, atol=1e-6)
        assert not torch.equal(value, theta[name])


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapt": ()}, "adapt is .*name parameters, or '\\*' for all"),
        ({"adapt": ("head",), "hidden": ()}, "nothing but its head; add hidden layers"),
        ({"adapt": ("context",)}, "there is none; set context to its length"),
        ({"adapt": ("head",), "context": 2}, "leaves it at 0 for ever; add 'context'"),
        ({"context": -1}, "context must be >= 0 and finite, got -1"),
        ({"step_sizes": "learned"}, "must be 'fixed' or 'per-parameter' or 'per-parameter-and-step', got 'learned'"),
        ({"later_alpha_factors": (0.5, -1.0)}, "later_alpha_factors"),
        ({"outer": "adam"}, "outer must be .*, got 'adam'"),
        ({"outer": "reptile"}, "differentiates nothing; set second_order=False"),
        ({**REPTILE, "adapt": ("head",)}, "would leave the rest as it was born"),
        ({**REPTILE, "context": 2}, "would leave the rest as it was born"),
        ({**REPTILE, "step_sizes": "per-parameter"}, "cannot learn step sizes"),
        ({**REPTILE, "exploration_coef": 1.0}, "has no outer loss to add it to"),
        ({"exploration_coef": -1.0}, "exploration_coef must be .*, got -1.0"),
        ({**REPTILE, "reptile_step": 0.0}, r"reptile_step must lie in \(0, 1\], got 0.0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MAMLConfig(**options)  # type: ignore[arg-type]


def test_a_name_that_is_no_parameter_is_refused_when_the_policy_is_known() -> None:
    with pytest.raises(ConfigError, match=r"adapt has 'policy.7.\*', which is no parameter of this policy"):
        _agent({"adapt": ("policy.7.*",)})
    with pytest.raises(ConfigError, match="adapt has 'log_std'"):
        _agent({"adapt": ("log_std",)}, "multi")


def test_a_checkpoint_without_the_learned_step_sizes_is_refused() -> None:
    with pytest.raises(CheckpointError, match="not those of this maml-trpo agent"):
        _agent({"step_sizes": "per-parameter"}).load_state_dict(_agent({}).state_dict())
