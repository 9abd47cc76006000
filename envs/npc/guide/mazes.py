"""Four kinds of floor plans, many at a time: plazas with stalls, rooms with doors, mazes, courtyards in a ring.

Every function returns walls, bool [n, 15, 15], closed along the border. What stands at odd rows and columns is where
exhibits may stand; inner walls run along even ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SIZE = 15
_NODES = 7
"""Lattice points per side, at odd rows and columns."""
_AT = np.arange(_SIZE)

Walls = NDArray[np.bool_]


def _border(n: int) -> Walls:
    wall = np.zeros((n, _SIZE, _SIZE), dtype=bool)
    wall[:, [0, -1]] = True
    wall[:, :, [0, -1]] = True
    return wall


def plaza(rng: np.random.Generator, n: int) -> Walls:
    """Return open squares with seven stalls of up to three by three cells."""
    low = rng.integers(2, _SIZE - 3, (n, 7, 2))
    high = low + rng.integers(1, 4, (n, 7, 2))
    inside = (low[..., None] <= _AT) & (high[..., None] > _AT)
    stalls = inside[:, :, 0, :, None] & inside[:, :, 1, None, :]
    return _border(n) | stalls.any(1)


def rooms(rng: np.random.Generator, n: int) -> Walls:
    """Return two or three by two rooms, each two neighbours joined by a door."""
    wall = _border(n)
    across = 2 * rng.integers(2, 6, (n, 1))
    along = np.stack([2 * rng.integers(1, 4, n), 2 * rng.integers(4, 7, n)], axis=1)
    along[rng.random(n) < 0.3, 0] = 0  # on the border: two rooms instead of three
    wall |= (across == _AT)[:, :, None] | (_AT[:, None] == along[:, None, :]).any(2)[:, None, :]
    stages = (along, across)
    for axis, (lines, others) in enumerate((stages, stages[::-1])):
        for line in lines.T:
            # A door in each piece that the other walls cut this line into.
            piece = (_AT[None] > others[..., None]).sum(1)
            for part in range(others.shape[1] + 1):
                open_to = (piece == part) & (_AT % 2 == 1)
                door = np.where(open_to, rng.random((n, _SIZE)), -1.0).argmax(1)
                real = open_to.any(1) & (line > 0)
                where = (door, line) if axis == 0 else (line, door)
                wall[np.flatnonzero(real), where[0][real], where[1][real]] = False
    return wall


def maze(rng: np.random.Generator, n: int) -> Walls:
    """Return mazes: a random spanning tree of the lattice (Prim), with three of ten of its other walls taken away."""
    wall = np.ones((n, _SIZE, _SIZE), dtype=bool)
    wall[:, 1::2, 1::2] = False
    node = np.arange(_NODES * _NODES).reshape(_NODES, _NODES)
    ends = np.concatenate(
        [
            np.stack([node[:, :-1].ravel(), node[:, 1:].ravel()]),
            np.stack([node[:-1].ravel(), node[1:].ravel()]),
        ],
        axis=1,
    )
    # The cell between two lattice points lies half way.
    between = (ends[0] // _NODES + ends[1] // _NODES + 1, ends[0] % _NODES + ends[1] % _NODES + 1)
    weight = rng.random((n, ends.shape[1]))
    rows = np.arange(n)
    joined = np.zeros((n, _NODES * _NODES), dtype=bool)
    joined[:, 0] = True
    for _ in range(_NODES * _NODES - 1):
        leads_out = joined[:, ends[0]] != joined[:, ends[1]]
        chosen = np.where(leads_out, weight, 2.0).argmin(1)
        wall[rows, between[0][chosen], between[1][chosen]] = False
        joined[rows, ends[0][chosen]] = joined[rows, ends[1][chosen]] = True
    opened = rng.random(weight.shape) < 0.3
    wall[:, between[0], between[1]] &= ~opened
    return wall


def ring(rng: np.random.Generator, n: int) -> Walls:
    """Return a courtyard within a wall with two to four gates, a corridor around it that is barred in one place."""
    low, high = 2 * rng.integers(1, 3, n), _SIZE - 1 - 2 * rng.integers(1, 3, n)
    edge = (low[:, None] == _AT) | (high[:, None] == _AT)
    span = (low[:, None] <= _AT) & (high[:, None] >= _AT)
    wall: Walls = _border(n) | (edge[:, :, None] & span[:, None]) | (span[:, :, None] & edge[:, None])
    rows, n_gates = np.arange(n), rng.integers(2, 5, n)
    for gate in range(4):
        along = 2 * rng.integers(0, (high - low) // 2, n) + low + 1
        side = (gate + rng.integers(0, 2, n)) % 4
        at = np.where(side % 2 == 0, low, high)
        where = (np.where(side < 2, at, along), np.where(side < 2, along, at))
        real = gate < n_gates
        wall[rows[real], where[0][real], where[1][real]] = False
    bar = 2 * rng.integers(1, _NODES, n)
    side = rng.integers(0, 4, n)
    outside = np.where(side[:, None] % 2 == 0, low[:, None] > _AT, high[:, None] < _AT)
    barred = outside[:, :, None] & (bar[:, None] == _AT)[:, None]
    wall |= np.where(side[:, None, None] < 2, barred, barred.transpose(0, 2, 1))
    pillar = rng.random(n) < 0.5
    wall[pillar, 7, 7] = True
    return wall
