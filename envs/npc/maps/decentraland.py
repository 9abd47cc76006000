"""Worlds built in Decentraland's Creator Hub: an SDK7 scene folder becomes a walkable layout.

What stands between knee and head height of one floor becomes wall; NFTs, pictures, videos and things whose name says so
become exhibits. Limits (docs/maps.md): one floor at a time, no scripts, no curved collider finer than a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.errors import ConfigError

from .faults import Faults, MapError
from .geometry import MOST_EXHIBITS
from .glb import Triangles
from .land import PARCEL_M, Land, read_land
from .layout import LONGEST_TEXT, MOST_DISTRICTS, SIZES, Exhibits, Layout
from .pieces import Choice, Piece, find_pieces
from .raster import Raster
from .reading import short
from .scene import COMPOSITE, read_entities
from .sight import crossings
from .solids import Solids
from .themes import THEMES, features
from .tiled import Reading
from .walking import steps_from

STEP_M, EYE_M, HEAD_M = 0.4, 1.2, 1.8
"""Heights above the floor, metres: what is lower than a step is stepped over, what is higher than the head is walked
under; whether a wall hides an exhibit is asked at eye level."""
REACH_M = 6.0
"""How far from an exhibit a visitor may stand to see it, metres."""
_MOST_NAMED = 6
_CANDIDATES = 64
"""How many of the cells around an exhibit are looked at."""


Area = tuple[float, float, float, float]
"""(west, south, east, north), metres from the south-west corner of the base parcel."""


def load_decentraland(
    folder: Path | str,
    *,
    floor: tuple[float, float] = (0.0, 4.0),
    cell_m: float = 1.0,
    area: Area | None = None,
    only: str = "*",
    without: str = "",
    also: str = "",
    through: str = "",
    licence: str = "",
) -> Layout:
    """Return the world in a scene folder; `read_decentraland` also gives notes, and says more."""
    return read_decentraland(
        folder,
        floor=floor,
        cell_m=cell_m,
        area=area,
        only=only,
        without=without,
        also=also,
        through=through,
        licence=licence,
    ).layout


def read_decentraland(
    folder: Path | str,
    *,
    floor: tuple[float, float] = (0.0, 4.0),
    cell_m: float = 1.0,
    area: Area | None = None,
    only: str = "*",
    without: str = "",
    also: str = "",
    through: str = "",
    licence: str = "",
) -> Reading:
    """Return the world in a folder with `scene.json` and `assets/scene/main.composite`, and notes about it.

    floor: lowest and highest y of the storey that is read, metres. cell_m: side of a cell, metres; it divides 16.
    area: the part of the land that is read (None: all). only, without: exhibits whose names match the one and not the
    other (shell wildcards, case ignored). also: names of what is to be an exhibit, too, whatever it is called.
    through: names of what is walked through, such as doors that a script opens.
    licence: terms of the scene, which has no field for them. Raises: MapError with everything that is wrong;
    ConfigError for options out of range.
    """
    low, high = floor
    if not (abs(low) <= 1000 and low + STEP_M < high <= 1000):
        raise ConfigError(f"floor must be (lowest, highest) y with at least {STEP_M} m between, got {floor}")
    if not 0.25 <= cell_m <= PARCEL_M or PARCEL_M / cell_m != int(PARCEL_M / cell_m):
        raise ConfigError(f"cell_m must divide {PARCEL_M} m and be at least 0.25, got {cell_m}; try 0.5, 1 or 2")
    if area is not None and not (max(map(abs, area)) <= 1e5 and area[0] < area[2] and area[1] < area[3]):
        raise ConfigError(f"area must be (west, south, east, north) in metres, got {area}; try (0, 0, 16, 16)")
    root = Path(folder).parent if Path(folder).name == "scene.json" else Path(folder)
    faults = Faults(str(folder))
    land, entities = read_land(root, faults), read_entities(root, faults)
    if land is None or entities is None:
        raise MapError(faults.found)
    solids = Solids(root, entities, through, faults)
    pieces, others = find_pieces(entities.values(), solids.parts, Choice(only, without, also), faults)
    raster, owned = _raster(land, cell_m, area, pieces or others, faults)
    pieces = _on_floor(pieces, others, land, area, floor, faults)
    triangles = solids.collect()
    faults.stop_if_any()
    notes = [*land.notes, *solids.notes()]
    return _build(land, raster, owned, triangles, pieces, faults, floor, licence, notes)


def _raster(
    land: Land, cell_m: float, area: Area | None, pieces: Sequence[Piece], faults: Faults
) -> tuple[Raster, NDArray[np.int64]]:
    """Return the grid with one ring of cells around the land, and the parcel (from 1) of each cell, 0 outside."""
    per = int(PARCEL_M / cell_m)
    corners = np.array(land.parcels) * per  # south-west corners of the parcels, in cells
    west, south = corners.min(0)
    east, north = corners.max(0) + per
    if area is not None:
        west, south = np.maximum((west, south), np.floor(np.array(area[:2]) / cell_m)).astype(int)
        east, north = np.minimum((east, north), np.ceil(np.array(area[2:]) / cell_m)).astype(int)
        if west >= east or south >= north:
            raise faults.fatal(f"the area {area} lies outside its parcels", "choose another", layer="scene.json")
    rows, columns = int(north - south) + 2, int(east - west) + 2
    if not SIZES[0] <= min(rows, columns) <= max(rows, columns) <= SIZES[1]:
        what = f"its land is {columns} x {rows} cells of {cell_m:g} m, {SIZES[0]} to {SIZES[1]} each way fit"
        remedy = f"choose another cell_m, or a part of it with area=(west, south, east, north){_used(land, pieces)}"
        raise faults.fatal(what, remedy, layer="scene.json")
    raster = Raster((west - 1) * cell_m, (south - 1) * cell_m, rows, columns, cell_m)
    owned = np.zeros((rows, columns), np.int64)
    number = 0
    for x, y in corners - (west, south) + 1:
        left, right = np.clip((x, x + per), 1, columns - 1)
        bottom, top = np.clip((y, y + per), 1, rows - 1)
        if left < right and bottom < top:
            number += 1
            owned[rows - top : rows - bottom, left:right] = number
    return raster, owned


def _used(land: Land, pieces: Sequence[Piece]) -> str:
    """Return where spawn point and exhibits are, for whoever has to choose an area."""
    places = np.array([land.spawn, *(place for _, place in pieces)])[:, [0, 2]]
    (west, south), (east, north) = np.floor(places.min(0)), np.ceil(places.max(0))
    return f"; spawn point and exhibits lie within ({west:g}, {south:g}, {east:g}, {north:g})"


def _on_floor(
    pieces: Sequence[Piece],
    others: Sequence[Piece],
    land: Land,
    area: Area | None,
    floor: tuple[float, float],
    faults: Faults,
) -> list[Piece]:
    """Return the exhibits on the storey, in the area and on the scene's land."""
    low, high = floor
    west, south, east, north = area or (-np.inf, -np.inf, np.inf, np.inf)

    def here(piece: Piece) -> bool:
        x, y, z = piece[1]
        return bool(low <= y < high and west <= x <= east and south <= z <= north)

    found = [piece for piece in pieces if here(piece)]
    for name, (x, _, z) in found:
        if not any(0 <= x / PARCEL_M - e <= 1 and 0 <= z / PARCEL_M - n <= 1 for e, n in land.parcels):
            what = f"exhibit {short(name)} is at x = {x:g}, z = {z:g} m, outside the parcels"
            faults.add(what, "move it, or leave it out with without='...'", layer=COMPOSITE)
    if not 1 <= len(found) <= MOST_EXHIBITS:
        what = f"{len(found)} exhibits are on the floor from y = {low:g} to {high:g} m"
        what += f" ({len(pieces) - len(found)} elsewhere), 1 to {MOST_EXHIBITS} fit"
        remedy = "choose another floor or area, or those whose names match with only='...' and not without='...'"
        names = list(dict.fromkeys(short(piece[0]) for piece in others if here(piece)))[:_MOST_NAMED]
        if not found and names:
            remedy = f"choose another floor or area, or what is one with also='...'; there are {', '.join(names)}"
        faults.add(what, remedy, layer=COMPOSITE)
    return found


def _build(
    land: Land,
    raster: Raster,
    owned: NDArray[np.int64],
    triangles: Triangles,
    pieces: list[Piece],
    faults: Faults,
    floor: tuple[float, float],
    licence: str,
    notes: list[str],
) -> Reading:
    low, high = floor
    blocked = raster.touched(triangles, low + STEP_M, min(low + HEAD_M, high)) | (owned == 0)
    if low > STEP_M:  # upstairs a cell needs something to stand on
        blocked |= ~raster.touched(triangles, low - 2 * STEP_M, low + STEP_M)
    spawn = _nearest(raster, ~blocked, np.array(land.spawn), triangles[:0])
    if spawn is None:
        raise faults.fatal("no cell near the spawn point is free", "move the spawn point, or choose another floor")
    if not low - STEP_M <= land.spawn[1] < high:
        notes.append(f"the spawn point is at y = {land.spawn[1]:g} m, on another floor")
    free = (steps_from(torch.from_numpy(blocked), spawn) >= 0).numpy()
    lost = int((~blocked).sum() - free.sum())
    if lost:
        notes.append(f"{lost} free cells that nobody can reach from the spawn point are walls")
    cells, rows = _stand(raster, free, blocked, pieces, triangles, low, faults)
    faults.stop_if_any()
    crowd = torch.zeros(free.shape)
    crowd[cells[:, 0], cells[:, 1]] = 0.5
    layout = Layout(
        wall=torch.from_numpy(~free),
        spawn=spawn,
        exhibits=Exhibits(
            cell=cells,
            themes=torch.stack(rows),
            popularity=torch.full((len(pieces),), 0.5),
            dwell=torch.full((len(pieces),), 3),
            names=tuple(name for name, _ in pieces),
        ),
        district=torch.from_numpy(np.where(free & (owned <= MOST_DISTRICTS), owned, 0)),
        crowd=crowd,
        name="".join(c for c in land.title if c.isprintable()).strip()[:LONGEST_TEXT].strip() or "unnamed scene",
        cell_m=raster.cell,
        licence=licence,
        source=faults.file,
    )
    notes.append("a scene says nothing about themes: those not in a name are hashed from it; crowd 0.5, dwell 3")
    return Reading(layout, tuple(notes))


def _stand(
    raster: Raster,
    free: NDArray[np.bool_],
    blocked: NDArray[np.bool_],
    pieces: list[Piece],
    triangles: Triangles,
    low: float,
    faults: Faults,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return for each exhibit the cell from which it is seen, int64 [M, 2], each cell once, and its themes."""
    left, cells, rows = free.copy(), [], []
    for name, place in pieces:
        at = np.array([place[0], low, place[2]])
        cell = _nearest(raster, left, at, triangles)
        if cell is None:
            shut = _nearest(raster, ~blocked, at, triangles) is not None
            why = ": there is room, but no way from the spawn point" * shut
            faults.add(
                f"no free cell within {REACH_M:g} m of exhibit {short(name)}{why}",
                "open a way (through='*door*' for what scripts open), or leave it out with without='...'",
            )
            continue
        left[cell] = False
        cells.append(cell)
        word = next((theme for theme in THEMES if theme in name.casefold()), name)
        rows.append(features(word).float())
    return torch.tensor(cells, dtype=torch.int64).reshape(-1, 2), rows


def _nearest(
    raster: Raster, free: NDArray[np.bool_], place: NDArray[np.float64], triangles: Triangles
) -> tuple[int, int] | None:
    """Return the free cell from which a place (x, y, z) is seen best: near, and with few walls between.

    The cost of a cell is its distance plus 3 m for every face that the line of sight goes through.
    """
    cells = np.argwhere(free)
    middles = raster.middles(cells)
    away = np.hypot(*(middles - place[[0, 2]]).T)
    order = away.argsort(kind="stable")[:_CANDIDATES]
    order = order[away[order] <= REACH_M]
    if not len(order):
        return None
    eye = np.array([place[0], place[1] + EYE_M, place[2]])
    ends = np.stack([middles[order, 0], np.full(len(order), eye[1]), middles[order, 1]], 1)
    cost = away[order] + 3.0 * crossings(triangles, eye, ends)
    best = cells[order[cost.argmin()]]
    return int(best[0]), int(best[1])
