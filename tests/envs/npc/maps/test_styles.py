"""Maps in the styles of others: as they are they are refused by sentences, with our layers added they load."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from metarl.envs.npc.maps.faults import MapError
from metarl.envs.npc.maps.tiled import load_tiled, read_tiled
from tests.envs.npc.maps.tiled_files import EXHIBIT, GIDS, PROPERTIES, ROWS, SPAWN, W, faults
from tests.envs.npc.maps.tiled_whole import Doc, prop, thing, tile_layer

WALLS = [[mark == "#" for mark in row] for row in ROWS]


def office() -> Doc:
    """Return a map as those of virtual offices are: many layers, `collides` on tiles, links as properties of layers."""
    desk = [3 if k == W + 4 else 0 for k in range(len(GIDS))]
    tiles = [{"id": 2, "properties": [{"name": "collides", "type": "bool", "value": True}]}]
    tileset = {"firstgid": 1, "name": "room", "image": "room.png", "tilewidth": 32, "tileheight": 32, "tilecount": 9}
    link = [prop("exitUrl", "../garden/map.json"), prop("openWebsite", "https://example.org", "string")]
    layers: list[Doc] = [tile_layer(f"floor{k}", [2] * len(GIDS)) for k in range(80)]
    layers += [
        tile_layer("start", desk),
        tile_layer("exit", desk) | {"properties": link},
        tile_layer("furniture", desk),
    ]
    layers.append({"name": "floorLayer", "type": "objectgroup", "objects": [thing(1, "", 0, 0, width=64, height=32)]})
    size = {"width": W, "height": 5, "tilewidth": 32, "tileheight": 32}
    made: Doc = {"version": "1.6", "orientation": "orthogonal", "infinite": False, "renderorder": "right-down", **size}
    return made | {"tilesets": [tileset | {"columns": 3, "spacing": 0, "margin": 0, "tiles": tiles}], "layers": layers}


def test_an_office_is_refused_by_what_it_lacks_and_loads_once_it_has_it(tmp_path: Path) -> None:
    doc, path = office(), tmp_path / "office.json"
    path.write_text(json.dumps(doc))
    with pytest.raises(MapError) as caught:
        load_tiled(path)
    assert [fault.what for fault in caught.value.faults] == [
        "the map property 'format' is None, expected 'npcworld/1'",
        "the map property 'licence' is None, expected e.g. 'CC0-1.0'",
        "there is no layer 'walls' and no tile with solid=true",
        "the border is open in 22 cells, expected a wall in every outermost cell",
        "there is no exhibit, 1 to 16 fit",
        "there is no spawn point",
    ]
    doc["properties"] = [prop("format", "npcworld/1"), prop("licence", "CC0-1.0")]
    doc["layers"].append(tile_layer("walls", list(GIDS)))
    people = [thing(2, "spawn", 48, 48, point=True), thing(3, "exhibit", 208, 112, prop("theme", "music"), point=True)]
    doc["layers"].append({"name": "npc", "type": "objectgroup", "objects": people})
    path.write_text(json.dumps(doc))
    reading = read_tiled(path)
    assert reading.layout.wall.tolist() == WALLS
    assert "the property 'collides' of tiles means nothing; did you mean 'solid'?" in reading.notes


def test_a_map_of_an_early_editor_loads(write: Any) -> None:
    """Version 1.0: a document type that names a file, no counters, terrains, base64 with zlib, untyped attributes."""
    packed = base64.b64encode(zlib.compress(struct.pack("<40I", *GIDS))).decode()
    doctype = '<!DOCTYPE map SYSTEM "http://mapeditor.org/dtd/1.0/map.dtd">'
    text = (
        f'<?xml version="1.0"?>\n{doctype}\n<map version="1.0" orientation="orthogonal" width="{W}" height="5" '
        f'tilewidth="10" tileheight="10">{PROPERTIES}<tileset firstgid="1" name="sewer" tilewidth="24" tileheight="24" '
        'spacing="1"><image source="sewer.png" trans="ff00ff" width="90" height="10"/><terraintypes><terrain name="s" '
        'tile="0"/></terraintypes><tile id="0" terrain=",,0,0"/></tileset><layer name="Walls" width="8" height="5">'
        f'<data encoding="base64" compression="zlib">\n   {packed}\n  </data></layer>'
        f'<objectgroup name="things" width="8" height="5">{SPAWN}{EXHIBIT}</objectgroup></map>'
    )
    assert load_tiled(write(text)).wall.tolist() == WALLS
    (fault,) = faults(write(text.replace(doctype, '<!DOCTYPE map [<!ENTITY a "b">]>')))
    assert fault.startswith("it declares a document type of its own or entities, which maps do not need")


def test_walls_in_perspective_are_where_they_are_painted(write: Any) -> None:
    """Tall tiles that are drawn half a cell lower, a shifted layer of roofs, clouds that scroll at half the speed."""
    tileset = (
        '<tileset firstgid="1" name="tall" tilewidth="10" tileheight="30" tilecount="9" columns="9">'
        '<tileoffset x="0" y="5"/><image source="t.png" width="90" height="30"/></tileset>'
    )
    roofs = f'<data encoding="csv">{",".join("4" for _ in GIDS)}</data>'
    size = f'width="{W}" height="5"'
    layers = f'<layer id="3" name="roofs" offsetx="0" offsety="-5" {size}>{roofs}</layer>'
    layers += f'<layer id="4" name="clouds" parallaxx="0.5" parallaxy="0.5" {size}>{roofs}</layer>'
    path = write(layers=layers)
    text = path.read_text()
    path.write_text(text[: text.index("<tileset")] + tileset + text[text.index("</tileset>") + len("</tileset>") :])
    assert load_tiled(path).wall.tolist() == WALLS
