"""Everything that Tiled's map format (TMX and JSON, up to Tiled 1.12) can say, and what becomes of it here.

One table for code, tests and docs/maps.md: the reader notes what is not in it, a test tries every row.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

HONOURED, REFUSED, IGNORED = "honoured", "refused", "ignored"


class Row(NamedTuple):
    """Attributes, or child elements, of one part of a file that share a fate."""

    part: str
    """element of TMX, object of the JSON format"""
    names: str
    """separated by blanks; `:tmx` or `:json` behind what only that format has"""
    verdict: str
    why: str


_SHIFT = "a layer that means something has to lie on the grid: any other value is a fault; in a decoration ignored"
_LOOKS = "looks only"
_EDITOR = "help for drawing, without a trace in the map"
_COUNTER = "book-keeping of the editor"
_MISPLACED = "`solid`, `district` or `crowd` here is a fault: they belong to tiles; other names are ignored"
_PICTURE = "pictures are never opened"

ROWS = (
    Row("map", "orientation", HONOURED, "`orthogonal`; `isometric`, `staggered`, `hexagonal`, `oblique` are a fault"),
    Row("map", "width height", HONOURED, "the size of the world, unless the map is infinite"),
    Row("map", "tilewidth tileheight", HONOURED, "the grid on which objects stand"),
    Row("map", "infinite", HONOURED, "the world is the box around the walls"),
    Row("map", "properties", HONOURED, "`format`, `licence`, `name`, `cell_m`; " + _MISPLACED),
    Row("map", "layers:json tilesets:json type:json", HONOURED, "a `type` other than `map` is a fault"),
    Row("map", "layer:tmx objectgroup:tmx group:tmx tileset:tmx", HONOURED, "see below"),
    Row("map", "imagelayer:tmx", IGNORED, _PICTURE),
    Row("map", "version tiledversion", IGNORED, "what is in the file counts, not who wrote it"),
    Row("map", "class", IGNORED, "what its members say is not in the file (see limits)"),
    Row("map", "renderorder backgroundcolor parallaxoriginx parallaxoriginy", IGNORED, _LOOKS),
    Row("map", "compressionlevel nextlayerid nextobjectid editorsettings", IGNORED, _COUNTER),
    Row("map", "hexsidelength staggeraxis staggerindex skewx skewy", IGNORED, "only maps that are refused have them"),
    Row("editorsettings", "chunksize export", IGNORED, _COUNTER),
    Row("chunksize", "width height", IGNORED, _COUNTER),
    Row("export", "target format", IGNORED, _COUNTER),
    Row("tileset", "firstgid tilecount", HONOURED, "which tileset a tile is of; gaps in collections are fine"),
    Row("tileset", "source", HONOURED, "a `.tsx` or `.tsj` in the map's folder or below, any other place is a fault"),
    Row(
        "tileset", "tilewidth tileheight", HONOURED, "the size of tile objects without one; larger tiles fill one cell"
    ),
    Row("tileset", "objectalignment", HONOURED, "where tile objects lie about their position"),
    Row("tileset", "tileoffset", HONOURED, "shifts tile objects as on the screen; a tile of a layer keeps its cell"),
    Row("tileset", "tiles:json tile:tmx", HONOURED, "see below"),
    Row("tileset", "properties", REFUSED, _MISPLACED),
    Row("tileset", "tileproperties:json tilepropertytypes:json", REFUSED, "Tiled before 1.2 wrote tile properties so"),
    Row("tileset", "name class version tiledversion type:json editorsettings", IGNORED, _COUNTER),
    Row("tileset", "spacing margin columns image", IGNORED, _PICTURE),
    Row("tileset", "imagewidth:json imageheight:json transparentcolor:json", IGNORED, _PICTURE),
    Row("tileset", "tilerendersize fillmode backgroundcolor", IGNORED, _LOOKS),
    Row("tileset", "grid terraintypes:tmx terrains:json transformations wangsets", IGNORED, _EDITOR),
    Row("tileoffset", "x y", HONOURED, "see `tileoffset` of a tileset"),
    Row("grid", "orientation width height", IGNORED, _EDITOR),
    Row("image", "width:tmx height:tmx", HONOURED, "of a tile: the size of tile objects without one"),
    Row("image", "source:tmx format:tmx id:tmx trans:tmx data:tmx", IGNORED, _PICTURE),
    Row("transformations", "hflip vflip rotate preferuntransformed", IGNORED, _EDITOR),
    Row("terrain", "name tile properties", IGNORED, _EDITOR),
    Row("wangset", "name class type tile properties", IGNORED, _EDITOR),
    Row("wangset", "wangcolor:tmx wangtile:tmx colors:json wangtiles:json", IGNORED, _EDITOR),
    Row("wangcolor", "name class color tile probability properties", IGNORED, _EDITOR),
    Row("wangtile", "tileid wangid hflip vflip dflip", IGNORED, _EDITOR),
    Row("tile", "id", HONOURED, "any order, with gaps"),
    Row("tile", "type class", HONOURED, "the class of objects that are drawn with it"),
    Row("tile", "properties", HONOURED, "`solid`, `district`, `crowd`; tile objects take over what they do not have"),
    Row("tile", "width height imagewidth:json imageheight:json", HONOURED, "the size of tile objects without one"),
    Row("tile", "objectgroup", REFUSED, "on a tile that is drawn, outside `walls`, without `solid` (true or false)"),
    Row("tile", "x y image", IGNORED, _PICTURE),
    Row("tile", "animation", IGNORED, "the tile itself counts, not its frames"),
    Row("tile", "terrain probability", IGNORED, _EDITOR),
    Row("frame", "tileid duration", IGNORED, "the tile itself counts, not its frames"),
    Row("layer", "name", HONOURED, "`walls`, `districts` and `crowd` have a meaning"),
    Row("layer", "type:json", HONOURED, "one of four, else a fault"),
    Row("layer", "width height", HONOURED, "have to be those of the map"),
    Row("layer", "data encoding:json compression:json chunks:json", HONOURED, "see below"),
    Row("layer", "x y offsetx offsety parallaxx parallaxy", REFUSED, _SHIFT),
    Row("layer", "class", REFUSED, "`walls`, `districts` or `crowd`, unless it is the name, too; others are ignored"),
    Row("layer", "properties", REFUSED, _MISPLACED),
    Row("layer", "visible", IGNORED, "hidden layers count; a note says so (not of `crowd`)"),
    Row("layer", "opacity tintcolor mode", IGNORED, _LOOKS),
    Row("layer", "id locked startx:json starty:json", IGNORED, _COUNTER),
    Row("data", "encoding", HONOURED, "`csv`, `base64`, none (tiles as XML elements)"),
    Row("data", "compression", HONOURED, "`zlib`, `gzip`, none; `zstd` is a fault"),
    Row("data", "tile:tmx chunk:tmx", HONOURED, "see below"),
    Row("chunk", "x y width height data:json tile:tmx", HONOURED, "of infinite maps; in others a fault"),
    Row("data tile", "gid:tmx", HONOURED, "the bits of flipping and turning are looks only"),
    Row("objectgroup", "name", HONOURED, "in messages"),
    Row("objectgroup", "objects:json object:tmx type:json", HONOURED, "see below"),
    Row("objectgroup", "x y offsetx offsety parallaxx parallaxy", REFUSED, _SHIFT),
    Row("objectgroup", "properties", REFUSED, _MISPLACED),
    Row("objectgroup", "visible", IGNORED, "hidden layers count; a note says so"),
    Row("objectgroup", "color opacity tintcolor mode draworder", IGNORED, _LOOKS),
    Row("objectgroup", "id class width height locked startx:json starty:json", IGNORED, _COUNTER),
    Row("object", "name", HONOURED, "of exhibits"),
    Row("object", "type class", HONOURED, "what it is; objects without one are ignored, a note counts them"),
    Row("object", "x y width height", HONOURED, "it stands in the cell under its middle"),
    Row("object", "rotation", HONOURED, "about its position; a `closed_at` may turn by right angles only"),
    Row("object", "gid", HONOURED, "class, properties and size of the tile, which has to be there"),
    Row("object", "point ellipse capsule text", HONOURED, "the middle counts; a `closed_at` is a rectangle or point"),
    Row("object", "polygon polyline", HONOURED, "the middle of the box around its points; no `closed_at`"),
    Row(
        "object",
        "properties",
        HONOURED,
        "those of its class, a note names others; without one `solid`, `district`, `crowd` are a fault",
    ),
    Row("object", "template", REFUSED, "template files (`.tx`, `.tj`) are not opened"),
    Row("object", "visible", IGNORED, "hidden objects count; a note names them"),
    Row("object", "id opacity", IGNORED, _LOOKS),
    Row("polygon", "points:tmx", HONOURED, "see `polygon` of an object"),
    Row("polyline", "points:tmx", HONOURED, "see `polyline` of an object"),
    Row("text", "text:json fontfamily pixelsize wrap color bold italic underline", IGNORED, _LOOKS),
    Row("text", "strikeout kerning halign valign", IGNORED, _LOOKS),
    Row("imagelayer", "type:json", HONOURED, "one of four, else a fault"),
    Row("imagelayer", "id name class properties locked startx:json starty:json", IGNORED, _PICTURE),
    Row("imagelayer", "x y offsetx offsety parallaxx parallaxy visible opacity tintcolor mode", IGNORED, _PICTURE),
    Row("imagelayer", "image repeatx repeaty", IGNORED, _PICTURE),
    Row("imagelayer", "imagewidth:json imageheight:json transparentcolor:json", IGNORED, _PICTURE),
    Row("group", "layers:json layer:tmx objectgroup:tmx group:tmx type:json", HONOURED, "see above"),
    Row("group", "imagelayer:tmx", IGNORED, _PICTURE),
    Row("group", "offsetx offsety parallaxx parallaxy x y", REFUSED, "as in the layers inside, which they move"),
    Row("group", "properties", REFUSED, _MISPLACED),
    Row("group", "visible", IGNORED, "as in the layers inside"),
    Row("group", "opacity tintcolor mode", IGNORED, _LOOKS),
    Row("group", "id name class locked startx:json starty:json", IGNORED, _COUNTER),
    Row("property", "name type value", HONOURED, "numbers and true or false count as text, too; else a fault"),
    Row("property", "properties:tmx item:tmx", HONOURED, "a class is no value of ours; a `theme` may be a list"),
    Row("property", "propertytype", IGNORED, "the value counts, whatever its enumeration"),
    Row("item", "type value", HONOURED, "names of themes"),
    Row("item", "properties:tmx item:tmx propertytype", IGNORED, "themes are plain names"),
)


@cache
def names(part: str) -> frozenset[str]:
    """Return every name that the format knows in a part, of either format."""
    return frozenset(name.split(":")[0] for row in ROWS if row.part == part for name in row.names.split())


def table() -> str:
    """Return the rows as a table in Markdown, for docs/maps.md."""
    lines = ["| part | says | here | because |", "|---|---|---|---|"]
    for row in ROWS:
        shown = []
        for name in row.names.split():
            plain, _, only = name.partition(":")
            shown.append(f"`{plain}`" + (f" ({only.upper()})" if only else ""))
        lines.append(f"| `{row.part}` | {', '.join(shown)} | {row.verdict} | {row.why} |")
    return "\n".join(lines)
