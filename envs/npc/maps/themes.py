"""The ten themes of exhibits, and a place for themes nobody has heard of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from metarl.envs.npc.people import THEMES as THEMES  # columns of `Exhibits.themes`, in this order

SUM_TOLERANCE = 1e-5
"""How far from 1 the weights of an exhibit may add up to (float32 rounding)."""

LETTERS = "NGHMRFYUOT"
"""One letter per theme, all different: the first of the word that is still free (mYstery, fUture, humOur)."""


def features(theme: str) -> Tensor:
    """Return float64 [10], non-negative, sum 1: the unit vector of a known theme, hashed features of any other.

    Hashed features are fourth powers of ten numbers in (0, 1] from the SHA-256 of the name without regard to case,
    divided by their sum, so that one or two themes stand out; the same name gives the same features everywhere.
    """
    name = theme.strip().casefold()
    if name in THEMES:
        return torch.eye(len(THEMES), dtype=torch.float64)[THEMES.index(name)]
    digest = hashlib.sha256(b"npcworld/1 theme " + name.encode()).digest()
    uniform = [(int.from_bytes(digest[2 * k : 2 * k + 2], "little") + 1) / 65536 for k in range(len(THEMES))]
    powers = [u * u * u * u for u in uniform]
    return torch.tensor(powers, dtype=torch.float64) / sum(powers)


def mixture(weights: Mapping[str, float]) -> Tensor:
    """Return float32 [10], sum 1: the weighted features of several themes; weights are positive and finite."""
    total = sum(weights.values())
    exact = abs(total - 1) < SUM_TOLERANCE  # written by `describe`: dividing would move the last bits
    mixed = sum((w if exact else w / total) * features(theme) for theme, w in weights.items())
    return torch.as_tensor(mixed, dtype=torch.float32)


def parse_weights(text: str) -> dict[str, float]:
    """Return {theme: weight} of "music", "nature, music" or "nature: 2, music: 1".

    Raises: ValueError saying what is wrong, for no theme at all, a theme named twice, or a weight that is no positive
    number.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (piece.strip() for piece in part.partition(":"))
        try:
            weight = float(number) if number else 1.0
        except ValueError:
            raise ValueError(f"the weight {number!r} of theme {name!r} is no number") from None
        if not name or not name.isprintable() or not 0 < weight < 1e6:
            raise ValueError(f"{part!r} is no theme with a weight between 0 and 1000000")
        if name.casefold() in weights:
            raise ValueError(f"theme {name!r} is named twice")
        weights[name.casefold()] = weight
    if not weights:
        raise ValueError("no theme is named")
    return weights


def describe(row: Tensor) -> str:
    """Return the text that `parse_weights` and `mixture` turn into exactly this row: "music" or "nature:0.3,...".

    row: float32 [10], sum 1.
    """
    parts = {name: float(w) for name, w in zip(THEMES, row.tolist(), strict=True) if w}
    if list(parts.values()) == [1.0]:
        return next(iter(parts))
    return ",".join(f"{name}:{w!r}" for name, w in parts.items())
