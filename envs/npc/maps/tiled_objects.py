"""Objects of a Tiled map as exhibits, places and closed streets. The convention is `npcworld/1`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pytiled_parser.tiled_object import Point, Rectangle, Text, TiledObject
from pytiled_parser.tiled_object import Tile as TileObject
from torch import Tensor

from metarl.errors import nearest

from .faults import Faults
from .geometry import Place
from .layout import LONGEST_TEXT, MOST_DWELL
from .reading import short
from .themes import THEMES, mixture, parse_weights
from .tiled_cells import Frame, Picture, number
from .tiled_guard import FARTHEST, FLIPS

CLASSES = ("exhibit", "spawn", "exit", "shop", "meeting", "portal", "closed_at")
"""Classes ("type" in older editors) of objects that mean something."""
DEFAULT_POPULARITY, DEFAULT_DWELL = 0.5, 3


@dataclass
class Found:
    """What the objects of a map say."""

    spawns: list[Place] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    """exhibits, exits, shops, meeting points and portals in the order of the file"""
    themes: list[Tensor] = field(default_factory=list)
    """one row per exhibit"""
    popularity: list[float] = field(default_factory=list)
    dwell: list[int] = field(default_factory=list)
    closed: dict[int, Tensor] = field(default_factory=dict)
    """{episode: bool [H, W]}"""
    notes: list[str] = field(default_factory=list)
    """what is no fault and still good to know"""

    def closed_at(self) -> dict[int, Tensor]:
        """Return {episode: int64 [K, 2]}."""
        return {episode: closed.nonzero() for episode, closed in sorted(self.closed.items())}


@dataclass(frozen=True)
class _Item:
    """One object with everything that a message about it needs."""

    shape: TiledObject
    layer: str
    kind: str
    name: str
    properties: Mapping[str, Any]
    left: float
    top: float
    width: float
    height: float
    """rectangle in tiles, not pixels"""

    @property
    def tile(self) -> tuple[int, int]:
        """Tile (x, y) under its centre."""
        return math.floor(self.left + self.width / 2), math.floor(self.top + self.height / 2)


class ObjectReader:
    """Turns objects into places, noting faults."""

    def __init__(self, picture: Picture, frame: Frame, tile_size: tuple[int, int], faults: Faults) -> None:
        self.picture, self.frame, self.tile_size, self.faults = picture, frame, tile_size, faults
        self.found = Found()

    def read(self) -> Found:
        """Return what all object layers say."""
        unnamed = 0
        for layer in self.picture.objects:
            name = layer.name if isinstance(layer.name, str) else short(layer.name)
            for shape in layer.tiled_objects:
                item = self._item(shape, name)
                unnamed += item is None
                if item is not None and item.kind:
                    self._take(item)
        if unnamed:
            self.found.notes.append(f"{unnamed} objects without a class are ignored")
        return self.found

    def _item(self, shape: TiledObject, layer: str) -> _Item | None:
        """Return the object in tiles; None if it means nothing; kind "" if it is faulty (noted)."""
        gid = shape.gid & ~FLIPS if isinstance(shape, TileObject) and isinstance(shape.gid, int) else 0
        kind = shape.class_ if isinstance(shape.class_, str) else ""
        kind = (kind or self.picture.classes.get(gid, "")).strip().casefold()
        if isinstance(shape, Text) or not kind:
            return None
        name = shape.name.strip() if isinstance(shape.name, str) else short(shape.name)
        own = shape.properties if isinstance(shape.properties, dict) else {}
        measures = [number(v) for v in (*shape.coordinates, *shape.size, shape.rotation)]
        numbers = [m for m in measures if m is not None and abs(m) < FARTHEST * 4096]
        if len(numbers) != 5:
            what = f"{kind} {short(name)} has no proper position and size ({short([*shape.coordinates, *shape.size])})"
            self.faults.add(what, "draw it again", layer=layer)
            return _Item(shape, layer, "", name, own, 0, 0, 0, 0)
        x, y, width, height, rotation = numbers
        wide, tall = self.tile_size
        top = y - height if isinstance(shape, TileObject) else y  # tile objects stand on their lower left corner
        properties = {**self.picture.tiles.get(gid, {}), **own}
        item = _Item(shape, layer, kind, name, properties, x / wide, top / tall, width / wide, height / tall)
        if kind not in CLASSES:
            what, remedy = f"unknown class {short(kind)}", nearest(kind, CLASSES)
        elif rotation % 360 and not isinstance(shape, Point):
            what, remedy = f"{kind} {short(name)} is rotated by {rotation:g} degrees", "set its rotation to 0"
        elif len(name) > LONGEST_TEXT or not name.isprintable():
            what = f"{kind} has a name that is longer than {LONGEST_TEXT} characters or not printable"
            remedy = "give it another name"
        else:
            return item
        self.faults.add(what, remedy, layer=layer, cells=[item.tile])
        return _Item(shape, layer, "", name, own, 0, 0, 0, 0)

    def _take(self, item: _Item) -> None:
        if item.kind == "closed_at":
            self._close(item)
            return
        name = item.name
        if item.kind == "exhibit":
            name = name or f"exhibit {len(self.found.themes) + 1}"
            self._exhibit(item, name)
        elif item.kind == "portal":
            to = item.properties.get("to")
            if not isinstance(to, str) or not 0 < len(to.strip()) <= LONGEST_TEXT or not to.isprintable():
                what = f"portal {short(name)} leads to {short(to)}, expected the name of a world"
                self.faults.add(what, "set its string property 'to'", layer=item.layer, cells=[item.tile])
            name = to.strip() if isinstance(to, str) else ""
        place = Place(item.kind, name, self.frame.cell(item.tile), item.layer)
        (self.found.spawns if item.kind == "spawn" else self.found.places).append(place)

    def _exhibit(self, item: _Item, name: str) -> None:
        row = self._themes(item, name)
        self.found.themes.append(row)
        popularity = number(item.properties.get("popularity", DEFAULT_POPULARITY))
        if popularity is None or not 0 <= popularity <= 1:
            what = f"exhibit {short(name)} has popularity {short(item.properties.get('popularity'))}"
            self.faults.add(f"{what}, expected 0 to 1", "change it", layer=item.layer, cells=[item.tile])
        dwell = number(item.properties.get("dwell", DEFAULT_DWELL))
        if dwell is None or dwell != int(dwell) or not 0 <= dwell <= MOST_DWELL:
            what = f"exhibit {short(name)} has dwell {short(item.properties.get('dwell'))}, expected a whole number of"
            self.faults.add(f"{what} ticks from 0 to {MOST_DWELL}", "change it", layer=item.layer, cells=[item.tile])
        self.found.popularity.append(popularity or 0.0)
        self.found.dwell.append(int(dwell or 0))

    def _themes(self, item: _Item, name: str) -> Tensor:
        """Return float32 [10]; an exhibit without a proper theme is a fault."""
        value = item.properties.get("theme", item.properties.get("themes"))
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            value = ",".join(value)
        problem = f"has theme {short(value)}, expected e.g. 'music' or 'nature:2, history:1'"
        if isinstance(value, str):
            try:
                weights = parse_weights(value)
            except ValueError as error:
                problem = f"has theme {short(value)}: {error}"
            else:
                unknown = [theme for theme in weights if theme not in THEMES]
                if unknown:
                    named = ", ".join(map(short, unknown))
                    self.found.notes.append(
                        f"exhibit {short(name)}: theme {named} is none of {', '.join(THEMES)}; "
                        "it gets features by hashing its name"
                    )
                return mixture(weights)
        remedy = "set its string property 'theme'"
        self.faults.add(f"exhibit {short(name)} {problem}", remedy, layer=item.layer, cells=[item.tile])
        return mixture({THEMES[0]: 1.0})

    def _close(self, item: _Item) -> None:
        episode = number(item.properties.get("episode"))
        if episode is None or episode != int(episode) or abs(episode) > FARTHEST:
            what = f"closed_at has episode {short(item.properties.get('episode'))}, expected a whole number from 1"
            self.faults.add(what, "set its int property 'episode'", layer=item.layer, cells=[item.tile])
            return
        if not isinstance(item.shape, Rectangle | Point | TileObject):
            what = f"closed_at is drawn as a {type(item.shape).__name__.lower()}, expected a rectangle or point"
            self.faults.add(what, "draw it as a rectangle", layer=item.layer, cells=[item.tile])
            return
        frame = self.frame
        left, right = math.ceil(item.left - 0.5), math.ceil(item.left + item.width - 0.5)
        top, bottom = math.ceil(item.top - 0.5), math.ceil(item.top + item.height - 0.5)
        if left >= right or top >= bottom:  # it holds no tile's middle: the tile under its own
            left, top = item.tile
            right, bottom = left + 1, top + 1
        rows = slice(max(top - frame.top, 0), max(bottom - frame.top, 0))
        columns = slice(max(left - frame.left, 0), max(right - frame.left, 0))
        closed = self.found.closed.get(int(episode), torch.zeros(frame.height, frame.width, dtype=torch.bool))
        if not closed[rows, columns].numel():
            what = "closed_at covers no cell of the map"
            self.faults.add(what, "move it over the cells that close", layer=item.layer, cells=[item.tile])
            return
        closed[rows, columns] = True
        self.found.closed[int(episode)] = closed
