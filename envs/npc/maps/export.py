"""A world as a 3-D model, for Blender, a browser, or Decentraland."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import picture as paint
from .glb_write import Solid, write_glb
from .layout import Layout

WALL_M, FLOOR_M, EXHIBIT_M = 2.5, 0.05, 1.2
"""Heights of walls and exhibits and thickness of floors, metres."""


def export_glb(layout: Layout, path: Path | str) -> None:
    """Write a world as binary glTF: x grows with the column, z with the row, y is up; metres.

    Walls are there twice, once under the name `walls_collider`, so that Decentraland makes them solid. There, where x
    is mirrored, turn the model by 180 degrees about y and put it at z = height of the world in metres.
    """
    cell = layout.cell_m
    solids = [_floor(layout, number) for number in sorted(set(layout.district[~layout.wall].tolist()))]
    walls = _boxes(_runs(layout.wall.numpy()), cell, 0.0, WALL_M)
    solids.append(Solid("walls", paint.WALL_FACE, walls, collider=True))
    for index, (row, column) in enumerate(layout.exhibits.cell.tolist()):
        colour = paint.THEME_COLOURS[int(layout.exhibits.themes[index].argmax())]
        body = np.array([[[column + 0.25, 0.0, row + 0.25], [column + 0.75, EXHIBIT_M / cell, row + 0.75]]]) * cell
        solids.append(Solid(f"exhibit {layout.exhibits.names[index]}", colour, body))
    places = [("spawn", layout.spawn), *((p.kind, p.cell) for p in layout.places() if p.kind != "exhibit")]
    for kind, (row, column) in places:
        plate = np.array([[[column + 0.15, 0.0, row + 0.15], [column + 0.85, 0.06 / cell, row + 0.85]]]) * cell
        solids.append(Solid(kind, paint.PLACES[kind][1], plate))
    write_glb(solids, Path(path))


def _floor(layout: Layout, number: int) -> Solid:
    free = (~layout.wall & (layout.district == number)).numpy()
    return Solid(f"district {number}", paint.district_colour(number), _boxes(_runs(free), layout.cell_m, -FLOOR_M, 0.0))


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Return (row, first column, end column) of the True cells that lie side by side."""
    found = []
    for row, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(np.int8)))
        found += [(row, int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return found


def _boxes(runs: Iterable[tuple[int, int, int]], cell: float, low: float, high: float) -> NDArray[np.float64]:
    boxes = [[[a * cell, low, row * cell], [b * cell, high, (row + 1) * cell]] for row, a, b in runs]
    return np.array(boxes, np.float64).reshape(-1, 2, 3)
