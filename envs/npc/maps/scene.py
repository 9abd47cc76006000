"""The entities of a Decentraland SDK7 scene: `assets/scene/main.composite`, read with bounds, nothing guessed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .components import FIELDS, REFUSED, fits, treatment
from .faults import Faults
from .glb import transform
from .land import SAVE_AGAIN
from .reading import BadFileError, parse_json, read_text, short

MOST_ENTITIES, MOST_PARENTS = 2000, 32
"""Most of each in one scene."""
COMPOSITE = "assets/scene/main.composite"
MOST_COMPOSITE_BYTES = 8 * 2**20
VERSION = 1
"""The version of composites that is read."""
ROOT, PLAYER, CAMERA = 0, 1, 2
"""Entities that are there without being in the file."""
_MOST_FAULTS = 20
_PLACE: dict[str, Any] = {
    "position": {"x": 0, "y": 0, "z": 0}, "rotation": {"x": 0, "y": 0, "z": 0, "w": 1},
    "scale": {"x": 1, "y": 1, "z": 1}, "parent": ROOT,
}  # fmt: skip
"""What the runtime takes for a field that a Transform leaves out."""


@dataclass(eq=False)
class Entity:
    """One thing in the scene."""

    number: int
    components: dict[str, dict[str, Any]] = field(default_factory=dict)
    """{component name: its value}"""
    matrix: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    """4 x 4, from its own coordinates to the scene's: left-handed, y up, metres"""
    above: tuple[Entity, ...] = ()
    """its parent, the parent of that, and so on"""

    @property
    def name(self) -> str:
        """The name its author gave, or "entity 512"."""
        given = self.components.get("core-schema::Name", {}).get("value", "")
        return "".join(c for c in given if c.isprintable()).strip()[:100] or f"entity {self.number}"

    def part(self, component: str) -> dict[str, Any] | None:
        """Return a component's value if the entity has it."""
        return self.components.get(component)

    @property
    def is_flat(self) -> bool:
        """Whether it has shrunk to a line or a point: neither solid nor seen."""
        return bool(np.linalg.matrix_rank(self.matrix[:3, :3], tol=1e-9) < 2)


def read_entities(folder: Path, faults: Faults) -> dict[int, Entity] | None:
    """Return {number: entity} of the composite; None, with all faults of its structure, if it cannot be read."""
    if not (folder / COMPOSITE).exists():
        what = "there is no such file: the scene is all code, of an older SDK, or only its compiled form"
        faults.add(what, "take the folder of a scene that the Creator Hub made", layer=COMPOSITE)
        return None
    before = len(faults.found)
    entities: dict[int, Entity] = {}
    try:
        for component in _components(parse_json(read_text(folder / COMPOSITE, MOST_COMPOSITE_BYTES))):
            _add_component(component, entities, faults)
            if len(faults.found) - before > _MOST_FAULTS:
                break
        if len(faults.found) == before:
            _place(entities, faults)
    except BadFileError as bad:
        faults.add(bad.what, bad.remedy, layer=COMPOSITE)
    return entities if len(faults.found) == before else None


def _components(document: Any) -> list[dict[str, Any]]:
    """Return the components of a composite of known version, each there once."""
    if not isinstance(document, dict) or not isinstance(document.get("components"), list):
        raise BadFileError("it has no list 'components'", SAVE_AGAIN)
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise BadFileError(f"its version is {short(version)}, expected {VERSION}", "take a scene of SDK 7")
    odd = sorted(set(document) - {"version", "id", "components"})
    if odd:
        raise BadFileError(f"it has {short(odd[0])}, expected only version and components", SAVE_AGAIN)
    seen: set[str] = set()
    for component in document["components"]:
        name = component.get("name") if isinstance(component, dict) else None
        if not isinstance(name, str) or not isinstance(component.get("data"), dict):
            raise BadFileError("a component has no name or no data", SAVE_AGAIN)
        if name in seen:
            raise BadFileError(f"the component {short(name)} is there twice", SAVE_AGAIN)
        seen.add(name)
    return list(document["components"])


def _add_component(component: dict[str, Any], entities: dict[int, Entity], faults: Faults) -> None:
    name, values = component["name"], component["data"]
    how = treatment(name)
    for key, wrapped in values.items():
        if not key.isascii() or not key.isdigit() or len(key) > 10 or str(int(key)) != key:
            raise BadFileError(f"{short(name)} belongs to entity {short(key)}, expected a number", SAVE_AGAIN)
        entity = entities.setdefault(int(key), Entity(int(key)))
        if len(entities) > MOST_ENTITIES:
            raise BadFileError(f"it has more than {MOST_ENTITIES} entities", "take a smaller scene")
        if how in ("unknown", "refused"):
            reason = REFUSED.get(name, "what that means is not known here")
            faults.add(f"entity {key} has a {short(name)}: {reason}", "remove it", layer=COMPOSITE)
            return
        if how == "honoured":
            value = wrapped.get("json") if isinstance(wrapped, dict) and set(wrapped) == {"json"} else None
            if not isinstance(value, dict):
                what = f"{name} of entity {key} is {short(wrapped)}, expected an object under 'json'"
                faults.add(what, SAVE_AGAIN, layer=COMPOSITE)
            else:
                entity.components[name] = value
                _check_fields(name, entity, faults)


def _check_fields(name: str, entity: Entity, faults: Faults) -> None:
    """Note every field of a component that is unknown, or not as expected."""
    expected, value = FIELDS.get(name, {}), entity.components[name]
    for key in value:
        if expected and (key not in expected or not fits(name, expected[key], value[key])):
            should = f"{key} to be {expected[key]}" if key in expected else f"only {', '.join(expected)}"
            got = f"{key} = {short(value[key])}"
            what = f"{name} of entity {entity.number} has {got}, expected {should}"
            faults.add(what, SAVE_AGAIN, layer=COMPOSITE)
            return
    needed = {"core::GltfContainer": "src", "core::MeshCollider": "mesh", "core-schema::Name": "value"}.get(name)
    if needed and needed not in value:
        faults.add(f"{name} of entity {entity.number} has no {needed!r}", SAVE_AGAIN, layer=COMPOSITE)


def _place(entities: dict[int, Entity], faults: Faults) -> None:
    """Set every entity's matrix and parents, or note why it has none."""
    own = {}
    for entity in entities.values():
        try:
            own[entity.number] = _own_matrix(entity)
            entity.above = _parents(entity, entities)
        except BadFileError as bad:
            faults.add(bad.what, bad.remedy, layer=COMPOSITE)
    if faults.found:
        return
    for entity in entities.values():
        matrix = own[entity.number]
        for parent in entity.above:
            matrix = own.get(parent.number, np.eye(4)) @ matrix  # a visitor is no entity of the file
        if not np.isfinite(matrix).all() or np.abs(matrix).max() > 1e6:
            faults.add(f"{short(entity.name)} is infinitely large or far away", SAVE_AGAIN, layer=COMPOSITE)
        entity.matrix = matrix


def _own_matrix(entity: Entity) -> NDArray[np.float64]:
    """Return what the Transform says, or, while a Tween moves it, where that begins."""
    place = {**_PLACE, **entity.components.get("core::Transform", {})}
    place |= _begins(entity)
    turn = [place["rotation"][axis] for axis in "xyzw"]
    if sum(n * n for n in turn) < 1e-6:
        raise BadFileError(f"{short(entity.name)} is turned by a quaternion of length 0", "set its rotation again")
    return transform([place["position"][a] for a in "xyz"], turn, [place["scale"][a] for a in "xyz"])


def _begins(entity: Entity) -> dict[str, Any]:
    """Return the part of a Transform that a playing Tween has set by the time anyone looks."""
    tween = entity.part("core::Tween")
    if tween is None or tween.get("playing", True) is False:
        return {}
    mode = tween.get("mode")
    kind = mode.get("$case") if isinstance(mode, dict) else None
    sets = {"move": "position", "rotate": "rotation", "scale": "scale"}.get(str(kind))
    if sets is None:
        return {}
    body = mode.get(kind) if isinstance(mode, dict) else None
    start = body.get("start") if isinstance(body, dict) else None
    if not fits("core::Transform", FIELDS["core::Transform"][sets], start):
        raise BadFileError(f"{short(entity.name)} has a Tween that begins at {short(start)}", SAVE_AGAIN)
    return {sets: start}


def is_moving(entity: Entity) -> bool:
    """Return whether a Tween of it, or of a parent, moves it by itself; a texture may flow where it is."""
    for one in (entity, *entity.above):
        tween = one.part("core::Tween")
        mode = tween.get("mode") if tween is not None and tween.get("playing", True) is not False else None
        kind = str(mode.get("$case")) if isinstance(mode, dict) else ""
        if kind and not kind.startswith("texture"):
            return True
    return False


def _parents(entity: Entity, entities: dict[int, Entity]) -> tuple[Entity, ...]:
    found: list[Entity] = []
    current = entity
    while True:
        number = current.components.get("core::Transform", {}).get("parent", ROOT)
        if number == ROOT:
            return tuple(found)
        if number in (PLAYER, CAMERA):
            return (*found, Entity(number))
        if number not in entities:
            what = f"{short(current.name)} has the parent {number}, which is not in the scene"
            raise BadFileError(what, SAVE_AGAIN)
        current = entities[number]
        if current in (entity, *found) or len(found) >= MOST_PARENTS:
            raise BadFileError(f"{short(entity.name)} is its own parent, or deeper than {MOST_PARENTS}", SAVE_AGAIN)
        found.append(current)


def check_stands(entity: Entity, *, solid: bool) -> None:
    """Refuse what goes with a visitor, or turns towards one, where it matters where it stands."""
    for one in (entity, *entity.above):
        if one.number in (PLAYER, CAMERA) or one.part("core::AvatarAttach") is not None:
            raise BadFileError(
                f"{short(entity.name)} goes where a visitor goes (AvatarAttach, or its parent)", "remove it"
            )
        if one.part("core::Billboard") is not None and (solid or one is not entity):
            raise BadFileError(f"{short(entity.name)} turns towards whoever looks (Billboard)", "remove its Billboard")
