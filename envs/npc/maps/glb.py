"""3-D models in binary glTF 2.0: triangles out of the ones that scenes are made of.

The reader knows what Decentraland's models use: triangles with float32 positions in the file's own buffer, nodes with
matrices or translation, rotation and scale. It refuses compressed or sparse geometry by name, where it is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
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
MOST_NODES = 20_000
"""Most nodes of one model."""
FARTHEST = 1e6
"""Largest coordinate, in metres."""

HEADER, CHUNK, JSON, BINARY = struct.Struct("<4sII"), struct.Struct("<II"), 0x4E4F534A, 0x004E4942
"""Packing of the file's head and of a chunk's, and the two kinds of chunk."""
_REMEDY = "export it again as binary glTF (.glb) without compression"
_HARMLESS = ("KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_", "KHR_xmp", "KHR_animation_pointer")
"""Extensions about surfaces and light begin so."""
_QUANTISED = "KHR_mesh_quantization"
_PACKING = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression", _QUANTISED)
_PLACING = ("EXT_mesh_gpu_instancing",)
_SHORT_TYPES: dict[Any, str] = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2"}
_INDEX_TYPES: dict[Any, str] = {5121: "<u1", 5123: "<u2", 5125: "<u4"}

Triangles = NDArray[np.float64]
"""[T, 3, 3]: triangle, corner, (x, y, z)."""


class Part:
    """One mesh where a node puts it; its triangles are worked out when they are asked for."""

    def __init__(self, model: _Model, spot: _Spot, mesh: dict[str, Any]) -> None:
        self._model, self._spot, self._mesh = model, spot, mesh
        names = [str(spot.node.get("name", "")), str(mesh.get("name", ""))]
        self.name = " ".join(names)
        """names of node and mesh, with a blank between"""
        # A node without a mesh hands its name down to its children: that is how editors export groups.
        group = [str(spot.parent.get("name", ""))] if spot.parent is not None and "mesh" not in spot.parent else []
        self.is_collider = any("_collider" in name.casefold() for name in (*names, *group))
        self.mask = next((m for node in (spot.node, spot.parent) if (m := _own_mask(node)) is not None), None)
        """which collisions it takes part in, if the model says so itself"""
        self.is_skinned = "skin" in spot.node
        self.shown = not self.is_collider and bool(mesh["primitives"]) and not spot.hidden
        self.clips = spot.clips
        """names of the animations that move it; the one that plays by itself has "" beside its name"""

    @cached_property
    def triangles(self) -> Triangles:
        """The triangles [T, 3, 3] in the coordinates of the file, right-handed, y up, metres; raises BadFileError."""
        with _damage_named():
            return self._model.triangles(self._spot, self._mesh)


@dataclass(frozen=True)
class _Spot:
    """A node, and what it inherits."""

    node: dict[str, Any]
    parent: dict[str, Any] | None
    matrix: NDArray[np.float64]
    clips: frozenset[str]
    hidden: bool


def _own_mask(node: dict[str, Any] | None) -> int | None:
    extras = (node or {}).get("extras")
    for key in ("dcl_collision_mask", "dcl_collider_mask"):
        value = extras.get(key) if isinstance(extras, dict) else None
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32:
            return value
    return None


def read_glb(path: Path) -> list[Part]:
    """Return every mesh of the scene in a file; raises BadFileError."""
    document, binary = _split(read_bytes(path, MOST_BYTES))
    with _damage_named():
        return _Model(document, binary).parts()


@contextmanager
def _damage_named() -> Iterator[None]:
    """Say as BadFileError what goes wrong in a structure that is not what it should be."""
    try:
        with np.errstate(all="ignore"):  # what becomes infinite is refused
            yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = short(f"{type(error).__name__}: {error}")  # a reference that leads nowhere, a value of another type
        raise BadFileError(f"its structure is damaged ({reason})", _REMEDY) from error


def _split(content: bytes) -> tuple[Any, bytes]:
    """Return the JSON chunk and the binary chunk."""
    if len(content) < HEADER.size + CHUNK.size or content[:4] != b"glTF":
        raise BadFileError("it is no binary glTF (it does not begin with 'glTF')", _REMEDY)
    _, version, length = HEADER.unpack_from(content)
    if version != 2 or length != len(content):
        raise BadFileError(f"version {version} with {length} of {len(content)} bytes, expected version 2", _REMEDY)
    chunks: list[tuple[int, bytes]] = []
    offset = HEADER.size
    while offset + CHUNK.size <= length and len(chunks) < 16:
        size, kind = CHUNK.unpack_from(content, offset)
        offset += CHUNK.size + size
        if offset > length:
            raise BadFileError("a chunk is longer than the file", _REMEDY)
        chunks.append((kind, content[offset - size : offset]))
    if not chunks or chunks[0][0] != JSON:
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
    return document, next((body for kind, body in chunks[1:] if kind == BINARY), b"")


class _Model:
    """Walks the nodes of one document."""

    def __init__(self, document: dict[str, Any], binary: bytes) -> None:
        self.document, self.binary, self.work, self.count = document, binary, 0, 0
        self.nodes = document.get("nodes", [])
        asset = document["asset"]
        if asset["version"] != "2.0" or asset.get("minVersion", "2.0") != "2.0":
            raise BadFileError(f"its glTF version is {short(asset)}, expected 2.0", _REMEDY)
        self.required = document.get("extensionsRequired", [])
        for name in self.required:
            if not name.startswith(_HARMLESS) and name not in (*_PACKING, *_PLACING):
                raise BadFileError(f"it needs the extension {short(name)}, which is not read", _REMEDY)
        if len(self.nodes) > MOST_NODES:
            raise BadFileError(f"it has {len(self.nodes)} nodes, at most {MOST_NODES} are read", "simplify it")

    def parts(self) -> list[Part]:
        scenes = self.document.get("scenes")
        if scenes:
            roots = self._at(scenes, self.document.get("scene", 0)).get("nodes", [])
        else:
            children = {c for node in self.nodes for c in node.get("children", [])}
            roots = [k for k in range(len(self.nodes)) if k not in children]
        found: list[Part] = []
        seen: set[int] = set()
        clips = self._clips()
        top = _Spot({}, None, np.eye(4), frozenset(), hidden=False)
        stack = [(index, top) for index in roots]
        while stack:
            index, above = stack.pop()
            if index in seen:
                raise BadFileError(f"node {short(index)} has two parents, or is its own", _REMEDY)
            seen.add(index)
            node = self._at(self.nodes, index)
            visible = node.get("extensions", {}).get("KHR_node_visibility", {}).get("visible", True)
            moved = above.clips | clips.get(index, frozenset())
            parent = None if above is top else above.node
            spot = _Spot(node, parent, above.matrix @ _matrix(node), moved, above.hidden or visible is False)
            stack += [(child, spot) for child in node.get("children", [])]
            if "mesh" in node:
                found.append(Part(self, spot, self._at(self.document["meshes"], node["mesh"])))
        return found

    def _clips(self) -> dict[int, frozenset[str]]:
        """Return {node: names of the animations that move it}; the first one, which plays by itself, adds ""."""
        found: dict[int, frozenset[str]] = {}
        for number, clip in enumerate(self.document.get("animations", [])):
            names = frozenset([str(clip.get("name", number)), *([""] if number == 0 else [])])
            for channel in clip["channels"]:
                target = channel["target"]
                if target["path"] != "weights" and "node" in target:
                    found[target["node"]] = found.get(target["node"], frozenset()) | names
        return found

    def triangles(self, spot: _Spot, mesh: dict[str, Any]) -> Triangles:
        """Return the triangles of a mesh where a node puts it, as they lie before any animation."""
        placing = [name for name in _PLACING if name in spot.node.get("extensions", {})]
        if placing:
            raise BadFileError(f"its meshes are placed by {placing[0]}", _REMEDY)
        weights = spot.node.get("weights", mesh.get("weights", []))
        if any(weights):
            raise BadFileError("its meshes are blended from several shapes (morph weights)", _REMEDY)
        found = self._triangles(mesh)
        self.count += len(found)
        if self.count > MOST_TRIANGLES:
            raise BadFileError(f"it has more than {MOST_TRIANGLES} triangles", "simplify its colliders")
        turned = -1 if np.linalg.det(spot.matrix[:3, :3]) < 0 else 1  # a mirror image runs the other way round
        placed = found[:, ::turned] @ spot.matrix[:3, :3].T + spot.matrix[:3, 3]
        if not np.isfinite(placed).all() or np.abs(placed).max(initial=0.0) > FARTHEST:
            raise BadFileError("a corner lies infinitely far away", _REMEDY)
        return placed

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
            if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 6:
                raise BadFileError(f"a primitive has mode {short(mode)}, expected 0 to 6", _REMEDY)
            if mode < 4:
                continue
            packed = [n for n in _PACKING if n in self.required or n in primitive.get("extensions", {})]
            if packed and packed != [_QUANTISED]:
                raise BadFileError(f"its geometry is packed by {short(packed[0])}", _REMEDY)
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
        quantised = kind == "VEC3" and _QUANTISED in self.required
        types = {**({5126: "<f4"} if kind == "VEC3" else _INDEX_TYPES), **(_SHORT_TYPES if quantised else {})}
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
        numbers_read = np.ndarray(shape, code, self.binary, start if count else 0, strides).copy()
        if quantised and accessor.get("normalized", False) and code != "<f4":
            numbers_read = np.maximum(numbers_read / np.iinfo(code).max, -1.0)
        return numbers_read


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
    """Return the 4 x 4 matrix of a node; raises BadFileError for one that is no place."""
    if "matrix" in node:
        matrix = np.array(node["matrix"], np.float64).reshape(4, 4).T
        if matrix[3].tolist() != [0, 0, 0, 1] or any(key in node for key in ("translation", "rotation", "scale")):
            raise BadFileError("a node has a matrix that is no place, or a place beside it", _REMEDY)
        return matrix
    turn = np.array(node.get("rotation", [0, 0, 0, 1]), np.float64).reshape(4)
    if turn @ turn < 1e-6:
        raise BadFileError("a node is turned by a quaternion of length 0", _REMEDY)
    return transform(node.get("translation", [0, 0, 0]), turn, node.get("scale", [1, 1, 1]))


def transform(
    position: Sequence[float], rotation: Sequence[float] | NDArray[np.float64], scale: Sequence[float]
) -> NDArray[np.float64]:
    """Return the 4 x 4 matrix that scales, turns by the quaternion (x, y, z, w) of any length but 0, then moves."""
    (x, y, z, w), matrix = (np.array(rotation, np.float64).reshape(4)), np.eye(4)
    s = 2 / (x * x + y * y + z * z + w * w)
    turn = [
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ]
    matrix[:3, :3] = np.array(turn) * np.array(scale, np.float64).reshape(3)
    matrix[:3, 3] = np.array(position, np.float64).reshape(3)
    return matrix
