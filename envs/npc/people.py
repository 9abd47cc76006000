"""Banks of visitors: interests, part-worth utilities and traits of real people, as plain tensors.

Everything comes from `data/people.npz`, numbers derived from public data (`data/SOURCES.md` names each source and
its licence). Nothing in the file is anybody's raw answer. With `synthetic=True` the same functions draw invented
people from a Gaussian with the moments of the real ones (`data/moments.json`); that path never opens the npz.

Splits are by person: nobody is in both. Tensors are float32, on `device`, and the caller's own (a fresh copy).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.errors import ConfigError, nearest
from metarl.seeding import generator

from .traits import style_histogram

SPLITS = ("train", "test")
THEMES = ("nature", "game", "history", "music", "romance", "family", "mystery", "future", "humour", "thrill")
N_INTERESTED = {"train": 440, "test": 201}
"""People in the bank of interests, per split."""
MOST_INTEREST = 2.5
"""Interests are clipped to this many standard deviations."""
UTILITY_SD = 2.5
"""Part-worths are scaled so that offers differ by this much for a train person (root mean square over people)."""
_SYNTHETIC_SEED = 80_808
_N_SYNTHETIC_ANSWERS = 20_000
_N_SYNTHETIC_OFFERS = 600


@dataclass(frozen=True)
class Domain:
    """A kind of thing that people choose among."""

    attributes: tuple[str, ...]
    """Names of the A attributes, each standardised over the offers that train people saw."""
    n_people: tuple[int, int]
    """Size of the train and the test split."""
    held_out: bool
    """True if worlds should not train on this domain."""


DOMAINS = {
    "electricity": Domain(
        ("price", "contract-years", "local-company", "well-known-company", "time-of-day-rate", "seasonal-rate"),
        (253, 108),
        held_out=False,
    ),
    "swissmetro": Domain(
        ("is-train", "is-car", "travel-time", "cost", "headway", "airline-seats"), (834, 357), held_out=False
    ),
    "train-tickets": Domain(("price", "time", "changes", "lack-of-comfort"), (164, 71), held_out=True),
}


class PartWorths(NamedTuple):
    """What each of P people cares about, and R offers they could be made; the utility is `offers @ beta.T`."""

    beta: Tensor
    """float32 [P, A]: utility per standard deviation of each attribute."""
    offers: Tensor
    """float32 [R, A]: offers that real suppliers or survey designs made; the same rows in both splits."""
    attributes: tuple[str, ...]
    """A names."""


class Moments(NamedTuple):
    """Mean and covariance of a bank of train people, enough for a Gaussian prior over visitors."""

    mean: Tensor
    """float32 [A]."""
    covariance: Tensor
    """float32 [A, A]."""


def _check(split: str) -> None:
    if split not in SPLITS:
        raise ConfigError(f"people have no split {split!r}; {nearest(split, SPLITS)}")


def _domain(name: str) -> Domain:
    if name not in DOMAINS:
        raise ConfigError(f"no domain {name!r} of part-worths; {nearest(name, DOMAINS)}")
    return DOMAINS[name]


@cache
def _bank() -> dict[str, Tensor]:
    """Return every array of the shipped file."""
    resource = files(__package__) / "data" / "people.npz"
    if not resource.is_file():
        raise ConfigError(f"{resource} is missing, a part of metarl; install metarl again or pass synthetic=True")
    with as_file(resource) as path, np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@cache
def _moments() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((files(__package__) / "data" / "moments.json").read_text(encoding="utf-8"))
    return loaded


def _gaussian(moments: Moments, n: int, *keys: str) -> Tensor:
    """Draw n rows of a Gaussian, float32 [n, A], the same at every call with the same keys."""
    noise = torch.randn(n, len(moments.mean), generator=generator(_SYNTHETIC_SEED, "npc-people", *keys))
    # A tiny ridge: published moments are rounded.
    ridge = 1e-4 * moments.covariance.diagonal().mean() * torch.eye(len(moments.mean))
    root: Tensor = torch.linalg.cholesky(moments.covariance + ridge)
    return moments.mean + noise @ root.T


def _pair(entry: dict[str, Any]) -> Moments:
    return Moments(torch.tensor(entry["mean"]), torch.tensor(entry["covariance"]))


def interest_moments(*, device: torch.device | str = "cpu") -> Moments:
    """Return mean [10] and covariance [10, 10] of interests before clipping."""
    return Moments(*(part.to(device) for part in _pair(_moments()["interests"])))


def interests(split: str, *, synthetic: bool = False, device: torch.device | str = "cpu") -> Tensor:
    """Return what visitors are drawn to, float32 [P, 10] in the order of THEMES: unit deviation, within +-2.5.

    Mean and covariance are those of how often 643 people chose to see films of each theme. GroupLens forbids passing
    their rows on under a licence like ours, so the bank is a fixed draw from that Gaussian, 440 train and 201 test
    people; `synthetic=True` is another draw of the same size.

    Raises: ConfigError for an unknown split.
    """
    _check(split)
    if synthetic:
        drawn = _gaussian(interest_moments(), N_INTERESTED[split], "interests", split)
        return drawn.clamp(-MOST_INTEREST, MOST_INTEREST).to(device)
    return _bank()[f"interests/{split}"].to(device, copy=True)


def part_worth_moments(domain: str, *, device: torch.device | str = "cpu") -> Moments:
    """Return mean [A] and covariance [A, A] of the train people's part-worths in `domain`.

    Raises: ConfigError for an unknown domain.
    """
    _domain(domain)
    return Moments(*(part.to(device) for part in _pair(_moments()["part_worths"][domain])))


def part_worths(domain: str, split: str, *, synthetic: bool = False, device: torch.device | str = "cpu") -> PartWorths:
    """Return (beta [P, A], offers [R, A], attribute names) of the people of `split` in `domain`.

    A hierarchical logit was fitted to the choices of the train people alone; each person's beta is the mean of their
    posterior given their own choices (`data/hier_logit.py`). All are scaled by one factor per domain, so that over
    the offers the utility of a train person has a standard deviation of 2.5 (root mean square over people).
    With `synthetic=True` people and offers are Gaussian with the same moments.

    Raises: ConfigError for an unknown domain or split.
    """
    _check(split)
    known = _domain(domain)
    if synthetic:
        beta = _gaussian(part_worth_moments(domain), known.n_people[SPLITS.index(split)], "part-worths", domain, split)
        offers = _gaussian(_pair(_moments()["offers"][domain]), _N_SYNTHETIC_OFFERS, "offers", domain)
        return PartWorths(beta.to(device), offers.to(device), known.attributes)
    beta, offers = _bank()[f"{domain}/{split}"], _bank()[f"{domain}/offers"]
    return PartWorths(beta.to(device, copy=True), offers.to(device, copy=True), known.attributes)


def styles(*, synthetic: bool = False, device: torch.device | str = "cpu") -> Tensor:
    """Return the prior over 80 styles, float32 [80] that sums to 1; see `traits.style_factors` for what they mean.

    It is the histogram of 2,800 people's answers to a Big Five questionnaire under the rules of `traits.style_of`;
    with `synthetic=True` that of 20,000 invented people whose traits correlate as theirs do.
    """
    if synthetic:
        traits = _pair(_moments()["traits"])
        counts = style_histogram(_gaussian(traits, _N_SYNTHETIC_ANSWERS, "traits"))
    else:
        counts = _bank()["styles"]
    return (counts.to(torch.float32) / counts.sum()).to(device)
