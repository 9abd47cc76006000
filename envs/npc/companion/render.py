"""Pictures of an encounter, painted by numpy: the visitor's face, the mood, what the NPC does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.npc.palette import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, WHITE

HEIGHT, WIDTH = 240, 360
MOODS = ("annoyed", "bored", "neutral", "pleased", "delighted")
MOOD_COLOURS = (VERMILION, ORANGE, (170, 170, 170), SKY, BLUE)
CHOICE_COLOURS = (GREEN, PURPLE, ORANGE)
"""Of speech, distance and game."""
_FAINT = (228, 228, 228)
_FACE = (16, 16, 140)
"""Top, left and side of the face."""


def mood_names(n: int) -> list[str]:
    """Return names of `n` moods, the worst first."""
    return [MOODS[round(i * (len(MOODS) - 1) / max(1, n - 1))] for i in range(n)]


def _box(image: NDArray[np.uint8], top: int, left: int, height: int, width: int, colour: tuple[int, ...]) -> None:
    image[top : top + height, left : left + width] = colour


def draw_encounter(frame: dict[str, Any], sizes: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return uint8 [240, 360, 3].

    Left the face (a letter, or as many bars as there are visitors with the present one's filled) and below it a square
    per mood, that of the last turn filled. Right a row of squares per choice, what was done last filled. Bottom: how
    far the encounter (black) and the trial (grey) have come.
    """
    image = np.full((HEIGHT, WIDTH, 3), WHITE, dtype=np.uint8)
    top, left, side = _FACE
    _box(image, top - 2, left - 2, side + 4, side + 4, INK)
    _box(image, top, left, side, side, WHITE)
    if frame["glyph"] is not None:
        ink = np.kron(np.array(frame["glyph"]), np.ones((side // len(frame["glyph"]),) * 2)).astype(np.int64)
        image[top : top + len(ink), left : left + len(ink)] = (255 - ink)[..., None]
    else:
        wide = side // frame["visitors"]
        for i in range(frame["visitors"]):
            colour = INK if i == frame["visitor"] else _FAINT
            _box(image, top + 10, left + i * wide + 4, side - 20, wide - 8, colour)
        if frame["ring"]:
            _box(image, top, left, 4, side, CHOICE_COLOURS[2])
    wide = side // frame["moods"]
    for i in range(frame["moods"]):
        colour = MOOD_COLOURS[round(i * (len(MOODS) - 1) / max(1, frame["moods"] - 1))]
        at = (172, left + i * wide)
        _box(image, *at, 24, wide - 4, colour)
        if i != frame["mood"]:
            _box(image, at[0] + 3, at[1] + 3, 18, wide - 10, WHITE)
    _draw_choices(image, frame["action"], sizes)
    for row, share, colour in (
        (210, frame["turn"] / frame["turns"], INK),
        (222, (frame["encounter"] + frame["turn"] / frame["turns"]) / frame["encounters"], (150, 150, 150)),
    ):
        _box(image, row, left, 8, WIDTH - 2 * left, _FAINT)
        _box(image, row, left, 8, round(share * (WIDTH - 2 * left)), colour)
    return image


def _draw_choices(image: NDArray[np.uint8], action: list[int] | None, sizes: tuple[int, ...]) -> None:
    """Draw a row of squares per choice."""
    for row, size in enumerate(sizes):
        top = 20 + row * 52
        for i in range(size):
            left = 180 + i * 34
            _box(image, top, left, 30, 30, CHOICE_COLOURS[row])
            if action is None or action[row] != i:
                _box(image, top + 2, left + 2, 26, 26, _FAINT)
