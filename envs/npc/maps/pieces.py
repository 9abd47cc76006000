"""What there is to see in a Decentraland scene: the exhibits, and whether anything of them is visible."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .components import is_number
from .faults import Faults
from .glb import Part
from .land import SAVE_AGAIN
from .reading import BadFileError, short
from .scene import COMPOSITE, Entity, check_stands

EXHIBIT_WORDS = (
    "artwork", "exhibit", "frame", "image", "nft", "painting", "photo", "picture", "poster",
    "screen", "sculpture", "statue", "video",
)  # fmt: skip
"""Words in the name of an entity that make it an exhibit."""

Piece = tuple[str, NDArray[np.float64]]
"""Name and (x, y, z) of an exhibit."""


def matches(name: str, patterns: str) -> bool:
    """Return whether a name fits shell wildcards, case ignored; nothing fits ""."""
    return bool(patterns) and fnmatch.fnmatchcase(name.casefold(), patterns.casefold())


@dataclass(frozen=True)
class Choice:
    """Which of the things that can be seen are exhibits, by name: shell wildcards, case ignored."""

    only: str = "*"
    without: str = ""
    also: str = ""


def find_pieces(
    entities: Iterable[Entity], parts: Callable[[Entity], Iterable[Part]], choice: Choice, faults: Faults
) -> tuple[list[Piece], list[Piece]]:
    """Return the chosen exhibits, and what else is seen and has a name of its own."""
    found: list[Piece] = []
    others: list[Piece] = []
    for entity in entities:
        try:
            chosen = _is_exhibit(entity) or matches(entity.name, choice.also)
            if (
                matches(entity.name, choice.only)
                and not matches(entity.name, choice.without)
                and _is_seen(entity, parts)
            ):
                if chosen:
                    check_stands(entity, solid=False)
                (found if chosen else others).append((entity.name, entity.matrix[:3, 3]))
        except BadFileError as bad:
            faults.add(bad.what, bad.remedy, layer=COMPOSITE)
    return found, others


def _is_exhibit(entity: Entity) -> bool:
    if entity.part("core::NftShape") is not None or _shows_video(entity):
        return True
    if entity.name.casefold().endswith(".glb"):  # named after its model by the editor, not by its author
        return False
    words = re.split(r"[^a-z]+", entity.name.casefold())
    return any(word in EXHIBIT_WORDS or word.removesuffix("s") in EXHIBIT_WORDS for word in words)


def _is_seen(entity: Entity, parts: Callable[[Entity], Iterable[Part]]) -> bool:
    """Return whether an NFT, a shape or a mesh is drawn: not invisible, clear as glass, or shrunk to a line."""
    if not is_visible(entity) or entity.is_flat:
        return False
    if entity.part("core::NftShape") is not None:
        return True
    if entity.part("core::MeshRenderer") is not None and "mesh" in entity.components["core::MeshRenderer"]:
        return _alpha(entity) > 0
    return any(part.shown for part in parts(entity))


def is_visible(entity: Entity) -> bool:
    """Return whether a VisibilityComponent lets it be seen: its own, else the nearest parent's that is for children."""
    own = entity.part("core::VisibilityComponent")
    if own is not None:
        return bool(own.get("visible", True))
    for parent in entity.above:
        shown = parent.part("core::VisibilityComponent")
        if shown is not None and shown.get("propagateToChildren", False):
            return bool(shown.get("visible", True))
    return True


def _alpha(entity: Entity) -> float:
    """Return how opaque its Material is, 0 for a pane that is not seen at all; raises BadFileError."""
    body = _surface(entity)
    colour = body.get("albedoColor", body.get("diffuseColor", {}))
    value = colour.get("a", 1.0) if isinstance(colour, dict) else None
    if not is_number(value):
        raise BadFileError(f"{short(entity.name)} has a damaged Material ({short(colour)})", SAVE_AGAIN)
    return 1.0 if body.get("transparencyMode") == 0 else float(value or 0.0)


def _surface(entity: Entity) -> dict[str, Any]:
    """Return what its Material says about its surface; raises BadFileError."""
    material = entity.components.get("core::Material", {}).get("material", {})
    kind = material.get("$case", "pbr") if isinstance(material, dict) else None
    body = material.get(kind, {}) if kind in ("pbr", "unlit") else None
    if not isinstance(body, dict):
        raise BadFileError(f"{short(entity.name)} has a damaged Material ({short(material)})", SAVE_AGAIN)
    return body


def _shows_video(entity: Entity) -> bool:
    """Return whether it plays a film, or its Material shows the one that another entity plays."""
    if entity.part("core::VideoPlayer") is not None:
        return True
    textures: list[Any] = [*_surface(entity).values()]
    sources = [texture.get("tex") for texture in textures if isinstance(texture, dict)]
    return any(isinstance(source, dict) and source.get("$case") == "videoTexture" for source in sources)
