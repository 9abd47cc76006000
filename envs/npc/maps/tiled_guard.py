"""What is in a Tiled file, checked so that no file can crash the reader, hang it or fill memory.

Sizes, counts, encodings, references and tile data are checked on the raw tree, before any of it is used.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .faults import Faults
from .layout import SIZES
from .reading import BadFileError, inside, note, short
from .tiled_tree import LAYERS, SAVE_AGAIN, Tree, flag, objects, read_tree, real, settle, strangers, whole

MOST_CHUNK = 256
"""Longest side of a chunk of an infinite map, in tiles."""
MOST_CHUNKS = 4096
"""Most chunks in all layers of a map together."""
MOST_CELLS = 2**19
"""Most tiles in all layers of a map together."""
MOST_LAYERS, MOST_OBJECTS, MOST_TILESETS = 256, 5000, 256
"""Most of each in one map."""
FARTHEST = 10**6
"""Farthest tile coordinate from the origin of an infinite map."""
FLIPS = 0xF0000000
"""Bits of a gid that say how its tile is flipped or rotated."""
_CHOOSE_CSV = "choose CSV in Map > Map Properties > Tile Layer Format"


class Block(NamedTuple):
    """The tiles of a layer, or of one chunk of it."""

    x: int
    y: int
    width: int
    gids: list[int]


@dataclass
class RawLayer:
    """A layer, groups resolved."""

    kind: str
    """a value of `tiled_tree.LAYERS`, never a group"""
    name: str
    tree: Tree
    shift: tuple[float | None, float | None]
    """pixels, of its groups and its own; None for what is no number"""
    parallax: tuple[float | None, float | None]
    visible: bool
    blocks: list[Block] = field(default_factory=list)
    """tiles of a tile layer"""

    @property
    def astray(self) -> str:
        """What keeps it from lying on the grid of the map; "" if nothing does."""
        if self.shift != (0, 0):
            return f"the layer is shifted by {short(self.shift)} pixels"
        return f"the layer scrolls at {short(self.parallax)} times the map's speed" if self.parallax != (1, 1) else ""


@dataclass
class RawTileset:
    """A tileset, with the tiles that say anything."""

    tree: Tree
    firstgid: int
    count: int | None
    """tiles of its image; None if it does not say"""
    tiles: dict[int, Tree]
    """{number in the tileset: tile}"""


@dataclass
class RawMap:
    """A map that may be used."""

    tree: Tree
    infinite: bool
    layers: list[RawLayer]
    tilesets: list[RawTileset] = field(default_factory=list)
    """in the order of their first gids"""
    strangers: set[str] = field(default_factory=set)
    """what Tiled's format does not know"""

    def tile(self, gid: int) -> tuple[RawTileset, Tree] | None:
        """Return tileset and tile of a gid without its flip bits; None if it is in no tileset."""
        at = bisect_right(self.tilesets, gid, key=lambda tileset: tileset.firstgid)
        if not at:
            return None
        tileset = self.tilesets[at - 1]
        number = gid - tileset.firstgid
        known = number in tileset.tiles or tileset.count is None or number < tileset.count
        return (tileset, tileset.tiles.get(number, {})) if known else None


def read_raw(path: Path, faults: Faults) -> RawMap | None:
    """Return the map in a file if it may be used; else None, with the reasons among the faults."""
    before = len(faults.found)
    try:
        raw = _open(path)
    except BadFileError as bad:
        note(faults, bad)
        return None
    for layer in raw.layers:
        _noting(faults, _read_layer, raw, layer)
    for tree in raw.tree["tilesets"]:
        _noting(faults, _read_tileset, raw, path.parent, tree)
    raw.tilesets.sort(key=lambda tileset: tileset.firstgid)
    for one, other in zip(raw.tilesets, raw.tilesets[1:], strict=False):
        if one.firstgid == other.firstgid:
            faults.add(f"two tilesets begin at gid {one.firstgid}", SAVE_AGAIN)
    return raw if len(faults.found) == before else None


def _noting(faults: Faults, check: Callable[..., None], raw: RawMap, *arguments: Any) -> None:
    try:
        check(raw, *arguments)
    except BadFileError as bad:
        note(faults, bad)


def _open(path: Path) -> RawMap:
    """Return a map whose header and counts are fine, without tiles and tilesets; raises BadFileError."""
    tree = read_tree(path, "map")
    missing = [k for k in ("orientation", "width", "height", "tilewidth", "tileheight") if k not in tree]
    if missing:
        raise BadFileError(f"the map lacks {', '.join(missing)}", SAVE_AGAIN)
    for part in ("layers", "tilesets"):
        tree[part] = objects(tree.get(part, []), part)
    infinite = flag(tree.get("infinite", False), "'infinite'")
    _check_header(tree, infinite)
    settle(tree)
    raw = RawMap(tree, infinite, [], strangers=strangers("map", tree))
    n_objects = _flatten(raw, tree["layers"], None)
    limits = {"layers": MOST_LAYERS, "objects": MOST_OBJECTS, "tilesets": MOST_TILESETS}
    counts = {"layers": len(raw.layers), "objects": n_objects, "tilesets": len(tree["tilesets"])}
    for what, most in limits.items():
        if counts[what] > most:
            raise BadFileError(f"it has {counts[what]} {what}, at most {most} are read", "remove some")
    grids = [grid for layer in raw.layers if layer.kind == "tilelayer" for grid in _grids(layer.tree, infinite)]
    if len(grids) > MOST_CHUNKS or sum(_area(grid) for grid in grids) > MOST_CELLS:
        raise BadFileError(f"its layers have more than {MOST_CELLS} tiles together", "make the map smaller")
    return raw


def _check_header(tree: Tree, infinite: bool) -> None:
    """Raise BadFileError for a map that is not orthogonal or too large."""
    low, high = SIZES
    if tree["orientation"] != "orthogonal":
        what = f"its orientation is {short(tree['orientation'])}, expected 'orthogonal'"
        raise BadFileError(what, "choose it in Map > Map Properties")
    for side in ("width", "height"):
        size = tree[side] = whole(tree[side], 0, FARTHEST, f"the {side} of the map")
        if not infinite and not low <= size <= high:
            raise BadFileError(f"its {side} is {size} tiles, expected {low} to {high}", "use Map > Resize Map")
    for side in ("tilewidth", "tileheight"):
        tree[side] = whole(tree[side], 1, 4096, f"the {side} of the map")


def _flatten(raw: RawMap, trees: list[Tree], group: RawLayer | None) -> int:
    """Put the layers into the map, those of groups in place of the group; return the number of objects in them."""
    n_objects = 0
    for tree in trees:
        kind, name = tree.get("type"), tree.get("name", "")
        name = name if isinstance(name, str) else short(name)
        if not isinstance(kind, str) or kind not in LAYERS.values():
            raise BadFileError(
                f"a layer is of type {short(kind)}, expected {', '.join(LAYERS.values())}", SAVE_AGAIN, name
            )
        raw.strangers |= strangers("layer" if kind == "tilelayer" else kind, tree)
        settle(tree)
        layer = _placed(raw.tree, tree, kind, name, group)
        if kind == "group":
            n_objects += _flatten(raw, objects(tree.get("layers", []), "layers"), layer)
        else:
            raw.layers.append(layer)
        for thing in objects(tree.get("objects", []), "objects") if kind == "objectgroup" else []:
            raw.strangers |= strangers("object", thing)
            settle(thing)
            n_objects += 1
    return n_objects


def _placed(tree: Tree, own: Tree, kind: str, name: str, group: RawLayer | None) -> RawLayer:
    """Return a layer with what its group adds to its place."""
    shifts, factors = [], []
    for axis, side in enumerate(("tilewidth", "tileheight")):
        letter = "xy"[axis]
        tiles, pixels = real(own.get(letter, 0)), real(own.get(f"offset{letter}", 0))
        outer = group.shift[axis] if group else 0.0
        broken = tiles is None or pixels is None or outer is None
        shifts.append(None if broken else tiles * tree[side] + pixels + outer)
        factor, outer = real(own.get(f"parallax{letter}", 1)), group.parallax[axis] if group else 1.0
        factors.append(None if factor is None or outer is None else factor * outer)
    visible = flag(own.get("visible", True), "'visible' of a layer") and (group is None or group.visible)
    return RawLayer(kind, name, own, (shifts[0], shifts[1]), (factors[0], factors[1]), visible)


def _grids(layer: Tree, infinite: bool) -> list[Tree]:
    """Return the chunks of a tile layer or, where it has none, itself."""
    if layer.get("chunks") is not None:
        return objects(layer["chunks"], "chunks")
    data = layer.get("data")
    blank = isinstance(data, str) and not data.strip()  # an empty layer of an infinite map
    return [] if data is None or (infinite and blank) else [layer | {"x": 0, "y": 0}]


def _area(grid: Tree) -> int:
    """Return the number of tiles that a grid says it has; sizes that are none are found by `_read_layer`."""
    width, height = real(grid.get("width")), real(grid.get("height"))
    return int(max(width or 0, 0) * max(height or 0, 0))


def _read_layer(raw: RawMap, layer: RawLayer) -> None:
    """Decode the tiles of a tile layer; raises BadFileError unless there are exactly width x height in each part."""
    if layer.kind != "tilelayer":
        return
    try:
        if layer.tree.get("chunks") is not None and not raw.infinite:
            raise BadFileError("it has chunks, but the map is not infinite", SAVE_AGAIN)
        for grid in _grids(layer.tree, raw.infinite):
            layer.blocks.append(_read_block(raw, layer.tree, grid))
    except BadFileError as bad:
        bad.layer = layer.name
        raise


def _read_block(raw: RawMap, layer: Tree, grid: Tree) -> Block:
    if raw.infinite:
        x = whole(grid.get("x"), -FARTHEST, FARTHEST, "x of a chunk")
        y = whole(grid.get("y"), -FARTHEST, FARTHEST, "y of a chunk")
        width = whole(grid.get("width"), 1, MOST_CHUNK, "the width of a chunk")
        height = whole(grid.get("height"), 1, MOST_CHUNK, "the height of a chunk")
    else:
        x, y, expected = 0, 0, (raw.tree["width"], raw.tree["height"])
        width = whole(grid.get("width"), 1, SIZES[1], "the width of the layer")
        height = whole(grid.get("height"), 1, SIZES[1], "the height of the layer")
        if (width, height) != expected:
            what = f"the layer has {width} x {height} tiles, the map {expected[0]} x {expected[1]}"
            raise BadFileError(what, SAVE_AGAIN)
    gids = _gids(layer, grid.get("data"), width * height)
    if len(gids) != width * height:
        what = f"there are {len(gids)} tiles, expected {width} x {height} = {width * height}"
        raise BadFileError(what, SAVE_AGAIN)
    return Block(x, y, width, gids)


def _gids(layer: Tree, payload: Any, n_cells: int) -> list[int]:
    encoding = layer.get("encoding", "csv")
    if encoding == "base64" and isinstance(payload, str):
        plain = _inflated(payload, layer.get("compression", ""), 4 * n_cells)
        return [int.from_bytes(plain[k : k + 4], "little") for k in range(0, len(plain), 4)]
    if encoding != "csv":
        raise BadFileError(f"its encoding is {short(encoding)}, expected 'csv' or 'base64'", SAVE_AGAIN)
    if isinstance(payload, str):
        if len(payload) > 16 * n_cells + 1024:
            raise BadFileError(f"its tile data have {len(payload)} characters", SAVE_AGAIN)
        payload = payload.split(",")
    if not isinstance(payload, list) or len(payload) > n_cells:
        raise BadFileError(f"its tile data are no list of {n_cells} numbers", SAVE_AGAIN)
    return [whole(gid, 0, 2**32 - 1, "a gid") for gid in payload]


def _inflated(payload: str, compression: Any, n_bytes: int) -> bytes:
    """Return base64 data inflated, at most `n_bytes` of them."""
    if len(payload) > 2 * n_bytes + 4096:
        raise BadFileError(f"its base64 data have {len(payload)} characters", SAVE_AGAIN)
    try:
        packed = base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadFileError(f"its base64 data are damaged ({error})", SAVE_AGAIN) from error
    if not compression:
        plain = packed
    elif compression in ("zlib", "gzip"):
        inflate = zlib.decompressobj(zlib.MAX_WBITS | (16 if compression == "gzip" else 0))
        try:
            plain = inflate.decompress(packed, n_bytes + 1)
        except zlib.error as error:
            raise BadFileError(f"its {compression} data are damaged ({error})", SAVE_AGAIN) from error
        if inflate.unused_data or (len(plain) <= n_bytes and not inflate.eof):
            raise BadFileError(f"its {compression} data are cut off or followed by others", SAVE_AGAIN)
    else:
        raise BadFileError(f"its compression is {short(compression)}, expected none, 'zlib' or 'gzip'", _CHOOSE_CSV)
    if len(plain) > n_bytes:
        raise BadFileError(f"its data hold more than the expected {n_bytes // 4} tiles", SAVE_AGAIN)
    if len(plain) % 4:
        raise BadFileError(f"its data end in the middle of a tile (after {len(plain)} bytes)", SAVE_AGAIN)
    return plain


def _read_tileset(raw: RawMap, folder: Path, tree: Tree) -> None:
    """Put a tileset into the map, from the file that it names or as it is; raises BadFileError."""
    firstgid = whole(tree.get("firstgid"), 1, 0x0FFFFFFF, "firstgid of a tileset")
    source = tree.get("source")
    if source is not None and not isinstance(source, str):
        raise BadFileError(f"the source of a tileset is {short(source)}, expected a path", SAVE_AGAIN)
    shown = short(tree.get("name", "") if source is None else source)
    try:
        if source is not None:
            tree = read_tree(_inside(folder, source), "tileset")
        raw.tilesets.append(_tileset(tree, firstgid))
    except BadFileError as bad:
        if shown in bad.what:
            raise
        raise BadFileError(f"in tileset {shown}: {bad.what}", bad.remedy) from bad
    raw.strangers |= strangers("tileset", tree).union(*(strangers("tile", t) for t in raw.tilesets[-1].tiles.values()))


def _inside(folder: Path, source: str) -> Path:
    try:
        return inside(folder, source, "the tileset")
    except BadFileError as bad:
        raise BadFileError(bad.what, "put it beside the map or below, and refer to it there, or embed it") from bad


def _tileset(tree: Tree, firstgid: int) -> RawTileset:
    if {"tileproperties", "tilepropertytypes"} & tree.keys() or isinstance(tree.get("tiles"), dict):
        raise BadFileError("its tiles are written as Tiled before 1.2 wrote them", SAVE_AGAIN)
    count = None if tree.get("tilecount") is None else whole(tree["tilecount"], 0, FLIPS, "tilecount")
    tiles = {whole(t.get("id"), 0, 0x0FFFFFFF, "id of a tile"): t for t in objects(tree.get("tiles", []), "tiles")}
    if len(tiles) < len(tree.get("tiles", [])):
        raise BadFileError("it describes a tile twice", SAVE_AGAIN)
    for part in (tree, *tiles.values()):
        settle(part)
    return RawTileset(tree, firstgid, count, tiles)


def with_properties(raw: RawMap) -> Iterator[tuple[str, str, Tree]]:
    """Yield (what, name of a layer, part) for the map, its tilesets, groups and layers."""
    yield "the map", "", raw.tree
    for tileset in raw.tilesets:
        yield f"tileset {short(tileset.tree.get('name', ''))}", "", tileset.tree
    pending = list(raw.tree["layers"])
    while pending:
        tree = pending.pop(0)
        yield "the layer", str(tree.get("name", "")), tree
        pending += tree.get("layers", []) if tree["type"] == "group" else []
