"""Pictures of a market, painted by numpy: price lines, what is held, signals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metarl.envs.npc.palette import GREEN, INK, SERIES, VERMILION, WHITE

HEIGHT, WIDTH = 240, 360
_PLOT = (12, 8, 180, 300)
"""Top, left, height and width of the price lines."""
_GRID, _FAINT = (225, 225, 225), 0.45


def _colour(asset: int) -> tuple[int, int, int]:
    """Return the colour of an asset; those beyond the seventh begin anew."""
    return SERIES[asset % len(SERIES)]


def _line(image: NDArray[np.uint8], rows: NDArray[np.float64], cols: NDArray[np.float64], colour: tuple[int, ...],
          thick: int) -> None:  # fmt: skip
    """Draw a polyline through (rows, cols)."""
    for i in range(len(rows) - 1):
        n = int(max(abs(rows[i + 1] - rows[i]), abs(cols[i + 1] - cols[i]))) + 2
        r = np.linspace(rows[i], rows[i + 1], n).round().astype(np.int64)
        c = np.linspace(cols[i], cols[i + 1], n).round().astype(np.int64)
        for d in range(thick):
            image[np.clip(r + d, 0, HEIGHT - 1), np.clip(c, 0, WIDTH - 1)] = colour


def draw_market(
    prices: NDArray[np.float64],
    signal: NDArray[np.float64],
    *,
    position: int,
    wealth: float,
    horizon: int,
    hide: bool,
) -> NDArray[np.uint8]:
    """Return uint8 [240, 360, 3]: prices [t, A] since the episode's start (1 there) as lines over `horizon` steps.

    The line of the asset held is thick. Right: a bar per asset for its signal, from the middle up or down, and a box in
    the colour of what is held (black frame: cash). Bottom: wealth as a bar about 1. With `hide` lines are pale, since
    the agent sees only what it holds.
    """
    image = np.full((HEIGHT, WIDTH, 3), WHITE, dtype=np.uint8)
    top, left, height, width = _PLOT
    lines = np.concatenate([np.ones((1, len(signal))), prices])
    low, high = min(0.8, float(lines.min())), max(1.25, float(lines.max()))
    rows = top + height * (1.0 - (np.log(lines) - np.log(low)) / (np.log(high) - np.log(low)))
    cols = left + width * np.arange(len(lines)) / horizon
    one = int(top + height * (1.0 - (0.0 - np.log(low)) / (np.log(high) - np.log(low))))
    image[one, left : left + width] = _GRID
    for asset in range(len(signal)):
        colour = np.array(_colour(asset))
        held = asset == position
        if hide and not held:
            colour = (_FAINT * colour + (1.0 - _FAINT) * np.array(WHITE)).astype(np.int64)
        _line(image, rows[:, asset], cols, tuple(int(c) for c in colour), 3 if held else 1)
    _draw_side(image, signal, position)
    bar = int(np.clip(width * (0.5 + 0.25 * np.log(max(wealth, 1e-6))), 0, width))
    image[210:226, left : left + width] = _GRID
    middle = left + width // 2
    a, b = sorted((middle, left + bar))
    image[210:226, a : b + 1] = GREEN if wealth >= 1.0 else VERMILION
    image[206:230, middle] = INK
    return image


def _draw_side(image: NDArray[np.uint8], signal: NDArray[np.float64], position: int) -> None:
    """Draw the signals as bars, and what is held as a box."""
    slot = max(2, 40 // len(signal))
    middle = 90
    for asset, value in enumerate(signal):
        at = 314 + asset * slot
        tip = int(np.clip(middle - 28.0 * value, 14, 166))
        a, b = sorted((middle, tip))
        image[a : b + 1, at : at + slot - 1] = _colour(asset)
    image[middle, 312:358] = INK
    image[182:200, 324:346] = INK
    image[184:198, 326:344] = WHITE if position == len(signal) else _colour(position)
