"""Every row of the table of Tiled's format is true: honoured, refused with a message, or ignored without a trace."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metarl.envs.npc.maps.faults import MapError
from metarl.envs.npc.maps.tiled import Reading, read_tiled
from metarl.envs.npc.maps.tiled_format import HONOURED, IGNORED, REFUSED, ROWS, table
from tests.envs.npc.maps.tiled_cases import ALONE, CASES, HARP, IMAGE_SET, IN_TMX, SAME, WALLS, put
from tests.envs.npc.maps.tiled_whole import Doc, element, save, whole_map

ENDINGS = ("tmx", "tmj")
LAYER_PARTS = {"layer": "tilelayer", "objectgroup": "objectgroup", "imagelayer": "imagelayer", "group": "group"}


def rows(verdict: str) -> list[tuple[str, str, str]]:
    """Return (part, name, format) of every name with a verdict; format "" is both."""
    return [(r.part, *n.partition(":")[::2]) for r in ROWS if r.verdict == verdict for n in r.names.split()]


def world(path: Path) -> str | Reading:
    """Return a world, or the faults of it as one text."""
    try:
        return read_tiled(path)
    except MapError as error:
        return "\n".join(fault.located() for fault in error.faults)


def parts(doc: Any, part: str) -> Iterator[Doc]:
    """Yield every object of the JSON format that is some part."""
    keys = {"terrain": "terrains", "wangset": "wangsets", "wangcolor": "colors", "wangtile": "wangtiles"}
    keys |= {
        "frame": "animation",
        "tile": "tiles",
        "object": "objects",
        "property": "properties",
        "tileset": "tilesets",
    }
    for key, value in doc.items():
        inner = value if isinstance(value, list) else [value]
        for child in (c for c in inner if isinstance(c, dict)):
            if key in (part, keys.get(part)) or (key == "layers" and child.get("type") == LAYER_PARTS.get(part)):
                yield child
            yield from parts(child, part)
    if part == "map" and doc.get("type") == "map":
        yield doc


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return read_tiled(save(whole_map(), tmp_path_factory.mktemp("plain") / "m.tmj"))


def test_the_map_that_says_everything_is_the_same_world_in_both_formats(tmp_path: Path) -> None:
    one, other = (read_tiled(save(whole_map(), tmp_path / f"m.{ending}")) for ending in ENDINGS)
    assert one.layout.digest() == other.layout.digest()
    assert one.layout.exhibits.cell.tolist() == [[3, 6], [1, 4]]
    assert one.notes == other.notes == ("1 objects without a class are ignored",)


HIDDEN = {"visible"}
ODD = {"visible": ([False], ["0"]), "properties": ([[]], [])}


@pytest.mark.parametrize(("part", "name", "only"), rows(IGNORED))
def test_what_is_ignored_can_be_there_or_not_or_odd(
    part: str, name: str, only: str, plain: Reading, tmp_path: Path
) -> None:
    odd_json, odd_text = ODD.get(name, ([7, "", "x", {"a": 1}], ["7", "", "x"]))
    found = 0
    for value in odd_json if only != "tmx" else []:
        doc = whole_map()
        for tree in list(parts(doc, part)):
            tree[name] = value
            found += 1
        same(plain, save(doc, tmp_path / "m.tmj"), name)
    tag = {"data tile": "tile"}.get(part, part)
    for text in odd_text if only != "json" else []:
        found += same_in_tmx(plain, tmp_path, lambda e, t=text: e.set(name, t), tag, name)
    if only != "json":
        found += same_in_tmx(plain, tmp_path, lambda e: [e.remove(c) for c in e.findall(name)], tag, name)
    assert found


def same_in_tmx(plain: Reading, folder: Path, edit: Callable[[Any], Any], tag: str, name: str) -> int:
    found = []

    def everywhere(root: ElementTree.Element) -> None:
        if tag == "item":
            root.find("properties/property").append(ElementTree.Element("item"))  # type: ignore[union-attr]
        found.extend(list(root.iter(tag)))
        for one in found:
            edit(one)

    same(plain, save(whole_map(), folder / "m.tmx", everywhere), name)
    return len(found)


def same(plain: Reading, path: Path, name: str) -> None:
    """Assert that a world is as it was; only hidden things are told."""
    reading = world(path)
    assert isinstance(reading, Reading), reading
    assert reading.layout.digest() == plain.layout.digest()
    notes = set(reading.notes) ^ set(plain.notes)
    assert all("is hidden in the editor and counts" in note for note in notes)
    assert bool(notes) <= (name in HIDDEN)


@pytest.mark.parametrize(("part", "name", "only"), rows(HONOURED) + rows(REFUSED))
def test_what_is_honoured_or_refused_changes_the_world_or_says_so(
    part: str, name: str, only: str, plain: Reading, tmp_path: Path
) -> None:
    collection = whole_map()["tilesets"][1]
    (tmp_path / "t.tsx").write_bytes(ElementTree.tostring(element("tileset", collection)))
    (tmp_path / "t.tsj").write_text(json.dumps(collection))
    tried = 0
    for edit, expected in CASES.get((part, name), []):
        for ending in [e for e in ENDINGS if only in ("", {"tmj": "json"}.get(e, e))]:
            doc = whole_map()
            edit(doc)
            check(plain, world(save(doc, tmp_path / f"m.{ending}")), expected)
            tried += 1
    for edit, expected in IN_TMX.get((part, name), []):
        check(plain, world(save(whole_map(), tmp_path / "m.tmx", edit)), expected)
        tried += 1
    assert tried, "a row without a test"


def check(plain: Reading, found: str | Reading, expected: Any) -> None:
    if isinstance(expected, str) and expected not in (SAME, ALONE):
        assert isinstance(found, str), "it should have been refused"
        assert expected in found
        return
    assert isinstance(found, Reading), found
    if expected == SAME:
        assert found.layout.digest() == plain.layout.digest()
    else:
        assert expected == ALONE or expected(found)
        assert found.layout.digest() != plain.layout.digest()


def test_what_the_format_does_not_know_is_told(tmp_path: Path) -> None:
    doc = whole_map()
    doc["gravity"] = 9.81
    for edit in (put(*WALLS, "glow", 1), put(*HARP, "mood", "sad"), put(*IMAGE_SET, "tiles", 0, "smell", 1)):
        edit(doc)
    for ending in ENDINGS:
        *_, note, _ = read_tiled(save(doc, tmp_path / f"m.{ending}")).notes
        assert note.endswith("does not know it: layer 'glow', map 'gravity', object 'mood', tile 'smell'")


def test_the_table_is_in_the_docs() -> None:
    assert table() in (Path(__file__).resolve().parents[4] / "docs/maps.md").read_text()


def test_no_name_has_two_fates() -> None:
    fates = [(part, name) for verdict in (HONOURED, REFUSED, IGNORED) for part, name, _ in rows(verdict)]
    assert len(fates) == len(set(fates)) > 250
