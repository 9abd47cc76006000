"""Objects of a Tiled map as exhibits, places and closed streets. The convention is `npcworld/1`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metarl.errors import nearest

from .faults import Faults
from .geometry import Place
from .layout import LONGEST_TEXT, MOST_DWELL
from .reading import BadFileError, short
from .themes import THEMES, mixture, parse_weights
from .tiled_cells import Frame, Picture, truth
from .tiled_guard import FARTHEST, RawLayer
from .tiled_shapes import Shape, measured
from .tiled_tree import Tree, flag, real

CLASSES: dict[str, tuple[str, ...]] = {
    "exhibit": ("theme", "themes", "popularity", "dwell"), "spawn": (), "exit": (), "shop": (), "meeting": (),
    "portal": ("to",), "closed_at": ("episode",),
}  # fmt: skip
"""{class ("type" in older editors) of objects that mean something: properties that they have}."""
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

    shape: Shape
    layer: str
    kind: str
    name: str
    properties: Mapping[str, Any]

    @property
    def tile(self) -> tuple[int, int]:
        """Tile (x, y) under its middle."""
        return self.shape.tile

    def __str__(self) -> str:
        kind = self.kind if self.kind in CLASSES else short(self.kind) if self.kind else "object"
        return f"{kind} {short(self.name)}"


class ObjectReader:
    """Turns objects into places, noting faults."""

    def __init__(self, picture: Picture, frame: Frame, faults: Faults) -> None:
        self.picture, self.frame, self.faults = picture, frame, faults
        self.found = Found()

    def read(self) -> Found:
        """Return what all object layers say."""
        unnamed = 0
        for layer in self.picture.raw.layers:
            if layer.kind != "objectgroup":
                continue
            known = []
            for tree in layer.tree.get("objects", []):
                try:
                    item = self._item(tree, layer)
                except BadFileError as bad:
                    what = f"object {short(tree.get('id'))} {short(tree.get('name', ''))}: {bad.what}"
                    self.faults.add(what, bad.remedy, layer=layer.name)
                    continue
                unnamed += item is None
                known += [item] if item else []
            if known and layer.astray:
                remedy = "set offset to 0 and parallax factor to 1, also of its groups"
                self.faults.add(layer.astray, remedy, layer=layer.name)
            for item in known:
                if self._sound(item):
                    self._take(item)
        if unnamed:
            self.found.notes.append(f"{unnamed} objects without a class are ignored")
        return self.found

    def _item(self, tree: Tree, layer: RawLayer) -> _Item | None:
        """Return an object that has a class, its own or its tile's; None if it means nothing."""
        raw = self.picture.raw
        shape = measured(tree, raw)
        kind = tree.get("class") or tree.get("type") or shape.tile_tree.get("class") or shape.tile_tree.get("type")
        kind = kind.strip().casefold() if isinstance(kind, str) else short(kind) if kind else ""
        own, taken = tree["properties"], shape.tile_tree.get("properties", {})
        name = tree.get("name", "")
        name = name.strip() if isinstance(name, str) else short(name)
        item = _Item(shape, layer.name, kind, name, {**taken, **own})
        if shape.stray_gid:
            what = f"{item} is drawn with gid {short(tree['gid'])}, which belongs to no tileset of the map"
            self._fault(item, what, "draw it again with a tileset of the map")
        elif not kind and truth(item.properties.get("solid")):
            what = f"{item} has solid = true, but only tiles of tile layers are walls"
            self._fault(item, what, "draw it in a tile layer, or clear that property")
        if not kind:
            for stranger in [n for n in ("district", "crowd") if n in own]:
                what = f"{item} has the property '{stranger}', which only tiles have"
                self._fault(item, what, f"paint it with tiles in the layer of that name, or clear '{stranger}'")
            return None
        if not (layer.visible and flag(tree.get("visible", True), "'visible' of an object")):
            self.found.notes.append(f"{item} is hidden in the editor and counts; delete it if it should not")
        for stranger in sorted(own.keys() - {*CLASSES[kind]}) if kind in CLASSES else ():
            meant = nearest(stranger, CLASSES[kind]) if CLASSES[kind] else f"objects of class {kind} have none"
            self.found.notes.append(f"{item}: the property {short(stranger)} means nothing here; {meant}")
        return item

    def _fault(self, item: _Item, what: str, remedy: str) -> None:
        self.faults.add(what, remedy, layer=item.layer, cells=[item.tile])

    def _sound(self, item: _Item) -> bool:
        """Return whether an object can be taken for what its class says; else its fault is noted."""
        what = remedy = ""
        if not item.shape.proper:
            self.faults.add(
                f"{item} has no proper position and size ({item.shape.shown})", "draw it again", layer=item.layer
            )
            return False
        if item.kind not in CLASSES:
            what = f"unknown class {short(item.kind)}"
            remedy = f"{nearest(item.kind, CLASSES)}; clear its class if it means nothing here"
        elif len(item.name) > LONGEST_TEXT or not item.name.isprintable():
            what = f"{item.kind} has a name that is longer than {LONGEST_TEXT} characters or not printable"
            remedy = "give it another name"
        if what:
            self._fault(item, what, remedy)
        return not what

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
        popularity = real(item.properties.get("popularity", DEFAULT_POPULARITY))
        if popularity is None or not 0 <= popularity <= 1:
            what = f"exhibit {short(name)} has popularity {short(item.properties.get('popularity'))}"
            self.faults.add(f"{what}, expected 0 to 1", "change it", layer=item.layer, cells=[item.tile])
        dwell = real(item.properties.get("dwell", DEFAULT_DWELL))
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
        episode = real(item.properties.get("episode"))
        if episode is None or episode != int(episode) or abs(episode) > FARTHEST:
            what = f"closed_at has episode {short(item.properties.get('episode'))}, expected a whole number from 1"
            self.faults.add(what, "set its int property 'episode'", layer=item.layer, cells=[item.tile])
            return
        if item.shape.kind not in ("rectangle", "point", "tile"):
            what = f"closed_at is drawn as a {item.shape.kind}, expected a rectangle or point"
            self._fault(item, what, "draw it as a rectangle")
            return
        if item.shape.rotation % 90:
            what = f"closed_at is rotated by {item.shape.rotation:g} degrees"
            self._fault(item, what, "set its rotation to 0")
            return
        frame = self.frame
        left, top, right, bottom = (math.ceil(edge - 0.5) for edge in item.shape.box)
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
