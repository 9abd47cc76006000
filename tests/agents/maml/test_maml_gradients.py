"""MAML's derivatives against closed forms, finite differences and exact Hessians, all in float64."""

from dataclasses import replace
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agent import WorldSpec
from metarl.agents.maml.agent import MAML, MAMLConfig, MetaBatch
from metarl.agents.maml.inner_loop import Batch, gradient_step, inner_loss
from metarl.agents.maml.trust_region import flatten
from metarl.agents.nn import functional as nets
from metarl.agents.nn.functional import Params
from metarl.seeding import generator
from tests.agents.maml.meta_gradients import ACTIONS, F64, OBS, finite_differences, setup, surrogate

# The quadratic: one weight w, task i has the support point (x, y) and the loss (x w - y)².

X = torch.tensor([0.5, -1.2, 2.0], dtype=F64)
Y = torch.tensor([1.0, 0.3, -0.7], dtype=F64)
ALPHA = 0.07


def _quadratic_meta_gradient(w: float, n_steps: int, *, second_order: bool) -> tuple[Tensor, Tensor]:
    """Return the meta-gradient through `n_steps` inner steps, and phi [3]."""
    theta = torch.tensor(w, dtype=F64, requires_grad=True)
    phi = {"w": theta.expand(3)}
    for _ in range(n_steps):
        phi = gradient_step(phi, lambda p: (X * p["w"] - Y).square(), ALPHA, create_graph=second_order)
    (gradient,) = torch.autograd.grad((X * phi["w"] - Y).square().sum(), theta)
    return gradient, phi["w"].detach()


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_the_meta_gradient_equals_the_closed_form_on_a_quadratic(n_steps: int) -> None:
    """d phi_K / d w = (1 - 2 alpha x²)^K, so the outer gradient is sum_i L_i'(phi_i) (1 - 2 alpha x_i²)^K."""
    gradient, phi = _quadratic_meta_gradient(0.4, n_steps, second_order=True)
    shrink = 1 - 2 * ALPHA * X.square()
    w = torch.full((3,), 0.4, dtype=F64)
    for _ in range(n_steps):
        w = w - ALPHA * 2 * X * (X * w - Y)
    torch.testing.assert_close(phi, w, rtol=1e-14, atol=0)
    expected = (2 * X * (X * w - Y) * shrink**n_steps).sum()
    assert float((gradient - expected).abs() / expected.abs()) < 1e-12


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_first_order_leaves_the_curvature_out(n_steps: int) -> None:
    """Negative control: without second order the factor is 1, and the number is another one."""
    gradient, phi = _quadratic_meta_gradient(0.4, n_steps, second_order=False)
    expected = (2 * X * (X * phi - Y)).sum()
    assert float((gradient - expected).abs()) < 1e-12
    exact, _ = _quadratic_meta_gradient(0.4, n_steps, second_order=True)
    assert float((gradient - exact).abs() / exact.abs()) > 0.05


def test_each_task_may_have_its_own_step_size() -> None:
    phi = {"w": torch.zeros(3, dtype=F64, requires_grad=True)}
    size = torch.tensor([0.0, 0.1, 0.2], dtype=F64)
    new = gradient_step(phi, lambda p: (X * p["w"] - Y).square(), size, create_graph=False)
    torch.testing.assert_close(new["w"], 2 * size * X * Y, rtol=1e-14, atol=0)


# The policy: a small network, two tasks, support and query data sampled by a policy that is not the one evaluated.


@pytest.mark.parametrize("objective", ["likelihood-ratio", "log-likelihood"])
@pytest.mark.parametrize("n_steps", [1, 2])
@pytest.mark.parametrize("kind", ACTIONS)
def test_the_meta_gradient_equals_finite_differences(kind: str, n_steps: int, objective: str) -> None:
    agent, theta, batch = setup(kind, inner_steps=n_steps, inner_objective=objective)
    exact = surrogate(agent, theta, batch, flatten(list(theta.values())), differentiable=True)
    numeric = finite_differences(agent, theta, batch)
    assert float((exact - numeric).norm() / numeric.norm()) < 1e-5
    assert float(numeric.norm()) > 1e-2


@pytest.mark.parametrize("kind", ACTIONS)
def test_the_first_order_meta_gradient_is_measurably_another(kind: str) -> None:
    agent, theta, batch = setup(kind, second_order=False)
    first_order = surrogate(agent, theta, batch, flatten(list(theta.values())), differentiable=True)
    numeric = finite_differences(agent, theta, batch)
    assert float((first_order - numeric).norm() / numeric.norm()) > 0.01


@mock.patch.object(nets, "can_fuse", new=mock.Mock(return_value=False))
def _exact_hessian(agent: MAML, theta: Params, batch: MetaBatch) -> tuple[Tensor, Tensor]:
    """Return gradient [P] and Hessian [P, P] of the mean KL between adapted policies, by full double backward.

    That takes a third derivative in theta, which only plain autograd has.
    """
    like = [v.detach().requires_grad_() for v in theta.values()]

    def outputs(parts: list[Tensor]) -> Tensor:
        phi = agent.adapted(dict(zip(theta, parts, strict=True)), batch, differentiable=True)
        return agent.query_loss(phi, batch)[1]

    old = outputs(like).detach()
    rows = agent.net.distribution.kl(old, outputs(like))
    weight = batch.query.valid.to(F64)
    kl = ((rows * weight).sum(1) / weight.sum(1)).mean()
    gradient = flatten(torch.autograd.grad(kl, like, create_graph=True))
    hessian = torch.stack([flatten(torch.autograd.grad(g, like, retain_graph=True)) for g in gradient])
    return gradient.detach(), hessian


def _fisher_matrix(agent: MAML, theta: Params, batch: MetaBatch) -> Tensor:
    leaves = {n: v.detach().requires_grad_() for n, v in theta.items()}
    phi = agent.adapted(leaves, batch, differentiable=True)
    rows = agent._fisher_rows(batch, generator(0))
    product = agent.fisher(leaves, phi, batch, agent.query_loss(phi, batch)[1], rows=rows)
    size = sum(v.numel() for v in theta.values())
    return torch.stack([product(row) for row in torch.eye(size, dtype=F64)])


@pytest.mark.parametrize("n_steps", [1, 2])
@pytest.mark.parametrize("kind", ACTIONS)
def test_the_fisher_product_equals_the_exact_hessian_product(kind: str, n_steps: int) -> None:
    """At the expansion point the divergence has no gradient, so its Hessian is JᵀFJ through all inner steps."""
    agent, theta, batch = setup(kind, inner_steps=n_steps)
    gradient, hessian = _exact_hessian(agent, theta, batch)
    assert float(gradient.norm()) < 1e-12
    ours = _fisher_matrix(agent, theta, batch)
    assert float((ours - hessian).norm() / hessian.norm()) < 1e-9
    assert float((ours - ours.T).norm() / ours.norm()) < 1e-12


def test_the_fisher_product_of_first_order_maml_is_another() -> None:
    """Negative control: with the inner curvature left out, JᵀFJ is not the Hessian."""
    agent, theta, batch = setup("box")
    first_order, _, _ = setup("box", second_order=False)
    _, hessian = _exact_hessian(agent, theta, batch)
    assert float((_fisher_matrix(first_order, theta, batch) - hessian).norm() / hessian.norm()) > 0.01


def test_the_fisher_of_some_rows_is_that_of_a_query_with_these_rows_only() -> None:
    agent, theta, batch = setup("box", fisher_rows=5)
    index = torch.randperm(batch.query.obs.shape[1], generator=generator(0))[:5]
    everything, _, _ = setup("box")
    expected = _fisher_matrix(everything, theta, replace(batch, query=batch.query.rows(index)))
    torch.testing.assert_close(_fisher_matrix(agent, theta, batch), expected, rtol=1e-10, atol=1e-14)


# Credit assignment of the inner loss: a two-armed bandit whose expectation is an exact sum over 4 rows.


def _bandit_derivatives(objective: str) -> tuple[float, float]:
    """Return first and second derivative of the inner loss in the logit difference, arm 1 paying 1.

    The rows are arm 0 once and arm 1 three times: exactly the policy's own proportions, so the mean is the expectation.
    """
    agent = MAMLConfig(hidden=()).build(WorldSpec(OBS, spaces.Discrete(2), 1), seed=0)
    action = torch.tensor([[0, 1, 1, 1]])
    p = torch.tensor([0.25, 0.75], dtype=F64)
    batch = Batch(
        obs=torch.zeros(1, 4, 2, dtype=F64), action=action, log_prob=p.log()[action],
        advantage=action.to(F64), valid=torch.ones(1, 4, dtype=torch.bool), action_mask=None,
    )  # fmt: skip
    logit = torch.tensor(np.log(3.0), dtype=F64, requires_grad=True)
    bias = torch.stack([torch.zeros_like(logit), logit])[None]
    params = {"policy.0.weight": torch.zeros(1, 2, 2, dtype=F64), "policy.0.bias": bias}
    loss = inner_loss(agent.net, params, batch, objective)  # type: ignore[arg-type]
    (first,) = torch.autograd.grad(loss.sum(), logit, create_graph=True)
    (second,) = torch.autograd.grad(first, logit)
    return float(first.detach()), float(second)


def test_trap_5_9_the_likelihood_ratio_has_the_hessian_of_the_expected_reward() -> None:
    """J = p: J' = p (1 - p) = 3/16, J'' = p (1 - p) (1 - 2 p) = -3/32. The log-likelihood gets J' right but not J''."""
    first, second = _bandit_derivatives("likelihood-ratio")
    assert (first, second) == pytest.approx((-3 / 16, 3 / 32), rel=1e-12)
    first, biased = _bandit_derivatives("log-likelihood")
    assert first == pytest.approx(-3 / 16, rel=1e-12)
    assert abs(biased - 3 / 32) > 0.02


def test_trap_5_8_the_ratio_uses_stored_log_probs_summed_over_action_dimensions() -> None:
    """Mean moved by (1, 1) from N(0, 1): log ratio of action (2, 3) is 1.5 + 2.5 = 4; a mean would give 2."""
    agent = MAMLConfig(hidden=()).build(WorldSpec(OBS, ACTIONS["box"], 1), seed=0)
    action = torch.tensor([[[2.0, 3.0]]], dtype=F64)
    at_sampling = agent.net.distribution.log_prob(torch.zeros(1, 1, 4, dtype=F64), action)
    one = torch.ones(1, 1, dtype=F64)
    batch = Batch(torch.zeros(1, 1, 2, dtype=F64), action, at_sampling, one, one.bool(), None)
    moved = {
        "policy.0.weight": torch.zeros(1, 2, 2, dtype=F64),
        "policy.0.bias": torch.ones(1, 2, dtype=F64),
        "log_std": torch.zeros(1, 2, dtype=F64),
    }
    loss = inner_loss(agent.net, moved, batch, "likelihood-ratio")
    torch.testing.assert_close(loss, -torch.tensor([4.0], dtype=F64).exp(), rtol=1e-12, atol=0)


def test_later_steps_are_taken_from_where_earlier_ones_arrived() -> None:
    """K = 2 is K = 1 twice, each on its own batch."""
    agent, theta, batch = setup("box", inner_steps=2)
    leaves = {n: v.requires_grad_() for n, v in theta.items()}
    together = agent.adapted(leaves, batch, differentiable=False)
    phi = {n: v.detach().expand(2, *v.shape).clone().requires_grad_() for n, v in theta.items()}
    trail = [phi]
    for support in batch.supports:
        step = gradient_step(
            trail[-1], lambda p, s=support: inner_loss(agent.net, p, s, "likelihood-ratio"), 0.4, create_graph=False
        )
        trail.append({n: v.detach().requires_grad_() for n, v in step.items()})
    assert all(torch.equal(together[n], trail[-1][n]) for n in together)
    assert all(not torch.equal(a["log_std"], b["log_std"]) for a, b in pairwise(trail))
