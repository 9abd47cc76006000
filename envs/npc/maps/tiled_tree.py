"""Tiled's two formats as one: TMX elements become the objects of its JSON format, properties become plain values."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .reading import BadFileError, is_xml, parse_json, parse_xml, read_text, short
from .tiled_format import names

SAVE_AGAIN = "open it in Tiled and save it again"
LAYERS = {"layer": "tilelayer", "objectgroup": "objectgroup", "imagelayer": "imagelayer", "group": "group"}
"""{element of TMX: type of the layer in JSON}."""
_SHAPES = ("ellipse", "capsule", "point")
_BOOLS = {"true": True, "false": False}

Tree = dict[str, Any]
"""An object of Tiled's JSON format; from TMX its numbers are texts."""


class Typed(NamedTuple):
    """The value of a property that is no text, number or truth: a colour, file, object or class."""

    type: str
    value: Any

    def __repr__(self) -> str:
        return f"a {self.type} {self.value!r}"


def read_tree(path: Path, root: str) -> Tree:
    """Return the map or tileset (`root`) in a file of either format; raises BadFileError."""
    text = read_text(path)
    tree: Tree | None = None
    if is_xml(text):
        element = parse_xml(text)
        if element.tag == root:
            tree = _map(element) if root == "map" else _tileset(element)
    else:
        value = parse_json(text)
        if not isinstance(value, dict):
            raise BadFileError(f"it holds no JSON object, expected a {root}", f"name a {root} that Tiled saved")
        tree = value
        if tree.get("type", root) != root:
            raise BadFileError(f"it holds a {short(tree['type'])}, expected a {root}", f"name a {root}")
    if tree is None:
        what = f"the root element is <{short(element.tag)}>, expected <{root}>"
        raise BadFileError(what, f"name a {root}, not a {short(element.tag)}")
    return tree


def objects(value: Any, what: str) -> list[Tree]:
    """Return a list of JSON objects; raises BadFileError for anything else."""
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise BadFileError(f"'{what}' is no list of objects", SAVE_AGAIN)
    return value


def strangers(part: str, tree: Tree) -> set[str]:
    """Return what the format does not know in a part, as "part 'name'"."""
    return {f"{part} {short(name)}" for name in tree.keys() - names(part)}


def real(value: object) -> float | None:
    """Return a finite float of a number, or of the text of one; None for anything else."""
    if isinstance(value, str) and value.isascii() and "_" not in value:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def whole(value: object, low: int, high: int, what: str) -> int:
    """Return an int in [low, high] from a JSON int or its XML text; raises BadFileError."""
    number = value
    if isinstance(value, str):
        number = int(value) if len(value) <= 20 and value.strip().lstrip("+-").isdecimal() and value.isascii() else None
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise BadFileError(f"{what} is {short(value)}, expected a whole number from {low} to {high}", SAVE_AGAIN)
    return number


def flag(value: object, what: str) -> bool:
    """Return a truth from JSON, or from its XML text 0 or 1; raises BadFileError."""
    known = {"0": False, "1": True, **_BOOLS}
    found = known.get(value) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise BadFileError(f"{what} is {short(value)}, expected true or false", SAVE_AGAIN)
    return found


def settle(tree: Tree) -> None:
    """Put {name: value} for a part's list of custom properties; raises BadFileError for one without a name."""
    found = {}
    for raw in objects(tree.get("properties", []), "properties"):
        if not isinstance(raw.get("name"), str):
            raise BadFileError(f"a property has the name {short(raw.get('name'))}", SAVE_AGAIN)
        found[raw["name"]] = _value(raw)
    tree["properties"] = found


def _value(raw: Tree) -> Any:
    """Return the value of a property; numbers of TMX stay texts, as does what does not fit its type (see `real`)."""
    kind, value = raw.get("type", "string"), raw.get("value")
    if kind == "list":
        return [_value(item) if isinstance(item, dict) else item for item in value] if isinstance(value, list) else []
    if kind == "bool":
        return False if value is None else _BOOLS.get(value, value) if isinstance(value, str) else value
    if kind in ("int", "float"):
        return 0 if value is None else value
    if kind == "string":
        return "" if value is None else value
    return Typed(str(kind), value)


def _map(element: ElementTree.Element) -> Tree:
    tree: Tree = {**element.attrib, "type": "map", "layers": [], "tilesets": []}
    for child in element:
        if child.tag in LAYERS:
            tree["layers"].append(_layer(child))
        elif child.tag == "tileset":
            tree["tilesets"].append(_tileset(child))
        else:
            _common(tree, child)
    return tree


def _layer(element: ElementTree.Element) -> Tree:
    kind = LAYERS[element.tag]
    inner: dict[str, Tree] = {"objectgroup": {"objects": []}, "group": {"layers": []}}
    tree: Tree = {**element.attrib, "type": kind, **inner.get(kind, {})}
    for child in element:
        if kind == "tilelayer" and child.tag == "data":
            _data(tree, child)
        elif kind == "objectgroup" and child.tag == "object":
            tree["objects"].append(_object(child))
        elif kind == "group" and child.tag in LAYERS:
            tree["layers"].append(_layer(child))
        else:
            _common(tree, child)
    return tree


def _data(layer: Tree, data: ElementTree.Element) -> None:
    """Put the tiles of a <data> element into its layer; raises BadFileError if it has some."""
    if "data" in layer or "chunks" in layer:
        raise BadFileError("it has two lists of tiles", SAVE_AGAIN, str(layer.get("name", "")))
    layer |= {"encoding": "csv"} | {k: v for k, v in data.attrib.items() if k in ("encoding", "compression")}
    chunks = data.findall("chunk")
    if chunks:
        layer["chunks"] = [{**chunk.attrib, "data": _payload(chunk)} for chunk in chunks]
    else:
        layer["data"] = _payload(data)


def _payload(element: ElementTree.Element) -> str | list[str]:
    tiles = element.findall("tile")
    return [tile.get("gid", "0") for tile in tiles] if tiles else element.text or ""


def _object(element: ElementTree.Element) -> Tree:
    tree: Tree = dict(element.attrib)
    for child in element:
        if child.tag in _SHAPES:
            tree[child.tag] = True
        elif child.tag in ("polygon", "polyline"):
            pairs = [point.partition(",") for point in child.get("points", "").split()]
            tree[child.tag] = [{"x": x, "y": y} for x, _, y in pairs]
        elif child.tag == "text":
            tree["text"] = {"text": child.text or "", **child.attrib}
        else:
            _common(tree, child)
    return tree


def _tileset(element: ElementTree.Element) -> Tree:
    tree: Tree = {**element.attrib, "tiles": []}
    for child in element:
        if child.tag == "tile":
            tree["tiles"].append(_tile(child))
        elif child.tag == "tileoffset":
            tree["tileoffset"] = dict(child.attrib)
        else:
            _common(tree, child)
    return tree


def _tile(element: ElementTree.Element) -> Tree:
    tree: Tree = dict(element.attrib)
    for child in element:
        if child.tag == "image":
            tree |= {f"image{side}": child.attrib[side] for side in ("width", "height") if side in child.attrib}
        elif child.tag == "objectgroup":
            tree["objectgroup"] = {"objects": [dict(inner.attrib) for inner in child.findall("object")]}
        else:
            _common(tree, child)
    return tree


def _common(tree: Tree, child: ElementTree.Element) -> None:
    """Put a child element that any part may have into its tree: its properties; of others only that it is there."""
    if child.tag == "properties":
        before = tree.get("properties")  # several lists count as one, the last value of a name counts, as in the editor
        tree["properties"] = before if isinstance(before, list) else []
        tree["properties"] += [_property(inner) for inner in child.findall("property")]
    else:
        tree.setdefault(child.tag, True)


def _property(element: ElementTree.Element) -> Tree:
    tree: Tree = dict(element.attrib)
    kind = tree.get("type", "string")
    if kind == "list":
        tree["value"] = [_property(item) for item in element.findall("item")]
    elif kind == "class":
        members: Mapping[str, Any] = {p.get("name", ""): p.get("value") for p in element.findall("properties/property")}
        tree["value"] = dict(members)
    elif "value" not in tree and element.text is not None:
        tree["value"] = element.text
    return tree
