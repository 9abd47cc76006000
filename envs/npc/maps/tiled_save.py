"""Worlds written as Tiled maps that the editor opens and `load_tiled` reads back to the bit."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from metarl.checkpoint import replace_file
from metarl.errors import ConfigError

from . import tileset
from .layout import Layout
from .themes import describe
from .tiled_guard import MOST_OBJECTS

FORMAT, VERSION = "npcworld/1", {"version": "1.8", "tiledversion": "1.8.2"}
ENCODINGS = ("csv", "base64", "zlib", "gzip")
"""Ways of writing tile data."""
CHUNK = 16
"""Side of the chunks of infinite maps, as in the editor."""


def save_tiled(
    layout: Layout, path: Path | str, *, encoding: str = "csv", infinite: bool = False, external_tileset: bool = False
) -> None:
    """Write a world as `.tmx` or `.tmj`, and beside it `npcworld.png` (the tiles' pictures) unless it is there.

    `external_tileset` also writes `npcworld.tsx` and refers to it; otherwise the tileset is inside the map. `infinite`
    writes an infinite map in chunks. Raises: ConfigError for another file ending or encoding, or more objects than are
    read (only thousands of closed cells that do not touch make so many).
    """
    file = Path(path)
    if file.suffix not in (".tmx", ".tmj"):
        raise ConfigError(f"a Tiled map is saved as .tmx or .tmj, got {file.name!r}; name it so")
    if encoding not in ENCODINGS:
        raise ConfigError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
    count = len(_objects(layout))
    if count > MOST_OBJECTS:
        raise ConfigError(f"the map would have {count} objects, at most {MOST_OBJECTS} are read; close fewer cells")
    image = file.parent / tileset.IMAGE
    if not image.exists():
        save_tileset_image(image)
    if external_tileset:
        _write_xml(_tileset_element(), file.parent / f"{tileset.NAME}.tsx")
    if file.suffix == ".tmx":
        _write_xml(_map_element(layout, encoding, infinite, external_tileset), file)
    else:
        document = _map_object(layout, encoding, infinite, external_tileset)
        replace_file(file, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def save_tileset_image(path: Path) -> None:
    """Write the picture of the tileset as PNG."""
    import imageio.v3

    replace_file(path, imageio.v3.imwrite("<bytes>", tileset.draw(), extension=".png", optimize=True))


def _layers(layout: Layout) -> Iterator[tuple[str, list[list[int]], float]]:
    """Yield (name, gids by row, opacity) of each tile layer; gid 0 is no tile."""
    height, width = layout.height, layout.width
    wall, district, crowd = layout.wall.tolist(), layout.district.tolist(), (layout.crowd * 100).round().int().tolist()
    rows, columns = range(height), range(width)
    yield "ground", [[tileset.FLOOR + 1 for _ in columns] for _ in rows], 1.0
    first = tileset.FIRST_DISTRICT
    yield "districts", [[first + district[r][c] if district[r][c] else 0 for c in columns] for r in rows], 1.0
    yield "walls", [[_wall_tile(wall, r, c) for c in columns] for r in rows], 1.0
    first = tileset.FIRST_CROWD + 1
    yield "crowd", [[first + crowd[r][c] if crowd[r][c] else 0 for c in columns] for r in rows], 0.5


def _wall_tile(wall: list[list[bool]], row: int, column: int) -> int:
    if not wall[row][column]:
        return 0
    face = row + 1 < len(wall) and not wall[row + 1][column]
    return 1 + (tileset.WALL_WITH_FACE if face else tileset.WALL)


def _objects(layout: Layout) -> list[dict[str, Any]]:
    """Return every object as {class, name, x, y, width, height in tiles, tile or None, properties}."""
    found: list[dict[str, Any]] = []

    def add(kind: str, row: int, column: int, name: str = "", tile: int | None = None, n: int = 1, **own: Any) -> None:
        place = {"class": kind, "name": name, "x": column, "y": row, "width": n, "height": 1}
        found.append(place | {"tile": tileset.PLACES.get(kind) if tile is None else tile, "properties": own})

    exhibits = layout.exhibits
    for index, (row, column) in enumerate(exhibits.cell.tolist()):
        theme = describe(exhibits.themes[index])
        own: dict[str, Any] = {
            "popularity": float(exhibits.popularity[index]),
            "dwell": int(exhibits.dwell[index]),
            "theme": theme,
        }
        tile = tileset.FIRST_EXHIBIT + int(exhibits.themes[index].argmax())  # the picture; what counts is `theme`
        add("exhibit", row, column, exhibits.names[index], tile, **own)
    add("spawn", *layout.spawn)
    for kind, cells in (("exit", layout.exits), ("shop", layout.shops), ("meeting", layout.meetings)):
        for row, column in cells.tolist():
            add(kind, row, column)
    for portal in layout.portals:
        add("portal", *portal.cell, to=portal.to)
    for episode, cells in layout.closed_at.items():
        for row, column, length in _runs(cells):
            add("closed_at", row, column, n=length, episode=episode)
    return found


def _runs(cells: Tensor) -> Iterator[tuple[int, int, int]]:
    """Yield (row, first column, length) of the cells that lie side by side, from sorted int64 [K, 2]."""
    begin: tuple[int, int] | None = None
    length = 0
    for row, column in cells.tolist():
        if begin and (row, column) == (begin[0], begin[1] + length):
            length += 1
            continue
        if begin:
            yield *begin, length
        begin, length = (row, column), 1
    if begin:
        yield *begin, length


def _properties(layout: Layout) -> dict[str, Any]:
    return {"format": FORMAT, "name": layout.name, "licence": layout.licence, "cell_m": float(layout.cell_m)}


def _pack(gids: list[int], encoding: str) -> str:
    """Return tile data as base64 text."""
    plain = struct.pack(f"<{len(gids)}I", *gids)
    if encoding == "zlib":
        plain = zlib.compress(plain)
    elif encoding == "gzip":
        plain = gzip.compress(plain, mtime=0)
    return base64.b64encode(plain).decode()


def _chunks(rows: list[list[int]]) -> Iterator[tuple[int, int, list[list[int]]]]:
    """Yield (x, y, CHUNK x CHUNK gids) of an infinite map, zeros beyond its edge."""
    height, width = len(rows), len(rows[0])
    for y in range(0, height, CHUNK):
        for x in range(0, width, CHUNK):
            block = [(row[x : x + CHUNK] + [0] * CHUNK)[:CHUNK] for row in rows[y : y + CHUNK]]
            yield x, y, block + [[0] * CHUNK for _ in range(CHUNK - len(block))]


def _map_object(layout: Layout, encoding: str, infinite: bool, external: bool) -> dict[str, Any]:
    px, height, width = tileset.TILE_PX, layout.height, layout.width
    layers: list[dict[str, Any]] = []
    for name, rows, opacity in _layers(layout):
        layer: dict[str, Any] = {"id": len(layers) + 1, "name": name, "type": "tilelayer", "visible": name != "crowd"}
        layer |= {"opacity": opacity, "x": 0, "y": 0, "width": width, "height": height}
        if encoding != "csv":
            layer |= {"encoding": "base64", "compression": encoding if encoding != "base64" else ""}
        if infinite:
            layer |= {"startx": 0, "starty": 0}
            layer["chunks"] = [
                {"x": x, "y": y, "width": CHUNK, "height": CHUNK, "data": _tmj_data(block, encoding)}
                for x, y, block in _chunks(rows)
            ]
        else:
            layer["data"] = _tmj_data(rows, encoding)
        layers.append(layer)
    objects = [_tmj_object(number, thing) for number, thing in enumerate(_objects(layout), 1)]
    layer = {"id": len(layers) + 1, "name": "objects", "type": "objectgroup", "draworder": "index", "objects": objects}
    layers.append(layer | {"visible": True, "opacity": 1, "x": 0, "y": 0})
    source = {"firstgid": 1, "source": f"{tileset.NAME}.tsx"} if external else {"firstgid": 1, **_tileset_object()}
    return {
        "type": "map", **VERSION, "orientation": "orthogonal", "renderorder": "right-down", "compressionlevel": -1,
        "width": width, "height": height, "tilewidth": px, "tileheight": px, "infinite": infinite,
        "nextlayerid": len(layers) + 1, "nextobjectid": len(objects) + 1,
        "properties": _tmj_properties(_properties(layout)), "tilesets": [source], "layers": layers,
    }  # fmt: skip


def _tmj_data(rows: list[list[int]], encoding: str) -> list[int] | str:
    gids = [gid for row in rows for gid in row]
    return gids if encoding == "csv" else _pack(gids, encoding)


def _tmj_properties(properties: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": k, "type": _type(v), "value": v} for k, v in sorted(properties.items())]


def _type(value: Any) -> str:
    return {bool: "bool", int: "int", float: "float", str: "string"}[type(value)]


def _rectangle(thing: dict[str, Any]) -> dict[str, int]:
    """Return x, y, width, height of an object in pixels; objects drawn with a tile stand on its lower left corner."""
    px = tileset.TILE_PX
    below = thing["tile"] is not None
    place = {"x": thing["x"], "y": thing["y"] + below, "width": thing["width"], "height": thing["height"]}
    return {k: v * px for k, v in place.items()}


def _tmj_object(number: int, thing: dict[str, Any]) -> dict[str, Any]:
    item = {"id": number, "name": thing["name"], "type": thing["class"], **_rectangle(thing)}
    item |= {"rotation": 0, "visible": True}
    if thing["tile"] is not None:
        item["gid"] = thing["tile"] + 1
    if thing["properties"]:
        item["properties"] = _tmj_properties(thing["properties"])
    return item


def _tileset_header() -> dict[str, Any]:
    px = tileset.TILE_PX
    return {
        "name": tileset.NAME,
        "tilewidth": px,
        "tileheight": px,
        "tilecount": tileset.COUNT,
        "columns": tileset.COLUMNS,
    }


def _image() -> dict[str, Any]:
    px = tileset.TILE_PX
    return {"width": tileset.COLUMNS * px, "height": tileset.COUNT // tileset.COLUMNS * px}


def _tileset_object() -> dict[str, Any]:
    tiles: list[dict[str, Any]] = []
    for tile in range(tileset.COUNT):
        properties, kind = tileset.tile_properties(tile), tileset.tile_class(tile)
        own = {"type": kind} if kind else {}
        if properties:
            own["properties"] = _tmj_properties(properties)  # type: ignore[assignment]
        if own:
            tiles.append({"id": tile, **own})
    image = {"image": tileset.IMAGE, **{f"image{k}": v for k, v in _image().items()}}
    return _tileset_header() | image | {"spacing": 0, "margin": 0, "tiles": tiles}


def _element(tag: str, attributes: dict[str, Any] | None = None) -> ElementTree.Element:
    return ElementTree.Element(tag, {k: _text(v) for k, v in (attributes or {}).items()})


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _add_properties(parent: ElementTree.Element, properties: dict[str, Any]) -> None:
    if not properties:
        return
    group = ElementTree.SubElement(parent, "properties")
    for key, value in sorted(properties.items()):
        kind = {} if isinstance(value, str) else {"type": _type(value)}
        group.append(_element("property", {"name": key, **kind, "value": value}))


def _tileset_element(firstgid: int | None = None) -> ElementTree.Element:
    first = VERSION if firstgid is None else {"firstgid": firstgid}
    root = _element("tileset", {**first, **_tileset_header()})
    root.append(_element("image", {"source": tileset.IMAGE, **_image()}))
    for tile in range(tileset.COUNT):
        properties, kind = tileset.tile_properties(tile), tileset.tile_class(tile)
        if properties or kind:
            element = _element("tile", {"id": tile, **({"type": kind} if kind else {})})
            _add_properties(element, properties)
            root.append(element)
    return root


def _map_element(layout: Layout, encoding: str, infinite: bool, external: bool) -> ElementTree.Element:
    px, things, layers = tileset.TILE_PX, _objects(layout), list(_layers(layout))
    size = {"width": layout.width, "height": layout.height}
    head = {**VERSION, "orientation": "orthogonal", "renderorder": "right-down", **size, "tilewidth": px}
    counts = {"nextlayerid": len(layers) + 2, "nextobjectid": len(things) + 1}
    root = _element("map", {**head, "tileheight": px, "infinite": int(infinite), **counts})
    _add_properties(root, _properties(layout))
    source = {"firstgid": 1, "source": f"{tileset.NAME}.tsx"}
    root.append(_element("tileset", source) if external else _tileset_element(firstgid=1))
    packed = {"encoding": "csv"} if encoding == "csv" else {"encoding": "base64"}
    if encoding in ("zlib", "gzip"):
        packed["compression"] = encoding
    for number, (name, rows, opacity) in enumerate(layers, 1):
        hidden = {"visible": 0, "opacity": opacity} if name == "crowd" else {}
        layer = _element("layer", {"id": number, "name": name, **size, **hidden})
        layer.append(_element("data", packed))
        if infinite:
            for x, y, block in _chunks(rows):
                chunk = _element("chunk", {"x": x, "y": y, "width": CHUNK, "height": CHUNK})
                chunk.text = _tmx_data(block, encoding)
                layer[0].append(chunk)
        else:
            layer[0].text = _tmx_data(rows, encoding)
        root.append(layer)
    group = _element("objectgroup", {"id": len(layers) + 1, "name": "objects"})
    for number, thing in enumerate(things, 1):
        gid = {"gid": thing["tile"] + 1} if thing["tile"] is not None else {}
        named = {"name": thing["name"]} if thing["name"] else {}
        item = _element("object", {"id": number, **named, "type": thing["class"], **gid, **_rectangle(thing)})
        _add_properties(item, thing["properties"])
        group.append(item)
    root.append(group)
    return root


def _tmx_data(rows: list[list[int]], encoding: str) -> str:
    if encoding != "csv":
        return _pack([gid for row in rows for gid in row], encoding)
    return "\n" + ",\n".join(",".join(map(str, row)) for row in rows) + "\n"


def _write_xml(root: ElementTree.Element, path: Path) -> None:
    ElementTree.indent(root, " ")
    buffer = io.BytesIO()
    ElementTree.ElementTree(root).write(buffer, encoding="UTF-8", xml_declaration=True)
    replace_file(path, buffer.getvalue() + b"\n")
