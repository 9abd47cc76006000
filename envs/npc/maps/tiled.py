"""Worlds drawn in the Tiled map editor: `.tmx` and `.tmj` files in the convention `npcworld/1` (docs/maps.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from metarl.commandline import pip_command
from metarl.errors import ConfigError

from .faults import Faults
from .geometry import Ground, geometry_faults
from .layout import LONGEST_TEXT, Exhibits, Layout, Portal
from .reading import short
from .tiled_guard import check_file

if TYPE_CHECKING:
    from pytiled_parser import TiledMap

    from .tiled_objects import Found

FORMAT = "npcworld/1"
"""Value of the map property `format`."""
ENDINGS = (".tmx", ".tmj", ".json")
"""File names that are read."""


@dataclass(frozen=True)
class Reading:
    """A world, and what its author may want to know about it."""

    layout: Layout
    notes: tuple[str, ...]
    """one sentence each; nothing that hinders"""


def load_tiled(path: Path | str) -> Layout:
    """Return the world in a `.tmx` or `.tmj` file.

    Raises: MapError with everything that is wrong, by layer and tile coordinates; ConfigError if pytiled-parser is not
    installed (extra `maps`).
    """
    return read_tiled(path).layout


def read_tiled(path: Path | str) -> Reading:
    """Return the world in a file and notes about it; raises as `load_tiled`."""
    file = Path(path)
    faults = Faults(str(path))
    if file.suffix.casefold() not in ENDINGS:
        raise faults.fatal(f"a name that ends in {short(file.suffix)}", f"name a file with {' or '.join(ENDINGS)}")
    raw = check_file(file, faults)
    if raw is None:
        faults.stop_if_any()
        raise AssertionError("a refused file has a fault")
    return _convert(_parse(file, faults), raw.infinite, faults)


def _parse(file: Path, faults: Faults) -> TiledMap:
    """Return what pytiled-parser makes of a file that the guard let through."""
    try:
        import pytiled_parser
    except ImportError as error:
        raise ConfigError(f"reading {file} needs pytiled-parser: {pip_command('metarl-worlds[maps]')}") from error
    try:
        return pytiled_parser.parse_map(file, encoding="utf-8-sig")
    except Exception as error:  # its parsers index and convert without looking
        reason = short(f"{type(error).__name__}: {error}")
        what = f"the Tiled reader cannot make sense of it ({reason})"
        raise faults.fatal(what, "open it in Tiled and save it again") from error


def _convert(tiled: TiledMap, infinite: bool, faults: Faults) -> Reading:
    from .tiled_cells import crowd_grid, district_grid, frame_of, read_picture, solid_cells, wall_grid
    from .tiled_objects import ObjectReader

    head = _header(tiled, faults)
    picture = read_picture(tiled, infinite, faults)
    solid = solid_cells(picture)
    if not picture.named("walls") and not solid:
        faults.add("there is no layer 'walls' and no tile with solid=true", "add a tile layer named 'walls'")
    frame = frame_of(tiled, infinite, solid, faults)
    if frame is None:
        faults.stop_if_any()
        raise AssertionError("a map without a frame has a fault")
    size = int(tiled.tile_size.width), int(tiled.tile_size.height)
    found = ObjectReader(picture, frame, size, faults).read()
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
    return Reading(layout, tuple(found.notes))


def _header(tiled: TiledMap, faults: Faults) -> dict[str, Any]:
    """Return name, cell_m and licence from the properties of the map."""
    from .tiled_cells import number

    properties = tiled.properties if isinstance(tiled.properties, dict) else {}
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
    cell_m = number(properties.get("cell_m", 1.0))
    if cell_m is None or not 0.05 <= cell_m <= 100:
        what = f"the map property 'cell_m' is {short(properties.get('cell_m'))}, expected 0.05 to 100 metres"
        faults.add(what, f"set it {remedy}")
    return {key: str(value).strip() for key, value in texts.items()} | {"cell_m": cell_m}


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
