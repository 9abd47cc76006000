"""Hierarchical (mixed) logit by Laplace-EM: what a population wants, and what each of its members wants.

Person i's part-worths are beta_i ~ N(mu, Sigma); of the offers shown at once they choose j with probability
softmax(x_j . beta_i) (Train 2009, Discrete Choice Methods with Simulation, chapters 11 and 12). The E-step replaces
each posterior by a Gaussian at its mode, found by Newton's method for all people at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.errors import ConfigError

NEWTON_STEPS = 12
"""The objective is strictly concave; from the previous mode 3 or 4 steps reach float64 precision."""


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
    """What is known of each person: beta_i ~ N(mean_i, covariance_i)."""

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


def posterior(panel: Panel, population: Population, start: Tensor | None = None) -> Posterior:
    """Return each person's Gaussian posterior (mode and inverse curvature) given the choices they made.

    Args:
        panel: the choices; people without any keep the population's law.
        population: the prior.
        start: [P, A], where Newton's method begins; default the population's mean.
    """
    precision = torch.linalg.inv(population.covariance)
    beta = population.mean.expand(panel.offers.shape[0], -1) if start is None else start
    for _ in range(NEWTON_STEPS):
        gradient, curvature = _slopes(panel, beta)
        curvature = curvature + precision
        step = torch.linalg.solve(curvature, gradient - (beta - population.mean) @ precision)
        # A full step from far away may overshoot; in units of the prior three deviations at a time is plenty.
        length = torch.einsum("pa,ab,pb->p", step, precision, step).sqrt()
        beta = beta + step * (3.0 / length.clamp(min=3.0))[:, None]
    covariance = torch.linalg.inv(_slopes(panel, beta)[1] + precision)
    return Posterior(beta, covariance)


def fit(panel: Panel, n_rounds: int = 200) -> Population:
    """Fit the population's law to `panel` by `n_rounds` of Laplace-EM.

    A weak inverse-Wishart prior (A + 2 pseudo-people with unit covariance, in units of standardised attributes)
    keeps the covariance proper where the choices say nothing.
    """
    n_people, n_attributes = panel.offers.shape[0], panel.offers.shape[-1]
    eye = torch.eye(n_attributes, dtype=panel.offers.dtype)
    law = Population(torch.zeros(n_attributes, dtype=panel.offers.dtype), eye)
    beta: Tensor | None = None
    weight = n_attributes + 2
    for _ in range(n_rounds):
        known = posterior(panel, law, beta)
        beta = known.mean
        mean = beta.mean(0)
        centred = beta - mean
        scatter = known.covariance.sum(0) + centred.T @ centred
        law = Population(mean, (scatter + weight * eye) / (n_people + weight))
    return law


def fit_plain(panel: Panel, n_steps: int = 30) -> Tensor:
    """Return the part-worths [A] of the plain logit: everybody wants the same (maximum likelihood, Newton)."""
    n_people, n_attributes = panel.offers.shape[0], panel.offers.shape[-1]
    beta = torch.zeros(n_attributes, dtype=panel.offers.dtype)
    for _ in range(n_steps):
        gradient, curvature = _slopes(panel, beta.expand(n_people, -1))
        beta = beta + torch.linalg.solve(curvature.sum(0), gradient.sum(0))
    return beta
