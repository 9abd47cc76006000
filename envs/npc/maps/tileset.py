"""The tileset `npcworld`: one tile per thing that a world is made of, so that maps can be drawn and looked at."""

from __future__ import annotations

from typing import Any

import numpy as np

from metarl.envs.npc.palette import VERMILION

from . import picture as paint
from .layout import MOST_DISTRICTS
from .themes import THEMES

NAME, IMAGE = "npcworld", "npcworld.png"
TILE_PX, COLUMNS = 32, 16
FLOOR, WALL, WALL_WITH_FACE, CLOSED = 0, 1, 2, 3
"""Numbers of tiles, counted from 0."""
FIRST_DISTRICT, FIRST_EXHIBIT = 16, 32
"""District 1 and the first theme; the others follow."""
MIXED = FIRST_EXHIBIT + len(THEMES)
"""An exhibit whose themes are written in its own properties."""
PLACES = {kind: MIXED + 1 + k for k, kind in enumerate(("spawn", "exit", "shop", "meeting", "portal"))}
FIRST_CROWD = 48
"""Crowd of 0 %; the tile of k % is k further."""
COUNT = 160
"""Tiles in the image, the last ones empty."""


def tile_class(tile: int) -> str:
    """Return the class of a tile, which objects drawn with it take over; "" if it has none."""
    if FIRST_EXHIBIT <= tile <= MIXED:
        return "exhibit"
    return {number: kind for kind, number in PLACES.items()}.get(tile, "")


def tile_properties(tile: int) -> dict[str, Any]:
    """Return {name: value} of a tile's properties."""
    if tile in (WALL, WALL_WITH_FACE):
        return {"solid": True}
    if FIRST_DISTRICT <= tile < FIRST_DISTRICT + MOST_DISTRICTS:
        return {"district": tile - FIRST_DISTRICT + 1}
    if FIRST_EXHIBIT <= tile < MIXED:
        return {"theme": THEMES[tile - FIRST_EXHIBIT]}
    if FIRST_CROWD <= tile <= FIRST_CROWD + 100:
        return {"crowd": (tile - FIRST_CROWD) / 100}
    return {}


def draw() -> paint.Image:
    """Return the image of the tileset, uint8 [320, 512, 4], empty tiles transparent."""
    rows = COUNT // COLUMNS
    canvas = np.zeros((rows * TILE_PX, COLUMNS * TILE_PX, 4), np.uint8)
    for tile in range(COUNT):
        top, left = tile // COLUMNS * TILE_PX, tile % COLUMNS * TILE_PX
        colours, alpha = _draw_tile(tile)
        canvas[top : top + TILE_PX, left : left + TILE_PX, :3] = colours
        canvas[top : top + TILE_PX, left : left + TILE_PX, 3] = alpha
    return canvas


def _draw_tile(tile: int) -> tuple[paint.Image, paint.Image | int]:
    """Return colours and opacity (0 to 255, of the tile or of each pixel) of a tile."""
    cell = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)
    properties, kind = tile_properties(tile), tile_class(tile)
    alpha: paint.Image | int = 255
    if tile == FLOOR or "district" in properties:
        paint.floor_tile(cell, properties.get("district", 0))
    elif tile in (WALL, WALL_WITH_FACE):
        paint.wall_tile(cell, face=tile == WALL_WITH_FACE)
    elif tile == CLOSED:
        paint.floor_tile(cell, 0)
        paint.closed_tile(cell)
    elif "theme" in properties:
        paint.exhibit_tile(cell, [float(theme == properties["theme"]) for theme in THEMES])
    elif tile == MIXED:
        paint.mixed_tile(cell)
    elif kind:
        off = np.arange(TILE_PX) - (TILE_PX - 1) / 2
        paint.place_tile(cell, kind)
        alpha = np.where(np.hypot(off[:, None], off) <= 0.47 * TILE_PX, 255, 0).astype(np.uint8)
    elif "crowd" in properties:
        cell[:] = VERMILION
        alpha = round(160 * properties["crowd"])
    else:
        alpha = 0
    if FIRST_EXHIBIT <= tile <= MIXED:  # the ground shows around it
        alpha = np.zeros((TILE_PX, TILE_PX), np.uint8)
        alpha[2:-2, 2:-2] = 255
    return cell, alpha
