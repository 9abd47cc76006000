"""The land of a Decentraland scene: which parcels, where visitors come in. Read from `scene.json`, with bounds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .components import is_number
from .faults import Faults
from .reading import BadFileError, parse_json, read_text, short

PARCEL_M = 16
"""Side of a parcel of land, metres."""
MOST_PARCELS, FARTHEST_PARCEL = 1024, 64
"""Most parcels of one scene, and how far one may lie from the base parcel."""
SAVE_AGAIN = "open the scene in the Creator Hub and save it again"
_PARCEL = re.compile(r" *(-?[0-9]{1,5}) *, *(-?[0-9]{1,5}) *")


@dataclass(frozen=True)
class Land:
    """What `scene.json` says."""

    parcels: list[tuple[int, int]]
    """(east, north) of each parcel from the base parcel"""
    spawn: tuple[float, float, float]
    """(x, y, z), metres from the south-west corner of the base parcel"""
    title: str
    notes: tuple[str, ...] = ()


def read_land(folder: Path, faults: Faults) -> Land | None:
    """Return the parcels and the spawn point; None, with faults, if they cannot be read."""
    try:
        return _land(parse_json(read_text(folder / "scene.json")))
    except BadFileError as bad:
        faults.add(bad.what, bad.remedy, layer="scene.json")
        return None


def _land(scene: Any) -> Land:
    land = scene.get("scene") if isinstance(scene, dict) else None
    if not isinstance(land, dict) or not isinstance(land.get("parcels"), list):
        raise BadFileError("it has no list 'scene.parcels'", SAVE_AGAIN)
    version = scene.get("runtimeVersion", "7")
    if version != "7" or scene.get("ecs7", True) is not True:
        what = f"its runtimeVersion is {short(version)}, ecs7 {short(scene.get('ecs7'))}, expected '7' and true (SDK7)"
        raise BadFileError(what, "take a scene of SDK7")
    count = len(land["parcels"])
    if not 1 <= count <= MOST_PARCELS:
        raise BadFileError(f"it has {count} parcels, 1 to {MOST_PARCELS} are read", "take a smaller scene")
    parcels = [_parcel(text) for text in land["parcels"]]
    base = _parcel(land.get("base"))
    if len(set(parcels)) < count:
        twice = next(p for k, p in enumerate(parcels) if p in parcels[:k])
        raise BadFileError(f"the parcel {twice[0]},{twice[1]} is there twice", SAVE_AGAIN)
    if base not in parcels:
        raise BadFileError(f"its base {short(land['base'])} is none of its parcels", SAVE_AGAIN)
    placed = [(x - base[0], y - base[1]) for x, y in parcels]
    if max(abs(n) for parcel in placed for n in parcel) > FARTHEST_PARCEL:
        raise BadFileError("its parcels lie far apart", "take a scene whose parcels touch")
    display = scene.get("display", {})
    title = display.get("title", "") if isinstance(display, dict) else None
    if not isinstance(title, str):
        raise BadFileError(f"its display is {short(display)}, expected a title", SAVE_AGAIN)
    spawn, notes = _spawn(scene.get("spawnPoints"))
    return Land(placed, spawn, title, notes)


def _parcel(text: Any) -> tuple[int, int]:
    match = _PARCEL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise BadFileError(f"a parcel is {short(text)}, expected e.g. '0,1'", SAVE_AGAIN)
    east, north = int(match[1]), int(match[2])
    if max(abs(east), abs(north)) > 10_000:
        raise BadFileError(f"a parcel is {short(text)}, far from any land", SAVE_AGAIN)
    return east, north


def _spawn(points: Any) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """Return the middle of the default spawn area, and notes."""
    if points is None or points == []:
        return (8.0, 0.0, 8.0), ("it names no spawn point: visitors begin in the middle of the base parcel",)
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise BadFileError(f"its spawnPoints are {short(points)}, expected a list of positions", SAVE_AGAIN)
    for point in points:
        if not isinstance(point.get("default", False), bool):
            raise BadFileError(
                f"a spawn point has default = {short(point['default'])}, expected true or false", SAVE_AGAIN
            )
    chosen = next((point for point in points if point.get("default")), points[0])
    position = chosen.get("position")
    if not isinstance(position, dict) or set(position) != set("xyz"):
        raise BadFileError(f"a spawn point has the position {short(position)}, expected x, y and z", SAVE_AGAIN)
    middle = [_middle(axis, position[axis]) for axis in "xyz"]
    notes = (f"it has {len(points)} spawn points, the first default is used",) if len(points) > 1 else ()
    return (middle[0], middle[1], middle[2]), notes


def _middle(axis: str, span: Any) -> float:
    ends = span if isinstance(span, list) else [span]
    if not 1 <= len(ends) <= 2 or not all(map(is_number, ends)):
        raise BadFileError(
            f"a spawn point has {axis} = {short(span)}, expected metres, or the two ends of a span", SAVE_AGAIN
        )
    return float(sum(ends) / len(ends))
