"""Beliefs: closed forms, order, parts, empty contexts, and that no task sees another's transitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from metarl.agents.pearl.context_encoder import (
    Encoder,
    PriorProductEncoder,
    ProductEncoder,
    RecurrentEncoder,
    kl_to_standard_normal,
    product_of_gaussians,
)
from metarl.seeding import generator

N, K, WIDTH, LATENT = 3, 6, 4, 2


def encoder(kind: type[Encoder]) -> Encoder:
    return kind(WIDTH, LATENT, (8, 5), generator(0, "encoder"), "cpu")


def transitions() -> Tensor:
    return torch.randn(N, K, WIDTH, generator=generator(1, "x"))


def whole(net: Encoder, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the belief after all of x."""
    return net.belief(net.absorb(net.start(len(x)), x, torch.full((len(x),), x.shape[1])))


def test_the_product_of_two_gaussians_is_the_one_worked_by_hand() -> None:
    """N(1, 1) N(4, 1/2): precision 1 + 2 = 3, mean (1 + 8) / 3 = 3."""
    mean, variance = product_of_gaussians(torch.tensor([[1.0], [4.0]]), torch.tensor([[1.0], [0.5]]))
    assert float(mean) == pytest.approx(3.0)
    assert float(variance) == pytest.approx(1 / 3)


def test_the_product_is_proportional_to_the_densities_multiplied() -> None:
    mean, variance = torch.tensor([0.3, -1.0, 2.0])[:, None], torch.tensor([0.5, 2.0, 1.5])[:, None]
    m, v = product_of_gaussians(mean, variance)
    at = torch.linspace(-3, 3, 7)
    factors = Normal(mean, variance.sqrt()).log_prob(at).sum(0)
    gap = factors - Normal(m, v.sqrt()).log_prob(at)
    assert torch.allclose(gap, gap[:1].expand(7), atol=1e-5)


def test_the_divergence_is_the_closed_form() -> None:
    """KL(N(2, 1/4) || N(0, 1)) = (4 + 1/4 - log(1/4) - 1) / 2."""
    kl = kl_to_standard_normal(torch.tensor([2.0]), torch.tensor([0.25]))
    assert float(kl) == pytest.approx(0.5 * (4 + 0.25 + math.log(4) - 1))
    assert float(kl_to_standard_normal(torch.zeros(3), torch.ones(3))) == 0.0
    mean, variance = torch.randn(4, 5, generator=generator(0)), torch.rand(4, 5, generator=generator(1)) + 0.1
    expected = kl_divergence(Normal(mean, variance.sqrt()), Normal(0.0, 1.0)).sum(-1)
    assert torch.allclose(kl_to_standard_normal(mean, variance), expected, atol=1e-5)


def test_the_encoders_belief_is_the_product_of_its_votes() -> None:
    net, x = encoder(ProductEncoder), transitions()
    assert isinstance(net, ProductEncoder)
    mean, precision = net.votes(x)
    for ours, expected in zip(whole(net, x), product_of_gaussians(mean, 1 / precision), strict=True):
        assert torch.allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_the_prior_is_one_more_factor_where_asked_and_an_empty_vote_changes_nothing() -> None:
    """Then no belief is wider than N(0, I); the plain product of few empty votes is."""
    net, x = encoder(PriorProductEncoder), transitions()
    assert isinstance(net, PriorProductEncoder)
    mean, precision = net.votes(x)
    ones = torch.ones(N, 1, LATENT)
    expected = product_of_gaussians(torch.cat([0 * ones, mean], 1), torch.cat([ones, 1 / precision], 1))
    for ours, wanted in zip(whole(net, x), expected, strict=True):
        assert torch.allclose(ours, wanted, rtol=1e-5, atol=1e-6)
    plain = encoder(ProductEncoder)
    for empty in (net, plain):
        with torch.no_grad():
            empty.layers[-1].bias[LATENT:] = -1e4 if empty is net else 1e4  # precision 0, or variance 10^4
    assert torch.equal(whole(net, x)[1], torch.ones(N, LATENT))
    assert float(whole(plain, x)[1].min().detach()) > 100


def test_typical_many_transitions_weigh_about_as_much_as_the_prior_at_first() -> None:
    net = PriorProductEncoder(WIDTH, LATENT, (64,), generator(0), "cpu", typical=500)
    variance = whole(net, 0.1 * torch.randn(1, 500, WIDTH, generator=generator(1)))[1]
    assert 0.4 < float(variance.min().detach()) <= float(variance.max().detach()) < 0.6


def test_order_says_nothing_to_the_product_and_something_to_the_recurrent_encoder() -> None:
    x = transitions()
    shuffled = x[:, torch.randperm(K, generator=generator(2))]
    for kind, blind in ((ProductEncoder, True), (PriorProductEncoder, True), (RecurrentEncoder, False)):
        net = encoder(kind)
        (mean, variance), (mean2, variance2) = whole(net, x), whole(net, shuffled)
        assert torch.allclose(mean, mean2, atol=1e-6) == blind
        assert torch.allclose(variance, variance2, atol=1e-6) == blind


@pytest.mark.parametrize("kind", [ProductEncoder, PriorProductEncoder, RecurrentEncoder])
def test_parts_taken_in_one_after_another_give_the_belief_of_the_whole(kind: type[Encoder]) -> None:
    net, x = encoder(kind), transitions()
    state = net.start(N)
    for part in x.split((2, 3, 1), dim=1):
        state = net.absorb(state, part, torch.full((N,), part.shape[1]))
    for ours, expected in zip(net.belief(state), whole(net, x), strict=True):
        assert torch.allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("kind", [ProductEncoder, PriorProductEncoder, RecurrentEncoder])
def test_only_the_first_rows_count_and_none_is_the_prior(kind: type[Encoder]) -> None:
    net, x = encoder(kind), transitions()
    count = torch.tensor([0, 2, K])
    padded = torch.where((torch.arange(K) < count[:, None])[..., None], x, 1e6)
    mean, variance = net.belief(net.absorb(net.start(N), padded, count))
    assert mean[0].tolist() == [0.0] * LATENT
    assert variance[0].tolist() == [1.0] * LATENT
    for row, k in ((1, 2), (2, K)):
        expected = whole(net, x[row : row + 1, :k])
        assert torch.allclose(mean[row], expected[0][0], atol=1e-6)
        assert torch.allclose(variance[row], expected[1][0], atol=1e-6)


@pytest.mark.parametrize("kind", [ProductEncoder, PriorProductEncoder, RecurrentEncoder])
def test_no_task_hears_of_anothers_transitions(kind: type[Encoder]) -> None:
    net, x = encoder(kind), transitions()
    changed = torch.cat([x[:1], -x[1:]])
    for before, after in zip(whole(net, x), whole(net, changed), strict=True):
        assert torch.equal(before[0], after[0])
        assert not torch.equal(before[1:], after[1:])


def test_the_empty_product_leaves_no_nan_in_the_gradient() -> None:
    net, x = encoder(ProductEncoder), transitions()
    mean, variance = net.belief(net.absorb(net.start(N), x, torch.tensor([0, 1, 2])))
    (mean.sum() + variance.sum()).backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in net.parameters()]
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients)
