"""docs/maps.md says of everything in a scene what it means here; each row of its table is tried on a small scene."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from metarl.envs.npc.maps.components import HONOURED, IGNORED, REFUSED, SCHEMAS, treatment
from metarl.envs.npc.maps.decentraland import read_decentraland
from metarl.envs.npc.maps.faults import MapError
from metarl.envs.npc.maps.tiled import Reading
from metarl.errors import ConfigError
from tests.envs.npc.maps.scene_cases import CASES, Change
from tests.envs.npc.maps.scene_files import WALLS, Scene, placed, walls

DOCS = Path(__file__).resolve().parents[4] / "docs/maps.md"


def table() -> dict[str, tuple[str, str]]:
    """Return {what a file says: (how it is treated, what it means)} of the documented table."""
    text = DOCS.read_text().split("### What a scene can say")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {says: (how, meaning) for says, how, meaning in rows if how in ("honoured", "refused", "ignored")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return Scene().read(tmp_path_factory.mktemp("plain"))


def outcome(tmp_path: Path, change: Change) -> Any:
    made = Scene()
    change(made)
    try:
        return made.read(tmp_path)
    except MapError as error:
        return " ".join(fault.located() for fault in error.faults)


@pytest.mark.parametrize("row", CASES)
def test_what_a_scene_says_is_honoured_refused_or_cannot_matter(tmp_path: Path, plain: Reading, row: str) -> None:
    assert (walls(plain), plain.layout.exhibits.names) == (WALLS, ("image",))
    for number, (change, expected) in enumerate(CASES[row]):
        found = outcome(tmp_path, change)
        if isinstance(expected, str):
            assert isinstance(found, str), number
            assert expected in found, number
            continue
        assert not isinstance(found, str), (number, found)
        if expected is None:
            assert (found.layout.digest(), found.notes) == (plain.layout.digest(), plain.notes), number
        elif isinstance(expected, frozenset):
            assert walls(found) == expected, number
        elif isinstance(expected, tuple):
            assert found.layout.exhibits.names == expected, number
        else:
            assert expected(found), number


def test_the_documented_table_has_every_row_that_is_tried_and_says_how_it_ends() -> None:
    rows = table()
    tried = {row if row not in IGNORED else ", ".join(f"`core::{n}`" for n in IGNORED[row]): row for row in CASES}
    assert set(rows) == set(tried)
    for says, (how, _) in rows.items():
        outcomes = [expected for _, expected in CASES[tried[says]]]
        if how == "ignored":
            assert outcomes == [None] * len(outcomes), says
        elif how == "refused":
            assert all(isinstance(expected, str) for expected in outcomes), says
        else:
            assert any(expected is not None and not isinstance(expected, str) for expected in outcomes), says


def test_the_documented_table_treats_components_as_the_reader_does() -> None:
    found: dict[str, str] = {}
    for says, (how, _) in table().items():
        for name in re.findall(r"`((?:core|core-schema|composite)::[A-Za-z-]+)`", says):
            found[name] = how
    known = {*HONOURED, *REFUSED, *SCHEMAS, *(f"core::{n}" for names in IGNORED.values() for n in names)}
    assert found == {name: treatment(name) for name in known}


def test_a_scene_without_a_composite_says_so(tmp_path: Path) -> None:
    folder = Scene().write(tmp_path)
    (folder / "assets/scene/main.composite").rename(folder / "main.crdt")
    with pytest.raises(MapError, match="there is no such file: the scene is all code, of an older SDK, or only its"):
        read_decentraland(folder)


def test_a_part_of_a_large_land_is_read_in_the_scenes_own_metres(tmp_path: Path) -> None:
    made = Scene()
    made.land["scene"]["parcels"] = [f"{3 + x},{4 + z}" for x in range(20) for z in range(20)]
    with pytest.raises(MapError, match="its land is 322 x 322 cells of 1 m, 5 to 64 each way fit"):
        made.read(tmp_path)
    reading = made.read(tmp_path, area=(0, 0, 20, 16))
    assert (reading.layout.width, reading.layout.height) == (22, 18)
    assert walls(reading) == WALLS
    assert reading.layout.district.unique().tolist() == [0, 1, 2]
    with pytest.raises(MapError, match="0 exhibits are on the floor from y = 0 to 4 m"):
        made.read(tmp_path, area=(0, 0, 10, 10))
    with pytest.raises(MapError, match="lies outside its parcels"):
        made.read(tmp_path, area=(-50, -50, -20, -20))
    for bad in ((0, 0, 0, 5), (5, 0, 1, 5), (0, 0, float("nan"), 5)):
        with pytest.raises(ConfigError, match="area must be"):
            made.read(tmp_path, area=bad)


def test_doors_are_walked_through_and_exhibits_are_chosen_by_name(tmp_path: Path) -> None:
    made = Scene()
    for k, (x, wide) in enumerate(((8, 2), (3.5, 7), (12.5, 7))):  # a wall across the parcel, with a door
        made.put("core::Transform", str(700 + k), placed(x, 1, 5.5, scale={"x": wide, "y": 2, "z": 0.8}))
        made.put("core::MeshCollider", str(700 + k), {"mesh": {"$case": "box", "box": {}}})
        made.put("core-schema::Name", str(700 + k), {"value": "Front Door" if k == 0 else "side"})
    with pytest.raises(MapError, match="there is room, but no way from the spawn point; open a way"):
        made.read(tmp_path)
    assert made.read(tmp_path, through="*door*").layout.exhibits.names == ("image",)
    assert made.read(tmp_path, also="model", without="ima*").layout.exhibits.names == ("model",)
    with pytest.raises(MapError, match=r"what is one with also='\.\.\.'; there are 'model'"):
        made.read(tmp_path, without="image")


def test_a_model_that_stands_in_many_places_is_blamed_once_and_the_file_names_the_folder(tmp_path: Path) -> None:
    made = Scene(model=lambda d: d["accessors"][0].update(sparse={}))
    for number in range(800, 805):
        made.put("core::Transform", str(number), placed(3, 0, 3))
        made.put("core::GltfContainer", str(number), {"src": "m.glb"})
    with pytest.raises(MapError) as caught:
        made.read(tmp_path)
    assert len(caught.value.faults) == 1
    good = Scene().write(tmp_path)
    assert read_decentraland(good / "scene.json").layout.digest() == read_decentraland(good).layout.digest()
