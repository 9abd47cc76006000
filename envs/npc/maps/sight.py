"""What stands between two points of a scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .glb import Triangles


def crossings(triangles: Triangles, start: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return int64 [K]: how many faces the straight lines from `start` [3] to each of `ends` [K, 3] go through.

    Möller and Trumbore (1997); a line inside the plane of a triangle does not cross it.
    """
    low, high = np.minimum(ends.min(0), start), np.maximum(ends.max(0), start)
    near = ((triangles.max(1) >= low) & (triangles.min(1) <= high)).all(1)
    corner, one, two = (triangles[near, 0], *(triangles[near, k] - triangles[near, 0] for k in (1, 2)))
    along = ends - start
    counts = np.zeros(len(ends), np.int64)
    for k, line in enumerate(along):
        p = np.cross(line, two)
        det = (one * p).sum(1)
        flat = np.abs(det) < 1e-12
        scale = 1 / np.where(flat, 1.0, det)
        away = start - corner
        u = (away * p).sum(1) * scale
        q = np.cross(away, one)
        v, t = (q @ line) * scale, (q * two).sum(1) * scale
        hit = ~flat & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < 1)
        counts[k] = len(np.unique(t[hit].round(6)))  # on the edge between two triangles of a face both are hit
    return counts
