"""A picture of every letter, each drawn once: `python -m tools.npc_data.sheet FILE.png`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metarl.envs.npc.companion import glyphs

COLUMNS = 40
LABEL = 84
"""Pixels for the name of a script."""


def sheet(n_columns: int = COLUMNS, *, seed: int = 0) -> NDArray[np.uint8]:
    """Return a picture, uint8 [H, W]: scripts below each other, train first; white paper, black ink."""
    from PIL import Image, ImageDraw

    side = glyphs.DRAWN
    blocks = []
    for split in glyphs.SPLITS:
        drawn = 255 - glyphs.bank(split, 1, seed)[:, 0].numpy()
        numbers = glyphs.letters(split).numpy()
        for number in np.unique(numbers):
            ours = drawn[numbers == number]
            n_rows = -(-len(ours) // n_columns)
            block = np.full((n_rows * side + 4, LABEL + n_columns * side), 255, np.uint8)
            for k, letter in enumerate(ours):
                y, x = k // n_columns * side, LABEL + k % n_columns * side
                block[y : y + side, x : x + side] = letter
            canvas = Image.fromarray(block)
            pen = ImageDraw.Draw(canvas)
            pen.text((4, 8), glyphs.SCRIPTS[number], fill=0)
            if split == "test":
                pen.text((4, 17), "(test)", fill=120)
            blocks.append(np.asarray(canvas))
    return np.concatenate(blocks)


def main(path: Path) -> None:
    """Write the picture, 16 grey levels."""
    from PIL import Image

    Image.fromarray(sheet()).quantize(16).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
