"""A world as an image: numpy alone, no display, colours that colour-blind people tell apart, a letter per theme."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metarl.envs.npc.palette import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, WHITE, YELLOW
from metarl.errors import ConfigError

from .layout import Layout
from .themes import LETTERS

Image = NDArray[np.uint8]

GREY = (160, 160, 160)
THEME_COLOURS = (GREEN, ORANGE, YELLOW, BLUE, PURPLE, SKY, BLACK, GREY, WHITE, VERMILION)
"""One per theme of `themes.THEMES`."""
FLOOR, WALL, WALL_EDGE, WALL_FACE = (240, 238, 230), (62, 66, 74), (44, 47, 54), (92, 97, 107)
_DISTRICT_HUES = (SKY, YELLOW, GREEN, PURPLE, ORANGE, BLUE, VERMILION, GREY)
PIXELS = (8, 128)
"""Fewest and most pixels along one side of a cell."""

_FONT = {
    "N": "10001 11001 10101 10101 10011 10001 10001",
    "G": "01110 10001 10000 10111 10001 10001 01110",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "M": "10001 11011 10101 10101 10001 10001 10001",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "F": "11111 10000 10000 11110 10000 10000 10000",
    "Y": "10001 10001 01010 00100 00100 00100 00100",
    "U": "10001 10001 10001 10001 10001 10001 01110",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "$": "00100 01111 10100 01110 00101 11110 00100",
    "+": "00000 00100 00100 11111 00100 00100 00000",
    "?": "01110 10001 00001 00110 00100 00000 00100",
}
PLACES = {"spawn": ("S", VERMILION), "exit": ("E", GREEN), "shop": ("$", ORANGE), "meeting": ("+", BLUE)}
PLACES["portal"] = ("P", PURPLE)
"""{kind of place: (letter, colour of its disc)}."""


def district_colour(number: int) -> tuple[int, int, int]:
    """Return the pale floor of a district, 0 for none."""
    if number == 0:
        return FLOOR
    share = 0.30 if number <= len(_DISTRICT_HUES) else 0.5
    hue = _DISTRICT_HUES[(number - 1) % len(_DISTRICT_HUES)]
    red, green, blue = (round(255 * (1 - share) + share * channel) for channel in hue)
    return red, green, blue


def picture(layout: Layout, px: int = 24, *, episode: int = 0) -> Image:
    """Return the world as uint8 [H * px, W * px, 3].

    Floors have the colour of their district and a bar as long as the crowd; exhibits are squares in the colours of
    their two main themes with the letter of the first; other places are discs; streets closed by `episode` are striped.
    Raises: ConfigError if px is not 8 to 128.
    """
    if not PIXELS[0] <= px <= PIXELS[1]:
        raise ConfigError(f"px must be {PIXELS[0]} to {PIXELS[1]} pixels per cell, got {px}")
    wall, crowd = layout.wall.numpy(), layout.crowd.numpy()
    canvas = np.empty((layout.height * px, layout.width * px, 3), np.uint8)
    for row in range(layout.height):
        for column in range(layout.width):
            cell = _cell(canvas, row, column, px)
            if wall[row, column]:
                wall_tile(cell, face=row + 1 < layout.height and not wall[row + 1, column])
            else:
                floor_tile(cell, int(layout.district[row, column]), float(crowd[row, column]))
    for row, column in (layout.wall_in(episode) & ~layout.wall).nonzero().tolist():
        closed_tile(_cell(canvas, row, column, px))
    for place in layout.places():
        if place.kind != "exhibit":
            place_tile(_cell(canvas, *place.cell, px), place.kind)
    place_tile(_cell(canvas, *layout.spawn, px), "spawn")
    for index, (row, column) in enumerate(layout.exhibits.cell.tolist()):
        cell = _cell(canvas, row, column, px)
        exhibit_tile(cell, layout.exhibits.themes[index].tolist())
        crowd_bar(cell, float(crowd[row, column]))
    return canvas


def _cell(canvas: Image, row: int, column: int, px: int) -> Image:
    return canvas[row * px : (row + 1) * px, column * px : (column + 1) * px]


def floor_tile(cell: Image, district: int, crowd: float = 0.0) -> None:
    """Paint floor of a district into uint8 [px, px, 3]."""
    colour = np.array(district_colour(district))
    cell[:] = colour
    cell[-1, :] = cell[:, -1] = colour * 0.93
    crowd_bar(cell, crowd)


def crowd_bar(cell: Image, crowd: float) -> None:
    """Paint a bar along the lower edge, as long as the crowd (0 to 1); none below 5 %."""
    px = len(cell)
    length, thick = round(crowd * (px - 2)) if crowd >= 0.05 else 0, max(px // 12, 1)
    cell[px - 1 - thick : px - 1, 1 : 1 + length] = (70, 70, 70)


def wall_tile(cell: Image, face: bool = False) -> None:
    """Paint a wall; `face` shows its side, as where the cell below is floor."""
    cell[:] = WALL
    cell[-1, :] = cell[:, -1] = WALL_EDGE
    if face:
        cell[-max(len(cell) // 3, 2) :, :] = WALL_FACE


def closed_tile(cell: Image) -> None:
    """Paint stripes over a cell that is closed."""
    px = len(cell)
    stripe = np.add.outer(np.arange(px), np.arange(px)) // max(px // 6, 2) % 2 == 0
    cell[stripe] = VERMILION


def place_tile(cell: Image, kind: str) -> None:
    """Paint a disc with the letter of a kind of place."""
    px = len(cell)
    letter, colour = PLACES[kind]
    off = np.arange(px) - (px - 1) / 2
    radius = np.hypot(off[:, None], off[None, :])
    cell[radius <= 0.47 * px] = colour
    cell[radius <= 0.37 * px] = WHITE
    _letter(cell, letter, BLACK, 0.46)


def exhibit_tile(cell: Image, themes: list[float]) -> None:
    """Paint an exhibit: the colours of its two main themes on either side of a diagonal, the letter of the first."""
    px = len(cell)
    ranked = sorted(range(len(themes)), key=lambda k: -themes[k])
    first, second = ranked[0], ranked[1]
    inset = max(px // 12, 1)
    inner = cell[inset:-inset, inset:-inset]
    inner[:] = THEME_COLOURS[first]
    if themes[second] >= 0.2:
        side = np.arange(len(inner))
        inner[np.add.outer(side, side) > 1.25 * len(inner)] = THEME_COLOURS[second]
    edge = max(px // 24, 1)
    inner[:edge] = inner[-edge:] = inner[:, :edge] = inner[:, -edge:] = (40, 40, 40)
    luminance = float(np.dot((0.299, 0.587, 0.114), THEME_COLOURS[first]))
    _letter(cell, LETTERS[first], BLACK if luminance > 120 else WHITE, 0.58)


def mixed_tile(cell: Image) -> None:
    """Paint an exhibit whose themes are only written in its properties."""
    exhibit_tile(cell, [0.0] * THEME_COLOURS.index(GREY) + [1.0, 0.0])
    inset = len(cell) // 5
    cell[inset:-inset, inset:-inset] = GREY
    _letter(cell, "?", BLACK, 0.58)


def _letter(cell: Image, letter: str, colour: tuple[int, int, int], share: float) -> None:
    """Paint a letter of 5 x 7 dots, about `share` of the cell high, in its middle."""
    px = len(cell)
    dots = np.array([[dot == "1" for dot in line] for line in _FONT[letter].split()])
    height = max(round(share * px), 7)
    width = max(round(height * 5 / 7), 5)
    rows, columns = np.arange(height) * 7 // height, np.arange(width) * 5 // width
    top, left = (px - height) // 2, (px - width) // 2
    cell[top : top + height, left : left + width][dots[rows][:, columns]] = colour
