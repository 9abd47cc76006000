"""What a guide world looks like: a picture without a display, and a description that a page can draw from.

Colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .guide_micro import TRAIL, GuideMicro
from .people import THEMES

if TYPE_CHECKING:
    from .guide_world import GuideWorld

Picture = NDArray[np.uint8]

CELL = 24
"""Pixels along a cell."""
_BAR = 20
"""Pixels of the bar below the map."""
THEME_COLOURS = (
    (0, 158, 115), (213, 94, 0), (136, 98, 57), (86, 180, 233), (204, 121, 167),
    (240, 228, 66), (98, 87, 145), (0, 114, 178), (230, 159, 0), (120, 120, 120),
)  # fmt: skip
"""One per theme, in the order of `people.THEMES`; letters tell apart what colours do not."""
FLOOR, WALL, GUIDE, VISITOR, CRUMB = (250, 248, 242), (70, 70, 74), (0, 114, 178), (230, 159, 0), (170, 190, 205)
FACES = ((213, 94, 0), (230, 159, 0), (190, 190, 190), (86, 180, 233), (0, 158, 115))
"""From bored to glad."""
_GLYPHS = {
    "N": "10001 11001 10101 10011 10001", "G": "01111 10000 10011 10001 01111", "H": "10001 10001 11111 10001 10001",
    "M": "10001 11011 10101 10001 10001", "R": "11110 10001 11110 10010 10001", "F": "11111 10000 11110 10000 10000",
    "Y": "10001 01010 00100 00100 00100", "U": "10001 10001 10001 10001 01110", "O": "01110 10001 10001 10001 01110",
    "T": "11111 00100 00100 00100 00100",
}  # fmt: skip
LETTERS = "NGHMRFYUOT"
"""One letter per theme: Nature, Game, History, Music, Romance, Family, mYstery, fUture, humOur, Thrill."""


def describe(world: GuideWorld, copy: int) -> dict[str, Any]:
    """Return what a page needs to draw one copy, as JSON-able values.

    "size" [rows, columns]; "walls", a string per row, "#" where nobody walks; "guide" and "visitor" (cells, [row,
    column]); "trail", cells from the visitor to the guide; "exhibits", each with "cell", "themes" {name: weight},
    "crowd" in [0, 1], "seen" and "there"; "patience" in [0, 1]; "reaction", 0 for none or 1..n, and "reactions", n;
    "shown", the exhibit that it is about, or null; "speed" in cells per tick, 0 if not seen yet; "episode" of
    "episodes". Under "hidden": "interests" {theme: number}, "pace", "aversion", and "felt", g at each exhibit.
    """
    state = {k: v[copy] for k, v in world.state.items()}
    layout = int(state["layout"])
    places, m = world.places.layouts, world.n_exhibits
    wall = places.wall[layout]
    points = places.points[layout].tolist()
    rows = world.places.themes.rows[state["theme"]]
    reaction = int(state["reaction"])
    exhibits = [
        {
            "cell": _cell(points[i], world.width),
            "themes": {name: round(w, 3) for name, w in zip(THEMES, rows[i].tolist(), strict=True) if w > 0},
            "crowd": round(float(state["crowd"][i]), 3),
            "seen": bool(state["seen"][i]),
            "there": bool(rows[i].sum() > 0),
        }
        for i in range(m)
    ]
    hidden = {k: v[copy].tolist() for k, v in world.latent().items()}
    return {
        "size": list(wall.shape),
        "walls": ["".join("#" if w else "." for w in row) for row in wall.tolist()],
        **_walkers(world, state, points),
        "exhibits": exhibits,
        "patience": float(state["patience"]) / world.settings.patience,
        "reaction": reaction,
        "reactions": world.settings.n_reactions,
        "shown": int(state["at"]) if reaction and not state["first"] else None,
        "speed": float(state["speed"]),
        "episode": int(state["number"]),
        "episodes": world.n_episodes,
        "hidden": hidden | {"interests": dict(zip(THEMES, hidden["interests"], strict=True))},
    }


def _cell(number: int, width: int) -> list[int]:
    return [number // width, number % width]


def _walkers(world: GuideWorld, state: dict[str, Any], points: list[int]) -> dict[str, Any]:
    """Return where guide and visitor are, and the crumbs between them."""
    if not isinstance(world, GuideMicro):
        here = _cell(points[int(state["at"])], world.width)
        return {"guide": here, "visitor": here, "trail": []}
    crumbs = [int(state["trail"][i % TRAIL]) for i in range(int(state["eaten"]), int(state["laid"]))]
    return {
        "guide": _cell(int(state["cell"]), world.width),
        "visitor": _cell(int(state["visitor"]), world.width),
        "trail": [_cell(c, world.width) for c in crumbs],
    }


def paint(world: GuideWorld, copy: int) -> Picture:
    """Return an RGB picture, uint8 [rows * 24 + 20, columns * 24, 3], of what a bystander sees.

    Exhibits are tiles in the colour and with the letter of their strongest theme, pale once seen, with a white bar for
    the crowd; the visitor is orange, the guide blue. Below: patience left, and the last reaction from bored (red) to
    glad (green).
    """
    seen = describe(world, copy)
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
    ink = (255, 255, 255) if colours[0].sum() < 400 else (30, 30, 30)
    picture[top + 5 : top + 15, left + 7 : left + 17][mask] = ink
    length = round(exhibit["crowd"] * (CELL - 8))
    picture[top + 17 : top + 20, left + 4 : left + CELL - 4] = (60, 60, 60)
    picture[top + 17 : top + 20, left + 4 : left + 4 + length] = (255, 255, 255)


def _bar(strip: Picture, seen: dict[str, Any]) -> None:
    """Draw patience from the left and a block for the last reaction at the right."""
    strip[:] = (30, 30, 30)
    width = strip.shape[1] - _BAR
    strip[4:-4, 4 : 4 + round((width - 8) * seen["patience"])] = VISITOR
    if seen["reaction"]:
        level = (seen["reaction"] - 1) / max(seen["reactions"] - 1, 1)
        strip[2:-2, width + 2 : -2] = FACES[round(level * (len(FACES) - 1))]
