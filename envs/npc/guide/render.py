"""What a guide world looks like: a picture without a display, painted by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.npc.maps.themes import LETTERS
from metarl.envs.npc.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, WHITE, YELLOW
from metarl.envs.npc.people import THEMES

Picture = NDArray[np.uint8]

CELL = 24
"""Pixels along a cell."""
_BAR = 20
"""Pixels of the bar below the map."""
THEME_COLOURS = (
    GREEN, VERMILION, (136, 98, 57), SKY, PURPLE, YELLOW, (98, 87, 145), BLUE, ORANGE, (120, 120, 120)
)  # fmt: skip
"""One per theme, in the order of `people.THEMES`; letters tell apart what colours do not."""
FLOOR, WALL, GUIDE, VISITOR, CRUMB = (250, 248, 242), (70, 70, 74), BLUE, ORANGE, (170, 190, 205)
FACES = (VERMILION, ORANGE, (190, 190, 190), SKY, GREEN)
"""From bored to glad."""
_GLYPHS = {
    "N": "10001 11001 10101 10011 10001", "G": "01111 10000 10011 10001 01111", "H": "10001 10001 11111 10001 10001",
    "M": "10001 11011 10101 10001 10001", "R": "11110 10001 11110 10010 10001", "F": "11111 10000 11110 10000 10000",
    "Y": "10001 01010 00100 00100 00100", "U": "10001 10001 10001 10001 01110", "O": "01110 10001 10001 10001 01110",
    "T": "11111 00100 00100 00100 00100",
}  # fmt: skip


def paint(seen: dict[str, Any]) -> Picture:
    """Return an RGB picture, uint8 [rows * 24 + 20, columns * 24, 3], of what a bystander sees of a guide's `frame`.

    Exhibits are tiles in the colour and with the letter of their strongest theme, pale once seen, with a white bar for
    the crowd; the visitor is orange, the guide blue. Below: patience left, and the last reaction from bored (red) to
    glad (green).
    """
    height, width = seen["size"]
    picture = np.zeros((height * CELL + _BAR, width * CELL, 3), dtype=np.uint8)
    for row, line in enumerate(seen["walls"]):
        for column, mark in enumerate(line):
            _fill(picture, (row, column), WALL if mark == "#" else FLOOR, 0)
    for exhibit in seen["exhibits"]:
        if exhibit["there"]:
            _exhibit(picture, exhibit)
    for cell in seen["trail"]:
        _disc(picture, cell, CRUMB, 3)
    _disc(picture, seen["visitor"], VISITOR, 9)
    _disc(picture, seen["guide"], GUIDE, 6)
    _bar(picture[height * CELL :], seen)
    return picture


def _fill(picture: Picture, cell: tuple[int, int] | list[int], colour: tuple[int, int, int], margin: int) -> None:
    top, left = cell[0] * CELL, cell[1] * CELL
    picture[top + margin : top + CELL - margin, left + margin : left + CELL - margin] = colour


def _disc(picture: Picture, cell: list[int], colour: tuple[int, int, int], radius: int) -> None:
    at = np.arange(CELL) - (CELL - 1) / 2
    inside = at[:, None] ** 2 + at**2 <= radius**2
    top, left = cell[0] * CELL, cell[1] * CELL
    picture[top : top + CELL, left : left + CELL][inside] = colour


def _exhibit(picture: Picture, exhibit: dict[str, Any]) -> None:
    """Draw a tile: colour and letter of the strongest theme, a frame in that of the second, a bar for the crowd."""
    strongest = sorted(exhibit["themes"], key=lambda t: -exhibit["themes"][t])
    colours = [np.array(THEME_COLOURS[THEMES.index(t)]) for t in strongest[:2]]
    if exhibit["seen"]:
        colours = [(c + 3 * np.array(FLOOR)) // 4 for c in colours]
    _fill(picture, exhibit["cell"], tuple(int(x) for x in colours[-1]), 1)  # type: ignore[arg-type]
    _fill(picture, exhibit["cell"], tuple(int(x) for x in colours[0]), 4)  # type: ignore[arg-type]
    top, left = exhibit["cell"][0] * CELL, exhibit["cell"][1] * CELL
    letter = _GLYPHS[LETTERS[THEMES.index(strongest[0])]]
    mask = np.array([[int(x) for x in line] for line in letter.split()], dtype=bool).repeat(2, 0).repeat(2, 1)
    ink = WHITE if colours[0].sum() < 400 else (30, 30, 30)
    picture[top + 5 : top + 15, left + 7 : left + 17][mask] = ink
    length = round(exhibit["crowd"] * (CELL - 8))
    picture[top + 17 : top + 20, left + 4 : left + CELL - 4] = (60, 60, 60)
    picture[top + 17 : top + 20, left + 4 : left + 4 + length] = WHITE


def _bar(strip: Picture, seen: dict[str, Any]) -> None:
    """Draw patience from the left and a block for the last reaction at the right."""
    strip[:] = (30, 30, 30)
    width = strip.shape[1] - _BAR
    strip[4:-4, 4 : 4 + round((width - 8) * seen["patience"])] = VISITOR
    if seen["reaction"]:
        level = (seen["reaction"] - 1) / max(seen["reactions"] - 1, 1)
        strip[2:-2, width + 2 : -2] = FACES[round(level * (len(FACES) - 1))]
