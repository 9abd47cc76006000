"""The entities of a Decentraland SDK7 scene: `scene.json` and `assets/scene/main.composite`, read with bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .faults import Faults
from .glb import transform
from .reading import BadFileError, parse_json, read_text, short

PARCEL_M = 16
"""Side of a parcel of land, metres."""
MOST_PARCELS, MOST_ENTITIES, MOST_PARENTS = 64, 2000, 32
"""Most of each in one scene."""
COMPOSITE = "assets/scene/main.composite"
MOST_COMPOSITE_BYTES = 8 * 2**20
_SAVE_AGAIN = "open the scene in the Creator Hub and save it again"


@dataclass(frozen=True)
class Land:
    """What `scene.json` says."""

    parcels: list[tuple[int, int]]
    """(east, north) of each parcel from the base parcel"""
    spawn: tuple[float, float, float]
    """(x, y, z), metres from the south-west corner of the base parcel"""
    title: str


@dataclass
class Entity:
    """One thing in the scene."""

    number: int
    components: dict[str, Any] = field(default_factory=dict)
    """{component name: its value}"""

    @property
    def name(self) -> str:
        """The name its author gave, or "entity 512"."""
        value = self.components.get("core-schema::Name")
        name = value.get("value") if isinstance(value, dict) else None
        text = "".join(c for c in name if c.isprintable()).strip()[:100] if isinstance(name, str) else ""
        return text or f"entity {self.number}"

    def part(self, component: str) -> dict[str, Any] | None:
        """Return a component's value if the entity has it."""
        value = self.components.get(component)
        return value if isinstance(value, dict) else None


def read_land(folder: Path, faults: Faults) -> Land | None:
    """Return the parcels and the spawn point; None, with faults, if they cannot be read."""
    try:
        scene = parse_json(read_text(folder / "scene.json"))
        return _land(scene)
    except BadFileError as bad:
        faults.add(bad.what, bad.remedy, layer="scene.json")
        return None


def _land(scene: Any) -> Land:
    land = scene.get("scene") if isinstance(scene, dict) else None
    if not isinstance(land, dict) or not isinstance(land.get("parcels"), list):
        raise BadFileError("it has no list 'scene.parcels'", _SAVE_AGAIN)
    if not 1 <= len(land["parcels"]) <= MOST_PARCELS:
        raise BadFileError(
            f"it has {len(land['parcels'])} parcels, 1 to {MOST_PARCELS} are read", "take a smaller scene"
        )
    parcels = [_parcel(text) for text in land["parcels"]]
    base = _parcel(land.get("base", land["parcels"][0]))
    placed = [(x - base[0], y - base[1]) for x, y in parcels]
    if max(abs(n) for parcel in placed for n in parcel) > MOST_PARCELS:
        raise BadFileError("its parcels lie far apart", "take a scene whose parcels touch")
    display = scene.get("display")
    title = display.get("title") if isinstance(display, dict) else None
    return Land(placed, _spawn(scene.get("spawnPoints")), title if isinstance(title, str) else "")


def _parcel(text: Any) -> tuple[int, int]:
    numbers = text.split(",") if isinstance(text, str) and len(text) < 32 else []
    try:
        east, north = (int(n) for n in numbers)
    except ValueError:
        raise BadFileError(f"a parcel is {short(text)}, expected e.g. '0,1'", _SAVE_AGAIN) from None
    if max(abs(east), abs(north)) > 10_000:
        raise BadFileError(f"a parcel is {short(text)}, far from any land", _SAVE_AGAIN)
    return east, north


def _spawn(points: Any) -> tuple[float, float, float]:
    """Return the middle of the default spawn area; (8, 0, 8), the middle of the base parcel, if none is given."""
    found = [p for p in points if isinstance(p, dict)] if isinstance(points, list) else []
    chosen = next((p for p in found if p.get("default") is True), found[0] if found else {})
    position = chosen.get("position", {"x": 8, "y": 0, "z": 8})
    values = []
    for axis in "xyz":
        span = position.get(axis, 0) if isinstance(position, dict) else None
        ends = span if isinstance(span, list) and span else [span]
        if not all(_number(v) for v in ends):
            raise BadFileError(f"a spawn point has {axis} = {short(span)}, expected metres", _SAVE_AGAIN)
        values.append(sum(ends) / len(ends))
    return values[0], values[1], values[2]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def read_entities(folder: Path, faults: Faults) -> dict[int, Entity] | None:
    """Return {number: entity} of the composite; None, with a fault, if it cannot be read."""
    try:
        document = parse_json(read_text(folder / COMPOSITE, MOST_COMPOSITE_BYTES))
        components = document.get("components") if isinstance(document, dict) else None
        if not isinstance(components, list):
            raise BadFileError("it has no list 'components'", _SAVE_AGAIN)
        entities: dict[int, Entity] = {}
        for component in components:
            _add_component(component, entities)
        return entities
    except BadFileError as bad:
        faults.add(bad.what, bad.remedy, layer=COMPOSITE)
        return None


def _add_component(component: Any, entities: dict[int, Entity]) -> None:
    name = component.get("name") if isinstance(component, dict) else None
    values = component.get("data") if isinstance(component, dict) else None
    if not isinstance(name, str) or not isinstance(values, dict):
        raise BadFileError("a component has no name or no data", _SAVE_AGAIN)
    if not name.startswith(("core::", "core-schema::")):
        return
    for key, value in values.items():
        if not key.isascii() or not key.isdigit() or len(key) > 10:
            raise BadFileError(f"{name} belongs to entity {short(key)}, expected a number", _SAVE_AGAIN)
        entity = entities.setdefault(int(key), Entity(int(key)))
        if len(entities) > MOST_ENTITIES:
            raise BadFileError(f"it has more than {MOST_ENTITIES} entities", "take a smaller scene")
        entity.components[name] = value.get("json", value) if isinstance(value, dict) else value


def world_matrix(entity: Entity, entities: dict[int, Entity]) -> NDArray[np.float64]:
    """Return the 4 x 4 matrix from an entity's own coordinates to the scene's; raises BadFileError.

    Scale, rotation and position of the entity and of all its parents; left-handed, y up, metres.
    """
    matrix = np.eye(4)
    seen: set[int] = set()
    current: Entity | None = entity
    while current is not None:
        if current.number in seen or len(seen) > MOST_PARENTS:
            raise BadFileError(f"{short(entity.name)} is its own parent, or deeper than {MOST_PARENTS}", _SAVE_AGAIN)
        seen.add(current.number)
        own = current.part("core::Transform") or {}
        position = _vector(own.get("position"), "xyz", 0.0, entity)
        rotation = _vector(own.get("rotation", {"w": 1}), "xyzw", 0.0, entity)
        matrix = transform(position, rotation, _vector(own.get("scale"), "xyz", 1.0, entity)) @ matrix
        parent = own.get("parent", 0)
        current = entities.get(parent) if isinstance(parent, int) and parent != 0 else None
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 1e6:
        raise BadFileError(f"{short(entity.name)} is infinitely large or far away", _SAVE_AGAIN)
    return matrix


def _vector(value: Any, axes: str, default: float, entity: Entity) -> list[float]:
    values = {} if value is None else value
    numbers: list[Any] = [values.get(axis, default) if isinstance(values, dict) else None for axis in axes]
    if not all(_number(n) for n in numbers):
        raise BadFileError(f"{short(entity.name)} has a damaged Transform ({short(value)})", _SAVE_AGAIN)
    return [float(n) for n in numbers]
