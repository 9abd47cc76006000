"""The learned inner rule against its equations, a reference LSTM, and what learning it is good for."""

import math

import pytest
import torch
from torch import Tensor

from metarl.agents.maml.agent import MAMLConfig
from metarl.agents.maml.inner_rule import GradientRule
from metarl.agents.maml.learned_optimiser import FORGET, LSTMRule, LSTMRuleConfig, preprocess
from metarl.agents.nn.functional import Params
from metarl.errors import ConfigError
from metarl.seeding import generator

F64 = torch.float64
ALPHA = 0.1


def _rule(hidden: int = 3, scale: float = 0.5) -> tuple[LSTMRule, Params]:
    """Return a rule for "w" (of two) and its meta-parameters in float64, with no weight at zero."""
    rule = LSTMRule(("w",), LSTMRuleConfig(hidden=hidden, init_scale=scale), alpha=ALPHA)
    theta = {k: v.to(F64) for k, v in rule.init({"w": torch.zeros(2), "v": torch.zeros(2)}, generator(0)).items()}
    noise = generator(1)
    return rule, {k: v + 0.3 * torch.randn(v.shape, generator=noise, dtype=F64) for k, v in theta.items()}


def _start(n: int = 3, seed: int = 2) -> Params:
    noise = generator(seed)
    draw = {k: torch.randn(n, 2, generator=noise, dtype=F64) for k in ("w", "v")}
    return {k: v.requires_grad_() for k, v in draw.items()}


def _loss(phi: Params) -> Tensor:
    return (phi["w"] * torch.tensor([1.0, 3.0], dtype=F64) - phi["v"]).square().sum(1)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (1.0, (0.0, 1.0)), (-math.e, (0.1, -1.0)), (math.exp(-9), (-0.9, 1.0)),
        (math.exp(-12), (-1.0, math.exp(-2))), (-math.exp(-11), (-1.0, -math.exp(-1))), (0.0, (-1.0, 0.0)),
    ],
)  # fmt: skip
def test_numbers_of_any_magnitude_are_read_as_size_and_sign(x: float, expected: tuple[float, float]) -> None:
    assert preprocess(torch.tensor(x, dtype=F64), 10.0).tolist() == pytest.approx(expected)


def test_a_fresh_rule_is_gradient_descent() -> None:
    """The gates' weights on h are small and all others 0, so i = alpha and f = 1 - FORGET, but for that."""
    rule = LSTMRule(("w",), LSTMRuleConfig(init_scale=1e-6), alpha=ALPHA)
    phi = _start()
    theta = {k: v.to(F64) for k, v in rule.init({"w": torch.zeros(2)}, generator(0)).items()}
    ours, memory = rule.step(theta, phi, rule.start(phi), _loss, 0, create_graph=False)
    plain, _ = GradientRule(("w",), alpha=ALPHA, n_steps=1, later_factors=(1.0,)).step(
        {}, phi, {}, _loss, 0, create_graph=False
    )
    torch.testing.assert_close(ours["w"], plain["w"] - FORGET * phi["w"], rtol=1e-5, atol=1e-6)
    assert memory["w"].shape == (3, 2, 2 * 8 + 2)


def test_two_steps_follow_the_equations() -> None:
    """A reference LSTM cell reads; the gates are written out number by number."""
    rule, theta = _rule()
    phi, memory = _start(), rule.start(_start())
    cell = torch.nn.LSTMCell(4, 3, dtype=F64)
    weight = theta["lstm.reader.weight"]
    with torch.no_grad():
        cell.weight_ih.copy_(weight[:, :4])
        cell.weight_hh.copy_(weight[:, 4:])
        cell.bias_ih.copy_(theta["lstm.reader.bias"])
        cell.bias_hh.zero_()
    gates, bias = theta["lstm.gates.weight"], theta["lstm.gates.bias"]
    task, column = 1, 1
    state, before = (torch.zeros(1, 3, dtype=F64), torch.zeros(1, 3, dtype=F64)), [0.0, 0.0]
    for k in range(2):
        losses = _loss(phi)
        (gradient,) = torch.autograd.grad(losses.sum(), phi["w"])
        g, value = gradient[task, column], phi["w"][task, column].detach()
        read = torch.cat([preprocess(g, 10.0), preprocess(losses[task].detach(), 10.0)])
        state = cell(read[None], state)
        h = state[0][0].detach()
        before = [
            float(torch.sigmoid(gates[j, :3] @ h + gates[j, 3] * value + gates[j, 4] * before[j] + bias[j]))
            for j in range(2)
        ]
        expected = before[1] * value - before[0] * g
        phi, memory = rule.step(theta, phi, memory, _loss, k, create_graph=False)
        assert float(phi["w"][task, column].detach()) == pytest.approx(float(expected), rel=1e-12)
        phi = {name: v.detach().requires_grad_() for name, v in phi.items()}


def test_what_is_not_adapted_stays_and_tasks_keep_to_themselves() -> None:
    rule, theta = _rule()
    phi, other = _start(), _start()
    other["w"].data[0] += 1
    new, memory = rule.step(theta, phi, rule.start(phi), _loss, 0, create_graph=False)
    changed, changed_memory = rule.step(theta, other, rule.start(other), _loss, 0, create_graph=False)
    assert new["v"] is phi["v"]
    for a, b in ((new["w"], changed["w"]), (memory["w"], changed_memory["w"])):
        assert torch.equal(a[1:], b[1:])
        assert not torch.equal(a[0], b[0])


def test_memory_matters() -> None:
    """Negative control: the second step from a blank memory is another."""
    rule, theta = _rule()
    phi = _start()
    first, memory = rule.step(theta, phi, rule.start(phi), _loss, 0, create_graph=False)
    leaves = {k: v.detach().requires_grad_() for k, v in first.items()}
    second, _ = rule.step(theta, leaves, memory, _loss, 1, create_graph=False)
    blank, _ = rule.step(theta, leaves, rule.start(phi), _loss, 1, create_graph=False)
    assert float((second["w"] - blank["w"]).detach().abs().max()) > 1e-3


def test_the_gradient_in_the_rules_weights_equals_finite_differences() -> None:
    """At the first step: later ones see other gradients, which count as constants."""
    rule, theta = _rule()

    def outer(weights: Params) -> Tensor:
        phi = _start()
        return _loss(rule.step(weights, phi, rule.start(phi), _loss, 0, create_graph=False)[0]).sum()

    leaves = {k: v.clone().requires_grad_() for k, v in theta.items()}
    exact = dict(zip(leaves, torch.autograd.grad(outer(leaves), list(leaves.values())), strict=True))
    noise = generator(3)
    for name, value in theta.items():
        direction = torch.randn(value.shape, generator=noise, dtype=F64)
        up, down = (outer({**theta, name: value + s * 1e-5 * direction}).detach() for s in (1, -1))
        assert float((up - down) / 2e-5) == pytest.approx(float((exact[name] * direction).sum()), rel=1e-6)
    assert float(exact["lstm.reader.weight"].norm()) > 1e-3


def _loss_after(rule: LSTMRule, theta: Params, seed: int) -> Tensor:
    """Return the mean loss after 4 steps on 32 quadratics whose curvatures differ tenfold."""
    noise = generator(seed)
    curvature = torch.tensor([1.0, 10.0])
    goal = torch.randn(32, 2, generator=noise)
    phi = {"w": torch.zeros(32, 2, requires_grad=True)}
    memory = rule.start(phi)
    for k in range(4):
        phi, memory = rule.step(
            theta, phi, memory, lambda p: 0.5 * (curvature * (p["w"] - goal).square()).sum(1), k, create_graph=False
        )
    return 0.5 * (curvature * (phi["w"] - goal).square()).sum(1).mean()


def test_a_trained_rule_beats_the_gradient_descent_it_started_as() -> None:
    """On new quadratics; plain descent must choose its step for the steep direction and crawls along the flat one."""
    rule = LSTMRule(("w",), LSTMRuleConfig(), alpha=0.02)
    theta = {k: v.requires_grad_() for k, v in rule.init({"w": torch.zeros(2)}, generator(0)).items()}
    held_out = range(1000, 1005)
    before = [float(_loss_after(rule, theta, seed).detach()) for seed in held_out]
    adam = torch.optim.Adam(theta.values(), lr=0.03)
    for i in range(60):
        adam.zero_grad()
        loss = _loss_after(rule, theta, i)
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    after = [float(_loss_after(rule, theta, seed).detach()) for seed in held_out]
    assert max(a / b for a, b in zip(after, before, strict=True)) < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"second_order": True}, "takes gradients as constants; set second_order=False"),
        ({"outer": "reptile"}, "cannot learn a rule"),
        ({"step_sizes": "per-parameter"}, "makes its own step sizes"),
        ({"alpha": 1.0}, r"starts from a gate in \(0, 1\)"),
    ],
)
def test_settings_that_the_learned_rule_has_no_place_for_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MAMLConfig(**{"inner_rule": "lstm", "second_order": False, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"hidden": 0}, {"log_range": 0.0}, {"init_scale": -1.0}])
def test_a_setting_of_the_rule_out_of_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"lstm.{next(iter(options))}"):
        LSTMRuleConfig(**options)  # type: ignore[arg-type]
