"""Letters as faces: which script a trial uses, which letter is whose, and what a drawing of it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from metarl.seeding import generator as stream

SIDE = 28
"""Pixels."""
N_DRAWINGS = 20
"""Drawings of each letter."""


@dataclass(frozen=True)
class Bank:
    """All drawings: the scripts of training first, then the ones kept for tests."""

    images: Tensor
    """uint8 [letters * N_DRAWINGS, SIDE * SIDE]."""
    first: Tensor
    """int64 [scripts]: number of each script's first letter."""
    size: Tensor
    """int64 [scripts]: letters of each script."""
    n_train: int
    """Scripts of training."""


@cache
def synthetic_bank() -> Bank:
    """Return letters made of smooth noise: 14 + 9 scripts of 20 letters."""
    generator = stream(7, "synthetic-glyphs")
    letters = 23 * 20
    field = torch.randn(letters, 1, 7, 7, generator=generator)
    base = torch.nn.functional.interpolate(field, size=(SIDE, SIDE), mode="bicubic")
    moved = []
    for _ in range(N_DRAWINGS):
        theta = torch.eye(2, 3).repeat(letters, 1, 1) + 0.12 * torch.randn(letters, 2, 3, generator=generator)
        grid = torch.nn.functional.affine_grid(theta, [letters, 1, SIDE, SIDE], align_corners=False)
        moved.append(torch.nn.functional.grid_sample(base, grid, align_corners=False))
    images = (torch.stack(moved, dim=1) > 0.6).to(torch.uint8).mul(255)
    size = torch.full((23,), 20)
    return Bank(images.reshape(letters * N_DRAWINGS, -1), size.cumsum(0) - size, size, 14)


class Scripts:
    """The bank on a device, and how copies draw from it."""

    def __init__(self, device: torch.device) -> None:
        """Load the bank."""
        bank = synthetic_bank()
        self._images, self._first, self._size = (v.to(device) for v in (bank.images, bank.first, bank.size))
        self._n_train, self._n = bank.n_train, len(bank.size)
        middle = (SIDE - 1) / 2
        rows = torch.arange(SIDE, device=device) - middle
        radius = (rows[:, None].square() + rows.square()).sqrt()
        self._ring = ((radius > 12.4) & (radius < 13.9)).flatten().float()

    def drawing(self, novel: Tensor, trial: Tensor, visitor: Tensor, which: Tensor) -> Tensor:
        """Return the number of a drawing, int64 [B].

        `novel` int64 [B]: 1 for scripts kept for tests; `trial` [B, 1 + V] and `which` [B] are uniform draws of the
        trial (its script, then everyone's letter) and of the encounter.
        """
        n_scripts = torch.where(novel > 0, self._n - self._n_train, self._n_train)
        script = (trial[:, 0] * n_scripts).long() + novel * self._n_train
        letter = self._letters(trial[:, 1:], self._size[script]).gather(1, visitor[:, None]).squeeze(1)
        return (self._first[script] + letter) * N_DRAWINGS + (which * N_DRAWINGS).long()

    def _letters(self, draws: Tensor, size: Tensor) -> Tensor:
        """Return one letter per visitor, int64 [B, V], all different: the i-th is drawn among those left."""
        taken: list[Tensor] = []
        for i, draw in enumerate(draws.unbind(1)):
            letter = (draw * (size - i)).long()
            for before in torch.stack(taken, dim=1).sort(dim=1)[0].unbind(1) if taken else ():
                letter = letter + (letter >= before)
            taken.append(letter)
        return torch.stack(taken, dim=1)

    def show(self, drawing: Tensor, ring: Tensor) -> Tensor:
        """Return the pictures float32 [B, SIDE, SIDE] in [0, 1], with a ring round those who wear one."""
        image = self._images.index_select(0, drawing).float() / 255.0
        return torch.maximum(image, ring[:, None] * self._ring).view(-1, SIDE, SIDE)
