"""Values in a Tiled map count by what they say, whatever their type; what says nothing certain is a fault or a note."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from metarl.envs.npc.maps.faults import MapError
from metarl.envs.npc.maps.layout import differences
from metarl.envs.npc.maps.tiled import load_tiled, read_tiled
from tests.envs.npc.maps.tiled_cases import (
    COLLECTION,
    HARP,
    IMAGE_SET,
    LUTE,
    SKY,
    THINGS,
    WALLS,
    Edit,
    both,
    closing,
    put,
)
from tests.envs.npc.maps.tiled_files import EXHIBIT, GIDS, SPAWN, W, csv, faults
from tests.envs.npc.maps.tiled_whole import prop, save, whole_map

ENDINGS = ("tmx", "tmj")
DOOR = 2 * W + 3
SAYS = {
    'value="true"': True, 'value=" True "': True, 'type="string" value="TRUE"': True, 'type="bool" value="true"': True,
    'type="bool" value="True"': True, 'value="false"': False, 'type="bool" value="false"': False, 'type="bool"': False,
    'type="bool" value="False"': False,
}  # fmt: skip


def tiles(attributes: str) -> str:
    return f'<tile id="1"><properties><property name="solid" {attributes}/></properties></tile>'


@pytest.mark.parametrize("attributes", SAYS)
def test_solid_counts_as_a_truth_and_as_the_text_of_one(write: Any, attributes: str) -> None:
    gids = [2 if k == DOOR else gid for k, gid in enumerate(GIDS)]  # a tile in the layer of walls
    assert bool(load_tiled(write(data=csv(gids), tiles=tiles(attributes))).wall[2, 3]) == SAYS[attributes]
    sky = [2 if k == W + 3 else 0 for k in range(len(GIDS))]  # and one in a decoration
    layer = f'<layer id="3" name="sky" width="{W}" height="5">{csv(sky)}</layer>'
    assert bool(load_tiled(write(layers=layer, tiles=tiles(attributes))).wall[1, 3]) == SAYS[attributes]


@pytest.mark.parametrize(
    "attributes", ['value="yes"', 'value=""', 'type="int" value="1"', 'type="color" value=""', 'type="bool" value="1"']
)
def test_any_other_solid_is_a_fault_with_layer_and_tiles(write: Any, attributes: str) -> None:
    gids = [2 if k == DOOR else gid for k, gid in enumerate(GIDS)]
    (fault,) = faults(write(data=csv(gids), tiles=tiles(attributes)))
    assert fault.startswith("layer 'Walls', tile (x=3, y=2): 1 tiles have solid = ")
    assert fault.endswith("expected true or false; give those tiles of the tileset a bool property 'solid'")
    assert load_tiled(write(tiles=tiles(attributes))).digest() == load_tiled(write()).digest()  # nowhere drawn


def painted(name: str, value: str) -> Edit:
    """Return an edit that gives the tile of layer 'sky' a property of type string, in a layer of another name."""
    layer = "districts" if name == "district" else name
    return both(put(*SKY, "name", layer), put(*IMAGE_SET, "tiles", 1, "properties", [prop(name, value)]))


TEXTS: list[tuple[Edit, Any]] = [
    (painted("district", "12"), lambda world: world.district[1, 2] == 12),
    (painted("crowd", "0.37"), lambda world: world.crowd[1, 2] == pytest.approx(0.37)),
    (
        put(*HARP, "properties", [prop("theme", "game"), prop("popularity", "0.25")]),
        lambda w: w.exhibits.popularity[0] == 0.25,
    ),
    (put(*HARP, "properties", [prop("theme", "game"), prop("dwell", "7")]), lambda w: w.exhibits.dwell[0] == 7),
    (lambda doc: doc["properties"].append(prop("cell_m", "2.5")), lambda w: w.cell_m == 2.5),
    (closing(point=True), lambda w: list(w.closed_at) == [1]),
]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_numbers_count_as_text(tmp_path: Path, ending: str, number: int) -> None:
    edit, expected = TEXTS[number]
    doc = whole_map()
    edit(doc)
    assert expected(load_tiled(save(doc, tmp_path / f"m.{ending}")))


WRONG: list[tuple[Edit, str]] = [
    (painted("district", "twelve"), "2 tiles stand for no district from 0 to 16"),
    (painted("district", "1.5"), "2 tiles stand for no district from 0 to 16"),
    (painted("crowd", "0,5"), "2 tiles do not say how crowded it is there"),
    (
        put(*HARP, "properties", [prop("theme", "game"), prop("dwell", "2.7", "int")]),
        "'Harp' has dwell '2.7', expected",
    ),
    (
        put(*HARP, "properties", [prop("theme", "game"), prop("dwell", "1_0")]),
        "exhibit 'Harp' has dwell '1_0', expected",
    ),
    (
        put(*HARP, "properties", [prop("theme", "game"), prop("popularity", True, "bool")]),
        "has popularity True, expected",
    ),
    (put(*HARP, "properties", [prop("theme", "", "color")]), "exhibit 'Harp' has theme a color ''"),
    (put(*LUTE, "x", "far"), "exhibit 'Lute' has no proper position and size (['far', 20, 0, 0]); draw it again"),
    (put(*HARP, "polygon", [{"x": 1, "y": "?"}]), "exhibit 'Harp' has no proper position and size"),
]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("number", range(len(WRONG)))
def test_text_that_is_no_such_number_is_a_fault(tmp_path: Path, ending: str, number: int) -> None:
    edit, expected = WRONG[number]
    doc = whole_map()
    edit(doc)
    with pytest.raises(MapError) as caught:
        load_tiled(save(doc, tmp_path / f"m.{ending}"))
    assert expected.replace("20, 0, 0", "'20', '0', '0'" if ending == "tmx" else "20, 0, 0") in str(caught.value)


@pytest.mark.parametrize("ending", ENDINGS)
def test_colours_that_are_not_set_are_no_reason_to_refuse(tmp_path: Path, ending: str) -> None:
    doc = whole_map()
    for part in (doc, doc["tilesets"][0], *doc["layers"], doc["layers"][2]["objects"][1]):
        part["properties"] = [*part.get("properties", []), prop("shade", "", "color"), prop("link", "", "file")]
    reading = read_tiled(save(doc, tmp_path / f"m.{ending}"))
    assert reading.layout.digest() == load_tiled(save(whole_map(), tmp_path / "plain.tmj")).digest()


def test_a_tile_is_of_the_tileset_with_the_last_first_gid_before_it(tmp_path: Path) -> None:
    doc = whole_map()
    doc["tilesets"][0]["tilecount"] = 60  # a tileset that has grown since the second was added
    doc["tilesets"][0]["tiles"].append({"id": 22, "properties": [prop("solid", "true")]})
    put(*SKY, "data", [23 if k == W + 2 else 0 for k in range(40)])(doc)  # tile 22 of one or tile 3 of the other
    assert not load_tiled(save(doc, tmp_path / "m.tmj")).wall[1, 2]
    put(*COLLECTION, "tiles", 1, "properties", [prop("solid", "true")])(doc)
    assert load_tiled(save(doc, tmp_path / "m.tmj")).wall[1, 2]


def test_a_layer_of_an_infinite_map_may_be_empty_or_one_piece(write: Any) -> None:
    size = f'width="{W}" height="5"'
    empty = f'<layer id="3" name="sky" {size}><data encoding="csv"></data></layer>'
    assert differences(load_tiled(write(infinite=1, layers=empty)), load_tiled(write())) == []


def test_what_is_said_twice_counts_as_in_the_editor_or_is_a_fault(write: Any) -> None:
    theme = '<properties><property name="theme" value="{}"/></properties>'
    harp = EXHIBIT.replace("</object>", theme.format("game") + "</object>")
    assert load_tiled(write(objects=SPAWN + harp)).exhibits.themes[0, 1] == 1  # the last one
    dwell = EXHIBIT.replace("</object>", theme.format("9").replace("theme", "dwell") + "</object>")
    layout = load_tiled(write(objects=SPAWN + dwell))
    assert (layout.exhibits.dwell.tolist(), float(layout.exhibits.themes[0, 3])) == ([9], 1.0)  # none is lost
    assert faults(write(data=csv(GIDS) * 2)) == [
        "layer 'Walls': it has two lists of tiles; open it in Tiled and save it again"
    ]
    assert faults(write(tiles=tiles('value="true"') + tiles('value="false"'))) == [
        "in tileset 't': it describes a tile twice; open it in Tiled and save it again"
    ]


def test_an_offset_along_one_axis_is_an_offset(write: Any) -> None:
    layer = f'<layer id="3" name="crowd" offsety="4" width="{W}" height="5">{csv([0] * 40)}</layer>'
    (fault,) = faults(write(layers=layer))
    assert fault.startswith("layer 'crowd': the layer is shifted by (0.0, 4.0) pixels")


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    doc = whole_map()
    for key in ("version", "tiledversion", "renderorder", "infinite", "nextlayerid", "nextobjectid", "type"):
        del doc[key]
    for part in (*doc["layers"], doc["layers"][1]["layers"][0], *doc["layers"][2]["objects"]):
        for key in ("visible", "opacity", "draworder", "rotation", "id", "x" if "data" in part else ""):
            part.pop(key, None)
    for tileset in doc["tilesets"]:
        for key in ("name", "spacing", "margin", "columns", "tilecount"):
            tileset.pop(key, None)
    doc["layers"][1]["layers"][1] = {"type": "imagelayer"}  # an image layer whose image is not chosen yet
    expected = load_tiled(save(whole_map(), tmp_path / "plain.tmj")).digest()
    for ending in ENDINGS:
        assert load_tiled(save(doc, tmp_path / f"m.{ending}")).digest() == expected


NOTES: list[tuple[Edit, str]] = [
    (put(*HARP, "visible", False), "exhibit 'Harp' is hidden in the editor and counts; delete it if it should not"),
    (put(*THINGS, "visible", False), "spawn '' is hidden in the editor and counts; delete it if it should not"),
    (put(*WALLS, "visible", False), "the layer 'walls' is hidden in the editor and counts"),
    (put(*SKY, "name", "Wall"), "the tile layer 'Wall' is decoration; did you mean 'walls'?"),
    (put(*SKY, "name", "collisions"), "the tile layer 'collisions' is decoration; did you mean 'walls'?"),
    (
        put(*IMAGE_SET, "tiles", 1, "properties", [prop("collides", True, "bool")]),
        "the property 'collides' of tiles means nothing; did you mean 'solid'?",
    ),
    (
        lambda doc: doc["properties"].append(prop("Cell_m", "2")),
        "the map property 'Cell_m' means nothing; did you mean 'cell_m'?",
    ),
    (
        lambda doc: doc["layers"][2]["objects"][1]["properties"].append(prop("popularty", "1")),
        "exhibit 'Harp': the property 'popularty' means nothing here; did you mean 'popularity'?",
    ),
    (
        lambda doc: doc["layers"][2]["objects"][0]["properties"].append(prop("theme", "music")),
        "spawn '': the property 'theme' means nothing here; objects of class spawn have none",
    ),
]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("number", range(len(NOTES)))
def test_what_looks_like_a_mistake_is_told_in_a_note(tmp_path: Path, ending: str, number: int) -> None:
    edit, note = NOTES[number]
    doc = whole_map()
    assert note not in read_tiled(save(doc, tmp_path / f"m.{ending}")).notes
    edit(doc)
    assert note in read_tiled(save(doc, tmp_path / f"m.{ending}")).notes


def test_a_solid_tile_among_the_objects_is_no_wall_in_silence(tmp_path: Path) -> None:
    doc = whole_map()
    doc["tilesets"][0]["tiles"][1]["properties"] = [prop("solid", "true")]
    doc["layers"][1]["layers"][0]["data"] = [0] * 40
    put(*LUTE, "gid", 9)(doc)
    with pytest.raises(MapError, match="object 'Lute' has solid = true, but only tiles of tile layers are walls"):
        load_tiled(save(doc, tmp_path / "m.tmj"))


def test_the_collision_shapes_of_a_tile_that_says_whether_it_is_solid_do_not_matter(write: Any) -> None:
    shape = '<objectgroup><object id="1" x="0" y="0" width="9" height="9"/></objectgroup>'
    sky = [2 if k == W + 3 else 0 for k in range(len(GIDS))]
    layer = f'<layer id="3" name="sky" width="{W}" height="5">{csv(sky)}</layer>'
    for value in ("true", "false"):
        tile = tiles(f'value="{value}"').replace("</tile>", f"{shape}</tile>")
        assert bool(load_tiled(write(layers=layer, tiles=tile)).wall[1, 3]) == (value == "true")
    (fault,) = faults(write(layers=layer, tiles=f'<tile id="1">{shape}</tile>'))
    assert fault.startswith(
        "layer 'sky', tile (x=3, y=1): 1 tiles have collision shapes, but do not say whether they are"
    )


def test_a_map_may_be_saved_with_other_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = ElementTree.tostring(ElementTree.fromstring(save(whole_map(), tmp_path / "m.tmx").read_text()), "unicode")
    (tmp_path / "m.tmx").write_bytes(b"\xef\xbb\xbf" + text.replace("><", ">\r\n<").encode())
    expected = load_tiled(save(whole_map(), tmp_path / "plain.tmj"))
    assert load_tiled(tmp_path / "m.tmx").digest() == expected.digest()


def test_an_object_drawn_with_a_tile_of_no_tileset_is_a_fault(write: Any) -> None:
    (fault,) = faults(write(objects=SPAWN + EXHIBIT + '<object id="7" name="?" gid="99" x="30" y="20"/>'))
    assert fault.startswith("layer 'things', tile (x=3, y=2): object '?' is drawn with gid '99', which belongs to no")
