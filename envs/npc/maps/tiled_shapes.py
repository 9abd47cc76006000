"""Where an object of a Tiled map lies: alignment, offset, size and rotation as the editor shows them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .reading import BadFileError, short
from .tiled_guard import FARTHEST, FLIPS, RawMap, RawTileset
from .tiled_tree import SAVE_AGAIN, Tree, real, whole

Point = tuple[float, float]

_ANCHORS: dict[str, Point] = {
    "unspecified": (0, 1), "topleft": (0, 0), "top": (0.5, 0), "topright": (1, 0), "left": (0, 0.5),
    "center": (0.5, 0.5), "right": (1, 0.5), "bottomleft": (0, 1), "bottom": (0.5, 1), "bottomright": (1, 1),
}  # fmt: skip
"""{objectalignment: the point of a tile object that lies at its position, in its width and height}."""
_KINDS = ("point", "ellipse", "capsule", "polygon", "polyline", "text")
_TURNS = {0: (1.0, 0.0), 90: (0.0, 1.0), 180: (-1.0, 0.0), 270: (0.0, -1.0)}
"""{degrees: (cosine, sine)} without rounding."""


@dataclass(frozen=True)
class Shape:
    """The place of an object."""

    kind: str
    """rectangle, tile, or one of the shapes of the format"""
    tile_tree: Tree
    """what the tileset says about the tile it is drawn with; empty for none"""
    stray_gid: bool
    """whether it is drawn with a tile of no tileset"""
    proper: bool
    """whether position, size and rotation are numbers"""
    shown: str
    """position and size as the file has them"""
    rotation: float
    """degrees, clockwise"""
    box: tuple[float, float, float, float]
    """left, top, right, bottom in tiles of the map, rotation included"""

    @property
    def tile(self) -> tuple[int, int]:
        """Tile (x, y) under its middle."""
        left, top, right, bottom = self.box
        return math.floor((left + right) / 2), math.floor((top + bottom) / 2)


def measured(tree: Tree, raw: RawMap) -> Shape:
    """Return the place of an object; raises BadFileError for a gid, tileset or template that cannot be used."""
    if tree.get("template"):
        raise BadFileError("an object is an instance of a template", "choose Detach in the object's menu")
    gid = whole(tree.get("gid", 0), 0, 2**32 - 1, "the gid of an object") & ~FLIPS
    found = raw.tile(gid) if gid else None
    tileset, tile = found or (None, {})
    kind = "tile" if gid else next((k for k in _KINDS if tree.get(k) not in (None, False)), "rectangle")
    sizes = [tree.get(side) for side in ("width", "height")]
    if tileset is not None:
        native = _native_size(tileset, tile)
        sizes = [own if real(own or 0) != 0 else size for own, size in zip(sizes, native, strict=True)]
    measures = [real(v) for v in (tree.get("x", 0), tree.get("y", 0), *(size or 0 for size in sizes))]
    measures.append(real(tree.get("rotation", 0)))
    corners = _points(tree[kind]) if kind in ("polygon", "polyline") else None
    numbers = [m for m in measures if m is not None and abs(m) < FARTHEST * 4096]
    proper = len(numbers) == 5 and corners != []
    shown = short([tree.get(k) for k in ("x", "y", "width", "height")])
    if not proper:
        return Shape(kind, tile, bool(gid) and not found, False, shown, 0.0, (0.0, 0.0, 0.0, 0.0))
    x, y, width, height, rotation = numbers
    if kind == "point":
        width = height = 0.0
    if corners is None:
        left, top = _corner(tileset, tile, width, height) if tileset is not None else (0.0, 0.0)
        corners = [(left, top), (left + width, top + height), (left + width, top), (left, top + height)]
    turned = [_turned(corner, rotation) for corner in corners]
    wide, tall = raw.tree["tilewidth"], raw.tree["tileheight"]
    xs, ys = [(x + px) / wide for px, _ in turned], [(y + py) / tall for _, py in turned]
    box = min(xs), min(ys), max(xs), max(ys)
    return Shape(kind, tile, bool(gid) and not found, True, shown, rotation, box)


def _native_size(tileset: RawTileset, tile: Tree) -> tuple[Any, Any]:
    """Return width and height in pixels of a tile: its own part of its image, its image, or as in its tileset."""
    found = []
    for side in ("width", "height"):
        choices = (tile.get(side), tile.get(f"image{side}"), tileset.tree.get(f"tile{side}"))
        found.append(next((choice for choice in choices if choice is not None), None))
    return found[0], found[1]


def _corner(tileset: RawTileset, tile: Tree, width: float, height: float) -> Point:
    """Return the upper left corner of a tile object, seen from its position."""
    alignment = tileset.tree.get("objectalignment", "unspecified")
    if not isinstance(alignment, str) or alignment not in _ANCHORS:
        what = f"a tileset has objectalignment {short(alignment)}, expected {', '.join(_ANCHORS)}"
        raise BadFileError(what, "choose it among the properties of the tileset")
    anchor, offset = _ANCHORS[alignment], tileset.tree.get("tileoffset", {})
    place = []
    for axis in (0, 1):
        native = real(_native_size(tileset, tile)[axis])
        shift = real(offset.get("xy"[axis], 0)) if isinstance(offset, dict) else None
        if shift is None:
            raise BadFileError(f"a tileset has the tile offset {short(offset)}, expected pixels", SAVE_AGAIN)
        size = (width, height)[axis]
        place.append((shift * size / native if native else shift) - anchor[axis] * size)
    return place[0], place[1]


def _points(value: Any) -> list[Point]:
    """Return the points of a polygon; an empty list if one is none."""
    found = []
    for point in value if isinstance(value, list) else [None]:
        x, y = (real(point.get(k)) for k in "xy") if isinstance(point, dict) else (None, None)
        if x is None or y is None or max(abs(x), abs(y)) > FARTHEST * 4096:
            return []
        found.append((x, y))
    return found


def _turned(point: Point, degrees: float) -> Point:
    """Return a point turned clockwise about the origin (y points down)."""
    angle = math.radians(degrees % 360)
    cosine, sine = _TURNS.get(degrees % 360, (math.cos(angle), math.sin(angle)))  # type: ignore[call-overload]
    return point[0] * cosine - point[1] * sine, point[0] * sine + point[1] * cosine
