"""Action distributions: densities by hand, moments by sampling, Fisher information as the Hessian of the divergence."""

import math

import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.action_distributions import (
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
    for_space,
    mask_logits,
)
from metarl.errors import ConfigError

F64 = torch.float64
KINDS: dict[str, Distribution] = {
    "gaussian": DiagonalGaussian(2),
    "categorical": Categorical(4, start=-1),
    "multi": MultiCategorical([2, 3], [0, 1]),
}


def _params(kind: str, rows: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return 0.7 * torch.randn(rows, KINDS[kind].n_params, generator=g, dtype=F64)


def test_a_gaussians_log_prob_is_the_sum_over_action_dimensions() -> None:
    """Trap 5.8: a mean over dimensions would take the d-th root of every importance ratio."""
    params = torch.tensor([[0.0, 1.0, math.log(1.0), math.log(2.0)]], dtype=F64)
    action = torch.tensor([[1.0, 5.0]], dtype=F64)
    by_hand = (-0.5 * 1**2 - 0.5 * math.log(2 * math.pi)) + (-0.5 * 2**2 - math.log(2) - 0.5 * math.log(2 * math.pi))
    assert float(DiagonalGaussian(2).log_prob(params, action)) == pytest.approx(by_hand, rel=1e-14)


def test_categorical_log_prob_counts_from_start() -> None:
    params = torch.tensor([[math.log(1.0), math.log(3.0)]], dtype=F64)
    assert Categorical(2, start=5).log_prob(params, torch.tensor([6])).exp().item() == pytest.approx(0.75)


def test_multi_categorical_log_prob_is_the_product_of_its_choices() -> None:
    params = torch.tensor([[0.0, 0.0, math.log(1.0), math.log(1.0), math.log(2.0)]], dtype=F64)
    p = MultiCategorical([2, 3], [0, 1]).log_prob(params, torch.tensor([[1, 3]])).exp()
    assert p.item() == pytest.approx(0.5 * 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_agrees_with_torch_distributions(kind: str) -> None:
    params, ours = _params(kind, 5), KINDS[kind]
    action = ours.sample(params, torch.Generator().manual_seed(1))
    if kind == "gaussian":
        mean, log_std = params.chunk(2, -1)
        theirs = torch.distributions.Normal(mean, log_std.exp()).log_prob(action).sum(-1)
    elif kind == "categorical":
        theirs = torch.distributions.Categorical(logits=params).log_prob(action + 1)
    else:
        parts = params.split([2, 3], -1)
        choices = (action[:, 0], action[:, 1] - 1)
        theirs = sum(torch.distributions.Categorical(logits=p).log_prob(a) for p, a in zip(parts, choices, strict=True))
    torch.testing.assert_close(ours.log_prob(params, action), theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_entropy_is_the_mean_surprise_of_samples(kind: str) -> None:
    params = _params(kind, 1).expand(200_000, -1)
    action = KINDS[kind].sample(params, torch.Generator().manual_seed(2))
    surprise = -KINDS[kind].log_prob(params, action).mean()
    assert float(surprise) == pytest.approx(float(KINDS[kind].entropy(params[0])), abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_kl_is_the_mean_log_ratio_of_samples_in_the_right_direction(kind: str) -> None:
    old, new = _params(kind, 1, seed=3), _params(kind, 1, seed=4)
    rows = old.expand(400_000, -1)
    action = KINDS[kind].sample(rows, torch.Generator().manual_seed(5))
    ratio = KINDS[kind].log_prob(rows, action) - KINDS[kind].log_prob(new.expand_as(rows), action)
    there, back = KINDS[kind].kl(old, new).item(), KINDS[kind].kl(new, old).item()
    assert float(ratio.mean()) == pytest.approx(there, rel=0.02)
    assert abs(there - back) > 0.05 * there  # the other direction would not have passed


def test_kl_of_gaussians_is_worked_by_hand() -> None:
    """KL(N(0,1) || N(1,2²)) = ln 2 + (1 + 1) / 8 - 1/2."""
    old, new = torch.tensor([0.0, 0.0], dtype=F64), torch.tensor([1.0, math.log(2.0)], dtype=F64)
    assert DiagonalGaussian(1).kl(old, new).item() == pytest.approx(math.log(2) + 0.25 - 0.5, rel=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_kl_of_a_policy_with_itself_is_zero_with_zero_gradient(kind: str) -> None:
    old = _params(kind, 3)
    new = old.clone().requires_grad_()
    kl = KINDS[kind].kl(old, new)
    torch.testing.assert_close(kl, torch.zeros(3, dtype=F64), rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad(kl.sum(), new)
    torch.testing.assert_close(gradient, torch.zeros_like(old), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fisher_product_equals_the_hessian_of_the_divergence(kind: str) -> None:
    old, v = _params(kind, 3), _params(kind, 3, seed=9)
    for i in range(3):
        hessian = torch.autograd.functional.hessian(lambda new, i=i: KINDS[kind].kl(old[i], new), old[i])
        torch.testing.assert_close(KINDS[kind].fisher_product(old, v)[i], hessian @ v[i], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_has_mean_zero_and_the_fisher_as_covariance(kind: str) -> None:
    params = _params(kind, 1).expand(200_000, -1).clone().requires_grad_()
    action = KINDS[kind].sample(params.detach(), torch.Generator().manual_seed(6))
    (score,) = torch.autograd.grad(KINDS[kind].log_prob(params, action).sum(), params)
    v = _params(kind, 1, seed=7)[0]
    expected = KINDS[kind].fisher_product(params[0].detach(), v)
    torch.testing.assert_close((score * (score @ v)[:, None]).mean(0), expected, rtol=0.05, atol=0.02)
    torch.testing.assert_close(score.mean(0), torch.zeros_like(v), rtol=0, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_leading_axes_are_free(kind: str) -> None:
    params = _params(kind, 6)
    stacked = params.reshape(2, 3, -1)
    assert torch.equal(KINDS[kind].entropy(stacked), KINDS[kind].entropy(params).reshape(2, 3))
    action = KINDS[kind].mode(stacked)
    flat = action.reshape(6, *action.shape[2:])
    assert torch.equal(KINDS[kind].log_prob(stacked, action).reshape(6), KINDS[kind].log_prob(params, flat))


@pytest.mark.parametrize("kind", KINDS)
def test_the_mode_is_more_likely_than_any_sample(kind: str) -> None:
    params = _params(kind, 1).expand(500, -1)
    sampled = KINDS[kind].log_prob(params, KINDS[kind].sample(params, torch.Generator().manual_seed(8)))
    assert float(KINDS[kind].log_prob(params[:1], KINDS[kind].mode(params[:1]))) >= float(sampled.max())


def test_categorical_sampling_follows_the_probabilities() -> None:
    p = torch.tensor([0.1, 0.2, 0.7])
    draws = Categorical(3, start=2).sample(p.log().expand(100_000, 3), torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.bincount(draws - 2, minlength=3) / 100_000, p, rtol=0, atol=0.006)


def test_a_masked_action_is_never_drawn_and_leaves_finite_gradients() -> None:
    logits = torch.zeros(1000, 3, requires_grad=True)
    mask = torch.tensor([True, False, True])
    masked = mask_logits(logits, mask.expand(1000, 3))
    action = Categorical(3).sample(masked.detach(), torch.Generator().manual_seed(1))
    assert set(action.tolist()) == {0, 2}
    assert Categorical(3).log_prob(masked, action).exp().tolist() == pytest.approx([0.5] * 1000)
    value = Categorical(3).entropy(masked).sum() + Categorical(3).kl(masked.detach(), masked).sum()
    (gradient,) = torch.autograd.grad(value, logits)
    assert bool(gradient.isfinite().all())
    assert bool((gradient[:, 1] == 0).all())


def test_without_a_mask_logits_stay_as_they_are() -> None:
    logits = torch.randn(2, 3)
    assert mask_logits(logits, None) is logits


def test_the_action_space_chooses_the_distribution() -> None:
    assert for_space(spaces.Box(-1, 1, (3,))).n_params == 6
    assert for_space(spaces.Discrete(4, start=3)).mode(torch.eye(4)).tolist() == [3, 4, 5, 6]
    assert for_space(spaces.MultiDiscrete([2, 3])).n_params == 5
    with pytest.raises(ConfigError, match="use a Box, Discrete or MultiDiscrete"):
        for_space(spaces.MultiBinary(3))
