"""One map that says nearly everything that Tiled's format can say, in the JSON format and in TMX."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from tests.envs.npc.maps.tiled_files import GIDS, W

Doc = dict[str, Any]
LAYERS = {"tilelayer": "layer", "objectgroup": "objectgroup", "imagelayer": "imagelayer", "group": "group"}
LOOKS: Doc = {"opacity": 0.5, "tintcolor": "#ff0000", "mode": "multiply", "locked": True, "visible": True}
PLACE: Doc = {"x": 0, "y": 0, "offsetx": 0, "offsety": 0, "parallaxx": 1, "parallaxy": 1}
WANG_TMX = """<wangsets><wangset name="w" class="" type="mixed" tile="1"><properties/>
<wangcolor name="c" class="" color="" tile="-1" probability="1"><properties/></wangcolor>
<wangtile tileid="0" wangid="0,1,0,1,0,1,0,1" hflip="0" vflip="0" dflip="0"/></wangset></wangsets>"""
EDITOR: Doc = {"chunksize": {"width": 16, "height": 16}, "export": {"target": ".", "format": "tmx"}}
GRID: Doc = {"orientation": "isometric", "width": 3, "height": 4}
TURNS: Doc = {"hflip": True, "vflip": False, "rotate": True, "preferuntransformed": False}


def prop(name: str, value: Any, kind: str = "string") -> Doc:
    return {"name": name, "type": kind, "value": value, "propertytype": "mine"}


def thing(number: int, kind: str, x: float, y: float, *own: Doc, name: str = "", **more: Any) -> Doc:
    place = {"x": x, "y": y, "width": 0, "height": 0, "rotation": 0, "visible": True, "opacity": 1}
    return {"id": number, "name": name, "type": kind, **place, "properties": list(own), **more}


def tile_layer(name: str, gids: list[int]) -> Doc:
    return (
        {"id": 1, "name": name, "class": "", "type": "tilelayer", "width": W, "height": 5, "data": gids} | LOOKS | PLACE
    )


def whole_map() -> Doc:
    """Return a map of 8 x 5 tiles: spawn (1, 1), exhibit 'Harp' (3, 6), exhibit 'Lute' drawn with tile 4 (1, 4)."""
    sky = [0] * len(GIDS)
    sky[W + 2] = sky[W + 3] = 9
    text = {"text": "hi", "fontfamily": "serif", "pixelsize": 9, "wrap": True, "color": "", "bold": True}
    text |= {"italic": True, "underline": True, "strikeout": True, "kerning": False, "halign": "right", "valign": "top"}
    things = [
        thing(1, "spawn", 15, 15, point=True),
        thing(2, "exhibit", 60, 30, prop("theme", "music"), name="Harp", width=10, height=10),
        thing(3, "", 40, 20, name="Lute", gid=5),
        thing(4, "", 11, 11, prop("hp", 3, "int"), width=10, height=10, text=text),
    ]
    clouds = {"id": 8, "name": "clouds", "class": "", "type": "imagelayer", "image": "clouds.png", "repeatx": True}
    clouds |= {"repeaty": False, "imagewidth": 9, "imageheight": 9, "transparentcolor": "", "properties": []}
    layers = [
        tile_layer("walls", list(GIDS)),
        {"id": 5, "name": "decor", "class": "", "type": "group", "layers": [tile_layer("sky", sky), clouds | LOOKS]},
        {"id": 6, "name": "things", "class": "", "type": "objectgroup", "color": "", "draworder": "index"},
    ]
    layers[2] |= {"objects": things, **LOOKS, **PLACE}
    layers[1] |= LOOKS | PLACE
    return {
        "type": "map", "version": "1.12", "tiledversion": "1.12.0", "class": "", "orientation": "orthogonal",
        "renderorder": "right-down", "compressionlevel": -1, "width": W, "height": 5, "tilewidth": 10, "tileheight": 10,
        "infinite": False, "backgroundcolor": "", "nextlayerid": 9, "nextobjectid": 9,
        "editorsettings": deepcopy(EDITOR),
        "properties": [prop("format", "npcworld/1"), prop("licence", "CC0-1.0"), prop("name", "m")],
        "tilesets": tilesets(), "layers": layers,
    }  # fmt: skip


def tilesets() -> list[Doc]:
    """Return one tileset that is cut from an image, and a collection of images with gaps in its numbers."""
    first: Doc = {
        "firstgid": 1, "name": "t", "class": "", "tilewidth": 10, "tileheight": 10, "tilecount": 9, "columns": 9,
        "spacing": 0, "margin": 0, "image": "t.png", "imagewidth": 90, "imageheight": 10, "transparentcolor": "",
        "backgroundcolor": "", "objectalignment": "unspecified", "tilerendersize": "grid", "fillmode": "stretch",
        "tileoffset": {"x": 0, "y": 0}, "grid": dict(GRID), "transformations": dict(TURNS), "version": "1.12",
        "tiledversion": "1.12.0", "properties": [prop("author", "me")],
        "terrains": [{"name": "t", "tile": 0, "properties": []}],
        "wangsets": [{
            "name": "w", "class": "", "type": "mixed", "tile": 1, "properties": [],
            "colors": [{"name": "c", "class": "", "color": "", "tile": -1, "probability": 1, "properties": []}],
            "wangtiles": [{"tileid": 0, "wangid": [0, 1] * 4, "hflip": False, "vflip": False, "dflip": False}],
        }],
        "tiles": [
            {"id": 4, "type": "exhibit", "properties": [prop("theme", "game")], "terrain": [0, 0, 0, 0]},
            {"id": 8, "type": "", "probability": 0.5, "animation": [{"tileid": 0, "duration": 100}]},
        ],
    }  # fmt: skip
    picture = {"image": "p.png", "imagewidth": 10, "imageheight": 10}
    tiles = [{"id": k, "type": "", "x": 0, "y": 0, **picture} for k in (40, 3)]
    second = {"firstgid": 20, "name": "c", "tilewidth": 10, "tileheight": 10, "tilecount": 2, "columns": 0}
    return [first, second | {"spacing": 0, "margin": 0, "tiles": tiles}]


def save(doc: Doc, path: Path, edit: Callable[[ElementTree.Element], None] | None = None) -> Path:
    """Write a map in the format of the file's name; `edit` changes TMX elements before."""
    if path.suffix == ".tmx":
        root = element("map", doc)
        if edit:
            edit(root)
        path.write_bytes(ElementTree.tostring(root, "utf-8"))
    else:
        path.write_text(json.dumps(doc))
    return path


def element(tag: str, tree: Doc) -> ElementTree.Element:
    """Return an object of the JSON format as the element of TMX that says the same."""
    attributes = {k: _text(v) for k, v in tree.items() if isinstance(v, str | int | float)}
    children: list[ElementTree.Element] = []
    if tag == "property":
        _value(tree, attributes, children)
    if tree.get("properties"):
        children.append(_list("properties", [element("property", p) for p in tree["properties"]]))
    if tag in LAYERS.values() or tag == "map":
        attributes.pop("type", None)
    if tag == "layer":
        for key in ("encoding", "compression", "data"):
            attributes.pop(key, None)
        children.append(_data(tree))
    children += _shapes(tree, attributes) + _pictures(tag, tree, attributes)
    children += [element("tileset", t) for t in tree.get("tilesets", [])]
    if isinstance(tree.get("objectgroup"), dict):
        children.append(element("objectgroup", tree["objectgroup"]))
    children += [element("tile", t) for t in tree.get("tiles", [])]
    children += [element(LAYERS[inner["type"]], inner) for inner in tree.get("layers", [])]
    children += [element("object", o) for o in tree.get("objects", [])]
    return _list(tag, children, attributes)


def _shapes(tree: Doc, attributes: dict[str, str]) -> list[ElementTree.Element]:
    """Return what an object looks like."""
    found = [ElementTree.Element(k) for k in ("ellipse", "capsule", "point") if attributes.pop(k, "0") == "1"]
    for key in ("polygon", "polyline"):
        if key in tree:
            points = " ".join(f"{p['x']},{p['y']}" for p in tree[key])
            found.append(ElementTree.Element(key, points=points))
    if isinstance(tree.get("text"), dict):
        text = element("text", {k: v for k, v in tree["text"].items() if k != "text"})
        text.text = tree["text"]["text"]
        found.append(text)
    return found


def _pictures(tag: str, tree: Doc, attributes: dict[str, str]) -> list[ElementTree.Element]:
    """Return what a tileset or tile says about its looks."""
    found = []
    if tag in ("tileset", "tile", "imagelayer") and "image" in tree:
        moved = {"image": "source", "imagewidth": "width", "imageheight": "height", "transparentcolor": "trans"}
        image = {new: attributes.pop(old) for old, new in moved.items() if old in attributes}
        found.append(ElementTree.Element("image", image))
    editor = ("tileoffset", "grid", "transformations", "editorsettings", "chunksize", "export")
    found += [element(key, tree[key]) for key in editor if key in tree]
    if "terrains" in tree:
        found.append(_list("terraintypes", [element("terrain", t) for t in tree["terrains"]]))
    if "wangsets" in tree:
        found.append(ElementTree.fromstring(WANG_TMX))
    if "animation" in tree:
        found.append(_list("animation", [element("frame", f) for f in tree["animation"]]))
    return found


def _list(
    tag: str, children: list[ElementTree.Element], attributes: dict[str, str] | None = None
) -> ElementTree.Element:
    made = ElementTree.Element(tag, attributes or {})
    made.extend(children)
    return made


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _value(tree: Doc, attributes: dict[str, str], children: list[ElementTree.Element]) -> None:
    value = tree.get("value")
    if isinstance(value, bool):
        attributes["value"] = "true" if value else "false"
    if isinstance(value, list):
        children += [ElementTree.Element("item", {k: str(v) for k, v in item.items()}) for item in value]
    if isinstance(value, dict):
        members = [ElementTree.Element("property", {"name": k, "value": str(v)}) for k, v in value.items()]
        children.append(_list("properties", members))


def _data(layer: Doc) -> ElementTree.Element:
    encoding = layer.get("encoding", "csv")
    data = ElementTree.Element("data", {"encoding": encoding})
    if layer.get("compression"):
        data.set("compression", layer["compression"])
    for chunk in layer.get("chunks", []):
        inner = ElementTree.SubElement(data, "chunk", {k: str(v) for k, v in chunk.items() if k != "data"})
        inner.text = _tiles(chunk["data"])
    if "data" in layer:
        data.text = _tiles(layer["data"])
    return data


def _tiles(tiles: Any) -> str:
    return tiles if isinstance(tiles, str) else ",".join(map(str, tiles))
