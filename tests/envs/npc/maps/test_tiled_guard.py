"""Files that would crash, hang or fill a reader are refused before it sees them."""

from __future__ import annotations

import base64
import gzip
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from metarl.envs.npc.maps.samples import FOLDER
from metarl.envs.npc.maps.tiled import load_tiled
from tests.envs.npc.maps.tiled_files import EXHIBIT, GIDS, SPAWN, TILESET, faults, tmx


def test_a_thousand_streets_over_the_whole_map_take_no_time(write: Any) -> None:
    place = 'x="-1e6" y="-1e6" width="1e8" height="1e8"'
    street = f'<object id="9" type="closed_at" {place}><properties>{{}}</properties></object>'
    episodes = (f'<property name="episode" type="int" value="{1 + k % 900}"/>' for k in range(4000))
    began = time.process_time()
    (fault,) = faults(write(objects=SPAWN + EXHIBIT + "".join(map(street.format, episodes))))
    assert fault.startswith("streets close at 900 different episodes, at most 32 are read")
    assert time.process_time() - began < 10


def pack(gids: list[int]) -> bytes:
    return struct.pack(f"<{len(gids)}I", *gids)


def test_data_that_inflate_without_end_are_refused_before_they_do(write: Any) -> None:
    bomb = zlib.compress(bytes(20 * 2**20), 9)  # 20 kB that become 20 MB
    assert len(bomb) < 25_000
    for name, packed in {"zlib": bomb, "gzip": gzip.compress(bytes(2**20))}.items():
        data = f'<data encoding="base64" compression="{name}">{base64.b64encode(packed).decode()}</data>'
        (fault,) = faults(write(data=data))
        assert "characters" in fault or "its data hold more than the expected 40 tiles" in fault
    cut = base64.b64encode(zlib.compress(pack(GIDS))[:-3]).decode()
    (fault,) = faults(write(data=f'<data encoding="base64" compression="zlib">{cut}</data>'))
    assert "cut off" in fault


def test_entity_bombs_deep_nesting_and_crowds_of_elements_are_refused(write: Any) -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE m [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><map>&b;</map>'
    assert faults(write(bomb)) == [
        "it declares a document type of its own or entities, which maps do not need; remove <!DOCTYPE ...>"
    ]
    (fault,) = faults(write("<map>" + "<group>" * 5000))
    assert "nested deeper than 40" in fault
    (fault,) = faults(write("<map>" + "<a/>" * 110_000))
    assert "more than 100000 elements" in fault
    (fault,) = faults(write("[" * 100_000, name="m.tmj"))
    assert "nested deeper than 40" in fault
    (fault,) = faults(write('{"version": ' + "9" * 4000 + "}", name="m.tmj"))
    assert "a number of 4000 digits" in fault
    (fault,) = faults(write('{"version": NaN}', name="m.tmj"))
    assert "NaN is no number" in fault


@pytest.mark.parametrize(
    "source",
    ["../out.tsx", "/etc/passwd", "..\\out.tsx", "a/../../out.tsx", "file:///etc/passwd", "link.tsx", "~/x.tsx"],
)
def test_tilesets_outside_the_folder_of_the_map_are_refused(write: Any, tmp_path: Path, source: str) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    (tmp_path / "out.tsx").write_bytes((FOLDER / "npcworld.tsx").read_bytes())
    (folder / "link.tsx").symlink_to(tmp_path / "out.tsx")
    text = tmx().replace(TILESET.format(""), f'<tileset firstgid="1" source="{source}"/>')
    (fault,) = faults(write(text, name="maps/m.tmx"))
    assert "is no relative path" in fault or "lies outside the folder of the map" in fault


def test_templates_pipes_folders_and_huge_files_are_refused(write: Any, tmp_path: Path) -> None:
    import os

    found = faults(write(objects=SPAWN + EXHIBIT + '<object id="4" template="../../x.tx" x="1" y="1"/>'))
    says = "layer 'things': object '4' '': an object is an instance of a template; choose Detach in the object's menu"
    assert found == [says]
    hidden = '<tile id="8"><objectgroup><object id="1" template="/etc/passwd" x="0" y="0"/></objectgroup></tile>'
    assert load_tiled(write(tiles=hidden)).digest() == load_tiled(write()).digest()  # nothing is opened
    os.mkfifo(tmp_path / "pipe.tmx")
    assert faults(tmp_path / "pipe.tmx") == ["it is no plain file; name a file"]
    (tmp_path / "folder.tmx").mkdir()
    assert faults(tmp_path / "folder.tmx") == ["it is no plain file; name a file"]
    with (tmp_path / "huge.tmj").open("wb") as file:
        file.truncate(2**40)  # sparse: takes no space
    (fault,) = faults(tmp_path / "huge.tmj")
    assert "at most 4194304 are read" in fault
    (fault,) = faults(tmp_path / "map.png")
    assert "a name that ends in '.png'" in fault
    (tmp_path / "latin.tmx").write_bytes(b"<map \xff\xfe>")
    (fault,) = faults(tmp_path / "latin.tmx")
    assert "it is not UTF-8 text (byte 5)" in fault
