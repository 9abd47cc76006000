"""Tile layers of a Tiled map as the grids of a world: walls, districts, crowd. The convention is `npcworld/1`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .faults import Faults
from .layout import MOST_DISTRICTS, SIZES
from .reading import short
from .tiled_guard import FLIPS, RawLayer, RawMap
from .tiled_tree import Tree, real

Sparse = dict[tuple[int, int], int]
"""{(x, y): gid} of the tiles that are there, flip bits removed."""
MEANT = ("walls", "districts", "crowd")
"""Names of the tile layers that mean something."""
TILE_PROPERTIES = ("solid", "district", "crowd")
"""Properties of tiles that mean something."""


@dataclass
class Picture:
    """The tile layers of a map, as far as the convention gives them a meaning."""

    raw: RawMap
    layers: list[tuple[str, Sparse]]
    """(name, tiles) of every tile layer"""

    def named(self, name: str) -> list[tuple[str, Sparse]]:
        """Return the tile layers of that name, whatever the case of its letters."""
        return [(n, tiles) for n, tiles in self.layers if _plain(n) == name]

    def tile(self, gid: int) -> Tree:
        """Return what the tileset says about a tile."""
        found = self.raw.tile(gid)
        return found[1] if found else {}

    def properties(self, gid: int) -> dict[str, Any]:
        """Return the properties of a tile."""
        own: dict[str, Any] = self.tile(gid).get("properties", {})
        return own


def _plain(name: str) -> str:
    return name.strip().casefold()


def truth(value: object) -> bool | None:
    """Return a truth, or what its text says; None for anything else."""
    return (
        {"true": True, "false": False}.get(_plain(value))
        if isinstance(value, str)
        else value
        if isinstance(value, bool)
        else None
    )


def read_picture(raw: RawMap, faults: Faults) -> Picture:
    """Return the tile layers; notes layers off the grid, gids of no tileset and tiles whose solidity is unclear."""
    picture = Picture(raw, [])
    for layer in raw.layers:
        if layer.kind == "tilelayer":
            tiles = _sparse(layer)
            picture.layers.append((layer.name, tiles))
            _check_tiles(picture, layer, tiles, faults)
    return picture


def _sparse(layer: RawLayer) -> Sparse:
    tiles: Sparse = {}
    for block in layer.blocks:
        for k, gid in enumerate(block.gids):
            cell = block.x + k % block.width, block.y + k // block.width
            if gid & ~FLIPS:
                tiles[cell] = gid & ~FLIPS
            else:
                tiles.pop(cell, None)  # chunks may overlap, the last one counts
    return tiles


def _check_tiles(picture: Picture, layer: RawLayer, tiles: Sparse, faults: Faults) -> None:
    kinds = set(tiles.values())
    strange = {gid for gid in kinds if picture.raw.tile(gid) is None}
    if strange:
        first = next(gid for gid in tiles.values() if gid in strange)
        what = f"{_many(tiles, strange)} belong to no tileset of the map (the first has gid {first})"
        faults.add(what, "draw them again with a tileset of the map", layer=layer.name, cells=_cells(tiles, strange))
    said = {gid: picture.properties(gid)["solid"] for gid in kinds if "solid" in picture.properties(gid)}
    unclear = {gid for gid, value in said.items() if truth(value) is None}
    if unclear:
        what = f"{_many(tiles, unclear)} have solid = {short(said[min(unclear)])}, expected true or false"
        remedy = "give those tiles of the tileset a bool property 'solid'"
        faults.add(what, remedy, layer=layer.name, cells=_cells(tiles, unclear))
    name = _plain(layer.name)
    shaped = {gid for gid in kinds - said.keys() if _has_shapes(picture.tile(gid))} if name not in MEANT else set()
    if shaped:
        what = f"{_many(tiles, shaped)} have collision shapes, but do not say whether they are walls"
        remedy = "give those tiles of the tileset a bool property 'solid'"
        faults.add(what, remedy, layer=layer.name, cells=_cells(tiles, shaped))
    means = name in MEANT or any(truth(value) for value in said.values())
    if means and layer.astray:
        remedy = "set offset to 0 and parallax factor to 1, also of its groups"
        faults.add(layer.astray, remedy, layer=layer.name)
    kind = layer.tree.get("class", "")
    if isinstance(kind, str) and _plain(kind) in MEANT and _plain(kind) != name:
        what = f"the layer has class {short(kind)}, but layers are told by their names"
        faults.add(what, f"name it {_plain(kind)!r}, or clear its class", layer=layer.name)


def _many(tiles: Sparse, gids: Collection[int]) -> str:
    return f"{len(_cells(tiles, gids))} tiles"


def _cells(tiles: Sparse, gids: Collection[int]) -> list[tuple[int, int]]:
    return [cell for cell, gid in tiles.items() if gid in gids]


def _has_shapes(tile: Tree) -> bool:
    shapes = tile.get("objectgroup")
    return isinstance(shapes, dict) and bool(shapes.get("objects"))


def solid_cells(picture: Picture) -> set[tuple[int, int]]:
    """Return the cells that nobody can walk on.

    In a layer named `walls` every tile is solid unless it has `solid=false`; in other layers those with `solid=true`.
    """
    walls = {id(tiles) for _, tiles in picture.named("walls")}
    solid = set()
    for _, tiles in picture.layers:
        by_default = id(tiles) in walls
        kinds = {gid: truth(picture.properties(gid).get("solid", by_default)) for gid in set(tiles.values())}
        solid |= {cell for cell, gid in tiles.items() if kinds[gid]}
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


def frame_of(raw: RawMap, solid: set[tuple[int, int]], faults: Faults) -> Frame | None:
    """Return the map or, of an infinite one, the box around its walls; None, with a fault, if that is no size."""
    if not raw.infinite:
        return Frame(0, 0, raw.tree["width"], raw.tree["height"])
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
            number = real(picture.properties(gid).get("district", gid))
            if number is None or number != int(number) or not 0 <= number <= MOST_DISTRICTS:
                bad.append(tile)
            elif frame.holds(tile):
                grid[frame.cell(tile)] = int(number)
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
            value = real(picture.properties(gid).get("crowd"))
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
