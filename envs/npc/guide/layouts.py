"""Places to be guided through: walls, where exhibits stand, and how far it is from one to the other.

Layouts are drawn beforehand, a pool per kind, from fixed seeds; an episode only picks one by number. Walking distances
come from a breadth-first search over all layouts of a pool at once, one row of cells being the bits of one integer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.errors import ConfigError
from metarl.seeding import derive

from .mazes import maze, plaza, ring, rooms

SIZE = 15
"""Cells along each side of a drawn layout, walls included."""
UNREACHABLE = 10_000.0
"""Distance to what does not exist, in cells."""
_SEED = 2_718
_MOST_TRIES = 50
_CHUNK = 64
"""Layouts whose fields are worked out together."""

KINDS: dict[str, Callable[[np.random.Generator, int], NDArray[np.bool_]]] = {
    "plaza": plaza,
    "rooms": rooms,
    "maze": maze,
    "ring": ring,
}

Walls = NDArray[np.bool_]
Cells = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Layouts:
    """L layouts of H x W cells with up to M exhibits each, on one device; cell (row, column) is row * W + column.

    Rows of `distance` and `points` 0..M-1 are exhibits, row M is where visitor and guide begin.
    """

    wall: Tensor
    """bool [L, H, W]; outside a smaller map there is wall."""
    points: Tensor
    """int64 [L, M + 1]."""
    distance: Tensor
    """float32 [L, M + 1, M + 1]: walking distance in cells; `UNREACHABLE` to exhibits that are not there."""
    theme: Tensor
    """int64 [L, M]: row in the table of themes, or -1 where each episode draws one."""
    crowd: Tensor
    """float32 [L, M]: how crowded it is there, or -1 where each episode draws it."""

    def __len__(self) -> int:
        return len(self.wall)

    @property
    def width(self) -> int:
        """Cells per row."""
        return int(self.wall.shape[2])

    def to(self, device: torch.device | str) -> Layouts:
        """Return the same layouts on `device`."""
        return Layouts(*(part.to(device) for part in self.parts()))

    @cached_property
    def _fields(self) -> dict[int, Tensor]:
        return {}

    def fields(self, layout: Tensor) -> Tensor:
        """Return steps from every cell to every point of layouts (int64 [B]): int16 [B, M + 1, H * W].

        Worked out, some layouts at a time, when first asked for, and kept.
        """
        found = torch.empty(len(layout), *self.points.shape[1:], self.wall[0].numel(), dtype=torch.int16,
                            device=layout.device)  # fmt: skip
        part = layout // _CHUNK
        for number in sorted(set(part.tolist())):
            if number not in self._fields:
                rows = slice(number * _CHUNK, (number + 1) * _CHUNK)
                self._fields[number] = distance_fields(self.wall[rows], self.points[rows])
            here = part == number
            found[here] = self._fields[number][layout[here] % _CHUNK]
        return found

    def parts(self) -> tuple[Tensor, ...]:
        """Return all tensors in the order of the fields."""
        return self.wall, self.points, self.distance, self.theme, self.crowd

    def digest(self) -> str:
        """Return a digest over all of it."""
        found = hashlib.sha256()
        for part in self.parts():
            found.update(f"{part.dtype}:{tuple(part.shape)};".encode() + part.cpu().numpy().tobytes())
        return found.hexdigest()[:16]


def join(parts: Sequence[Layouts]) -> Layouts:
    """Return all layouts of `parts` in order, walls added to the right and below where some are smaller than others."""
    height, width = (max(p.wall.shape[d] for p in parts) for d in (1, 2))
    walls, points = [], []
    for part in parts:
        wall = torch.ones(len(part), height, width, dtype=torch.bool)
        wall[:, : part.wall.shape[1], : part.width] = part.wall
        walls.append(wall)
        points.append(part.points // part.width * width + part.points % part.width)
    others = (torch.cat([getattr(p, name) for p in parts]) for name in ("distance", "theme", "crowd"))
    return Layouts(torch.cat(walls), torch.cat(points), *others)


@cache
def pool(kind: str, n: int, n_exhibits: int, key: str) -> Layouts:
    """Return `n` layouts of `kind` with `n_exhibits` exhibits each; `key` names the draw.

    Raises: ConfigError for an unknown kind, or more exhibits than find room.
    """
    if kind not in KINDS:
        raise ConfigError(f"no layouts of kind {kind!r}; known: {', '.join(KINDS)}")
    rng = np.random.default_rng(derive(_SEED, "guide-layouts", kind, key))
    wall = np.ones((n, SIZE, SIZE), dtype=bool)
    points = np.zeros((n, n_exhibits + 1), dtype=np.int64)
    todo = np.arange(n)
    for _ in range(_MOST_TRIES):
        drawn = KINDS[kind](rng, len(todo))
        drawn, chosen, fine = _furnish(drawn, rng, n_exhibits)
        wall[todo[fine]], points[todo[fine]] = drawn[fine], chosen[fine]
        todo = todo[~fine]
        if not len(todo):
            break
    else:
        raise ConfigError(f"{n_exhibits} exhibits do not fit into a {kind} of {SIZE} x {SIZE} cells; take fewer")
    distance = walking_distances(wall, points)
    drawn_later = np.full((n, n_exhibits), -1)
    return Layouts(
        torch.from_numpy(wall),
        torch.from_numpy(points),
        torch.from_numpy(distance).float(),
        torch.from_numpy(drawn_later),
        torch.from_numpy(drawn_later).float(),
    )


def _furnish(wall: Walls, rng: np.random.Generator, n_exhibits: int) -> tuple[Walls, Cells, NDArray[np.bool_]]:
    """Choose a beginning and exhibits, never side by side, and wall off what cannot be reached.

    Returns walls, cells [n, M + 1] with the beginning last, and which layouts have room for all.
    """
    n, rows = len(wall), np.arange(len(wall))
    lattice = np.zeros((SIZE, SIZE), dtype=bool)
    lattice[1::2, 1::2] = True
    score = np.where(~wall & lattice, rng.random((n, SIZE, SIZE)), -1.0).reshape(n, -1)
    start = score.argmax(1)
    reached = flood(wall, start)
    score = np.where(reached.reshape(n, -1), score, -1.0)
    score[rows, start] = -1.0
    chosen = np.argsort(-score, axis=1)[:, :n_exhibits]
    fine = score[rows, chosen[:, -1]] >= 0.0
    return ~reached, np.concatenate([chosen, start[:, None]], axis=1), fine


def _pack(free: Walls) -> NDArray[np.uint64]:
    """Return rows of cells as bits: bool [..., W] -> uint64 [...], W <= 64."""
    bits = np.uint64(1) << np.arange(free.shape[-1], dtype=np.uint64)
    packed: NDArray[np.uint64] = np.where(free, bits, np.uint64(0)).sum(-1, dtype=np.uint64)
    return packed


def _spread(reached: NDArray[np.uint64], free: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return what can be reached with one step more; both [..., H]."""
    one = np.uint64(1)
    wider: NDArray[np.uint64] = reached | (reached << one) | (reached >> one)
    wider[..., 1:] |= reached[..., :-1]
    wider[..., :-1] |= reached[..., 1:]
    wider &= free
    return wider


def _from(cells: Cells, height: int, width: int) -> NDArray[np.uint64]:
    """Return grids with one bit set each: cells [...] -> uint64 [..., H]."""
    bit = np.uint64(1) << (cells % width).astype(np.uint64)
    grid: NDArray[np.uint64] = np.where(np.arange(height) == (cells // width)[..., None], bit[..., None], np.uint64(0))
    return grid


def flood(wall: Walls, start: Cells) -> NDArray[np.bool_]:
    """Return which cells can be reached from `start` (int64 [n]): bool [n, H, W]."""
    _, height, width = wall.shape
    free, reached = _pack(~wall), _from(start, height, width)
    while True:
        wider = _spread(reached, free)
        if np.array_equal(wider, reached):
            break
        reached = wider
    cells: NDArray[np.bool_] = (reached[..., None] >> np.arange(width, dtype=np.uint64)) & np.uint64(1) != 0
    return cells


def walking_distances(wall: Walls, points: Cells) -> NDArray[np.int64]:
    """Return steps between all points of each layout: walls [n, H, W], cells [n, P] -> int64 [n, P, P].

    Pairs without a way get `UNREACHABLE`.
    """
    n, height, width = wall.shape
    free, reached = _pack(~wall)[:, None], _from(points, height, width)
    row = np.broadcast_to((points // width)[:, None], (n, points.shape[1], points.shape[1]))
    column = (points % width)[:, None].astype(np.uint64)
    steps = np.zeros(row.shape, dtype=np.int64)
    while True:
        missing = (np.take_along_axis(reached, row, axis=2) >> column) & np.uint64(1) == 0
        wider = _spread(reached, free)
        if not missing.any() or np.array_equal(wider, reached):
            break
        steps += missing
        reached = wider
    return np.where(missing, int(UNREACHABLE), steps)


def distance_fields(wall: Tensor, points: Tensor) -> Tensor:
    """Return steps from every cell to every point: bool [L, H, W], int64 [L, P] -> int16 [L, P, H * W].

    Cells without a way there, and walls, get `UNREACHABLE`.
    """
    walls = wall.cpu().numpy()
    n, height, width = walls.shape
    cells = points.cpu().numpy()
    free, reached = _pack(~walls)[:, None], _from(cells, height, width)
    columns = np.arange(width, dtype=np.uint64)
    steps = np.zeros((n, cells.shape[1], height, width), dtype=np.int16)
    while True:
        missing = (reached[..., None] >> columns) & np.uint64(1) == 0
        wider = _spread(reached, free)
        if np.array_equal(wider, reached):
            break
        steps += missing
        reached = wider
    field = np.where(missing, np.int16(UNREACHABLE), steps).reshape(n, cells.shape[1], -1)
    return torch.from_numpy(field).to(wall.device)
