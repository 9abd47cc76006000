"""Glyph images as identity cues: 23 scripts, each drawing with random distortions (a stand-in for Omniglot).

A visitor is recognised by a letter of a script nobody has seen in training, never by an id. The outlines
(`data/glyphs.npz`) come from freely licensed fonts, see `data/SOURCES.md`; a "drawer" turns, shears, stretches and
bends a letter and chooses a pen. Lake et al. 2015 (Omniglot) split by alphabet as is done here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.errors import ConfigError, nearest
from metarl.seeding import generator

SIZE = 64
"""Pixels of an outline's side."""
DRAWN = 28
"""Pixels of a drawing's side."""
TRAIN_SCRIPTS = (
    "latin",
    "greek",
    "cyrillic",
    "armenian",
    "georgian",
    "khutsuri",
    "arabic",
    "tifinagh",
    "lisu",
    "old-italic",
    "devanagari",
    "tamil",
    "thai",
    "ethiopic",
)
TEST_SCRIPTS = ("hebrew", "nko", "lao", "ogham", "canadian", "bengali", "telugu", "khmer", "myanmar")
SCRIPTS = TRAIN_SCRIPTS + TEST_SCRIPTS
"""Latin, Greek, Cyrillic, Lisu and Old Italic share shapes, so all are on one side."""
SPLITS = {"train": TRAIN_SCRIPTS, "test": TEST_SCRIPTS}
_REACH = 6
"""Distances to the outline are exact up to this many pixels."""
_CHUNK = 2048
"""Drawings made at once."""


@dataclass(frozen=True)
class Hand:
    """How much drawings of one letter differ."""

    room: float = 1.25
    """Side of the picture over the side of the outline's: above 1 leaves room around the letter."""
    turn: float = 0.3
    """Largest rotation either way, radians."""
    shear: float = 0.25
    """Largest shear either way."""
    stretch: float = 0.25
    """Largest change of either side's length, as a share."""
    shift: float = 0.29
    """Largest displacement either way, in half sides of the outline's."""
    bend: float = 0.05
    """Standard deviation of the elastic field at each of its 5 x 5 nodes, in half sides of the outline's."""
    pen: tuple[float, float] = (-0.3, 0.6)
    """Range of what is added to a stroke on each side, in half widths of the letter's own strokes."""

    def __post_init__(self) -> None:
        """Raise ConfigError for amounts that are negative or leave nothing of a letter."""
        amounts = (self.turn, self.shear, self.stretch, self.shift, self.bend)
        if min(amounts) < 0 or self.room <= 0 or self.stretch >= 1 or not -1 < self.pen[0] <= self.pen[1] <= 2:
            raise ConfigError(f"no hand draws with {self}; amounts must be >= 0, room > 0, stretch < 1, -1 < pen <= 2")


STEADY = Hand(room=1.0, turn=0.0, shear=0.0, stretch=0.0, shift=0.0, bend=0.0, pen=(0.0, 0.0))
"""Draws each letter as the font has it."""


def _check(split: str) -> None:
    if split not in SPLITS:
        raise ConfigError(f"letters have no split {split!r}; {nearest(split, SPLITS)}")


@cache
def _arrays() -> dict[str, Tensor]:
    resource = files("metarl.envs.npc.data") / "glyphs.npz"
    with as_file(resource) as path, np.load(path) as arrays:
        bits = np.unpackbits(arrays["bits"], axis=1).reshape(-1, SIZE, SIZE).astype(bool)
        return {
            "ink": torch.from_numpy(bits),
            "script": torch.from_numpy(arrays["script"]).long(),
            "code": torch.from_numpy(arrays["code"]).long(),
        }


def _rows(split: str) -> Tensor:
    """Return the numbers of the letters of `split`, in order."""
    _check(split)
    numbers = torch.tensor([SCRIPTS.index(name) for name in SPLITS[split]])
    return torch.isin(_arrays()["script"], numbers).nonzero()[:, 0]


def letters(split: str, *, device: torch.device | str = "cpu") -> Tensor:
    """Return the script of each letter, int64 [L]: indices into SCRIPTS, in the order of `bank`'s rows.

    Raises: ConfigError for an unknown split.
    """
    return _arrays()["script"][_rows(split)].to(device)


def characters(split: str) -> tuple[str, ...]:
    """Return the letters themselves, L Unicode characters; raises ConfigError for an unknown split."""
    return tuple(chr(code) for code in _arrays()["code"][_rows(split)].tolist())


def _spread(squared: Tensor, dim: int) -> Tensor:
    """Return the least of squared[i] + (i - j)^2 over i within `_REACH` along `dim`, for each j."""
    pad = [0, 0, 0, 0]
    pad[2 * (2 - dim)] = pad[2 * (2 - dim) + 1] = _REACH
    wide = F.pad(squared, pad, value=float(_REACH**2))
    best = squared.clone()
    for step in range(-_REACH, _REACH + 1):
        torch.minimum(best, wide.narrow(dim, _REACH + step, SIZE) + step * step, out=best)
    return best


def _nearest_distance(is_target: Tensor) -> Tensor:
    """Return the distance of each pixel to the nearest True one, float32 [L, S, S], at most `_REACH`."""
    start = (~is_target).float() * _REACH**2
    return _spread(_spread(start, 1), 2).clamp(max=_REACH**2).sqrt()


@cache
def _depth(split: str) -> Tensor:
    """Return how deep in the ink each pixel lies, float32 [L, 64, 64] in pixels: positive inside, negative outside."""
    ink = _arrays()["ink"][_rows(split)]
    return _nearest_distance(~ink) - _nearest_distance(ink)


@cache
def _half_width(split: str) -> Tensor:
    """Return about half the width of each letter's strokes, float32 [L] in pixels: how deep its deepest ink lies."""
    depth = _depth(split).flatten(1)
    inside = depth.masked_fill(depth <= 0, torch.nan)
    return inside.nanquantile(0.9, dim=1)


def _grids(n: int, hand: Hand, stream: torch.Generator) -> Tensor:
    """Return where n drawings look for ink, float32 [n, 28, 28, 2] in half sides of the outline."""

    def within(limit: float) -> Tensor:
        return (2 * torch.rand(n, generator=stream) - 1) * limit

    turn, shear = within(hand.turn), within(hand.shear)
    wide, high = hand.room * (1 + within(hand.stretch)), hand.room * (1 + within(hand.stretch))
    shift = torch.stack([within(hand.shift), within(hand.shift)], 1)
    cos, sin = turn.cos(), turn.sin()
    across = torch.stack([cos, sin], 1) * wide[:, None]
    down = torch.stack([shear * cos - sin, shear * sin + cos], 1) * high[:, None]
    affine = torch.stack([across, down, shift], 2)
    nodes = torch.randn(n, 2, 5, 5, generator=stream) * hand.bend
    field = F.interpolate(nodes, size=(DRAWN, DRAWN), mode="bicubic", align_corners=True)
    return F.affine_grid(affine, [n, 1, DRAWN, DRAWN], align_corners=False) + field.permute(0, 2, 3, 1)


def draw(split: str, rows: Tensor, hand: Hand, stream: torch.Generator) -> Tensor:
    """Draw each of `rows`, int64 [n] (letters of `split`), once more: uint8 [n, 28, 28], 255 is ink.

    Raises: ConfigError for an unknown split.
    """
    depth, half_width = _depth(split), _half_width(split)
    drawn = []
    for part in torch.split(rows, _CHUNK):
        grid = _grids(len(part), hand, stream)
        low, high = hand.pen
        pen = (low + (high - low) * torch.rand(len(part), generator=stream)) * half_width[part]
        deep = F.grid_sample(depth[part][:, None], grid, padding_mode="border", align_corners=False)[:, 0]
        # The edge is as soft as one pixel of the drawing is wide.
        ink = ((deep + pen[:, None, None]) * (DRAWN / SIZE) + 0.5).clamp(0, 1)
        drawn.append((ink * 255).round().to(torch.uint8))
    return torch.cat(drawn)


@cache
def _bank(split: str, n_drawings: int, seed: int, hand: Hand) -> Tensor:
    n_letters = len(_rows(split))
    stream = generator(seed, "npc-glyphs", split)
    rows = torch.arange(n_letters).repeat_interleave(n_drawings)
    return draw(split, rows, hand, stream).view(n_letters, n_drawings, DRAWN, DRAWN)


def bank(
    split: str, n_drawings: int = 20, seed: int = 0, *, hand: Hand | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """Return `n_drawings` of each letter of `split`, uint8 [L, n_drawings, 28, 28]; 255 is ink.

    The same arguments give the same pictures; they are drawn once and kept. Do not write into them.

    Raises: ConfigError for an unknown split or n_drawings < 1.
    """
    _check(split)
    if n_drawings < 1:
        raise ConfigError(f"a bank of {n_drawings} drawings per letter is empty; pass at least 1")
    return _bank(split, n_drawings, seed, hand or Hand()).to(device)
