"""Tile layers of a Tiled map as the grids of a world: walls, districts, crowd. The convention is `npcworld/1`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pytiled_parser import LayerGroup, ObjectLayer, TiledMap, TileLayer
from pytiled_parser.layer import Layer as TiledLayer
from torch import Tensor

from .faults import Faults
from .layout import MOST_DISTRICTS, SIZES
from .reading import short
from .tiled_guard import FLIPS

Sparse = dict[tuple[int, int], int]
"""{(x, y): gid} of the tiles that are there, flip bits removed."""


@dataclass
class Picture:
    """The tile layers of a map, as far as the convention gives them a meaning."""

    layers: list[tuple[str, Sparse]]
    """(name, tiles) of every tile layer"""
    objects: list[ObjectLayer]
    """layers of objects"""
    tiles: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """{gid: properties of that tile}"""
    classes: dict[int, str] = field(default_factory=dict)
    """{gid: class of that tile}"""

    def named(self, name: str) -> list[tuple[str, Sparse]]:
        """Return the tile layers of that name, whatever the case of its letters."""
        return [(n, tiles) for n, tiles in self.layers if n.strip().casefold() == name]


def read_picture(tiled: TiledMap, infinite: bool, faults: Faults) -> Picture:
    """Return tile layers, object layers and tile properties; notes layers that are shifted and gids of no tileset."""
    picture = Picture([], [])
    known: list[range] = []
    for firstgid, tileset in tiled.tilesets.items():
        count = tileset.tile_count if isinstance(tileset.tile_count, int) else 0
        known.append(range(firstgid, firstgid + count))
        for local, tile in (tileset.tiles or {}).items():
            if isinstance(local, int):
                picture.tiles[firstgid + local] = tile.properties if isinstance(tile.properties, dict) else {}
                picture.classes[firstgid + local] = tile.class_ if isinstance(tile.class_, str) else ""
    for layer in _flat(tiled.layers):
        name = _name(layer)
        if isinstance(layer, TileLayer | ObjectLayer) and any(layer.offset):
            what = f"the layer is shifted by {short(tuple(layer.offset))} pixels"
            faults.add(what, "set its horizontal and vertical offset to 0", layer=name)
        if isinstance(layer, ObjectLayer):
            picture.objects.append(layer)
        elif isinstance(layer, TileLayer):
            tiles = _sparse(layer, infinite)
            _check_gids(name, tiles, known, faults)
            picture.layers.append((name, tiles))
    return picture


def _name(layer: TiledLayer) -> str:
    return layer.name if isinstance(layer.name, str) else short(layer.name)


def _flat(layers: list[TiledLayer]) -> Iterator[TiledLayer]:
    for layer in layers:
        if isinstance(layer, LayerGroup):
            if any(layer.offset):
                for inner in layer.layers or []:
                    inner.offset = layer.offset
            yield from _flat(layer.layers or [])
        else:
            yield layer


def _sparse(layer: TileLayer, infinite: bool) -> Sparse:
    tiles: Sparse = {}
    blocks = [(0, 0, layer.data or [])]
    if infinite:
        blocks = [(int(c.coordinates.x), int(c.coordinates.y), c.data) for c in layer.chunks or []]
    for left, top, rows in blocks:
        for y, row in enumerate(rows):
            for x, gid in enumerate(row):
                if gid & ~FLIPS:
                    tiles[left + x, top + y] = gid & ~FLIPS
    return tiles


def _check_gids(name: str, tiles: Sparse, known: list[range], faults: Faults) -> None:
    strangers = {gid for gid in set(tiles.values()) if not any(gid in gids for gids in known)}
    if strangers:
        foreign = [cell for cell, gid in tiles.items() if gid in strangers]
        what = f"{len(foreign)} tiles belong to no tileset of the map (the first has gid {tiles[foreign[0]]})"
        faults.add(what, "draw them again with a tileset of the map", layer=name, cells=foreign)


def solid_cells(picture: Picture) -> set[tuple[int, int]]:
    """Return the cells that nobody can walk on.

    In a layer named `walls` every tile is solid unless it has `solid=false`; in other layers those with `solid=true`.
    """
    walls = {id(tiles) for _, tiles in picture.named("walls")}
    solid = set()
    for _, tiles in picture.layers:
        by_default = id(tiles) in walls
        kinds = {gid: picture.tiles.get(gid, {}).get("solid", by_default) for gid in set(tiles.values())}
        solid |= {cell for cell, gid in tiles.items() if kinds[gid] is True}
    return solid


@dataclass(frozen=True)
class Frame:
    """The rectangle of the editor's canvas that is the world."""

    left: int
    top: int
    width: int
    height: int

    def cell(self, tile: tuple[int, int]) -> tuple[int, int]:
        """Return (row, column) of a tile (x, y)."""
        return tile[1] - self.top, tile[0] - self.left

    def holds(self, tile: tuple[int, int]) -> bool:
        """Return whether a tile (x, y) is inside."""
        return 0 <= tile[0] - self.left < self.width and 0 <= tile[1] - self.top < self.height


def frame_of(tiled: TiledMap, infinite: bool, solid: set[tuple[int, int]], faults: Faults) -> Frame | None:
    """Return the map or, of an infinite one, the box around its walls; None, with a fault, if that is no size."""
    if not infinite:
        return Frame(0, 0, int(tiled.map_size.width), int(tiled.map_size.height))
    if not solid:
        faults.add("an infinite map without a wall has no size", "draw a border of wall tiles in a layer named 'walls'")
        return None
    xs, ys = [x for x, _ in solid], [y for _, y in solid]
    frame = Frame(min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)
    low, high = SIZES
    if not (low <= frame.width <= high and low <= frame.height <= high):
        what = f"the walls span {frame.width} x {frame.height} tiles, expected {low} to {high} each way"
        corners = [(min(xs), min(ys)), (max(xs), max(ys))]
        faults.add(what, "remove far-off wall tiles or make the map smaller", layer="walls", cells=corners)
        return None
    return frame


def wall_grid(frame: Frame, solid: set[tuple[int, int]]) -> Tensor:
    """Return bool [H, W]."""
    wall = torch.zeros(frame.height, frame.width, dtype=torch.bool)
    for tile in solid:
        wall[frame.cell(tile)] = True
    return wall


def district_grid(picture: Picture, frame: Frame, faults: Faults) -> Tensor:
    """Return int64 [H, W]: the tile's property `district`, else its gid, in layer `districts`; 0 where it is empty."""
    grid = torch.zeros(frame.height, frame.width, dtype=torch.int64)
    for name, tiles in _one_layer(picture, "districts", faults):
        bad = []
        for tile, gid in tiles.items():
            number = picture.tiles.get(gid, {}).get("district", gid)
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MOST_DISTRICTS:
                bad.append(tile)
            elif frame.holds(tile):
                grid[frame.cell(tile)] = number
        if bad:
            what = f"{len(bad)} tiles stand for no district from 0 to {MOST_DISTRICTS}"
            faults.add(what, "give those tiles of the tileset an int property 'district'", layer=name, cells=bad)
    return grid


def crowd_grid(picture: Picture, frame: Frame, faults: Faults) -> Tensor | None:
    """Return float32 [H, W] from the tiles' property `crowd` in layer `crowd`; None if there is no such layer."""
    layers = _one_layer(picture, "crowd", faults)
    grid = torch.zeros(frame.height, frame.width)
    for name, tiles in layers:
        bad = []
        for tile, gid in tiles.items():
            value = number(picture.tiles.get(gid, {}).get("crowd"))
            if value is None or not 0 <= value <= 1:
                bad.append(tile)
            elif frame.holds(tile):
                grid[frame.cell(tile)] = value
        if bad:
            what = f"{len(bad)} tiles do not say how crowded it is there"
            remedy = "give those tiles of the tileset a float property 'crowd' from 0 to 1"
            faults.add(what, remedy, layer=name, cells=bad)
    return grid if layers else None


def _one_layer(picture: Picture, name: str, faults: Faults) -> list[tuple[str, Sparse]]:
    layers = picture.named(name)
    if len(layers) > 1:
        faults.add(f"there are {len(layers)} layers of that name, expected one", "merge or rename them", layer=name)
    return layers[:1]


def number(value: object) -> float | None:
    """Return a finite float of a property, whether it is a number or the text of one; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
