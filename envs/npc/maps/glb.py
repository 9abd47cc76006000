"""3-D models in binary glTF 2.0: triangles out of the ones that scenes are made of, and worlds as models to look at.

The reader knows what Decentraland's models use: triangles with float32 positions in the file's own buffer, nodes with
matrices or translation, rotation and scale. It refuses compressed, quantised or sparse geometry by name.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .reading import BadFileError, parse_json, read_bytes, short

MOST_BYTES = 32 * 2**20
"""Largest model."""
MOST_TRIANGLES = 100_000
"""Most triangles of one model."""
MOST_JSON_BYTES = 4 * 2**20
"""Largest description in a model."""
MOST_WORK = 2_000_000
"""Most corners and indices that are looked at; each primitive counts for 100."""
MOST_NODES = 5000
"""Most nodes of one model."""
FARTHEST = 1e6
"""Largest coordinate, in metres."""

_HEADER, _CHUNK, _JSON, _BINARY = struct.Struct("<4sII"), struct.Struct("<II"), 0x4E4F534A, 0x004E4942
_REMEDY = "export it again as binary glTF (.glb) without compression"
_INDEX_TYPES: dict[Any, str] = {5121: "<u1", 5123: "<u2", 5125: "<u4"}

Triangles = NDArray[np.float64]
"""[T, 3, 3]: triangle, corner, (x, y, z)."""


@dataclass(frozen=True)
class Part:
    """The triangles of one node."""

    name: str
    """names of node and mesh, with a blank between"""
    triangles: Triangles
    """in the coordinates of the file: right-handed, y up, metres"""


def read_glb(path: Path) -> list[Part]:
    """Return every node with triangles; raises BadFileError."""
    document, binary = _split(read_bytes(path, MOST_BYTES))
    try:
        with np.errstate(all="ignore"):  # what becomes infinite is refused below
            return _Model(document, binary).parts()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = short(f"{type(error).__name__}: {error}")  # a reference that leads nowhere, a value of another type
        raise BadFileError(f"its structure is damaged ({reason})", _REMEDY) from error


def _split(content: bytes) -> tuple[Any, bytes]:
    """Return the JSON chunk and the binary chunk."""
    if len(content) < _HEADER.size + _CHUNK.size or content[:4] != b"glTF":
        raise BadFileError("it is no binary glTF (it does not begin with 'glTF')", _REMEDY)
    _, version, length = _HEADER.unpack_from(content)
    if version != 2 or length != len(content):
        raise BadFileError(f"version {version} with {length} of {len(content)} bytes, expected version 2", _REMEDY)
    chunks: list[tuple[int, bytes]] = []
    offset = _HEADER.size
    while offset + _CHUNK.size <= length and len(chunks) < 16:
        size, kind = _CHUNK.unpack_from(content, offset)
        offset += _CHUNK.size + size
        if offset > length:
            raise BadFileError("a chunk is longer than the file", _REMEDY)
        chunks.append((kind, content[offset - size : offset]))
    if not chunks or chunks[0][0] != _JSON:
        raise BadFileError("its first chunk is not JSON", _REMEDY)
    if len(chunks[0][1]) > MOST_JSON_BYTES:
        raise BadFileError(f"its JSON has {len(chunks[0][1])} bytes, at most {MOST_JSON_BYTES} are read", "simplify it")
    try:
        text = chunks[0][1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadFileError("its JSON is not UTF-8", _REMEDY) from error
    document = parse_json(text)
    if not isinstance(document, dict):
        raise BadFileError("its JSON is no object", _REMEDY)
    return document, next((body for kind, body in chunks[1:] if kind == _BINARY), b"")


class _Model:
    """Walks the nodes of one document."""

    def __init__(self, document: dict[str, Any], binary: bytes) -> None:
        self.document, self.binary, self.work = document, binary, 0
        self.nodes = document.get("nodes", [])
        required = document.get("extensionsRequired", [])
        geometry = [e for e in required if any(word in str(e) for word in ("draco", "meshopt", "quantization"))]
        if geometry:
            raise BadFileError(f"its geometry is packed by {short(geometry[0])}", _REMEDY)
        if len(self.nodes) > MOST_NODES:
            raise BadFileError(f"it has {len(self.nodes)} nodes, at most {MOST_NODES} are read", "simplify it")

    def parts(self) -> list[Part]:
        scenes = self.document.get("scenes")
        if scenes:
            roots = scenes[self.document.get("scene", 0)].get("nodes", [])
        else:
            children = {c for node in self.nodes for c in node.get("children", [])}
            roots = [k for k in range(len(self.nodes)) if k not in children]
        found: list[Part] = []
        seen: set[int] = set()
        count = 0
        stack = [(index, np.eye(4)) for index in roots]
        while stack:
            index, above = stack.pop()
            if index in seen:
                raise BadFileError(f"node {short(index)} has two parents, or is its own", _REMEDY)
            seen.add(index)
            node = self._at(self.nodes, index)
            matrix = above @ _matrix(node)
            stack += [(child, matrix) for child in node.get("children", [])]
            if "mesh" in node:
                mesh = self._at(self.document["meshes"], node["mesh"])
                triangles = self._triangles(mesh)
                count += len(triangles)
                if count > MOST_TRIANGLES:
                    raise BadFileError(f"it has more than {MOST_TRIANGLES} triangles", "simplify its colliders")
                placed = triangles @ matrix[:3, :3].T + matrix[:3, 3]
                if not np.isfinite(placed).all() or np.abs(placed).max(initial=0.0) > FARTHEST:
                    raise BadFileError("a corner lies infinitely far away", _REMEDY)
                found.append(Part(f"{node.get('name', '')} {mesh.get('name', '')}", placed))
        return found

    @staticmethod
    def _at(items: Any, index: Any) -> Any:
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise BadFileError(f"a reference is {short(index)}, expected a number", _REMEDY)
        return items[index]

    def _spend(self, amount: int) -> None:
        self.work += amount
        if self.work > MOST_WORK:
            raise BadFileError(f"more than {MOST_WORK} corners and indices are in use", "simplify its colliders")

    def _triangles(self, mesh: dict[str, Any]) -> Triangles:
        """Return all triangles of a mesh; points and lines are left out."""
        found = [np.zeros((0, 3, 3))]
        for primitive in mesh["primitives"]:
            self._spend(100)
            mode = primitive.get("mode", 4)
            if mode not in (4, 5, 6):
                continue
            corners = self._accessor(primitive["attributes"]["POSITION"], "VEC3").astype(np.float64)
            order = np.arange(len(corners))
            if "indices" in primitive:
                order = self._accessor(primitive["indices"], "SCALAR")[:, 0].astype(np.int64)
            if len(order) and order.max() >= len(corners):
                raise BadFileError("a triangle uses a corner that is not there", _REMEDY)
            found.append(corners[_triples(order, mode)])
        return np.concatenate(found)

    def _accessor(self, index: Any, kind: str) -> NDArray[Any]:
        """Return [count, 3] float32 or [count, 1] whole numbers, bounds checked."""
        accessor = self._at(self.document["accessors"], index)
        types = {5126: "<f4"} if kind == "VEC3" else _INDEX_TYPES
        code, width = types.get(accessor["componentType"]), 3 if kind == "VEC3" else 1
        if accessor["type"] != kind or code is None or "sparse" in accessor or "bufferView" not in accessor:
            raise BadFileError("positions or indices are of a kind that is not read (sparse, quantised)", _REMEDY)
        view = self._at(self.document["bufferViews"], accessor["bufferView"])
        buffer = self._at(self.document["buffers"], view["buffer"])
        if view["buffer"] != 0 or "uri" in buffer:
            raise BadFileError("its geometry lies in another file", _REMEDY)
        item = np.dtype(code).itemsize * width
        stride = view.get("byteStride", item)
        count, start = accessor["count"], view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        numbers = (count, start, stride, view["byteLength"])
        if not all(isinstance(n, int) and n >= 0 for n in numbers) or stride < item:
            raise BadFileError(f"an accessor is out of bounds ({short(numbers)})", _REMEDY)
        self._spend(count)
        end = start + max(count - 1, 0) * stride + (item if count else 0)
        if end > min(len(self.binary), view.get("byteOffset", 0) + view["byteLength"]):
            raise BadFileError("an accessor reaches beyond the file's data", _REMEDY)
        shape, strides = (count, width), (stride, np.dtype(code).itemsize)
        return np.ndarray(shape, code, self.binary, start if count else 0, strides).copy()


def _triples(order: NDArray[np.int64], mode: int) -> NDArray[np.int64]:
    """Return [T, 3] corners of a list (4), strip (5) or fan (6) of triangles."""
    if mode == 4:
        return order[: len(order) // 3 * 3].reshape(-1, 3)
    middle = np.arange(max(len(order) - 2, 0))
    if mode == 6:
        return np.stack([order[np.zeros_like(middle)], order[middle + 1], order[middle + 2]], 1)
    turned = middle % 2
    return np.stack([order[middle + turned], order[middle + 1 - turned], order[middle + 2]], 1)


def _matrix(node: dict[str, Any]) -> NDArray[np.float64]:
    """Return the 4 x 4 matrix of a node."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    return transform(
        node.get("translation", [0, 0, 0]), node.get("rotation", [0, 0, 0, 1]), node.get("scale", [1, 1, 1])
    )


def transform(position: Sequence[float], rotation: Sequence[float], scale: Sequence[float]) -> NDArray[np.float64]:
    """Return the 4 x 4 matrix that scales, turns by the quaternion (x, y, z, w), then moves."""
    (x, y, z, w), matrix = (np.array(rotation, np.float64).reshape(4)), np.eye(4)
    length = x * x + y * y + z * z + w * w
    s = 2 / length if length > 1e-12 else 0.0
    turn = [
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ]
    matrix[:3, :3] = np.array(turn) * np.array(scale, np.float64).reshape(3)
    matrix[:3, 3] = np.array(position, np.float64).reshape(3)
    return matrix


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
    body = _CHUNK.pack(len(text), _JSON) + text + _CHUNK.pack(len(binary), _BINARY) + binary
    path.write_bytes(_HEADER.pack(b"glTF", 2, _HEADER.size + len(body)) + body)
