"""Hierarchical (mixed) logit by Monte Carlo EM: what a population wants, and what each of its members wants.

Person i's part-worths are beta_i ~ N(mu, Sigma); of the offers shown at once they choose j with probability
softmax(x_j . beta_i) (Train 2009, Discrete Choice Methods with Simulation, chapters 11 and 12). For each person
Newton's method finds the mode of the posterior and its curvature there (Laplace's Gaussian); from there on draws
weighted by how likely they really are give the mean and the covariance (adaptive importance sampling). EM on Laplace's
Gaussians alone shrinks the population: of invented people with 12 choices each, variances were 30 to 50 % too small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.errors import ConfigError
from metarl.seeding import generator

NEWTON_STEPS = 10
"""The objective is strictly concave, and the mode only tells where to draw."""
TAIL = 8
"""Degrees of freedom of the proposal."""


@dataclass(frozen=True)
class Panel:
    """P people who made up to T choices each, among up to J offers with A attributes."""

    offers: Tensor
    """float64 [P, T, J, A]; zero where there is no offer."""
    available: Tensor
    """bool [P, T, J]; all True where no choice was made."""
    chosen: Tensor
    """int64 [P, T], index of the offer taken."""
    made: Tensor
    """bool [P, T]: the person made a t-th choice; a person's choices come first, the padding last."""

    def __post_init__(self) -> None:
        """Raise ConfigError if the parts do not belong together."""
        p, t, j, _ = self.offers.shape
        want = {"available": (p, t, j), "chosen": (p, t), "made": (p, t)}
        got = {name: tuple(getattr(self, name).shape) for name in want}
        if want != got:
            raise ConfigError(f"Panel of offers {(p, t, j)} has {got}; expected {want}")
        if not self.available.gather(2, self.chosen[..., None])[..., 0][self.made].all():
            raise ConfigError("Panel holds a choice of an offer that was not available; drop that choice")

    @property
    def n_choices(self) -> Tensor:
        """int64 [P], choices each person made."""
        return self.made.sum(1)

    def people(self, index: Tensor) -> Panel:
        """Return the panel of the people at `index`, int64 [K]."""
        return Panel(self.offers[index], self.available[index], self.chosen[index], self.made[index])

    def only(self, made: Tensor) -> Panel:
        """Return the same panel where just the choices in `made`, bool [P, T], were made."""
        return Panel(self.offers, self.available, self.chosen, self.made & made)


@dataclass(frozen=True)
class Population:
    """Law of the part-worths in a population: N(mean, covariance)."""

    mean: Tensor
    """float64 [A]."""
    covariance: Tensor
    """float64 [A, A], positive definite."""


@dataclass(frozen=True)
class Posterior:
    """What is known of each person."""

    mean: Tensor
    """float64 [P, A]."""
    covariance: Tensor
    """float64 [P, A, A]."""


def log_probs(panel: Panel, beta: Tensor) -> Tensor:
    """Return log p(offer), float64 [P, T, J], for people with part-worths `beta` [P, A] (or [A], shared)."""
    beta = beta.expand(panel.offers.shape[0], -1)
    utility = torch.einsum("ptja,pa->ptj", panel.offers, beta).masked_fill(~panel.available, -torch.inf)
    return utility.log_softmax(2)


def _slopes(panel: Panel, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradient [P, A] and negative Hessian [P, A, A] of each person's log-likelihood at `beta` [P, A]."""
    prob = log_probs(panel, beta).exp()
    mean = torch.einsum("ptj,ptja->pta", prob, panel.offers)
    taken = panel.offers.gather(2, panel.chosen[..., None, None].expand(*panel.chosen.shape, 1, mean.shape[-1]))[
        :, :, 0
    ]
    made = panel.made.to(mean.dtype)
    gradient = ((taken - mean) * made[..., None]).sum(1)
    spread = (panel.offers - mean[:, :, None]) * (prob * made[..., None]).sqrt()[..., None]
    flat = spread.flatten(1, 2)
    return gradient, flat.transpose(1, 2) @ flat


def _log_joint(panel: Panel, population: Population, beta: Tensor) -> Tensor:
    """Return log p(choices, beta) up to a constant, float64 [P], for part-worths [P, A]."""
    chosen = log_probs(panel, beta).gather(2, panel.chosen[..., None])[..., 0]
    off = beta - population.mean
    prior: Tensor = -0.5 * (off * torch.linalg.solve(population.covariance, off.T).T).sum(1)
    return chosen.masked_fill(~panel.made, 0.0).sum(1) + prior


def _draws(law: Posterior, n: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw n times from each person's Student t around `law`: (beta [n, P, A], log-density [n, P] up to a constant).

    t with `TAIL` degrees of freedom has heavier tails than any posterior here, so no weight explodes.
    """
    n_people, n_attributes = law.mean.shape
    root = torch.linalg.cholesky(law.covariance)
    z = torch.randn(n, n_people, n_attributes, generator=stream, dtype=torch.float64)
    chi = torch.randn(n, n_people, TAIL, generator=stream, dtype=torch.float64).square().sum(2)
    step = z * (TAIL / chi).sqrt()[..., None]
    log_density = -0.5 * (TAIL + n_attributes) * torch.log1p(step.square().sum(2) / TAIL)
    return law.mean + torch.einsum("pab,npb->npa", root, step), log_density


def _weighted(
    panel: Panel, population: Population, proposal: Posterior, n: int, stream: torch.Generator
) -> tuple[Posterior, Posterior]:
    """Return (the posterior's mean and covariance by n weighted draws per person, where to draw next time).

    Somebody whose weight sits on few draws keeps part of the old proposal, so that no proposal collapses.
    """
    beta, log_density = _draws(proposal, n, stream)
    weight = torch.stack([_log_joint(panel, population, b) for b in beta]) - log_density
    share = weight.softmax(0)
    mean = torch.einsum("np,npa->pa", share, beta)
    off = (beta - mean) * share.sqrt()[..., None]
    covariance = torch.einsum("npa,npb->pab", off, off)
    n_effective = 1 / share.square().sum(0)
    keep = (2 / n_effective).clamp(max=1.0)[:, None, None]
    return Posterior(mean, covariance), Posterior(mean, covariance + keep * proposal.covariance)


def _laplace(panel: Panel, population: Population) -> Posterior:
    """Return the Gaussian with each posterior's mode and curvature."""
    precision = torch.linalg.inv(population.covariance)
    beta = population.mean.expand(panel.offers.shape[0], -1)
    for _ in range(NEWTON_STEPS):
        gradient, curvature = _slopes(panel, beta)
        step = torch.linalg.solve(curvature + precision, gradient - (beta - population.mean) @ precision)
        # A full step from far away may overshoot; in units of the prior three deviations at a time is plenty.
        length = torch.einsum("pa,ab,pb->p", step, precision, step).sqrt()
        beta = beta + step * (3.0 / length.clamp(min=3.0))[:, None]
    return Posterior(beta, torch.linalg.inv(_slopes(panel, beta)[1] + precision))


def posterior(panel: Panel, population: Population, *, n_draws: int = 1024) -> Posterior:
    """Return mean and covariance of each person's posterior given the choices they made.

    Args:
        panel: the choices; people without any keep the population's law.
        population: the prior.
        n_draws: weighted draws per person, the same at every call.
    """
    stream = generator(0, "hier-logit", "posterior")
    around = _laplace(panel, population)
    for n in (n_draws // 4, n_draws // 4, n_draws):
        known, around = _weighted(panel, population, around, n, stream)
    return known


def fit(panel: Panel, n_rounds: int = 120, *, n_draws: int = 48) -> Population:
    """Fit the population's law to `panel` by `n_rounds` of Monte Carlo EM; the mean of the last quarter is returned.

    Each round draws around what the round before knew of each person. A weak inverse-Wishart prior (A + 2
    pseudo-people with unit covariance, in units of standardised attributes) keeps the covariance proper where the
    choices say nothing.
    """
    n_people, n_attributes = panel.offers.shape[0], panel.offers.shape[-1]
    eye = torch.eye(n_attributes, dtype=panel.offers.dtype)
    law = Population(torch.zeros(n_attributes, dtype=panel.offers.dtype), eye)
    weight = n_attributes + 2
    stream = generator(0, "hier-logit", "fit")
    around = _laplace(panel, law)
    late: list[Population] = []
    for k in range(n_rounds):
        known, around = _weighted(panel, law, around, n_draws, stream)
        mean = known.mean.mean(0)
        centred = known.mean - mean
        scatter = known.covariance.sum(0) + centred.T @ centred
        law = Population(mean, (scatter + weight * eye) / (n_people + weight))
        if 4 * k >= 3 * n_rounds:
            late.append(law)
    return Population(torch.stack([x.mean for x in late]).mean(0), torch.stack([x.covariance for x in late]).mean(0))


def fit_plain(panel: Panel, n_steps: int = 30) -> Tensor:
    """Return the part-worths [A] of the plain logit: everybody wants the same (maximum likelihood, Newton)."""
    n_people, n_attributes = panel.offers.shape[0], panel.offers.shape[-1]
    beta = torch.zeros(n_attributes, dtype=panel.offers.dtype)
    for _ in range(n_steps):
        gradient, curvature = _slopes(panel, beta.expand(n_people, -1))
        beta = beta + torch.linalg.solve(curvature.sum(0), gradient.sum(0))
    return beta
