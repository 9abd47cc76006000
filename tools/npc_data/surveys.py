"""Interests from what people chose to see, and personality from what they answered: moments and counts only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs.npc.people import THEMES

GENRES = {
    "nature": ("Documentary",),
    "game": ("Action", "Adventure", "Fantasy"),
    "history": ("War", "Western"),
    "music": ("Musical",),
    "romance": ("Romance",),
    "family": ("Children", "Animation"),
    "mystery": ("Mystery", "Crime", "Film-Noir"),
    "future": ("Sci-Fi",),
    "humour": ("Comedy",),
    "thrill": ("Thriller", "Horror"),
}
LEAST_TITLES = 21
"""People with fewer rated titles are left out (the data set's own limit is 20)."""
PSEUDO_TITLES = 5.0
"""Titles added to each person, spread as the population spreads its own, before the logarithm."""

REVERSED = ("A1", "C4", "C5", "E1", "E2", "O2", "O5")
"""Items of the questionnaire that count against their trait (the key of `psych::bfi`)."""


def theme_counts(users: NDArray[Any], genres: NDArray[Any]) -> NDArray[np.float64]:
    """Return how many titles of each theme each person rated, [P, 10]; a title of k themes counts 1/k for each."""
    people, place = np.unique(users, return_inverse=True)
    titles, which = np.unique(genres.astype(str), return_inverse=True)
    share = np.array([[bool(set(t.split("|")) & set(GENRES[theme])) for theme in THEMES] for t in titles], float)
    share /= np.maximum(share.sum(1, keepdims=True), 1.0)
    counts = np.zeros((len(people), len(THEMES)))
    np.add.at(counts, place, share[which])
    return counts[np.bincount(place) >= LEAST_TITLES]


def log_shares(counts: NDArray[np.float64]) -> Tensor:
    """Return standardised logarithms of each person's share of each theme, float64 [P, 10]: mean 0, deviation 1."""
    usual = counts.sum(0) / counts.sum()
    smoothed = (counts + PSEUDO_TITLES * usual) / (counts.sum(1, keepdims=True) + PSEUDO_TITLES)
    score = torch.from_numpy(np.log(smoothed))
    return (score - score.mean(0)) / score.std(0, correction=0)


def trait_scores(columns: dict[str, NDArray[Any]]) -> Tensor:
    """Return each person's mean answer (1..6, reversed items turned) per trait, float64 [P, 5], in order A C E N O."""
    scores = []
    for letter in "ACENO":
        items = [np.asarray(columns[f"{letter}{k}"], float) for k in range(1, 6)]
        turned = [7 - x if f"{letter}{k}" in REVERSED else x for k, x in enumerate(items, 1)]
        scores.append(np.nanmean(np.stack(turned, 1), 1))
    table = np.stack(scores, 1)
    return torch.from_numpy(table[~np.isnan(table).any(1)])
