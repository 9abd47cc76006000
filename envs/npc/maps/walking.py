"""Who can walk where: breadth-first search on a grid of walls, four directions, one step per cell."""

from __future__ import annotations

import torch
from torch import Tensor


def steps_from(wall: Tensor, cell: tuple[int, int]) -> Tensor:
    """Return the number of steps from `cell` to every cell; -1 where no way leads.

    wall: bool [H, W]. cell: (row, column) inside it. Result: int64 [H, W], all -1 if `cell` is a wall.
    """
    height, width = wall.shape
    blocked: list[list[bool]] = wall.tolist()
    steps = [[-1] * width for _ in range(height)]
    row, column = cell
    if blocked[row][column]:
        return torch.tensor(steps)
    steps[row][column] = 0
    border = [cell]
    for row, column in border:  # grows while we walk
        for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if 0 <= r < height and 0 <= c < width and not blocked[r][c] and steps[r][c] < 0:
                steps[r][c] = steps[row][column] + 1
                border.append((r, c))
    return torch.tensor(steps)


def walking_distances(wall: Tensor, cells: Tensor) -> Tensor:
    """Return steps between all pairs of cells; -1 where no way leads.

    wall: bool [H, W]. cells: int64 [K, 2], (row, column). Result: int64 [K, K].
    """
    rows = [steps_from(wall, (int(r), int(c)))[cells[:, 0], cells[:, 1]] for r, c in cells.tolist()]
    return torch.stack(rows) if rows else torch.zeros((0, 0), dtype=torch.int64)
