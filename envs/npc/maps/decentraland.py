"""Worlds built in Decentraland's Creator Hub: an SDK7 scene folder becomes a walkable layout.

What stands between knee and head height of one floor becomes wall; NFTs, pictures, videos and things whose name says so
become exhibits. Limits (docs/maps.md): one floor at a time, no scripts, no curved collider finer than a cell.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.errors import ConfigError

from .faults import Faults, MapError
from .geometry import MOST_EXHIBITS
from .glb import Triangles, box_triangles, read_glb
from .layout import LONGEST_TEXT, MOST_DISTRICTS, SIZES, Exhibits, Layout
from .raster import Raster
from .reading import BadFileError, inside, short
from .scene import COMPOSITE, PARCEL_M, Entity, Land, read_entities, read_land, world_matrix
from .sight import crossings
from .themes import THEMES, features
from .tiled import Reading
from .walking import steps_from

STEP_M, EYE_M, HEAD_M = 0.4, 1.2, 1.8
"""Heights above the floor, metres: what is lower than a step is stepped over, what is higher than the head is walked
under; whether a wall hides an exhibit is asked at eye level."""
REACH_M = 6.0
"""How far from an exhibit a visitor may stand to see it, metres."""
MOST_TRIANGLES = 20_000
"""Most solid triangles of one scene."""
_CANDIDATES = 64
"""How many of the cells around an exhibit are looked at."""
EXHIBIT_WORDS = (
    "artwork", "exhibit", "frame", "image", "nft", "painting", "photo", "picture", "poster",
    "screen", "sculpture", "statue", "video",
)  # fmt: skip
"""Words in the name of an entity that make it an exhibit."""
_PHYSICS = 2
"""Bit of a collision mask that stops walkers."""


def load_decentraland(
    folder: Path | str,
    *,
    floor: tuple[float, float] = (0.0, 4.0),
    cell_m: float = 1.0,
    only: str = "*",
    licence: str = "",
) -> Layout:
    """Return the world in a scene folder; `read_decentraland` also gives notes, and says more."""
    return read_decentraland(folder, floor=floor, cell_m=cell_m, only=only, licence=licence).layout


def read_decentraland(
    folder: Path | str,
    *,
    floor: tuple[float, float] = (0.0, 4.0),
    cell_m: float = 1.0,
    only: str = "*",
    licence: str = "",
) -> Reading:
    """Return the world in a folder with `scene.json` and `assets/scene/main.composite`, and notes about it.

    floor: lowest and highest y of the storey that is read, metres. cell_m: side of a cell, metres; it divides 16.
    only: exhibits whose names match (shell wildcards, case ignored). licence: terms of the scene, which has no field
    for them. Raises: MapError with everything that is wrong; ConfigError for options out of range.
    """
    low, high = floor
    if not (abs(low) <= 1000 and low + STEP_M < high <= 1000):
        raise ConfigError(f"floor must be (lowest, highest) y with at least {STEP_M} m between, got {floor}")
    if not 0.25 <= cell_m <= PARCEL_M or PARCEL_M / cell_m != int(PARCEL_M / cell_m):
        raise ConfigError(f"cell_m must divide {PARCEL_M} m and be at least 0.25, got {cell_m}; try 0.5, 1 or 2")
    faults = Faults(str(folder))
    root = Path(folder)
    land, entities = read_land(root, faults), read_entities(root, faults)
    if land is None or entities is None:
        raise MapError(faults.found)
    raster, owned = _raster(land, cell_m, faults)
    solids = _Solids(root, entities, faults)
    triangles = solids.collect()
    pieces = _pieces(entities, low, high, only, faults)
    faults.stop_if_any()
    return _build(land, raster, owned, triangles, pieces, faults, (low, high), licence, solids.notes)


def _raster(land: Land, cell_m: float, faults: Faults) -> tuple[Raster, NDArray[np.int64]]:
    """Return the grid with one ring of cells around the land, and the parcel (from 1) of each cell, 0 outside."""
    per = int(PARCEL_M / cell_m)
    west, south = min(x for x, _ in land.parcels), min(y for _, y in land.parcels)
    wide = max(x for x, _ in land.parcels) - west + 1
    deep = max(y for _, y in land.parcels) - south + 1
    rows, columns = deep * per + 2, wide * per + 2
    if max(rows, columns) > SIZES[1]:
        what = f"{wide} x {deep} parcels are {columns} x {rows} cells of {cell_m:g} m, at most {SIZES[1]} each way"
        raise faults.fatal(what, "choose a larger cell_m", layer="scene.json")
    raster = Raster(west * PARCEL_M - cell_m, south * PARCEL_M - cell_m, rows, columns, cell_m)
    owned = np.zeros((rows, columns), np.int64)
    for number, (x, y) in enumerate(land.parcels, 1):
        left, bottom = 1 + (x - west) * per, 1 + (y - south) * per
        owned[rows - bottom - per : rows - bottom, left : left + per] = number
    return raster, owned


class _Solids:
    """Gathers the triangles that stop a walker."""

    def __init__(self, root: Path, entities: dict[int, Entity], faults: Faults) -> None:
        self.root, self.entities, self.faults = root, entities, faults
        self.models: dict[Path, Any] = {}
        self.notes: list[str] = []

    def collect(self) -> Triangles:
        """Return [T, 3, 3] in the scene's coordinates; what cannot be read is noted as a fault."""
        found, count = [np.zeros((0, 3, 3))], 0
        for entity in self.entities.values():
            try:
                own = [*self._shape(entity), *self._model(entity)]
                if own:
                    matrix = world_matrix(entity, self.entities)
                    turned = -1 if np.linalg.det(matrix[:3, :3]) < 0 else 1
                    found += [t[:, ::turned] @ matrix[:3, :3].T + matrix[:3, 3] for t in own]
                    count += sum(map(len, own))
            except BadFileError as bad:
                self.faults.add(bad.what, bad.remedy, layer=COMPOSITE)
            if count > MOST_TRIANGLES:
                self.faults.add(f"more than {MOST_TRIANGLES} solid triangles", "take a smaller scene", layer=COMPOSITE)
                break
        return np.concatenate(found)

    def _shape(self, entity: Entity) -> Iterable[Triangles]:
        collider = entity.part("core::MeshCollider")
        if collider is None or not _mask(collider, "collisionMask", 3) & _PHYSICS:
            return
        mesh = collider.get("mesh")
        kind = mesh.get("$case") if isinstance(mesh, dict) else None
        if kind in ("box", "cylinder", "sphere"):  # round ones take their box: finer than a cell only when large
            yield box_triangles(np.array([[[-0.5] * 3, [0.5] * 3]]))
        elif kind == "plane":
            yield box_triangles(np.array([[[-0.5, -0.5, 0.0], [0.5, 0.5, 0.0]]]))
        else:
            raise BadFileError(f"{short(entity.name)} has a MeshCollider of unknown shape {short(kind)}", "remove it")

    def _model(self, entity: Entity) -> Iterable[Triangles]:
        container = entity.part("core::GltfContainer")
        if container is None:
            return
        source = container.get("src")
        visible = _mask(container, "visibleMeshesCollisionMask", 0) & _PHYSICS
        invisible = _mask(container, "invisibleMeshesCollisionMask", 3) & _PHYSICS
        if not isinstance(source, str):
            raise BadFileError(f"{short(entity.name)} has a model without 'src'", "choose a model for it")
        if not visible and not invisible:
            return
        if not source.casefold().endswith(".glb"):
            raise BadFileError(f"the model {short(source)} of {short(entity.name)} is no .glb", "export it as .glb")
        path = inside(self.root, source, "the model")
        for part in self._parts(path, source):
            collider = "_collider" in part.name.casefold()
            if invisible if collider else visible:
                # glTF is right-handed, a scene left-handed; corners in reverse still run counter-clockwise.
                yield part.triangles[:, ::-1] * (-1.0, 1.0, 1.0)

    def _parts(self, path: Path, source: str) -> Any:
        """Return the parts of a model, read once; the first to need a model that cannot be read raises."""
        if path not in self.models:
            self.models[path] = ()
            try:
                self.models[path] = read_glb(path)
            except BadFileError as bad:
                raise BadFileError(f"the model {short(source)}: {bad.what}", bad.remedy) from bad
        return self.models[path]


def _mask(component: dict[str, Any], key: str, default: int) -> int:
    value = component.get(key, default)
    return value if isinstance(value, int) else default


Piece = tuple[str, NDArray[np.float64]]
"""Name and (x, y, z) of an exhibit."""


def _pieces(entities: dict[int, Entity], low: float, high: float, only: str, faults: Faults) -> list[Piece]:
    """Return the exhibits on the storey from y = low to high."""
    found: list[Piece] = []
    elsewhere = 0
    for entity in entities.values():
        if not _is_exhibit(entity) or not fnmatch.fnmatchcase(entity.name.casefold(), only.casefold()):
            continue
        try:
            place = world_matrix(entity, entities)[:3, 3]
        except BadFileError as bad:
            faults.add(bad.what, bad.remedy, layer=COMPOSITE)
            continue
        if low <= place[1] < high:
            found.append((entity.name, place))
        else:
            elsewhere += 1
    if not 1 <= len(found) <= MOST_EXHIBITS:
        what = f"{len(found)} exhibits are on the floor from y = {low:g} to {high:g} m ({elsewhere} on others), "
        what += f"1 to {MOST_EXHIBITS} fit"
        faults.add(what, "choose another floor, or those whose names match with only='...'", layer=COMPOSITE)
    return found


def _is_exhibit(entity: Entity) -> bool:
    if entity.part("core::NftShape") is not None or entity.part("core::VideoPlayer") is not None:
        return True
    if entity.name.casefold().endswith(".glb"):  # named after its model by the editor, not by its author
        return False
    words = re.split(r"[^a-z]+", entity.name.casefold())
    shown = any(entity.part(f"core::{c}") is not None for c in ("GltfContainer", "MeshRenderer", "Material"))
    return shown and any(word in EXHIBIT_WORDS or word.removesuffix("s") in EXHIBIT_WORDS for word in words)


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
    cells, rows = _stand(raster, free, pieces, triangles, low, faults)
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
    raster: Raster, free: NDArray[np.bool_], pieces: list[Piece], triangles: Triangles, low: float, faults: Faults
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return for each exhibit the cell from which it is seen, int64 [M, 2], each cell once, and its themes."""
    left, cells, rows = free.copy(), [], []
    for name, place in pieces:
        cell = _nearest(raster, left, np.array([place[0], low, place[2]]), triangles)
        if cell is None:
            faults.add(f"no free cell within {REACH_M:g} m of exhibit {short(name)}", "move it, or open a way to it")
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
