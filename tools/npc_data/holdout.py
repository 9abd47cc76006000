"""Does knowing a person help? Predict the last choices of people the model has never seen, after some earlier ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from metarl.seeding import generator

from .hier_logit import Panel, Population, Posterior, fit_plain, log_probs, posterior

LAST = 4
"""Choices of each person to predict."""
SEEN = (0, 1, 2, 4, 8)
"""Numbers of earlier choices known; people with fewer give all they have."""
_N_DRAWS = 128


@dataclass(frozen=True)
class Score:
    """How well choices were predicted."""

    accuracy: float
    """Share of choices where the likeliest offer was the one taken."""
    log_likelihood: float
    """Mean log-probability of the offer taken, in nats."""


def last_choices(panel: Panel) -> Tensor:
    """Return bool [P, T]: each person's last `LAST` choices."""
    return panel.made & (panel.made.flip(1).cumsum(1).flip(1) <= LAST)


def first_choices(panel: Panel, n: int) -> Tensor:
    """Return bool [P, T]: each person's first n choices, none of them among the last ones."""
    return panel.made & (panel.made.cumsum(1) <= n) & ~last_choices(panel)


def _score(panel: Panel, log_prob: Tensor) -> Score:
    """Score predictions [P, T, J] on the last choices."""
    asked = last_choices(panel)
    hits = (log_prob.argmax(2) == panel.chosen)[asked]
    taken = log_prob.gather(2, panel.chosen[..., None])[..., 0][asked]
    return Score(round(hits.double().mean().item(), 4), round(taken.mean().item(), 4))


def predictive(panel: Panel, known: Posterior) -> Tensor:
    """Return the log of the mean choice probability under a posterior (128 fixed draws), float64 [P, T, J]."""
    stream = generator(0, "npc-people", "holdout")
    noise = torch.randn(_N_DRAWS, known.mean.shape[1], generator=stream, dtype=torch.float64)
    root = torch.linalg.cholesky(known.covariance)
    total = torch.full(panel.available.shape, -torch.inf, dtype=torch.float64)
    for draw in noise:
        total = torch.logaddexp(total, log_probs(panel, known.mean + root @ draw))
    return total - torch.tensor(float(_N_DRAWS)).log()


def prediction_table(train: Panel, test: Panel, law: Population, *, n_draws: int = 1024) -> dict[str, dict[str, float]]:
    """Return scores on unseen people: "same-for-all" (plain logit) and "after-n" for each n of `SEEN`.

    `n_draws` are those of `posterior`.
    """
    table = {"same-for-all": asdict(_score(test, log_probs(test, fit_plain(train))))}
    for n in SEEN:
        known = posterior(test.only(first_choices(test, n)), law, n_draws=n_draws)
        table[f"after-{n}"] = asdict(_score(test, predictive(test, known)))
    return table
