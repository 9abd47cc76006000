"""Worlds drawn with characters: what our samples and tests are made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from metarl.envs.npc.maps.layout import Exhibits, Layout, Portal, no_cells
from metarl.envs.npc.maps.themes import mixture, parse_weights
from metarl.errors import ConfigError

_PLAIN = "#.SEPx$+"


@dataclass(frozen=True)
class Piece:
    """An exhibit in a drawing."""

    name: str
    theme: str
    """as in a map: "music", or "nature:2, history:1" """
    popularity: float = 0.5
    dwell: int = 3


def from_drawing(
    drawing: str,
    pieces: Mapping[str, Piece],
    *,
    portal_to: str = "",
    closed_from: int = 0,
    districts: Sequence[tuple[int, int, int, int, int]] = (),
    crowds: Sequence[tuple[int, int, float, float]] = (),
    **own: Any,
) -> Layout:
    """Return the world that lines of text show.

    `#` wall, `.` floor, `S` spawn, `E` exit, `$` shop, `+` meeting point, `P` portal (to `portal_to`), `x` floor that
    closes at episode `closed_from`, any other character an exhibit of `pieces`. districts: (number, top, left, bottom,
    right), both ends included, later ones over earlier ones. crowds: (row, column, radius in cells, peak), bell-shaped,
    added up and capped at 1. own: other fields of Layout. Raises: ConfigError for ragged lines or unknown characters.
    """
    lines = drawing.split()
    if len({len(line) for line in lines}) != 1:
        raise ConfigError(f"lines of a drawing must have one length, got {sorted({len(line) for line in lines})}")
    marks = {(r, c): mark for r, line in enumerate(lines) for c, mark in enumerate(line)}
    unknown = set(marks.values()) - set(_PLAIN) - set(pieces)
    if unknown:
        raise ConfigError(f"a drawing has unknown characters {sorted(unknown)}; name them in `pieces`")

    def cells(mark: str) -> torch.Tensor:
        found = [cell for cell, m in marks.items() if m == mark]
        return torch.tensor(found, dtype=torch.int64) if found else no_cells()

    order = [(cell, pieces[m]) for m in pieces for cell, mark in marks.items() if mark == m]
    if len(cells("S")) != 1:
        raise ConfigError(f"a drawing needs one S (spawn), got {len(cells('S'))}")
    spawn = cells("S")[0].tolist()
    closed = cells("x")
    return Layout(
        wall=torch.tensor([[mark == "#" for mark in line] for line in lines]),
        spawn=(spawn[0], spawn[1]),
        exhibits=Exhibits(
            cell=torch.tensor([cell for cell, _ in order], dtype=torch.int64).reshape(-1, 2),
            themes=torch.stack([mixture(parse_weights(p.theme)) for _, p in order]) if order else torch.zeros(0, 10),
            popularity=torch.tensor([p.popularity for _, p in order]),
            dwell=torch.tensor([p.dwell for _, p in order], dtype=torch.int64),
            names=tuple(p.name for _, p in order),
        ),
        district=_districts(lines, districts),
        crowd=_crowd(lines, crowds),
        exits=cells("E"),
        shops=cells("$"),
        meetings=cells("+"),
        portals=tuple(Portal((r, c), portal_to) for r, c in cells("P").tolist()),
        closed_at={closed_from: closed} if len(closed) else {},
        **own,
    )


def _districts(lines: list[str], districts: Sequence[tuple[int, int, int, int, int]]) -> torch.Tensor:
    grid = torch.zeros(len(lines), len(lines[0]), dtype=torch.int64)
    for number, top, left, bottom, right in districts:
        grid[top : bottom + 1, left : right + 1] = number
    grid[torch.tensor([[mark == "#" for mark in line] for line in lines])] = 0
    return grid


def _crowd(lines: list[str], crowds: Sequence[tuple[int, int, float, float]]) -> torch.Tensor:
    rows = [
        [
            min(sum(p * math.exp(-((r - y) ** 2 + (c - x) ** 2) / (2 * s * s)) for y, x, s, p in crowds), 1.0)
            * (mark != "#")
            for c, mark in enumerate(line)
        ]
        for r, line in enumerate(lines)
    ]
    return torch.tensor(rows, dtype=torch.float32)
