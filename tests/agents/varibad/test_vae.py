"""VariBAD's model: divergences, likelihoods and the bound against closed forms; the encoder one step at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from metarl.agents.varibad.vae import (
    Belief,
    BeliefEncoder,
    Decoder,
    VAEConfig,
    belief_kl,
    log_likelihood,
    negative_elbo,
    reconstruction,
)
from metarl.agents.varibad.vae import kl_divergence as belief_divergence
from metarl.errors import ConfigError
from metarl.seeding import generator

SMALL = VAEConfig(latent=2, embedding=(4,), hidden=6, decoder=(5, 3))


def belief(*shape: int, seed: int = 0) -> Belief:
    """Return random beliefs [*shape, 2]."""
    g = generator(seed)
    return Belief(torch.randn(*shape, 2, generator=g), torch.randn(*shape, 2, generator=g))


def normal(b: Belief) -> Normal:
    return Normal(b.mean, (0.5 * b.log_var).exp())


# --- divergences and likelihoods ------------------------------------------------------------------------------------


def test_the_divergence_of_two_normals_is_the_hand_worked_one_and_not_symmetric() -> None:
    # KL(N(1, 4) || N(0, 1)) = (4 + 1 - 1 - ln 4) / 2; the other way round (1/4 + 1/4 - 1 + ln 4) / 2
    q, p = Belief(torch.ones(1), torch.full((1,), math.log(4.0))), Belief(torch.zeros(1), torch.zeros(1))
    assert float(belief_divergence(q, p)) == pytest.approx((4 - math.log(4)) / 2)
    assert float(belief_divergence(p, q)) == pytest.approx((-0.5 + math.log(4)) / 2)
    assert float(belief_divergence(q, q)) == 0.0


def test_each_belief_is_compared_with_the_one_before_it_and_the_first_with_the_prior() -> None:
    q = belief(4, 3)
    got = belief_kl(q)
    prior = Normal(torch.zeros(3, 2), torch.ones(3, 2))
    torch.testing.assert_close(got[0], kl_divergence(normal(Belief(q.mean[0], q.log_var[0])), prior).sum(-1))
    now, before = normal(Belief(q.mean[1:], q.log_var[1:])), normal(Belief(q.mean[:-1], q.log_var[:-1]))
    torch.testing.assert_close(got[1:], kl_divergence(now, before).sum(-1))
    to_prior = kl_divergence(normal(q), Normal(torch.zeros(()), torch.ones(()))).sum(-1)
    assert float((got - to_prior)[1:].abs().min()) > 1e-3  # negative control: not the divergence from the prior


def test_likelihoods_are_those_of_unit_normals_and_of_coins() -> None:
    g = generator(0)
    predicted, target = torch.randn(3, 4, 2, generator=g), torch.randn(4, 2, generator=g)
    torch.testing.assert_close(
        log_likelihood(predicted, target, "gaussian"), Normal(predicted, torch.ones(())).log_prob(target).sum(-1)
    )
    heads = (target > 0).float()
    torch.testing.assert_close(
        log_likelihood(predicted, heads, "bernoulli"), Bernoulli(logits=predicted).log_prob(heads).sum(-1)
    )


# --- the bound ------------------------------------------------------------------------------------------------------


def identity_decoder() -> Decoder:
    """Return a decoder that predicts m itself, whatever the transition: relu(m) - relu(-m)."""
    decoder = Decoder(replace(SMALL, latent=1, decoder=(2,)), 3, 1, generator(0), "cpu")
    with torch.no_grad():
        first, last = decoder.mlp.layers
        first.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, -1.0]]))  # type: ignore[operator]
        last.weight.copy_(torch.tensor([[1.0, -1.0]]))  # type: ignore[operator]
    return decoder


def bound(rewards: Tensor, q: Belief) -> float:
    """Return E_q[log p(rewards | m)] - KL(q || N(0, 1)) with our parts, for one trial and the first prefix.

    The log-likelihood is quadratic in m, for which the two noises 1 and -1 give the exact expectation.
    """
    x, valid = torch.zeros(len(rewards), 1, 3), torch.ones(1, 1, dtype=torch.bool)
    total = 0.0
    for noise in (1.0, -1.0):
        m = q.sample(torch.full((1, 1, 1), noise))
        log_prob = log_likelihood(identity_decoder()(x, m), rewards[:, None, None], "gaussian")
        explained = reconstruction(log_prob, torch.ones(len(rewards), 1, dtype=torch.bool))
        total -= float(negative_elbo(explained, belief_kl(q), valid, 1.0).detach()) / 2
    return total


def test_the_bound_of_the_exact_posterior_is_the_evidence_and_any_other_belief_falls_short() -> None:
    """Rewards r_i = m + noise, m ~ N(0, 1): posterior N(sum r / (n + 1), 1 / (n + 1)), evidence N(0, I + 1 1ᵀ)."""
    rewards = torch.tensor([0.5, 1.5, -0.25])
    n = len(rewards)
    evidence = MultivariateNormal(torch.zeros(n), torch.eye(n) + 1.0).log_prob(rewards)
    mean, log_var = rewards.sum().reshape(1, 1, 1) / (n + 1), torch.full((1, 1, 1), -math.log(n + 1))
    assert bound(rewards, Belief(mean, log_var)) == pytest.approx(float(evidence), abs=1e-5)
    for wrong in (Belief(mean + 0.3, log_var), Belief(mean, log_var + 0.5), Belief(0 * mean, 0 * log_var)):
        assert bound(rewards, wrong) < float(evidence) - 1e-2


def test_the_loss_is_the_mean_over_prefixes_with_the_kl_weighted_by_hand() -> None:
    explained, kl = torch.tensor([[-3.0], [-1.0], [99.0]]), torch.tensor([[2.0], [4.0], [99.0]])
    valid = torch.tensor([[True], [True], [False]])
    assert float(negative_elbo(explained, kl, valid, 0.5)) == pytest.approx(((3 + 1) + (1 + 2)) / 2)


def test_a_few_transitions_estimate_all_of_them_without_bias() -> None:
    g = generator(0)
    log_prob, valid = torch.randn(2, 5, 3, generator=g), torch.ones(5, 3, dtype=torch.bool)
    valid[3:, 1] = False
    whole = reconstruction(log_prob, valid)
    torch.testing.assert_close(whole[:, 1], log_prob[:, :3, 1].sum(1))
    parts = [reconstruction(log_prob[:, list(c)], valid[list(c)], weight=5 / 2) for c in combinations(range(5), 2)]
    torch.testing.assert_close(torch.stack(parts).mean(0), whole)
    unweighted = [reconstruction(log_prob[:, list(c)], valid[list(c)]) for c in combinations(range(5), 2)]
    assert not torch.allclose(torch.stack(unweighted).mean(0), whole)


# --- networks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("embedding", [(4,), ()])
def test_beliefs_of_a_sequence_are_those_of_single_steps_and_the_first_precedes_all_transitions(embedding: Any) -> None:
    encoder = BeliefEncoder(replace(SMALL, embedding=embedding), 7, generator(0), "cpu")
    x, memory = torch.randn(5, 3, 7, generator=generator(1)), encoder.start(3)
    whole = encoder.beliefs(x)
    assert whole.mean.shape == whole.log_var.shape == (6, 3, 2)
    for t in range(6):
        now = encoder.belief(memory["h"])
        torch.testing.assert_close(now.mean, whole.mean[t])
        torch.testing.assert_close(now.log_var, whole.log_var[t])
        if t < 5:
            memory = encoder.step(x[t], memory)
    assert encoder.beliefs(x[:0]).mean.shape == (1, 3, 2)


def test_a_belief_is_causal() -> None:
    encoder = BeliefEncoder(SMALL, 7, generator(0), "cpu")
    x = torch.randn(5, 3, 7, generator=generator(1))
    y = x.clone()
    y[3] += 1.0
    first, second = encoder.beliefs(x).mean, encoder.beliefs(y).mean
    assert torch.equal(first[:4], second[:4])
    assert bool((first[4:] != second[4:]).any(-1).all())


def test_a_decoder_joins_every_sample_with_every_transition() -> None:
    decoder = Decoder(SMALL, 4, 3, generator(0), "cpu")
    g = generator(1)
    x, m = torch.randn(5, 2, 4, generator=g), torch.randn(7, 2, 2, generator=g)
    got = decoder(x, m)
    assert got.shape == (7, 5, 2, 3)
    for k, s, b in [(0, 0, 0), (6, 4, 1), (3, 2, 0)]:
        torch.testing.assert_close(got[k, s, b], decoder.mlp(torch.cat([x[s, b], m[k, b]])))


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"latent": 0},
        {"hidden": 0},
        {"embedding": (0,)},
        {"decoder": ()},
        {"decoder": (3, 0)},
        {"reward_from": "action"},
        {"reward_likelihood": "poisson"},
        {"reward_coef": -1.0},
        {"reward_coef": 0.0},
        {"state_coef": math.nan},
        {"kl_weight": -0.1},
        {"horizons": 0},
        {"decodes": 0},
        {"lr": 0.0},
        {"max_grad_norm": math.inf},
        {"updates": 0},
        {"batch_trials": 0},
        {"buffer_trials": 24},
    ],
)
def test_impossible_settings_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"vae.{next(iter(wrong))}") as caught:
        VAEConfig(**wrong)
    assert "\n" not in str(caught.value)
