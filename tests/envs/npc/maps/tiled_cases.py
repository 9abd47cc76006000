"""What each honoured or refused name of Tiled's format does: {(part, name): [(edit, what to expect), ...]}."""

from __future__ import annotations

import base64
import struct
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable
from typing import Any

from metarl.envs.npc.maps.tiled import Reading
from tests.envs.npc.maps.tiled_files import GIDS, W
from tests.envs.npc.maps.tiled_whole import Doc, prop, thing, tile_layer

Edit = Callable[[Any], Any]


def layer(doc: Doc, k: int) -> Doc:
    found: Doc = doc["layers"][k]
    return found


def put(*path: Any) -> Edit:
    """Return an edit that sets what the first of `path` lead to, the last being the value."""

    def edit(doc: Doc) -> None:
        for key in path[:-2]:
            doc = doc[key]
        doc[path[-2]] = path[-1]

    return edit


def both(*edits: Edit) -> Edit:
    return lambda doc: [edit(doc) for edit in edits]


WALLS, SKY, THINGS = ("layers", 0), ("layers", 1, "layers", 0), ("layers", 2)
SPAWN, HARP, LUTE = (*THINGS, "objects", 0), (*THINGS, "objects", 1), (*THINGS, "objects", 2)
IMAGE_SET, COLLECTION = ("tilesets", 0), ("tilesets", 1)
RING = [*GIDS[: W + 3], 1, *GIDS[W + 4 :]]


def packed(encoding: str, data: bytes = struct.pack("<40I", *GIDS)) -> Edit:
    shrink = {"zlib": zlib.compress, "gzip": lambda b: zlib.compress(b, wbits=31), "zstd": bytes, "": bytes}
    text = base64.b64encode(shrink[encoding](data)).decode()
    return put(*WALLS, tile_layer("walls", GIDS) | {"encoding": "base64", "compression": encoding, "data": text})


def endless(**own: Any) -> Edit:
    """Return an edit that makes the map infinite; `own` changes its one chunk."""

    def edit(doc: Doc) -> None:
        doc["infinite"] = True
        for one in (layer(doc, 0), doc["layers"][1]["layers"][0]):
            one["chunks"] = [{"x": 0, "y": 0, "width": W, "height": 5, "data": one.pop("data")}]
        layer(doc, 0)["chunks"][0] |= own

    return edit


def lute_at(row: int, column: int) -> Callable[[Reading], bool]:
    return lambda reading: reading.layout.exhibits.cell.tolist()[-1] == [row, column]


def drawn_small(gid: int, tile: int, **tree: Any) -> Edit:
    """Return an edit that draws 'Lute' with a tile of the collection that has a size of its own."""
    own = {"id": tile, "type": "exhibit", "properties": [prop("theme", "game")], **tree}
    return both(put(*LUTE, "gid", gid), put(*COLLECTION, "tiles", [own]))


def theme(**own: Any) -> Edit:
    return put(*HARP, "properties", [{"name": "theme", **own}])


def closing(**own: Any) -> Edit:
    return lambda doc: layer(doc, 2)["objects"].append(thing(9, "closed_at", 30, 30, prop("episode", "1")) | own)


def closed(*cells: list[int]) -> Callable[[Reading], bool]:
    return lambda reading: {k: v.tolist() for k, v in reading.layout.closed_at.items()} == {1: list(cells)}


SHIFT = "layer 'walls': the layer is shifted by (10.0, 0.0) pixels; set offset to 0"
SCROLL = "times the map's speed; set offset to 0 and parallax factor to 1, also of its groups"
SAME, ALONE = "the same world", "layers of a group that lie where they were"
MISPLACED = "has the property 'solid', which only tiles have; give it to tiles of a tileset"
SOLID = [prop("solid", True, "bool")]
CASES: dict[tuple[str, str], list[tuple[Edit, Any]]] = {
    ("map", "orientation"): [
        (put("orientation", kind), f"its orientation is '{kind}', expected 'orthogonal'; choose it in Map")
        for kind in ("isometric", "staggered", "hexagonal", "oblique")
    ],
    ("map", "width"): [(put("width", 7), "layer 'walls': the layer has 8 x 5 tiles, the map 7 x 5")],
    ("map", "height"): [(put("height", 6), "layer 'walls': the layer has 8 x 5 tiles, the map 8 x 6")],
    ("map", "tilewidth"): [(put("tilewidth", 5), "tile (x=13, y=3): exhibit 'Harp' is off the map")],
    ("map", "tileheight"): [(put("tileheight", 5), "tile (x=6, y=7): exhibit 'Harp' is off the map")],
    ("map", "infinite"): [(both(endless(), put("width", 1)), SAME)],
    ("map", "properties"): [
        (lambda doc: doc["properties"].append(prop("name", "else")), lambda r: r.layout.name == "else"),
        (lambda doc: doc["properties"].extend(SOLID), f"the map {MISPLACED}"),
    ],
    ("map", "layers"): [(lambda doc: doc["layers"].pop(0), "no layer 'walls'")],
    ("map", "tilesets"): [(put("tilesets", []), "tiles belong to no tileset of the map (the first has gid 1)")],
    ("map", "type"): [(put("type", "tileset"), "it holds a 'tileset', expected a map")],
    ("tileset", "firstgid"): [
        (put(*IMAGE_SET, "firstgid", 2), "belong to no tileset of the map (the first has gid 1)"),
        (put(*COLLECTION, "firstgid", 1), "two tilesets begin at gid 1"),
        (put(*SKY, "data", [60] * 40), SAME),  # tile 40 of 2: a gap in a collection
        (put(*SKY, "data", [61] * 40), "belong to no tileset of the map (the first has gid 61)"),
    ],
    ("tileset", "tilecount"): [
        (put(*IMAGE_SET, "tilecount", 0), "belong to no tileset of the map (the first has gid 1)")
    ],
    ("tileset", "source"): [
        (put(*COLLECTION, {"firstgid": 20, "source": "t.tsx"}), SAME),
        (put(*COLLECTION, {"firstgid": 20, "source": "t.tsj"}), SAME),
        (put(*COLLECTION, {"firstgid": 20, "source": "../t.tsx"}), "lies outside the folder of the map"),
        (put(*COLLECTION, {"firstgid": 20, "source": "no.tsx"}), "in tileset 'no.tsx': it cannot be read (No such"),
    ],
    ("tileset", "tilewidth"): [(put(*IMAGE_SET, "tilewidth", 30), lute_at(1, 5))],
    ("tileset", "tileheight"): [
        (put(*IMAGE_SET, "tileheight", 30), "tile (x=4, y=0): exhibit 'Lute' is inside a wall")
    ],
    ("tileset", "objectalignment"): [
        (both(put(*IMAGE_SET, "objectalignment", name), put(*LUTE, "y", y), put(*LUTE, "x", x)), SAME)
        for name, x, y in (
            ("topleft", 40, 10),
            ("top", 45, 10),
            ("topright", 50, 10),
            ("left", 40, 15),
            ("center", 45, 15),
            ("right", 50, 15),
            ("bottomleft", 40, 20),
            ("bottom", 45, 20),
            ("bottomright", 50, 20),
            ("unspecified", 40, 20),
        )
    ]
    + [
        (both(put(*IMAGE_SET, "objectalignment", "topright"), put(*LUTE, "y", 10)), lute_at(1, 3)),
        (
            put(*IMAGE_SET, "objectalignment", "middle"),
            "a tileset has objectalignment 'middle', expected unspecified, topl",
        ),
    ],
    ("tileset", "tileoffset"): [
        (put(*IMAGE_SET, "tileoffset", {"x": -10, "y": 0}), lute_at(1, 3)),
        (both(put(*IMAGE_SET, "tileoffset", {"x": 10, "y": 0}), put(*LUTE, "width", 5)), SAME),  # scaled
        (put(*IMAGE_SET, "tileoffset", {"x": "far", "y": 0}), "a tileset has the tile offset"),
    ],
    ("tileoffset", "x"): [(put(*IMAGE_SET, "tileoffset", "x", 20), lute_at(1, 6))],
    ("tileoffset", "y"): [(put(*IMAGE_SET, "tileoffset", "y", 20), lute_at(3, 4))],
    ("tileset", "tiles"): [(put(*IMAGE_SET, "tiles", []), lambda r: len(r.layout.exhibits) == 1)],
    ("tileset", "properties"): [
        (put(*IMAGE_SET, "properties", SOLID), f"tileset 't' {MISPLACED}"),
        (put(*IMAGE_SET, "properties", [prop("engine", "x")]), SAME),
    ],
    ("tileset", "tileproperties"): [
        (put(*IMAGE_SET, "tileproperties", {"4": {"theme": "game"}}), "written as Tiled before 1.2 wrote them")
    ],
    ("tileset", "tilepropertytypes"): [
        (put(*IMAGE_SET, "tilepropertytypes", {}), "open it in Tiled and save it again")
    ],
    ("image", "width"): [(drawn_small(23, 3, image="p.png", imagewidth=30, imageheight=10), lute_at(1, 5))],
    ("image", "height"): [
        (both(drawn_small(23, 3, image="p.png", imagewidth=10, imageheight=50), put(*LUTE, "y", 60)), lute_at(3, 4))
    ],
    ("tile", "id"): [(put(*IMAGE_SET, "tiles", 0, "id", 3), lambda r: len(r.layout.exhibits) == 1)],
    ("tile", "type"): [(put(*IMAGE_SET, "tiles", 0, "type", "spawn"), "there are 2 spawn points")],
    ("tile", "class"): [(put(*IMAGE_SET, "tiles", 0, "class", "spawn"), "there are 2 spawn points")],
    ("tile", "properties"): [
        (put(*IMAGE_SET, "tiles", 1, "properties", SOLID), lambda r: r.layout.wall[1, 2:4].tolist() == [True, True]),
        (
            put(*IMAGE_SET, "tiles", 0, "properties", [prop("theme", "Thrill")]),
            lambda r: r.layout.exhibits.themes[1, 9] == 1,
        ),
    ],
    ("tile", "width"): [(drawn_small(23, 3, width=30, imagewidth=90, imageheight=10), lute_at(1, 5))],
    ("tile", "height"): [(both(drawn_small(23, 3, height=50), put(*LUTE, "y", 60)), lute_at(3, 4))],
    ("tile", "imagewidth"): [(drawn_small(23, 3, imagewidth=30, imageheight=10), lute_at(1, 5))],
    ("tile", "imageheight"): [
        (both(drawn_small(23, 3, imagewidth=10, imageheight=50), put(*LUTE, "y", 60)), lute_at(3, 4))
    ],
    ("tile", "objectgroup"): [
        (
            put(
                *IMAGE_SET, "tiles", 1, "objectgroup", {"type": "objectgroup", "objects": [thing(1, "", 0, 0, width=9)]}
            ),
            "layer 'sky', tiles (x=2, y=1), (x=3, y=1): 2 tiles have collision shapes, but do not say whether they are",
        ),
        (
            both(
                put(*IMAGE_SET, "tiles", 1, "objectgroup", {"type": "objectgroup", "objects": [thing(1, "", 0, 0)]}),
                put(*IMAGE_SET, "tiles", 1, "properties", [prop("solid", "false")]),
            ),
            SAME,
        ),
    ],
    ("layer", "name"): [
        (put(*WALLS, "name", "fence"), "no layer 'walls' and no tile with solid=true; add a tile layer")
    ],
    ("layer", "type"): [
        (put(*WALLS, "type", "hexes"), "layer 'walls': a layer is of type 'hexes', expected tilelayer")
    ],
    ("layer", "width"): [(put(*WALLS, "width", 9), "the layer has 9 x 5 tiles, the map 8 x 5")],
    ("layer", "height"): [(put(*WALLS, "height", 9), "the layer has 8 x 9 tiles, the map 8 x 5")],
    ("layer", "data"): [(put(*WALLS, "data", RING), lambda r: bool(r.layout.wall[1, 3]))],
    ("layer", "encoding"): [
        (packed(""), SAME),
        (put(*WALLS, "encoding", "hex"), "its encoding is 'hex', expected 'csv'"),
    ],
    ("layer", "compression"): [(packed("zlib"), SAME), (packed("zstd"), "its compression is 'zstd', expected none")],
    ("layer", "chunks"): [
        (endless(), SAME),
        (both(endless(), put("infinite", False)), "layer 'walls': it has chunks, but the map is not infinite"),
    ],
    ("layer", "x"): [(put(*WALLS, "x", 1), SHIFT), (put(*SKY, "x", 1), SAME)],
    ("layer", "y"): [(put(*WALLS, "y", 1), "shifted by (0.0, 10.0) pixels"), (put(*SKY, "y", 1), SAME)],
    ("layer", "offsetx"): [(put(*WALLS, "offsetx", 10), SHIFT), (put(*SKY, "offsetx", 3), SAME)],
    ("layer", "offsety"): [(put(*WALLS, "offsety", 3.5), "shifted by (0.0, 3.5)"), (put(*SKY, "offsety", 3), SAME)],
    ("layer", "parallaxx"): [(put(*WALLS, "parallaxx", 0.5), SCROLL), (put(*SKY, "parallaxx", 0.5), SAME)],
    ("layer", "parallaxy"): [(put(*WALLS, "parallaxy", 0.5), SCROLL), (put(*SKY, "parallaxy", 0.5), SAME)],
    ("layer", "class"): [
        (put(*SKY, "class", "Walls"), "layer 'sky': the layer has class 'Walls', but layers are told by their names"),
        (put(*SKY, "class", "weather"), SAME),
    ],
    ("layer", "properties"): [
        (put(*WALLS, "properties", SOLID), f"layer 'walls': the layer {MISPLACED}"),
        (put(*WALLS, "properties", [prop("z", 1, "int")]), SAME),
    ],
    ("data", "encoding"): [(packed(""), SAME), (put(*WALLS, "encoding", "hex"), "its encoding is 'hex'")],
    ("data", "compression"): [(packed("gzip"), SAME), (packed("zstd"), "its compression is 'zstd', expected none")],
    ("chunk", "x"): [(endless(x=-7), "exhibit 'Harp' is off the map")],
    ("chunk", "y"): [(endless(y=-4), "exhibit 'Harp' is off the map")],
    ("chunk", "width"): [(endless(width=9), "layer 'walls': there are 40 tiles, expected 9 x 5 = 45")],
    ("chunk", "height"): [(endless(height=6), "layer 'walls': there are 40 tiles, expected 8 x 6 = 48")],
    ("chunk", "data"): [(endless(data=RING), lambda r: bool(r.layout.wall[1, 3]))],
    ("objectgroup", "name"): [(both(put(*THINGS, "name", "stuff"), put(*HARP, "x", 900)), "layer 'stuff', tile (x=90")],
    ("objectgroup", "objects"): [(put(*THINGS, "objects", []), "there is no spawn point")],
    ("objectgroup", "type"): [(put(*THINGS, "type", "objects"), "a layer is of type 'objects'")],
    ("objectgroup", "properties"): [(put(*THINGS, "properties", SOLID), f"layer 'things': the layer {MISPLACED}")],
    ("imagelayer", "type"): [(put("layers", 1, "layers", 1, "type", "picture"), "a layer is of type 'picture'")],
    ("object", "name"): [(put(*HARP, "name", " Oboe "), lambda r: r.layout.exhibits.names == ("Oboe", "Lute"))],
    ("object", "type"): [(put(*HARP, "type", "exibit"), "unknown class 'exibit'; did you mean 'exhibit'")],
    ("object", "class"): [(put(*HARP, "class", "spawn"), "there are 2 spawn points")],
    ("object", "x"): [(put(*LUTE, "x", 50), lute_at(1, 5))],
    ("object", "y"): [(put(*LUTE, "y", 40), lute_at(3, 4))],
    ("object", "width"): [(put(*LUTE, "width", 30), lute_at(1, 5))],
    ("object", "height"): [(both(put(*LUTE, "height", 50), put(*LUTE, "y", 60)), lute_at(3, 4))],
    ("object", "rotation"): [
        (put(*LUTE, "rotation", 270), lute_at(1, 3)),  # about its lower left corner
        (both(put(*HARP, "rotation", 90), put(*HARP, "x", 70)), SAME),
        (
            closing(width=9, height=9, rotation=45),
            "tile (x=3, y=3): closed_at is rotated by 45 degrees; set its rotation",
        ),
        (closing(y=40, width=9, height=21, rotation=-90), closed([3, 3], [3, 4])),
    ],
    ("object", "gid"): [
        (put(*LUTE, "gid", 5 | 0x80000000), SAME),
        (put(*LUTE, "gid", 0), lambda r: len(r.layout.exhibits) == 1),
        (put(*LUTE, "gid", 11), "is drawn with gid"),
    ],
    ("object", "point"): [(closing(point=True), closed([3, 3]))],
    ("object", "ellipse"): [(put(*HARP, "ellipse", True), SAME), (closing(ellipse=True), "is drawn as a ellipse")],
    ("object", "capsule"): [(put(*HARP, "capsule", True), SAME), (closing(capsule=True), "is drawn as a capsule")],
    ("object", "text"): [(put(*HARP, "text", {"text": "hi"}), SAME), (closing(text={"text": "x"}), "drawn as a text")],
    ("object", "polygon"): [
        (lambda doc: figure(doc, "polygon"), SAME),
        (closing(polygon=[{"x": 0, "y": 0}]), "a polygon"),
    ],
    ("object", "polyline"): [(lambda doc: figure(doc, "polyline"), SAME)],
    ("object", "properties"): [
        (
            put(*HARP, "properties", [prop("theme", "music"), prop("dwell", "9")]),
            lambda r: r.layout.exhibits.dwell[0] == 9,
        ),
        (
            put(*THINGS, "objects", 3, "properties", [prop("solid", "true")]),
            "has solid = true, but only tiles of tile layers",
        ),
        (
            put(*THINGS, "objects", 3, "properties", [prop("district", 3, "int")]),
            "object '' has the property 'district', which only tiles have; paint it with tiles in the layer",
        ),
    ],
    ("object", "template"): [(put(*LUTE, "template", "t.tx"), "object is an instance of a template; choose Detach")],
    ("polygon", "points"): [(lambda doc: figure(doc, "polygon"), SAME)],
    ("polyline", "points"): [(lambda doc: figure(doc, "polyline"), SAME)],
    ("group", "layers"): [
        (
            both(put(*SKY, "name", "crowd")),
            "layer 'crowd', tiles (x=2, y=1), (x=3, y=1): 2 tiles do not say how crowded",
        )
    ],
    ("group", "type"): [(put("layers", 1, "type", "folder"), "layer 'decor': a layer is of type 'folder'")],
    ("group", "properties"): [(put("layers", 1, "properties", SOLID), f"layer 'decor': the layer {MISPLACED}")],
    ("property", "name"): [
        (put(*HARP, "properties", [prop("subject", "music")]), "exhibit 'Harp' has theme None, expected e.g. 'music'")
    ],
    ("property", "type"): [
        (
            theme(type="file", value="music"),
            "exhibit 'Harp' has theme a file 'music', expected e.g.",
        ),
        (theme(value="music"), SAME),
    ],
    ("property", "value"): [(theme(value="game"), lambda r: r.layout.exhibits.themes[0, 1] == 1)],
    ("property", "properties"): [(theme(type="class", value={"a": "music"}), "exhibit 'Harp' has theme a class {")],
    ("property", "item"): [(theme(type="list", value=[{"type": "string", "value": "music"}]), SAME)],
    ("item", "type"): [(theme(type="list", value=[{"type": "color", "value": "music"}]), "has theme [a color '")],
    ("item", "value"): [
        (
            theme(type="list", value=[{"type": "string", "value": v} for v in ("music", "game")]),
            lambda r: r.layout.exhibits.themes[0].tolist()[1:4:2] == [0.5, 0.5],
        )
    ],
}
INSIDE = put(*SKY, "name", "walls")
for _name in ("x", "y", "offsetx", "offsety", "parallaxx", "parallaxy"):
    _says = "times the map's speed" if "parallax" in _name else "the layer is shifted by"
    _plain = put(*THINGS, "objects", [])
    CASES["objectgroup", _name] = [
        (put(*THINGS, _name, 2), f"layer 'things': {_says if 'by' in _says else 'the layer scrolls at'}"),
        (both(lambda doc: doc["layers"].append({**layer(doc, 2), "objects": []}), put("layers", 3, _name, 2)), SAME),
    ]
    CASES["group", _name] = [
        (both(INSIDE, put("layers", 1, _name, 2)), _says),
        (put("layers", 1, _name, 2), SAME),
        (
            both(
                put(*SKY, "name", "districts"),
                put("layers", 1, _name, 2),
                put(*SKY, _name, 0.5 if "par" in _name else -2),
            ),
            ALONE,
        ),
    ]


def figure(doc: Doc, kind: str) -> None:
    """Draw 'Harp' as a triangle whose middle is where it was; its first corner is elsewhere."""
    corners = [{"x": 0, "y": 0}, {"x": -60, "y": 0}, {"x": -60, "y": 30}]
    harp = layer(doc, 2)["objects"][1]
    harp |= {"x": 95, "y": 20, "width": 0, "height": 0, kind: corners}


def gone(path: str) -> Edit:
    def edit(root: Any) -> None:
        outer, _, tag = path.rpartition("/")
        for parent in root.findall(outer or "."):
            for child in parent.findall(tag):
                parent.remove(child)

    return edit


def grouped(tag: str) -> Edit:
    """Return an edit that moves the last layers of a kind into a group."""

    def edit(root: Any) -> None:
        inner = root.findall(tag)[-1]
        root.remove(inner)
        ElementTree.SubElement(root, "group", name="more").append(inner)

    return edit


def tile_elements(root: Any) -> None:
    """Write tiles the old way, one element each."""
    for data in root.iter("data"):
        for part in data.findall("chunk") or [data]:
            gids, part.text = part.text.split(","), None
            part.extend([ElementTree.Element("tile", {} if gid == "0" else {"gid": gid}) for gid in gids])
        del data.attrib["encoding"]


def chunked(root: Any) -> None:
    root.set("infinite", "1")
    for data in root.iter("data"):
        ElementTree.SubElement(data, "chunk", x="0", y="0", width=str(W), height="5").text = data.text
        data.text = None


IN_TMX: dict[tuple[str, str], list[tuple[Edit, Any]]] = {
    ("map", "layer"): [(gone("layer"), "no layer 'walls'")],
    ("map", "objectgroup"): [(gone("objectgroup"), "there is no spawn point")],
    ("map", "group"): [(lambda root: root.find("group/layer").set("name", "crowd"), "layer 'crowd', tiles (x=2, y=1)")],
    ("map", "tileset"): [(gone("tileset"), "belong to no tileset of the map")],
    ("group", "layer"): [(grouped("layer"), SAME)],
    ("group", "objectgroup"): [(grouped("objectgroup"), SAME)],
    ("group", "group"): [(grouped("group"), SAME)],
    ("tileset", "tile"): [(gone("tileset/tile"), lambda r: len(r.layout.exhibits) == 1)],
    ("objectgroup", "object"): [(gone("objectgroup/object"), "there is no spawn point")],
    ("data", "tile"): [(tile_elements, SAME)],
    ("data", "chunk"): [(chunked, SAME)],
    ("chunk", "tile"): [(both(chunked, tile_elements), SAME)],
    ("data tile", "gid"): [
        (tile_elements, SAME),
        (both(tile_elements, lambda root: root.find("layer/data/tile").set("gid", str(0xE0000001))), SAME),
        (
            both(tile_elements, lambda root: root.find("layer/data/tile").set("gid", "0")),
            "the border is open in 1 cell",
        ),
    ],
}
