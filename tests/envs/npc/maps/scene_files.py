"""Small Decentraland scenes to change in one respect: a wall, a picture, a model, one parcel."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metarl.envs.npc.maps.decentraland import read_decentraland
from metarl.envs.npc.maps.glb_write import Solid, write_glb
from metarl.envs.npc.maps.scene import COMPOSITE
from metarl.envs.npc.maps.tiled import Reading

WALL, IMAGE, MODEL, GROUP = "600", "601", "602", "603"
WALLS = frozenset([(6, 8), (7, 8), (8, 8), (9, 8), (12, 4)])
"""(x, z) of the cells that are wall in an unchanged scene: four of the wall, one of the model."""
BOX = np.array([[[-0.5, 0.0, -0.5], [0.5, 2.0, 0.5]]])


def placed(x: float, y: float, z: float, **own: Any) -> dict[str, Any]:
    place = {"position": {"x": x, "y": y, "z": z}, "rotation": {"x": 0, "y": 0, "z": 0, "w": 1}}
    return {**place, "scale": {"x": 1, "y": 1, "z": 1}, "parent": 0, **own}


@dataclass
class Scene:
    """What is written, as Python values."""

    land: dict[str, Any] = field(
        default_factory=lambda: {
            "ecs7": True, "runtimeVersion": "7", "display": {"title": "Yard"},
            "scene": {"parcels": ["3,4"], "base": "3,4"},
            "spawnPoints": [{"name": "s", "default": True, "position": {"x": [2, 3], "y": 0, "z": [2, 3]}}],
        }
    )  # fmt: skip
    parts: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "core::Transform": {
                WALL: placed(8, 1, 8.5, scale={"x": 4, "y": 2, "z": 1}),
                IMAGE: placed(4.5, 1, 12.5),
                MODEL: placed(12.5, 0, 4.5),
                GROUP: placed(0, 0, 0),
            },
            "core-schema::Name": {k: {"value": v} for k, v in ((WALL, "wall"), (IMAGE, "image"), (MODEL, "model"))},
            "core::MeshCollider": {WALL: {"mesh": {"$case": "box", "box": {}}, "collisionMask": 3}},
            "core::MeshRenderer": {IMAGE: {"mesh": {"$case": "plane", "plane": {"uvs": []}}}},
            "core::GltfContainer": {
                MODEL: {"src": "m.glb", "visibleMeshesCollisionMask": 0, "invisibleMeshesCollisionMask": 3}
            },
        }
    )
    composite: Callable[[dict[str, Any]], Any] = lambda document: None
    """changes the composite before it is written"""
    model: Callable[[dict[str, Any]], Any] = lambda document: None
    """changes the model's JSON before it is written"""
    corners: str = "<f4"
    """type of the numbers of the model's corners"""

    def put(self, component: str, entity: str, value: Any) -> None:
        self.parts.setdefault(component, {})[entity] = value

    def write(self, folder: Path) -> Path:
        (folder / COMPOSITE).parent.mkdir(parents=True, exist_ok=True)
        (folder / "scene.json").write_text(json.dumps(self.land))
        components = [
            {"name": name, "jsonSchema": {}, "data": {entity: {"json": value} for entity, value in values.items()}}
            for name, values in self.parts.items()
        ]
        document = {"version": 1, "components": components}
        written = self.composite(document) or document
        (folder / COMPOSITE).write_text(written if isinstance(written, str) else json.dumps(written))
        write_glb([Solid("box", (1, 2, 3), BOX, collider=True)], folder / "m.glb")
        (folder / "m.glb").write_bytes(repack((folder / "m.glb").read_bytes(), self.model, self.corners))
        return folder

    def read(self, folder: Path, **options: Any) -> Reading:
        return read_decentraland(self.write(folder), **options)


def repack(content: bytes, change: Callable[[Any], Any], corners: str = "<f4") -> bytes:
    (size,) = struct.unpack_from("<I", content, 12)
    document, binary = json.loads(content[20 : 20 + size]), content[28 + size :]
    if corners != "<f4":  # in half metres, as whole numbers
        binary = (2 * np.frombuffer(binary, "<f4")).astype(corners).tobytes()
    document["bufferViews"][0]["byteLength"] = len(binary)
    change(document)
    text = json.dumps(document).encode()
    body = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def walls(reading: Reading) -> frozenset[tuple[int, int]]:
    """Return (x, z) in metres of the cells of the base parcel that are wall."""
    wall = reading.layout.wall
    return frozenset((x, z) for x in range(16) for z in range(16) if bool(wall[wall.shape[0] - 2 - z, x + 1]))
