"""Worlds as models to look at: boxes written as binary glTF 2.0."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.checkpoint import replace_file

from .glb import BINARY, CHUNK, HEADER, JSON, Triangles


@dataclass(frozen=True)
class Solid:
    """A mesh to write: boxes of one colour."""

    name: str
    colour: tuple[int, int, int]
    boxes: NDArray[np.float64]
    """[B, 2, 3]: lower and upper corner (x, y, z) of each box, metres"""
    collider: bool = False
    """whether to write it once more under a name that ends in `_collider`, as Decentraland marks what is solid"""


_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
_FACES = np.array(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ]
)


def box_triangles(boxes: NDArray[np.float64]) -> Triangles:
    """Return [12 B, 3, 3] triangles, seen from outside counter-clockwise, of boxes [B, 2, 3]."""
    corners = boxes[:, :1] + (boxes[:, 1:] - boxes[:, :1]) * _CORNERS
    triangles: Triangles = corners[:, _FACES].reshape(-1, 3, 3)
    return triangles


def write_glb(solids: Sequence[Solid], path: Path) -> None:
    """Write boxes as binary glTF 2.0, one mesh and material per solid."""
    document: dict[str, Any] = {"asset": {"version": "2.0", "generator": "metarl"}, "scene": 0}
    document |= {key: [] for key in ("nodes", "meshes", "materials", "accessors", "bufferViews")}
    binary = b""
    for number, solid in enumerate(solids):
        points = box_triangles(solid.boxes).reshape(-1, 3).astype("<f4")
        view = {"buffer": 0, "byteOffset": len(binary), "byteLength": points.nbytes, "target": 34962}
        binary += points.tobytes()
        accessor = {"bufferView": number, "componentType": 5126, "count": len(points), "type": "VEC3"}
        accessor |= {"min": points.min(0).tolist(), "max": points.max(0).tolist()}
        red, green, blue = ((channel / 255) ** 2.2 for channel in solid.colour)  # sRGB to linear
        surface = {"baseColorFactor": [red, green, blue, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.9}
        document["bufferViews"].append(view)
        document["accessors"].append(accessor)
        document["materials"].append({"name": solid.name, "pbrMetallicRoughness": surface})
        primitive = {"attributes": {"POSITION": number}, "material": number}
        document["meshes"].append({"name": solid.name, "primitives": [primitive]})
        document["nodes"].append({"name": solid.name, "mesh": number})
        if solid.collider:
            document["nodes"].append({"name": f"{solid.name}_collider", "mesh": number})
    document["scenes"] = [{"nodes": list(range(len(document["nodes"])))}]
    document["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = CHUNK.pack(len(text), JSON) + text + CHUNK.pack(len(binary), BINARY) + binary
    replace_file(path, HEADER.pack(b"glTF", 2, HEADER.size + len(body)) + body)
