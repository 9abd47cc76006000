"""Maps drawn in Tiled become the worlds they show; whatever is wrong with them is said by layer and tile."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metarl.envs.npc.maps.export import export_glb
from metarl.envs.npc.maps.layout import Exhibits, Layout, Portal, differences
from metarl.envs.npc.maps.samples import SAMPLES, load_sample
from metarl.envs.npc.maps.themes import features
from metarl.envs.npc.maps.tiled import load_tiled, read_tiled
from metarl.envs.npc.maps.tiled_save import ENCODINGS, save_tiled
from metarl.errors import ConfigError
from tests.envs.npc.maps.tiled_files import EXHIBIT, GIDS, HEADER, PROPERTIES, ROWS, SPAWN, W, csv, faults


def test_a_map_written_by_hand_becomes_the_world_it_shows(write: Any) -> None:
    layout = load_tiled(write())
    assert layout.wall.tolist() == [[mark == "#" for mark in row] for row in ROWS]
    assert (layout.spawn, layout.exhibits.cell.tolist()) == ((1, 1), [[3, 6]])
    assert (layout.exhibits.names, layout.exhibits.dwell.tolist()) == (("Harp",), [3])
    assert (layout.name, layout.licence, layout.cell_m) == ("m", "CC0-1.0", 1.0)
    assert layout.crowd[3, 6] == layout.exhibits.popularity[0] == 0.5  # no crowd layer: as popular as its exhibits


@pytest.mark.parametrize(("name", "save"), [("w.tmx", save_tiled), ("w.tmj", save_tiled), ("w.glb", export_glb)])
def test_a_world_is_not_written_where_a_link_leads(name: str, save: Any, write: Any, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / name).symlink_to("precious")
    with pytest.raises(ConfigError, match="is a symbolic link, which a file would replace; name another file"):
        save(load_tiled(write()), tmp_path / name)
    assert (tmp_path / "precious").read_text() == "precious"


def test_tile_objects_stand_on_their_lower_left_corner_and_take_class_and_theme_from_their_tile(write: Any) -> None:
    tile = '<tile id="4" type="exhibit"><properties><property name="theme" value="game"/></properties></tile>'
    thing = f'<object id="3" gid="{5 | 0x80000000}" x="60" y="20" width="10" height="10"/>'
    layout = load_tiled(write(tiles=tile, objects=SPAWN + thing))
    assert layout.exhibits.cell.tolist() == [[1, 6]]
    assert torch.equal(layout.exhibits.themes[0], features("game").float())


def test_flipped_and_rotated_tiles_are_the_tiles_they_were(write: Any) -> None:
    flips = [gid | bits if gid else 0 for gid, bits in zip(GIDS, itertools.cycle([1 << k for k in range(28, 32)]))]
    assert differences(load_tiled(write(data=csv(flips))), load_tiled(write())) == []


def test_a_tile_is_solid_by_layer_or_by_property(write: Any) -> None:
    tiles = (
        '<tile id="1"><properties><property name="solid" type="bool" value="true"/></properties></tile>'
        '<tile id="2"><properties><property name="solid" type="bool" value="false"/></properties></tile>'
    )
    gids = list(GIDS)
    gids[2 * W + 3] = 3  # a doorway: drawn in the layer of walls, not solid
    trees = [0] * len(GIDS)
    trees[1 * W + 4], trees[1 * W + 5] = 2, 4  # a tree that is solid, a flower that is not
    layer = f'<group id="7" name="decor"><layer id="8" name="trees" width="{W}" height="5">{csv(trees)}</layer></group>'
    layout = load_tiled(write(data=csv(gids), layers=layer, tiles=tiles))
    assert [bool(layout.wall[c]) for c in ((2, 3), (2, 2), (1, 4), (1, 5))] == [False, True, True, False]


def test_districts_and_crowd_are_painted_with_tiles(write: Any) -> None:
    tiles = (
        '<tile id="5"><properties><property name="district" type="int" value="12"/></properties></tile>'
        '<tile id="6"><properties><property name="crowd" type="float" value="0.37"/></properties></tile>'
    )
    districts, crowd = [0] * len(GIDS), [0] * len(GIDS)
    districts[W + 1], districts[W + 2], crowd[W + 1] = 6, 3, 7
    size = f'width="{W}" height="5"'
    layers = f'<layer id="3" name="districts" {size}>{csv(districts)}</layer>'
    layers += f'<layer id="4" name="crowd" {size}>{csv(crowd)}</layer>'
    layout = load_tiled(write(layers=layers, tiles=tiles))
    assert [int(layout.district[1, k]) for k in (1, 2, 3)] == [12, 3, 0]  # by property, by gid, none
    assert float(layout.crowd[1, 1]) == pytest.approx(0.37)
    assert float(layout.crowd.sum()) == pytest.approx(0.37)


def test_an_infinite_map_is_the_box_around_its_walls_and_faults_keep_the_editors_coordinates(write: Any) -> None:
    rows = [[GIDS[r * W + c] for c in range(W)] for r in range(5)]
    chunks = "".join(
        f'<chunk x="{x - 20}" y="{y - 10}" width="4" height="3">'
        + ",".join(str(rows[y + r][x + c] if y + r < 5 else 0) for r in range(3) for c in range(4))
        + "</chunk>"
        for y in (0, 3)
        for x in (0, 4)
    )
    moved = (SPAWN + EXHIBIT).replace('x="15" y="15"', 'x="-185" y="-85"').replace('x="60" y="30"', 'x="-140" y="-70"')
    own = {"data": f'<data encoding="csv">{chunks}</data>', "infinite": 1, "size": (1, 1)}
    assert differences(load_tiled(write(objects=moved, **own)), load_tiled(write())) == []
    (fault,) = faults(write(objects=moved.replace('x="-140"', 'x="-150"').replace('y="-70"', 'y="-80"'), **own))
    assert fault.startswith("layer 'things', tile (x=-15, y=-8): exhibit 'Harp' is inside a wall")


def test_the_samples_are_the_same_in_either_format_and_every_encoding(tmp_path: Path) -> None:
    for number, name in enumerate(SAMPLES):
        layout = load_sample(name)
        assert (len(layout.exhibits), len(layout.portals), len(layout.closed_at)) == (8, 1, 1)
        assert bool((layout.distances() >= 0).all())
        for ending, encoding in itertools.product(("tmx", "tmj"), ENCODINGS):
            path = tmp_path / f"{name}-{encoding}.{ending}"
            save_tiled(layout, path, encoding=encoding, infinite=bool(number % 2), external_tileset=encoding == "csv")
            assert differences(load_tiled(path), layout) == []
    assert {p.name for p in tmp_path.iterdir() if p.suffix in (".png", ".tsx")} == {"npcworld.png", "npcworld.tsx"}


texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
unit = st.floats(0, 1, width=32)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Return any world: a random field of walls, of which only what can be reached stays open."""
    from metarl.envs.npc.maps.walking import steps_from

    height, width = draw(st.integers(5, 14)), draw(st.integers(5, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    wall = torch.rand(height, width, generator=generator) < draw(st.sampled_from([0.0, 0.2, 0.35]))
    wall[0] = wall[-1] = True
    wall[:, 0] = wall[:, -1] = True
    spawn = (height // 2, width // 2)
    wall[spawn] = False
    wall = steps_from(wall, spawn) < 0
    free = (~wall).nonzero()
    free = free[torch.randperm(len(free), generator=generator)]
    count = draw(st.integers(1, min(16, len(free))))
    weights = torch.rand(count, 10, generator=generator) * (torch.rand(count, 10, generator=generator) < 0.4)
    weights[:, 0] += 1e-3
    cells = itertools.cycle(free)
    pick = lambda n: torch.stack([next(cells) for _ in range(n)]) if n else torch.zeros(0, 2, dtype=torch.int64)  # noqa: E731
    return Layout(
        wall=wall,
        spawn=spawn,
        exhibits=Exhibits(
            cell=free[:count],
            themes=weights / weights.sum(1, keepdim=True),
            popularity=torch.tensor([draw(unit) for _ in range(count)]),
            dwell=torch.randint(0, 101, (count,), generator=generator),
            names=tuple(draw(texts) for _ in range(count)),
        ),
        district=torch.randint(0, 17, wall.shape, generator=generator),
        crowd=torch.rand(wall.shape, generator=generator),
        exits=pick(draw(st.integers(0, 3))),
        shops=pick(draw(st.integers(0, 2))),
        meetings=pick(draw(st.integers(0, 2))),
        portals=tuple(Portal((int(r), int(c)), draw(texts)) for r, c in pick(draw(st.integers(0, 2))).tolist()),
        name=draw(texts),
        licence=draw(texts),
        cell_m=draw(st.floats(0.05, 100)),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=layouts(), ending=st.sampled_from(["tmx", "tmj"]), encoding=st.sampled_from(ENCODINGS), endless=st.booleans()
)
def test_any_world_comes_back_from_a_file_to_the_bit(
    tmp_path: Path, layout: Layout, ending: str, encoding: str, endless: bool
) -> None:
    path = tmp_path / f"any.{ending}"
    save_tiled(layout, path, encoding=encoding, infinite=endless)
    assert differences(load_tiled(path), layout) == []


def test_closed_cells_of_any_shape_come_back(tmp_path: Path) -> None:
    good = load_sample("plaza-market")
    cells = torch.tensor([[7, 3], [8, 1], [8, 2], [9, 1], [10, 4], [10, 5], [10, 6], [10, 8]])
    layout = replace(good, closed_at={2: cells, 5: torch.tensor([[16, 10]])})
    save_tiled(layout, tmp_path / "x.tmj")
    assert differences(load_tiled(tmp_path / "x.tmj"), layout) == []


@pytest.mark.parametrize(("name", "own"), [("x.png", {}), ("x", {}), ("x.tmx", {"encoding": "zstd"})])
def test_saving_refuses_other_endings_and_encodings(tmp_path: Path, name: str, own: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"\.tmx or \.tmj|must be one of csv"):
        save_tiled(load_sample("museum"), tmp_path / name, **own)


def exhibit(**properties: str) -> str:
    inner = "".join(f'<property name="{k}" value="{v}"/>' for k, v in properties.items())
    place = 'x="60" y="30" width="10" height="10"'
    return f'<object id="2" name="Harp" type="exhibit" {place}><properties>{inner}</properties></object>'


CLOSED = (
    '<object id="7" type="closed_at" x="25" y="12" width="9" height="5"><properties>'
    '<property name="episode" value="1"/></properties></object>'
)
OBJECTS = {
    "no spawn": (EXHIBIT, "there is no spawn point; place exactly one object of class 'spawn'"),
    "two spawns": (SPAWN * 2 + EXHIBIT, "layer 'things', tiles (x=1, y=1), (x=1, y=1): there are 2 spawn points"),
    "typo": (
        SPAWN + EXHIBIT.replace("exhibit", "exibit"),
        "tile (x=6, y=3): unknown class 'exibit'; did you mean 'exhibit'",
    ),
    "rotated": (
        SPAWN + EXHIBIT + CLOSED.replace("width", 'rotation="45" width'),
        "tile (x=2, y=1): closed_at is rotated by 45 degrees",
    ),
    "no theme": (SPAWN + exhibit(dwell="3"), "tile (x=6, y=3): exhibit 'Harp' has theme None, expected e.g. 'music'"),
    "bad theme": (
        SPAWN + exhibit(theme="music:-1"),
        "has theme 'music:-1': 'music:-1' is no theme with a weight between",
    ),
    "popularity": (
        SPAWN + exhibit(theme="x", popularity="1.5"),
        "exhibit 'Harp' has popularity '1.5', expected 0 to 1",
    ),
    "dwell": (
        SPAWN + exhibit(theme="x", dwell="2.5"),
        "exhibit 'Harp' has dwell '2.5', expected a whole number of ticks",
    ),
    "nowhere": (SPAWN + EXHIBIT.replace('x="60"', 'x="nan"'), "exhibit 'Harp' has no proper position and size"),
    "off": (
        SPAWN + EXHIBIT.replace('x="60"', 'x="600"'),
        "tile (x=60, y=3): exhibit 'Harp' is off the map of 8 x 5 tiles",
    ),
    "portal": (
        SPAWN + EXHIBIT + '<object id="3" type="portal" x="31" y="31"/>',
        "tile (x=3, y=3): portal '' leads to None",
    ),
    "closed": (SPAWN + EXHIBIT + '<object id="3" type="closed_at" x="31" y="31"/>', "closed_at has episode None"),
}


@pytest.mark.parametrize("case", OBJECTS)
def test_what_is_wrong_with_an_object_is_said_with_layer_and_tile(write: Any, case: str) -> None:
    objects, says = OBJECTS[case]
    found = faults(write(objects=objects))
    assert any(says in fault for fault in found), found


def test_closed_streets_are_rectangles_over_the_map(write: Any) -> None:
    episode = '<properties><property name="episode" type="int" value="2"/></properties>'
    area = f'<object id="3" class="closed_at" x="25" y="12" width="29" height="5">{episode}{{}}</object>'
    layout = load_tiled(write(objects=SPAWN + EXHIBIT + area.format("")))
    assert {k: v.tolist() for k, v in layout.closed_at.items()} == {2: [[1, 2], [1, 3], [1, 4]]}
    small = area.format("<point/>").replace('x="25" y="12" width="29" height="5"', 'x="31" y="19"')
    assert load_tiled(write(objects=SPAWN + EXHIBIT + small)).closed_at[2].tolist() == [[1, 3]]
    (fault,) = faults(write(objects=SPAWN + EXHIBIT + area.format("<ellipse/>")))
    assert "closed_at is drawn as a ellipse, expected a rectangle or point" in fault
    (fault,) = faults(write(objects=SPAWN + EXHIBIT + area.format("").replace('x="25"', 'x="900"')))
    assert "closed_at covers no cell of the map" in fault


HEADERS = {
    "format": (
        {"properties": PROPERTIES.replace("npcworld/1", "npcworld/9")},
        "'format' is 'npcworld/9', expected 'npcworld/1'",
    ),
    "no properties": ({"properties": ""}, "the map property 'licence' is None, expected e.g. 'CC0-1.0'"),
    "orientation": ({"header": HEADER.replace("orthogonal", "isometric")}, "its orientation is 'isometric'"),
    "lacks": (
        {"header": HEADER.replace('tilewidth="10"', "")},
        "the map lacks tilewidth; open it in Tiled and save it again",
    ),
    "tile size": (
        {"header": HEADER.replace('tilewidth="10"', 'tilewidth="0"')},
        "the tilewidth of the map is '0', expected",
    ),
    "small": ({"size": (4, 5)}, "its width is 4 tiles, expected 5 to 64"),
    "large": ({"size": (8, 65)}, "its height is 65 tiles, expected 5 to 64"),
    "short data": ({"data": csv(GIDS[:-1])}, "layer 'Walls': there are 39 tiles, expected 8 x 5 = 40"),
    "long data": ({"data": csv([*GIDS, 1])}, "layer 'Walls': its tile data are no list of 40 numbers"),
    "words": ({"data": csv(GIDS).replace("0", "x", 1)}, "layer 'Walls': a gid is 'x', expected a whole number"),
    "gid": ({"data": csv([77, *GIDS[1:]])}, "layer 'Walls', tile (x=0, y=0): 1 tiles belong to no tileset of the map"),
    "xml tiles": ({"data": "<data><tile gid='1'/></data>"}, "layer 'Walls': there are 1 tiles, expected 8 x 5 = 40"),
    "zstd": (
        {"data": '<data encoding="base64" compression="zstd">AAAA</data>'},
        "its compression is 'zstd', expected none",
    ),
    "encoding": ({"data": '<data encoding="hex">00</data>'}, "its encoding is 'hex', expected 'csv' or 'base64'"),
    "base64": ({"data": '<data encoding="base64">A#A=</data>'}, "its base64 data are damaged"),
    "zlib": ({"data": '<data encoding="base64" compression="zlib">AAAA</data>'}, "its zlib data are damaged"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_what_is_wrong_with_a_map_is_said_before_anything_is_trusted(write: Any, case: str) -> None:
    own, says = HEADERS[case]
    found = faults(write(**own))
    assert any(says in fault for fault in found), found


def test_a_shifted_layer_and_a_second_layer_of_districts_are_faults(write: Any) -> None:
    layer = f'<layer id="3" name="districts" width="{W}" height="5">{csv([0] * 40)}</layer>'
    found = faults(
        write(layers=layer * 2 + layer.replace("districts", "crowd").replace("width", 'offsetx="3" offsety="0" width'))
    )
    assert found == [
        "layer 'crowd': the layer is shifted by (3.0, 0.0) pixels; set offset to 0 and parallax factor to 1, also of "
        "its groups",
        "layer 'districts': there are 2 layers of that name, expected one; merge or rename them",
    ]


def test_faults_of_several_layers_are_told_together(write: Any) -> None:
    gids = list(GIDS)
    gids[3] = 0
    objects = (
        SPAWN
        + exhibit(theme="music", dwell="-1")
        + exhibit(theme="game").replace('x="60"', 'x="30"').replace('y="30"', 'y="20"')
    )
    found = faults(write(data=csv(gids), objects=objects, properties=""))
    assert [fault.split(";")[0].split(",")[0] for fault in found] == [
        "the map property 'format' is None",
        "the map property 'licence' is None",
        "layer 'things'",
        "layer 'walls'",
        "layer 'things'",
    ]


def test_unknown_themes_and_unnamed_objects_are_notes(write: Any) -> None:
    objects = (
        SPAWN
        + exhibit(theme="jazz, music")
        + '<object id="9" x="1" y="1"/><object id="8" x="1" y="1"><text>hi</text></object>'
    )
    reading = read_tiled(write(objects=objects))
    assert len(reading.notes) == 2
    assert reading.notes[0].startswith("exhibit 'Harp': theme 'jazz' is none of nature, game")
    assert reading.notes[1] == "2 objects without a class are ignored"
