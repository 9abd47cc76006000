"""What each component of a Decentraland scene means here: honoured, refused, or ignored because it cannot matter.

docs/maps.md shows the same table, row by row; a component of the runtime that is in neither is refused.
"""

from __future__ import annotations

import re

HONOURED = {
    "core::Transform", "core::GltfContainer", "core::MeshCollider", "core::MeshRenderer", "core::Material",
    "core::NftShape", "core::VideoPlayer", "core::VisibilityComponent", "core::Tween", "core::Animator",
    "core::AvatarAttach", "core::Billboard", "core-schema::Name",
}  # fmt: skip
"""Components that are read."""

REFUSED = {
    "composite::root": "another composite stands in for it",
    "core-schema::Network-Parent": "its parent is known when the scene runs only",
    "core::GltfNode": "it stands for a part of a model",
}
"""Components that say what cannot be read, and what that is."""

IGNORED = {
    "no wall and nothing to look at": (
        "AudioAnalysis", "AudioEffectZone", "AudioEvent", "AudioSource", "AudioStream", "GlobalLight", "Light",
        "LightSource", "MapPin", "ParticleSystem", "SkyboxTime", "TextShape", "TriggerArea", "VideoEvent",
    ),
    "about visitors, their cameras and their input": (
        "AvatarBase", "AvatarCustomization", "AvatarEmoteCommand", "AvatarEmoteMask", "AvatarEquippedData",
        "AvatarFreezeMovement", "AvatarLocomotionSettings", "AvatarModifierArea", "AvatarMovement",
        "AvatarMovementInfo", "AvatarShape", "CameraLayer", "CameraLayers", "CameraMode", "CameraModeArea",
        "InputModifier", "MainCamera", "PhysicsCombinedForce", "PhysicsCombinedImpulse", "PlayerIdentityData",
        "PointerEvents", "PointerLock", "PrimaryPointerInfo", "Raycast", "TextureCamera", "VirtualCamera",
    ),
    "how things look, load or are reported, not where they stand": (
        "AssetLoad", "AssetLoadLoadingState", "EngineInfo", "GltfContainerLoadingState", "GltfNodeModifiers",
        "GltfNodeState", "PointerEventsResult", "RaycastResult", "RealmInfo", "TriggerAreaResult", "TweenSequence",
        "TweenState",
    ),
    "the flat user interface": (
        "UiBackground", "UiCanvas", "UiCanvasInformation", "UiDropdown", "UiDropdownResult", "UiInput",
        "UiInputResult", "UiScrollResult", "UiText", "UiTransform",
    ),
}  # fmt: skip
"""{why it cannot matter: components of the runtime, without their `core::`}"""

SCHEMAS = ("core-schema::Network-Entity", "core-schema::Sync-Components", "core-schema::Tags")
"""Ignored: labels, and who keeps copies in step."""

MOST_MASK = 2**32 - 1
_IGNORED = {f"core::{name}" for names in IGNORED.values() for name in names} | set(SCHEMAS)

FIELDS: dict[str, dict[str, str]] = {
    "core::Transform": {"position": "xyz", "rotation": "xyzw", "scale": "xyz", "parent": "an entity's number"},
    "core::GltfContainer": {
        "src": "text", "visibleMeshesCollisionMask": "a mask", "invisibleMeshesCollisionMask": "a mask",
    },
    "core::MeshCollider": {"mesh": "a shape", "collisionMask": "a mask"},
    "core::MeshRenderer": {"mesh": "a shape"},
    "core::VisibilityComponent": {"visible": "true or false", "propagateToChildren": "true or false"},
    "core-schema::Name": {"value": "text"},
}  # fmt: skip
"""{component: {field: what is expected}} where every field counts: any other is refused."""

SHAPES = {
    "core::MeshCollider": ("box", "plane", "cylinder", "sphere"),
    "core::MeshRenderer": ("box", "plane", "cylinder", "sphere", "gltfMesh", "opaque"),
}


def treatment(name: str) -> str:
    """Return "honoured", "refused", "ignored", or "unknown" for a component of the runtime that is not in the table."""
    if name in HONOURED:
        return "honoured"
    if name in REFUSED:
        return "refused"
    if name not in _IGNORED and re.match(r"core(-schema)?\W", name.strip().casefold()):
        return "unknown"
    return "ignored"  # of the editor, of smart items, or a script's own


def is_number(value: object) -> bool:
    """Return whether a value is a number that a scene may hold: finite, in metres not beyond any land."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def fits(component: str, expected: str, value: object) -> bool:
    """Return whether a field has what is expected of it."""
    if expected in ("xyz", "xyzw"):
        return isinstance(value, dict) and set(value) == set(expected) and all(map(is_number, value.values()))
    if expected == "text":
        return isinstance(value, str)
    if expected == "true or false":
        return isinstance(value, bool)
    if expected == "a shape":
        return isinstance(value, dict) and _is_shape(component, value)
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_MASK


def _is_shape(component: str, mesh: dict[str, object]) -> bool:
    kind = mesh.get("$case")
    body = mesh.get(kind, {}) if isinstance(kind, str) else None
    if kind not in SHAPES[component] or not isinstance(body, dict) or set(mesh) - {"$case", kind}:
        return False
    radii = (body.get(name, 0.5) for name in ("radiusTop", "radiusBottom"))
    return kind != "cylinder" or all(is_number(r) and r >= 0 for r in radii)
