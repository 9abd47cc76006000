"""The promises of a walkable world, checked all at once: closed border, free cells, a way to everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .faults import Fault, Faults
from .walking import steps_from

MOST_EXHIBITS = 16
"""Most exhibits in one world (planners go over all subsets)."""
MOST_EPISODE = 1000
"""Last episode at which a street may close."""
MOST_CLOSINGS = 32
"""Most episodes at which streets close."""
_MOST_NAMED = 8


@dataclass(frozen=True)
class Place:
    """Something that stands in one cell and must be reached from the spawn."""

    kind: str
    """exhibit, exit, shop, meeting, portal or spawn"""
    name: str
    """what it is called, "" where it has no name"""
    cell: tuple[int, int]
    """(row, column)"""
    layer: str
    """layer it was drawn in"""

    def __str__(self) -> str:
        """Return how a message calls it."""
        return f"{self.kind} {self.name!r}" if self.name else f"the {self.kind}"


@dataclass(frozen=True)
class Ground:
    """A grid of walls and how to speak of it."""

    wall: Tensor
    """bool [H, W]"""
    file: str
    """what a message calls the file"""
    layer: str = "walls"
    """what a message calls the layer of walls"""
    origin: tuple[int, int] = (0, 0)
    """(x, y) in the editor of the top left cell"""

    def tiles(self, cells: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return (x, y) in the editor of cells (row, column)."""
        return [(column + self.origin[0], row + self.origin[1]) for row, column in cells]

    def holds(self, cell: tuple[int, int]) -> bool:
        """Return whether (row, column) lies on the map."""
        return 0 <= cell[0] < self.wall.shape[0] and 0 <= cell[1] < self.wall.shape[1]


def geometry_faults(
    ground: Ground, spawns: Sequence[Place], places: Sequence[Place], closed_at: Mapping[int, Tensor]
) -> list[Fault]:
    """Return everything that keeps visitors from walking: an empty list for a good world.

    spawns: the spawn points that were drawn; there must be exactly one. places: what must be reached from it.
    closed_at: {episode: int64 [K, 2]}, cells on the map that are walls from then on.
    """
    faults = Faults(ground.file)
    _check_border(ground, faults)
    exhibits = [p for p in places if p.kind == "exhibit"]
    if not 1 <= len(exhibits) <= MOST_EXHIBITS:
        layer = exhibits[0].layer if exhibits else ""
        what = f"there {'is no exhibit' if not exhibits else f'are {len(exhibits)} exhibits'}, 1 to {MOST_EXHIBITS} fit"
        faults.add(what, "add or remove objects of class 'exhibit'", layer=layer)
    if len(spawns) != 1:
        what = "there is no spawn point" if not spawns else f"there are {len(spawns)} spawn points, expected one"
        remedy = "place exactly one object of class 'spawn'"
        faults.add(what, remedy, layer=spawns[0].layer if spawns else "", cells=ground.tiles([p.cell for p in spawns]))
    free = [p for p in (*spawns, *places) if _stands_free(ground, p, faults)]
    seen: dict[tuple[int, int], Place] = {}
    for exhibit in exhibits:
        other = seen.setdefault(exhibit.cell, exhibit)
        if other is not exhibit:
            what = f"{other} and {exhibit} are in the same cell"
            faults.add(what, "move one of them", layer=exhibit.layer, cells=ground.tiles([exhibit.cell]))
    if len(spawns) == 1 and spawns[0] in free:
        _check_ways(ground, spawns[0], [p for p in free if p.kind != "spawn"], closed_at, faults)
    return faults.found


def _check_border(ground: Ground, faults: Faults) -> None:
    edge = torch.ones_like(ground.wall)
    edge[1:-1, 1:-1] = False
    open_cells = [(int(r), int(c)) for r, c in (edge & ~ground.wall).nonzero().tolist()]
    if open_cells:
        count = f"{len(open_cells)} cell{'s' * (len(open_cells) > 1)}"
        what = f"the border is open in {count}, expected a wall in every outermost cell"
        faults.add(what, "draw wall tiles there", layer=ground.layer, cells=ground.tiles(open_cells))


def _stands_free(ground: Ground, place: Place, faults: Faults) -> bool:
    tiles = ground.tiles([place.cell])
    if not ground.holds(place.cell):
        height, width = ground.wall.shape
        faults.add(f"{place} is off the map of {width} x {height} tiles", "move it", layer=place.layer, cells=tiles)
    elif ground.wall[place.cell]:
        faults.add(f"{place} is inside a wall", "move it, or remove the wall tile", layer=place.layer, cells=tiles)
    else:
        return True
    return False


def _check_ways(
    ground: Ground, spawn: Place, places: Sequence[Place], closed_at: Mapping[int, Tensor], faults: Faults
) -> None:
    """Check that a way leads to all places, and while streets are closed to what has to stay open."""
    steps = steps_from(ground.wall, spawn.cell)
    reached = [place for place in places if steps[place.cell] >= 0]
    for place in places:
        if steps[place.cell] < 0:
            what = f"no way leads to {place} from the spawn at (x={ground.tiles([spawn.cell])[0][0]}, "
            what += f"y={ground.tiles([spawn.cell])[0][1]})"
            remedy = "open a way through the walls, or move it"
            faults.add(what, remedy, layer=place.layer, cells=ground.tiles([place.cell]))
    if len(closed_at) > MOST_CLOSINGS:
        what = f"streets close at {len(closed_at)} different episodes, at most {MOST_CLOSINGS} are read"
        faults.add(what, "let them close together")
        return
    wall = ground.wall.clone()
    for episode, cells in sorted(closed_at.items()):
        if _can_close(ground, episode, cells, faults):
            wall[cells[:, 0], cells[:, 1]] = True
            _check_open(ground, spawn, reached, wall, episode, faults)


def _can_close(ground: Ground, episode: int, cells: Tensor, faults: Faults) -> bool:
    """Return whether closed cells are on the map; notes what is wrong with them."""
    pairs = [(int(r), int(c)) for r, c in cells.tolist()]
    if not 1 <= episode <= MOST_EPISODE:
        what = f"a street closes at episode {episode}, expected 1 to {MOST_EPISODE} (episodes count from 0)"
        faults.add(what, "set its property 'episode'", cells=ground.tiles(pairs))
    outside = [pair for pair in pairs if not ground.holds(pair)]
    if outside:
        faults.add("a closed cell is off the map", "move or shrink the area", cells=ground.tiles(outside))
    elif all(bool(ground.wall[pair]) for pair in pairs):
        what = f"what closes at episode {episode} is all wall"
        faults.add(what, "move it over the cells that close, or remove it", cells=ground.tiles(pairs))
    return not outside


def _check_open(
    ground: Ground, spawn: Place, reached: Sequence[Place], wall: Tensor, episode: int, faults: Faults
) -> None:
    """Check that closed streets leave a way to every place and to one exhibit of those `reached` without them."""
    steps = steps_from(wall, spawn.cell)
    cut = [place for place in reached if steps[place.cell] < 0]
    lost = [place for place in cut if place.kind != "exhibit"]
    exhibits = sum(place.kind == "exhibit" for place in reached)
    if exhibits and exhibits == len(cut) - len(lost):
        lost = cut
    if lost:
        named = ", ".join(map(str, lost[:_MOST_NAMED])) + f" and {len(lost) - _MOST_NAMED} more" * (
            len(lost) > _MOST_NAMED
        )
        what = f"what is closed from episode {episode} on cuts off {named}"
        remedy = "leave a way to every exit, shop, meeting point and portal and to at least one exhibit"
        faults.add(what, remedy, cells=ground.tiles([place.cell for place in lost]))
