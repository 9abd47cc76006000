"""Which cells of a grid the triangles of a scene stand in, between two heights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .glb import Triangles

_INWARD = 1e-3
"""Share of a cell by which faces and their corners are moved inwards, so that a box that ends on a line of the grid
fills one side of it only."""

Points = NDArray[np.float64]
"""[K, 3]: corners of a polygon."""


@dataclass(frozen=True)
class Raster:
    """A grid over the (x, z) plane; row 0 is where z is largest, as on a map with north above."""

    left: float
    """smallest x, metres"""
    bottom: float
    """smallest z, metres"""
    rows: int
    columns: int
    cell: float
    """side of a cell, metres"""

    def middles(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return [K, 2], (x, z) of the middles of cells [K, 2], (row, column)."""
        across = np.stack([cells[:, 1] + 0.5, self.rows - cells[:, 0] - 0.5], 1) * self.cell
        middles: NDArray[np.float64] = across + np.array([self.left, self.bottom])
        return middles

    def touched(self, triangles: Triangles, low: float, high: float) -> NDArray[np.bool_]:
        """Return bool [rows, columns]: the cells in which a triangle lies at a height y from `low` to `high`.

        A cell counts if an edge of the part of a triangle between the heights runs through it, or if its middle lies
        inside that part seen from above.
        """
        hit = np.zeros((self.rows, self.columns), bool)
        right, top = self.left + self.columns * self.cell, self.bottom + self.rows * self.cell
        lowest, highest = triangles.min(1), triangles.max(1)
        near = (highest[:, 1] > low) & (lowest[:, 1] < high)
        near &= (highest[:, 0] > self.left) & (lowest[:, 0] < right)
        near &= (highest[:, 2] > self.bottom) & (lowest[:, 2] < top)
        bounds = ((1, low, 1.0), (1, high, -1.0), (0, self.left, 1.0), (0, right, -1.0))
        for triangle in triangles[near]:
            normal = _normal(triangle)
            if not normal.any():  # a line or a point
                continue
            polygon = triangle - _INWARD * self.cell * normal
            for axis, limit, sign in (*bounds, (2, self.bottom, 1.0), (2, top, -1.0)):
                polygon = _clip(polygon, axis, limit, sign)
            if len(polygon):
                self._fill(hit, polygon[:, (0, 2)])
        return hit

    def _fill(self, hit: NDArray[np.bool_], polygon: NDArray[np.float64]) -> None:
        """Mark the cells of a convex polygon [K, 2] inside the grid."""
        grid = (polygon - (self.left, self.bottom)) / self.cell
        centre = grid.mean(0) - grid
        grid += centre * np.minimum(1.0, _INWARD / np.maximum(np.hypot(*centre.T), 1e-9))[:, None]
        low = np.maximum(np.floor(grid.min(0)).astype(int), 0)
        high = np.maximum(np.ceil(grid.max(0)).astype(int), low + 1)
        if hit[self.rows - high[1] : self.rows - low[1], low[0] : high[0]].all():
            return
        ends = np.roll(grid, -1, 0)
        n = int(np.ceil(np.abs(ends - grid).max() * 8)) + 1
        along = grid + (ends - grid) * (np.arange(n + 1) / n)[:, None, None]
        self._mark(hit, along.reshape(-1, 2))
        xs, zs = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        middles = np.stack([xs.ravel(), zs.ravel()], 1)
        edge, to = ends - grid, middles[:, None] - grid
        side = edge[:, 0] * to[..., 1] - edge[:, 1] * to[..., 0]
        # All zero: the polygon is seen edge-on and has no inside.
        inside = ((side >= 0).all(1) | (side <= 0).all(1)) & (np.abs(side).max(1, initial=0.0) > 1e-12)
        self._mark(hit, middles[inside])

    def _mark(self, hit: NDArray[np.bool_], points: NDArray[np.float64]) -> None:
        columns = np.clip(np.floor(points[:, 0]).astype(int), 0, self.columns - 1)
        rows = np.clip(self.rows - 1 - np.floor(points[:, 1]).astype(int), 0, self.rows - 1)
        hit[rows, columns] = True


def _normal(triangle: Points) -> NDArray[np.float64]:
    """Return the unit normal on the side from which the corners run counter-clockwise; zeros if there is none."""
    across: NDArray[np.float64] = np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])
    length = float(np.linalg.norm(across))
    return across / length if length > 1e-12 and np.isfinite(length) else np.zeros(3)


def _clip(polygon: Points, axis: int, limit: float, sign: float) -> Points:
    """Return the part of a convex polygon where sign * (coordinate - limit) >= 0 (Sutherland and Hodgman)."""
    if not len(polygon):
        return polygon
    depth = sign * (polygon[:, axis] - limit)
    kept = []
    for k in range(len(polygon)):
        after = (k + 1) % len(polygon)
        if depth[k] >= 0:
            kept.append(polygon[k])
        if (depth[k] >= 0) != (depth[after] >= 0):
            share = depth[k] / (depth[k] - depth[after])
            kept.append(polygon[k] + share * (polygon[after] - polygon[k]))
    return np.array(kept).reshape(-1, 3)
