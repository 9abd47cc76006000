"""What is checked in a Tiled file before pytiled-parser reads it, so that no file can crash it, hang it or fill memory.

pytiled-parser trusts its input: it opens whatever a tileset or template names, inflates without bound, and raises
KeyError or ZeroDivisionError for what is missing. So sizes, encodings, references and the tile data are checked here
first, on the raw tree.
"""

from __future__ import annotations

import base64
import binascii
import xml.etree.ElementTree as ElementTree
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .faults import Faults
from .layout import SIZES
from .reading import BadFileError, inside, is_xml, note, parse_json, parse_xml, read_text, short

MOST_CHUNK = 256
"""Longest side of a chunk of an infinite map, in tiles."""
MOST_CHUNKS = 4096
"""Most chunks in all layers of a map together."""
MOST_CELLS = 2**18
"""Most tiles in all layers of a map together."""
MOST_LAYERS, MOST_OBJECTS, MOST_TILESETS = 64, 5000, 64
"""Most of each in one map."""
FARTHEST = 10**6
"""Farthest tile coordinate from the origin of an infinite map."""
FLIPS = 0xF0000000
"""Bits of a gid that say how its tile is flipped or rotated."""

_TMX_ATTRIBUTES = (
    "version", "tiledversion", "orientation", "renderorder", "width", "height", "tilewidth", "tileheight", "infinite",
    "nextlayerid", "nextobjectid",
)  # fmt: skip
_TMJ_KEYS = (
    "version", "orientation", "renderorder", "width", "height", "tilewidth", "tileheight", "nextobjectid", "layers",
    "tilesets",
)  # fmt: skip
_SAVE_AGAIN = "open it in Tiled and save it again"


@dataclass(frozen=True)
class RawGrid:
    """Tile data of a layer, or of one chunk of it, as the file has it."""

    layer: str
    x: Any
    y: Any
    width: Any
    height: Any
    encoding: Any
    compression: Any
    payload: Any


@dataclass(frozen=True)
class RawMap:
    """The parts of a map that the guard looks at, from either format."""

    header: dict[str, Any]
    infinite: bool
    grids: list[RawGrid]
    n_layers: int
    n_objects: int
    tilesets: list[tuple[Any, Any]]
    """(firstgid, source or None)"""
    templates: bool
    """whether any object is drawn by a template file"""


def check_file(path: Path, faults: Faults) -> RawMap | None:
    """Return the raw map if pytiled-parser may read the file; else None, with the reasons among the faults."""
    before = len(faults.found)
    try:
        raw = read_raw(path)
        check_header(raw)
    except BadFileError as bad:
        note(faults, bad)
        return None
    for grid in raw.grids:
        _noting(faults, check_grid, raw, grid)
    for firstgid, source in raw.tilesets:
        _noting(faults, _check_tileset, path.parent, firstgid, source)
    return raw if len(faults.found) == before else None


def _noting(faults: Faults, check: Any, *arguments: Any) -> None:
    try:
        check(*arguments)
    except BadFileError as bad:
        note(faults, bad)


def read_raw(path: Path) -> RawMap:
    """Return the raw map in a .tmx or .tmj file; raises BadFileError."""
    text = read_text(path)
    return raw_tmx(parse_xml(text)) if is_xml(text) else raw_tmj(parse_json(text))


def raw_tmx(root: ElementTree.Element) -> RawMap:
    """Return the raw map of a <map> element."""
    if root.tag != "map":
        raise BadFileError(f"the root element is <{short(root.tag)}>, expected <map>", "name a map, not a tileset")
    missing = [a for a in _TMX_ATTRIBUTES if a not in root.attrib]
    if missing:
        raise BadFileError(f"<map> lacks {', '.join(missing)}", _SAVE_AGAIN)
    grids = []
    for layer in root.iter("layer"):
        name, data = layer.get("name", ""), layer.find("data")
        if data is None:
            continue
        if data.find("tile") is not None or data.find("chunk/tile") is not None:
            what = "its tiles are written as XML elements, which is not read"
            raise BadFileError(what, "choose CSV in Map > Map Properties > Tile Layer Format", name)
        chunks = data.findall("chunk") or [layer]
        for part in chunks:
            payload = data.text if part is layer else part.text
            size = (part.get("x", 0), part.get("y", 0), part.get("width"), part.get("height"))
            encoding, compression = data.get("encoding", "csv"), data.get("compression", "")
            grids.append(RawGrid(name, *size, encoding, compression, payload or ""))
    layers = [e for e in root.iter() if e.tag in ("layer", "objectgroup", "imagelayer", "group")]
    tilesets = [(e.get("firstgid"), e.get("source")) for e in root.findall("tileset")]
    objects = list(root.iter("object"))
    templates = any("template" in e.attrib for e in objects)
    infinite = bool(whole(root.get("infinite"), 0, 1, "'infinite'"))
    return RawMap(dict(root.attrib), infinite, grids, len(layers), len(objects), tilesets, templates)


def raw_tmj(root: Any) -> RawMap:
    """Return the raw map of a JSON object."""
    if not isinstance(root, dict):
        raise BadFileError("it holds no JSON object, expected a map", "name a map that Tiled saved as .tmj")
    missing = [k for k in _TMJ_KEYS if k not in root]
    if missing:
        raise BadFileError(f"the map lacks {', '.join(missing)}", _SAVE_AGAIN)
    grids: list[RawGrid] = []
    counts = {"layers": 0, "objects": 0}
    _walk_layers(root["layers"], grids, counts)
    tilesets = []
    for tileset in _dicts(root["tilesets"], "tilesets"):
        tilesets.append((tileset.get("firstgid"), tileset.get("source")))
    infinite = root.get("infinite", False) is True
    return RawMap(root, infinite, grids, counts["layers"], counts["objects"], tilesets, _has_template(root))


def _walk_layers(layers: Any, grids: list[RawGrid], counts: dict[str, int]) -> None:
    for layer in _dicts(layers, "layers"):
        counts["layers"] += 1
        name = layer.get("name", "")
        name = name if isinstance(name, str) else short(name)
        encoding, compression = layer.get("encoding", "csv"), layer.get("compression", "")
        if layer.get("chunks") is not None:
            for chunk in _dicts(layer["chunks"], "chunks"):
                x, y, width, height = (chunk.get(k) for k in ("x", "y", "width", "height"))
                grids.append(RawGrid(name, x, y, width, height, encoding, compression, chunk.get("data")))
        if layer.get("data") is not None:
            width, height = layer.get("width"), layer.get("height")
            grids.append(RawGrid(name, 0, 0, width, height, encoding, compression, layer["data"]))
        counts["objects"] += len(_dicts(layer.get("objects", []), "objects"))
        _walk_layers(layer.get("layers", []), grids, counts)


def _dicts(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise BadFileError(f"'{what}' is no list of objects", _SAVE_AGAIN)
    return value


def _has_template(value: Any) -> bool:
    """Return whether any object at any depth names a template (tiles have objects, too)."""
    if isinstance(value, dict):
        return bool(value.get("template")) or any(_has_template(v) for v in value.values())
    return isinstance(value, list) and any(_has_template(v) for v in value)


def whole(value: Any, low: int, high: int, what: str) -> int:
    """Return an int in [low, high] from a JSON int or its XML text; raises BadFileError."""
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise BadFileError(f"{what} is {short(value)}, expected a whole number from {low} to {high}", _SAVE_AGAIN)
    return number


def check_header(raw: RawMap) -> None:
    """Raise BadFileError for a map that is not orthogonal, too large, or made of too many parts."""
    header, (low, high) = raw.header, SIZES
    if header["orientation"] != "orthogonal":
        what = f"its orientation is {short(header['orientation'])}, expected 'orthogonal'"
        raise BadFileError(what, "choose it in Map > Map Properties")
    for side in ("width", "height"):
        size = whole(header[side], 0, FARTHEST, f"the {side} of the map")
        if not raw.infinite and not low <= size <= high:
            raise BadFileError(f"its {side} is {size} tiles, expected {low} to {high}", "use Map > Resize Map")
    for side in ("tilewidth", "tileheight"):
        whole(header[side], 1, 4096, f"the {side} of the map")
    if raw.templates:
        raise BadFileError("an object is an instance of a template", "choose Detach in the object's menu")
    limits = {"layers": MOST_LAYERS, "objects": MOST_OBJECTS, "tilesets": MOST_TILESETS}
    counts = {"layers": raw.n_layers, "objects": raw.n_objects, "tilesets": len(raw.tilesets)}
    for what, most in limits.items():
        if counts[what] > most:
            raise BadFileError(f"it has {counts[what]} {what}, at most {most} are read", "remove some")
    if len(raw.grids) > MOST_CHUNKS or sum(_area(grid) for grid in raw.grids) > MOST_CELLS:
        raise BadFileError(f"its layers have more than {MOST_CELLS} tiles together", "make the map smaller")


def _area(grid: RawGrid) -> int:
    """Return the number of tiles that a grid says it has; sizes that are none are found by `check_grid`."""
    try:
        return max(int(grid.width), 0) * max(int(grid.height), 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def check_grid(raw: RawMap, grid: RawGrid) -> None:
    """Raise BadFileError unless the tile data decode to exactly width x height gids."""
    try:
        if raw.infinite:
            whole(grid.x, -FARTHEST, FARTHEST, "x of a chunk")
            whole(grid.y, -FARTHEST, FARTHEST, "y of a chunk")
            width = whole(grid.width, 1, MOST_CHUNK, "the width of a chunk")
            height = whole(grid.height, 1, MOST_CHUNK, "the height of a chunk")
        else:
            expected = int(raw.header["width"]), int(raw.header["height"])
            width = whole(grid.width, 1, SIZES[1], "the width of the layer")
            height = whole(grid.height, 1, SIZES[1], "the height of the layer")
            if (width, height) != expected:
                what = f"the layer has {width} x {height} tiles, the map {expected[0]} x {expected[1]}"
                raise BadFileError(what, _SAVE_AGAIN)
        found = _count_tiles(grid, width * height)
        if found != width * height:
            what = f"there are {found} tiles, expected {width} x {height} = {width * height}"
            raise BadFileError(what, _SAVE_AGAIN)
    except BadFileError as bad:
        bad.layer = grid.layer
        raise


def _count_tiles(grid: RawGrid, n_cells: int) -> int:
    payload = grid.payload
    if grid.encoding == "base64" and isinstance(payload, str):
        return _inflated_size(payload, grid.compression, 4 * n_cells) // 4
    if grid.encoding != "csv":
        raise BadFileError(f"its encoding is {short(grid.encoding)}, expected 'csv' or 'base64'", _SAVE_AGAIN)
    if isinstance(payload, str):
        if len(payload) > 16 * n_cells + 1024:
            raise BadFileError(f"its tile data have {len(payload)} characters", _SAVE_AGAIN)
        payload = payload.split(",")
    if not isinstance(payload, list) or len(payload) > n_cells:
        raise BadFileError(f"its tile data are no list of {n_cells} numbers", _SAVE_AGAIN)
    for gid in payload:
        whole(gid.strip() if isinstance(gid, str) else gid, 0, 2**32 - 1, "a gid")
    return len(payload)


def _inflated_size(payload: str, compression: Any, n_bytes: int) -> int:
    """Return the size of base64 data after inflating, bounded; -4 means other than expected."""
    if len(payload) > 2 * n_bytes + 4096:
        raise BadFileError(f"its base64 data have {len(payload)} characters", _SAVE_AGAIN)
    try:
        packed = base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadFileError(f"its base64 data are damaged ({error})", _SAVE_AGAIN) from error
    if not compression:
        plain = packed
    elif compression in ("zlib", "gzip"):
        inflate = zlib.decompressobj(zlib.MAX_WBITS | (16 if compression == "gzip" else 0))
        try:
            plain = inflate.decompress(packed, n_bytes + 1)
        except zlib.error as error:
            raise BadFileError(f"its {compression} data are damaged ({error})", _SAVE_AGAIN) from error
        if inflate.unused_data or (len(plain) <= n_bytes and not inflate.eof):
            raise BadFileError(f"its {compression} data are cut off or followed by others", _SAVE_AGAIN)
    else:
        what = f"its compression is {short(compression)}, expected none, 'zlib' or 'gzip'"
        raise BadFileError(what, "choose CSV in Map > Map Properties > Tile Layer Format")
    if len(plain) > n_bytes:
        raise BadFileError(f"its data hold more than the expected {n_bytes // 4} tiles", _SAVE_AGAIN)
    if len(plain) % 4:
        raise BadFileError(f"its data end in the middle of a tile (after {len(plain)} bytes)", _SAVE_AGAIN)
    return len(plain)


def _check_tileset(folder: Path, firstgid: Any, source: Any) -> None:
    whole(firstgid, 1, 0x0FFFFFFF, "firstgid of a tileset")
    if source is None:
        return
    if not isinstance(source, str):
        raise BadFileError(f"the source of a tileset is {short(source)}, expected a path", _SAVE_AGAIN)
    path = inside(folder, source, "the tileset")
    try:
        text = read_text(path)
        root: Any = parse_xml(text) if is_xml(text) else parse_json(text)
    except BadFileError as bad:
        raise BadFileError(f"in tileset {short(source)}: {bad.what}", bad.remedy) from bad
    if isinstance(root, ElementTree.Element):
        good = root.tag == "tileset"
        templates = any("template" in e.attrib for e in root.iter("object"))
    else:
        good, templates = isinstance(root, dict), _has_template(root)
    if not good:
        raise BadFileError(f"{short(source)} is no tileset", "refer to a .tsx or .tsj file")
    if templates:
        raise BadFileError(f"tileset {short(source)} uses object templates", "choose Detach in the object's menu")
