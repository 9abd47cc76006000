"""Hand-drawn maps as places to be guided through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from metarl.envs.npc.maps.layout import Layout
from metarl.seeding import generator

from .layouts import UNREACHABLE, Layouts, join

VARIANTS = 16
"""Choices of exhibits, and orders of them, per map."""


@dataclass(frozen=True, eq=False)
class HandDrawn:
    """Layouts of maps, and what is on show in them."""

    layouts: Layouts
    themes: Tensor
    """float32 [E, 10]: rows for the table of themes."""


def load(path: str) -> Layout:
    """Return the map at `path`: Tiled (.tmj, .tmx), or the folder of a Decentraland scene.

    Raises: MapError with all that is wrong with it.
    """
    if Path(path).is_dir() or Path(path).name == "scene.json":
        from metarl.envs.npc.maps.decentraland import load_decentraland

        return load_decentraland(path)
    from metarl.envs.npc.maps.tiled import load_tiled

    return load_tiled(path)


def hand_drawn(paths: Sequence[str], n_exhibits: int, *, first_theme: int) -> HandDrawn:
    """Return `VARIANTS` layouts of each map; their themes get rows from `first_theme` on, the one after is "none".

    A map with more than `n_exhibits` exhibits shows others of them in each variant; one with fewer has slots that stay
    empty. Crowds are the map's own.

    Raises: MapError (a ConfigError) naming layer and tile of whatever is wrong.
    """
    maps = [load(path) for path in paths]
    starts = torch.tensor([0, *(len(m.exhibits) for m in maps)]).cumsum(0)
    themes = torch.cat([m.exhibits.themes for m in maps])
    nothing = first_theme + len(themes)
    parts = [
        one_map(m, n_exhibits, first_theme + int(start), nothing, f"{number}:{m.digest()}")
        for number, (m, start) in enumerate(zip(maps, starts, strict=False))
    ]
    return HandDrawn(join(parts), themes)


def one_map(chart: Layout, n_exhibits: int, first_theme: int, nothing: int, key: str) -> Layouts:
    """Return the variants of one map."""
    there = len(chart.exhibits)
    shuffle = torch.rand(VARIANTS, there, generator=generator(0, "guide-maps", key)).argsort(1)[:, :n_exhibits]
    used = shuffle.shape[1]
    cells = chart.exhibits.cell[:, 0] * chart.width + chart.exhibits.cell[:, 1]
    spawn = chart.spawn[0] * chart.width + chart.spawn[1]
    points = torch.full((VARIANTS, n_exhibits + 1), spawn)
    points[:, :used] = cells[shuffle]
    theme = torch.full((VARIANTS, n_exhibits), nothing)
    theme[:, :used] = first_theme + shuffle
    crowd = torch.zeros(VARIANTS, n_exhibits)
    crowd[:, :used] = chart.exhibit_crowd[shuffle]
    between = chart.distances().float()
    rows = torch.cat([shuffle, torch.full((VARIANTS, 1), there)], 1)
    slots = torch.tensor([*range(used), n_exhibits])
    distance = torch.full((VARIANTS, n_exhibits + 1, n_exhibits + 1), UNREACHABLE)
    distance[:, slots[:, None], slots] = between[rows[:, :, None], rows[:, None]]
    return Layouts(chart.wall.expand(VARIANTS, -1, -1).clone(), points, distance, theme, crowd)
