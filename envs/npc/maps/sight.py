"""What stands between two points of a scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .glb import Triangles

_MOST_PAIRS = 100_000
"""Lines times triangles that are looked at together."""


def crossings(triangles: Triangles, start: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return int64 [K]: how many faces the straight lines from `start` [3] to each of `ends` [K, 3] go through.

    Möller and Trumbore (1997); a line inside the plane of a triangle does not cross it.
    """
    low, high = np.minimum(ends.min(0), start), np.maximum(ends.max(0), start)
    near = ((triangles.max(1) >= low) & (triangles.min(1) <= high)).all(1)
    corner, one, two = (triangles[near, 0], *(triangles[near, k] - triangles[near, 0] for k in (1, 2)))
    along = ends - start
    counts = np.zeros(len(ends), np.int64)
    away = start - corner
    q = np.cross(away, one)
    reach = (q * two).sum(1)
    at_once = max(1, _MOST_PAIRS // max(len(corner), 1))
    for first in range(0, len(along), at_once):
        lines = along[first : first + at_once]
        p = np.cross(lines[:, None], two)
        det = (one * p).sum(2)
        flat = np.abs(det) < 1e-12
        scale = 1 / np.where(flat, 1.0, det)
        u, v, t = (away * p).sum(2) * scale, (lines @ q.T) * scale, reach * scale
        hit = ~flat & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < 1)
        for k in hit.any(1).nonzero()[0]:
            # On the edge between two triangles of a face both are hit.
            counts[first + k] = len(np.unique(t[k, hit[k]].round(6)))
    return counts
