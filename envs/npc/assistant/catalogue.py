"""What the assistant can offer, and to whom: pools of catalogues, and banks of visitors, per domain.

A catalogue keeps, of a draw of offers, those whose utility for the average train visitor is nearest to the middle: the
average taste then cannot pick the winner (a utility-balanced design, as in conjoint studies). Pools are drawn once,
from fixed seeds; a dialogue picks a catalogue from its pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from metarl.envs.npc import people
from metarl.errors import ConfigError
from metarl.seeding import generator

N_ATTRIBUTES = 6
"""Attributes of every domain, padded with zeros where it has fewer."""
CATALOGUE_SD = 1.3
"""Spread (standard deviation) of the utilities within a catalogue for a train visitor, root mean square."""
POOLS = ("known", "new")
"""Catalogues of real offers and of some half-way between two real ones; and of others half-way."""
VALIDATION_SHARE = 0.1
"""Share of the train visitors who are kept for validation."""
MOST = 3.0
"""Attributes are clipped to this many standard deviations (a rare seat that one offer in 24 has is 4.8 away)."""
_SEED = 20_221
_DRAWN = 400
_BETWEEN = 400


@dataclass(frozen=True)
class Shelf:
    """One domain: tensors in float32, attributes padded to 6."""

    domain: str
    attributes: tuple[str, ...]
    offers: Tensor
    """[2, G, J, 6]: per pool G catalogues of J offers, in random order."""
    bank: Tensor
    """[P, 6]: part-worths of the visitors one may train on."""
    validation: Tensor
    """[V, 6]: part-worths of train visitors kept for validation."""
    test: Tensor
    """[Q, 6]: part-worths of visitors never met in training."""
    mean: Tensor
    """[6]: mean of `bank`."""
    sd: Tensor
    """[6]: standard deviation of `bank`; 1 where the domain has no such attribute."""


def _balanced(rows: Tensor, utility: Tensor, n: int, size: int, generator: torch.Generator) -> Tensor:
    """Return `n` catalogues [n, size, A]: of up to 400 drawn offers those nearest to the middle, in random order."""
    drawn = min(_DRAWN, max(size, (2 * len(rows)) // 3))
    at = torch.rand(n, len(rows), generator=generator).argsort(1)[:, :drawn]
    # Rounded and sorted stably: the same catalogues whatever the machine's ways of adding up.
    off = ((utility - utility.median()).abs() * 1e4).round()[at]
    kept = at.gather(1, off.sort(dim=1, stable=True).indices[:, :size])
    kept = kept.gather(1, torch.rand(kept.shape, generator=generator).argsort(1))
    return rows[kept]


@cache
def shelf(domain: str, n_offers: int, n_catalogues: int, synthetic: bool = False) -> Shelf:
    """Return catalogues and visitors of `domain`, the same at every call.

    Part-worths are scaled by one factor per domain so that utilities spread by `CATALOGUE_SD` within a catalogue, which
    makes visitors of all domains equally choosy.

    Raises: ConfigError for an unknown domain, or one with too few offers for a catalogue.
    """
    found = people.part_worths(domain, "train", synthetic=synthetic)
    test = people.part_worths(domain, "test", synthetic=synthetic).beta
    rows = torch.unique(found.offers.clamp(-MOST, MOST), dim=0)
    if n_offers > len(rows):
        raise ConfigError(f"domain {domain!r} has {len(rows)} offers; a catalogue of {n_offers} is too large")
    noise = generator(_SEED, domain, n_offers, n_catalogues)
    order = torch.randperm(len(found.beta), generator=noise)
    n_validation = max(1, round(VALIDATION_SHARE * len(order)))
    validation, bank = found.beta[order[:n_validation]], found.beta[order[n_validation:]]
    average = bank.mean(0)
    pairs = torch.randint(len(rows), (2, 2 * _BETWEEN), generator=noise)
    between = torch.unique(0.5 * (rows[pairs[0]] + rows[pairs[1]]), dim=0)
    mixed = between[torch.randperm(len(between), generator=noise)]
    half = len(mixed) // 2
    pools = [
        _balanced(r, r.double() @ average.double(), n_catalogues, n_offers, noise)
        for r in (torch.cat([rows, mixed[:half]]), mixed[half:])
    ]
    utility = pools[0].double() @ bank.double().T  # [G, J, P]
    scale = round(CATALOGUE_SD / float(utility.var(1).mean().sqrt()), 4)
    pad = N_ATTRIBUTES - rows.shape[1]
    bank, validation, test = (torch.nn.functional.pad(b * scale, (0, pad)) for b in (bank, validation, test))
    return Shelf(
        domain,
        found.attributes,
        torch.nn.functional.pad(torch.stack(pools), (0, pad)),
        bank,
        validation,
        test,
        bank.mean(0),
        torch.nn.functional.pad(bank.std(0)[: rows.shape[1]], (0, pad), value=1.0),
    )


def dominant(beta: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """Return the attribute in which each visitor differs most from the average, int64 [P]."""
    return ((beta - mean) / sd).abs().argmax(1)
