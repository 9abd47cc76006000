"""What stops a walker in a Decentraland scene: colliders of shapes and models, as triangles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .faults import Faults
from .glb import Part, Triangles, read_glb
from .glb_write import box_triangles
from .land import SAVE_AGAIN
from .pieces import matches
from .reading import BadFileError, inside, short
from .scene import COMPOSITE, Entity, check_stands, is_moving

MOST_TRIANGLES = 20_000
"""Most solid triangles of one scene."""
_PHYSICS = 2
"""Bit of a collision mask that stops walkers."""
_MOST_NAMED = 5


class Solids:
    """Reads the models of a scene, each once, and gathers the triangles that stop a walker."""

    def __init__(self, root: Path, entities: dict[int, Entity], through: str, faults: Faults) -> None:
        self.root, self.entities, self.through, self.faults = root, entities, through, faults
        self.models: dict[Path, Any] = {}
        self.moving: list[str] = []
        """names of solid things that move by themselves"""

    def collect(self) -> Triangles:
        """Return [T, 3, 3] in the scene's coordinates; what cannot be read is noted as a fault."""
        found, count = [np.zeros((0, 3, 3))], 0
        for entity in self.entities.values():
            if matches(entity.name, self.through):
                continue
            try:
                own = [] if entity.is_flat else [*self._shape(entity), *self._model(entity)]
                if own:
                    check_stands(entity, solid=True)
                    matrix = entity.matrix
                    turned = -1 if np.linalg.det(matrix[:3, :3]) < 0 else 1
                    found += [t[:, ::turned] @ matrix[:3, :3].T + matrix[:3, 3] for t in own]
                    count += sum(map(len, own))
                    if is_moving(entity) and entity.name not in self.moving:
                        self.moving.append(entity.name)
            except BadFileError as bad:
                if all(fault.what != bad.what for fault in self.faults.found):  # one model may stand in many places
                    self.faults.add(bad.what, bad.remedy, layer=COMPOSITE)
            if count > MOST_TRIANGLES:
                self.faults.add(f"more than {MOST_TRIANGLES} solid triangles", "take a smaller scene", layer=COMPOSITE)
                break
        return np.concatenate(found)

    def notes(self) -> list[str]:
        """Return what to know about solids that move."""
        if not self.moving:
            return []
        more = f" and {len(self.moving) - _MOST_NAMED} more" * (len(self.moving) > _MOST_NAMED)
        named = ", ".join(self.moving[:_MOST_NAMED]) + more
        return [f"moves by itself, read where it begins: {named} (through='NAME' for what is no obstacle)"]

    def _shape(self, entity: Entity) -> Iterable[Triangles]:
        collider = entity.part("core::MeshCollider")
        if collider is None or not collider.get("collisionMask", 3) & _PHYSICS:
            return
        mesh = collider["mesh"]
        kind, half = mesh["$case"], [0.5] * 3
        if kind == "plane":
            half[2] = 0.0
        elif kind == "cylinder":  # round ones take their box: finer than a cell only when large
            body = mesh.get("cylinder", {})
            half[0] = half[2] = max(body.get("radiusTop", 0.5), body.get("radiusBottom", 0.5))
        yield box_triangles(np.array([[[-h for h in half], half]]))

    def _model(self, entity: Entity) -> Iterable[Triangles]:
        container = entity.part("core::GltfContainer")
        if container is None:
            return
        visible, invisible = (
            container.get("visibleMeshesCollisionMask", 0),
            container.get("invisibleMeshesCollisionMask", 3),
        )
        for part in self.parts(entity):
            mask = part.mask if part.mask is not None else invisible if part.is_collider else visible
            if mask & _PHYSICS and not part.is_skinned:  # the runtime makes no collider of a skin either
                if part.clips & _playing(entity) and entity.name not in self.moving:
                    self.moving.append(entity.name)
                # glTF is right-handed, a scene left-handed; corners in reverse still run counter-clockwise.
                with _of_model(container["src"]):
                    triangles = part.triangles
                yield triangles[:, ::-1] * (-1.0, 1.0, 1.0)

    def parts(self, entity: Entity) -> tuple[Part, ...]:
        """Return the meshes of an entity's model, read once; the first to need one that cannot be read raises."""
        container = entity.part("core::GltfContainer")
        if container is None:
            return ()
        source = container["src"]
        if not source.casefold().endswith(".glb"):
            raise BadFileError(f"the model {short(source)} of {short(entity.name)} is no .glb", "export it as .glb")
        path = inside(self.root, source, "the model")
        if path not in self.models:
            self.models[path] = ()
            with _of_model(source):
                self.models[path] = tuple(read_glb(path))
        found: tuple[Part, ...] = self.models[path]
        return found


@contextmanager
def _of_model(source: str) -> Iterator[None]:
    """Name the model in what is wrong with it."""
    try:
        yield
    except BadFileError as bad:
        raise BadFileError(f"the model {short(source)}: {bad.what}", bad.remedy) from bad


def _playing(entity: Entity) -> set[str]:
    """Return names of the animations that run from the start; "" is the first one, which runs if none is chosen."""
    animator = entity.part("core::Animator")
    if animator is None:
        return {""}
    states = animator.get("states", [])
    if not isinstance(states, list) or not all(isinstance(s, dict) and isinstance(s.get("clip"), str) for s in states):
        raise BadFileError(f"{short(entity.name)} has a damaged Animator ({short(states)})", SAVE_AGAIN)
    return {state["clip"] for state in states if state.get("playing") is True}
