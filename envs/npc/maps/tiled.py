"""Worlds drawn in the Tiled map editor: `.tmx` and `.tmj` files in the convention `npcworld/1` (docs/maps.md)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .faults import Faults
from .geometry import Ground, geometry_faults
from .layout import LONGEST_TEXT, Exhibits, Layout, Portal
from .reading import short
from .tiled_cells import (
    MEANT,
    TILE_PROPERTIES,
    crowd_grid,
    district_grid,
    frame_of,
    read_picture,
    solid_cells,
    wall_grid,
)
from .tiled_guard import RawMap, read_raw, with_properties
from .tiled_objects import CLASSES, Found, ObjectReader
from .tiled_tree import real

FORMAT = "npcworld/1"
"""Value of the map property `format`."""
ENDINGS = (".tmx", ".tmj", ".json")
"""File names that are read."""
MAP_PROPERTIES = ("format", "licence", "name", "cell_m")
"""Properties of a map that mean something."""
LIKE_SOLID = ("collides", "collision", "collidable", "blocked", "blocking", "obstacle", "impassable")
"""Names that others give to the tile property `solid`."""
LIKE_WALLS = ("collision", "collisions", "obstacles", "blocked")
"""Names that others give to the layer `walls`."""


@dataclass(frozen=True)
class Reading:
    """A world, and what its author may want to know about it."""

    layout: Layout
    notes: tuple[str, ...]
    """one sentence each; nothing that hinders"""


def load_tiled(path: Path | str) -> Layout:
    """Return the world in a `.tmx` or `.tmj` file.

    Raises: MapError with everything that is wrong, by layer and tile coordinates.
    """
    return read_tiled(path).layout


def read_tiled(path: Path | str) -> Reading:
    """Return the world in a file and notes about it; raises as `load_tiled`."""
    file = Path(path)
    faults = Faults(str(path))
    if file.suffix.casefold() not in ENDINGS:
        raise faults.fatal(f"a name that ends in {short(file.suffix)}", f"name a file with {' or '.join(ENDINGS)}")
    raw = read_raw(file, faults)
    if raw is None:
        faults.stop_if_any()
        raise AssertionError("a refused file has a fault")
    return _convert(raw, faults)


def _convert(raw: RawMap, faults: Faults) -> Reading:
    head = _header(raw, faults)
    notes = _remarks(raw, faults)
    picture = read_picture(raw, faults)
    solid = solid_cells(picture)
    if not picture.named("walls") and not solid:
        layers = ", ".join(short(name) for name, _ in picture.layers[:10]) or "none"
        what = "there is no layer 'walls' and no tile with solid=true"
        faults.add(what, f"add a tile layer named 'walls', or name one of its tile layers so ({layers})")
    frame = frame_of(raw, solid, faults)
    if frame is None:
        faults.stop_if_any()
        raise AssertionError("a map without a frame has a fault")
    found = ObjectReader(picture, frame, faults).read()
    wall = wall_grid(frame, solid)
    district, crowd = district_grid(picture, frame, faults), crowd_grid(picture, frame, faults)
    ground = Ground(wall, faults.file, origin=(frame.left, frame.top))
    faults.found += geometry_faults(ground, found.spawns, found.places, found.closed_at())
    faults.stop_if_any()
    exhibits = _exhibits(found)
    if crowd is None:
        crowd = torch.zeros(wall.shape)
        crowd[exhibits.cell[:, 0], exhibits.cell[:, 1]] = exhibits.popularity
    cells = {kind: _cells(found, kind) for kind in ("exit", "shop", "meeting")}
    layout = Layout(
        wall=wall,
        spawn=found.spawns[0].cell,
        exhibits=exhibits,
        district=district,
        crowd=crowd,
        exits=cells["exit"],
        shops=cells["shop"],
        meetings=cells["meeting"],
        portals=tuple(Portal(p.cell, p.name) for p in found.places if p.kind == "portal"),
        closed_at=found.closed_at(),
        source=faults.file,
        **head,
    )
    return Reading(layout, (*notes, *found.notes))


def _header(raw: RawMap, faults: Faults) -> dict[str, Any]:
    """Return name, cell_m and licence from the properties of the map."""
    properties = raw.tree["properties"]
    remedy = "in Map > Map Properties > Custom Properties"
    if properties.get("format") != FORMAT:
        what = f"the map property 'format' is {short(properties.get('format'))}, expected '{FORMAT}'"
        faults.add(what, f"set it {remedy}")
    texts = {"licence": properties.get("licence"), "name": properties.get("name", Path(faults.file).stem)}
    for key, value in texts.items():
        if not isinstance(value, str) or not 0 < len(value.strip()) <= LONGEST_TEXT or not value.strip().isprintable():
            example = "'CC0-1.0'" if key == "licence" else "'Old town'"
            what = f"the map property '{key}' is {short(value)}, expected e.g. {example}"
            faults.add(what, f"set it {remedy}")
    cell_m = real(properties.get("cell_m", 1.0))
    if cell_m is None or not 0.05 <= cell_m <= 100:
        what = f"the map property 'cell_m' is {short(properties.get('cell_m'))}, expected 0.05 to 100 metres"
        faults.add(what, f"set it {remedy}")
    return {key: str(value).strip() for key, value in texts.items()} | {"cell_m": cell_m}


def _remarks(raw: RawMap, faults: Faults) -> list[str]:
    """Return notes about what has no meaning but looks as if it should; what belongs to tiles is a fault elsewhere."""
    notes = []
    for what, layer, part in with_properties(raw):
        for name in [n for n in TILE_PROPERTIES if n in part["properties"]]:
            remedy = f"give it to tiles of a tileset, and clear it {'here' if layer else 'there'}"
            faults.add(f"{what} has the property '{name}', which only tiles have", remedy, layer=layer)
    for stranger in sorted(raw.tree["properties"].keys() - {*MAP_PROPERTIES}):
        notes += _likely(f"the map property {short(stranger)} means nothing", stranger, MAP_PROPERTIES)
    for layer_ in raw.layers:
        name = layer_.name.strip().casefold()
        if layer_.kind == "tilelayer" and name not in MEANT:
            notes += _likely(f"the tile layer {short(layer_.name)} is decoration", name, (*MEANT, *LIKE_WALLS))
        if layer_.kind == "tilelayer" and not layer_.visible and name in MEANT[:2]:
            notes.append(f"the layer {short(layer_.name)} is hidden in the editor and counts")
    used = {name for tileset in raw.tilesets for tile in tileset.tiles.values() for name in tile["properties"]}
    for stranger in sorted(used - set(TILE_PROPERTIES) - {n for own in CLASSES.values() for n in own}):
        notes += _likely(
            f"the property {short(stranger)} of tiles means nothing", stranger, (*TILE_PROPERTIES, *LIKE_SOLID)
        )
    if raw.strangers:
        notes.append(f"ignored, as Tiled's format does not know it: {', '.join(sorted(raw.strangers)[:10])}")
    return notes


def _likely(what: str, name: str, known: tuple[str, ...]) -> list[str]:
    """Return a note if a name is like a known one, however it is written."""
    close = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.75)
    meant = {**dict.fromkeys(LIKE_SOLID, "solid"), **dict.fromkeys(LIKE_WALLS, "walls")}
    return [f"{what}; did you mean {meant.get(close[0], close[0])!r}?"] if close else []


def _exhibits(found: Found) -> Exhibits:
    places = [p for p in found.places if p.kind == "exhibit"]
    return Exhibits(
        cell=torch.tensor([p.cell for p in places], dtype=torch.int64),
        themes=torch.stack(found.themes),
        popularity=torch.tensor(found.popularity),
        dwell=torch.tensor(found.dwell, dtype=torch.int64),
        names=tuple(p.name for p in places),
    )


def _cells(found: Found, kind: str) -> torch.Tensor:
    return torch.tensor([p.cell for p in found.places if p.kind == kind], dtype=torch.int64).reshape(-1, 2)
