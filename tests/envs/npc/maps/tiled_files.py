"""Maps as Tiled would write them, in text, and what is said about broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from metarl.envs.npc.maps.faults import MapError
from metarl.envs.npc.maps.tiled import load_tiled

W = 8
ROWS = ["########", "#......#", "#.####.#", "#......#", "########"]
GIDS = [1 if mark == "#" else 0 for row in ROWS for mark in row]
HEADER = (
    'version="1.10" tiledversion="1.10.2" orientation="orthogonal" renderorder="right-down" tilewidth="10" '
    'tileheight="10" nextlayerid="9" nextobjectid="9"'
)
PROPERTIES = (
    '<properties><property name="format" value="npcworld/1"/><property name="licence" value="CC0-1.0"/></properties>'
)
TILESET = '<tileset firstgid="1" name="t" tilewidth="10" tileheight="10" tilecount="9" columns="9">{}</tileset>'
SPAWN = '<object id="1" type="spawn" x="15" y="15"><point/></object>'
EXHIBIT = (
    '<object id="2" name="Harp" type="exhibit" x="60" y="30" width="10" height="10"><properties>'
    '<property name="theme" value="music"/></properties></object>'
)


def csv(gids: list[int]) -> str:
    return f'<data encoding="csv">{",".join(map(str, gids))}</data>'


def tmx(
    *,
    data: str = csv(GIDS),
    objects: str = SPAWN + EXHIBIT,
    layers: str = "",
    tiles: str = "",
    header: str = HEADER,
    properties: str = PROPERTIES,
    infinite: int = 0,
    size: tuple[int, int] = (W, 5),
) -> str:
    wide, tall = size
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<map {header} width="{wide}" height="{tall}" infinite="{infinite}">'
        f'{properties}{TILESET.format(tiles)}<layer id="1" name="Walls" width="{wide}" height="{tall}">{data}</layer>'
        f'{layers}<objectgroup id="2" name="things">{objects}</objectgroup></map>'
    )


def faults(path: Path) -> list[str]:
    with pytest.raises(MapError) as caught:
        load_tiled(path)
    assert all(fault.file == str(path) for fault in caught.value.faults)
    assert "\n" not in str(caught.value)
    return [fault.located() for fault in caught.value.faults]
