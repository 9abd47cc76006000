"""Identity cues of visitors: the script of a trial, the letter of each visitor, and the drawing shown per encounter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from metarl.envs.npc.draws import tally

from . import glyphs

SIDE = glyphs.DRAWN
"""Pixels of a picture's side."""
N_DRAWINGS = 20
"""Drawings of each letter by the hands of one kind of trial."""
KNOWN, NEW_HANDS, NEW_SCRIPTS = range(3)
"""Kinds of letters: as in training; the same scripts in other drawings; scripts and drawings never seen."""


@dataclass(frozen=True)
class Bank:
    """All drawings of the three kinds of letters, one kind after the other."""

    images: Tensor
    """uint8 [letters * N_DRAWINGS, SIDE * SIDE]."""
    first: Tensor
    """int64 [3, scripts]: number of each script's first letter."""
    size: Tensor
    """int64 [3, scripts]: letters of each script; 0 where a kind has fewer scripts."""
    n_scripts: Tensor
    """int64 [3]."""


@cache
def _bank() -> Bank:
    """Return the bank, drawn once per process (3 s)."""
    images, sizes = list[Tensor](), list[Tensor]()
    for seed, split in ((0, "train"), (1, "train"), (1, "test")):
        images.append(glyphs.bank(split, N_DRAWINGS, seed).flatten(0, 1).flatten(1))
        sizes.append(tally(glyphs.letters(split), len(glyphs.SCRIPTS)))
    # Scripts of a kind to the front: those of the test come last among all.
    size = torch.stack([sizes[0], sizes[1], sizes[2].roll(len(glyphs.TEST_SCRIPTS))])
    first = (size.flatten().cumsum(0) - size.flatten()).view_as(size)
    return Bank(torch.cat(images), first, size, (size > 0).sum(1))


class Scripts:
    """The bank on a device, and how envs draw from it."""

    def __init__(self, device: torch.device) -> None:
        """Load the bank."""
        bank = _bank()
        self._images, self._n_scripts = bank.images.to(device), bank.n_scripts.to(device)
        self._first, self._size = bank.first.to(device), bank.size.to(device)
        middle = (SIDE - 1) / 2
        rows = torch.arange(SIDE, device=device) - middle
        radius = (rows[:, None].square() + rows.square()).sqrt()
        self._ring = ((radius > 12.4) & (radius < 13.9)).flatten().float()

    def drawing(self, kind: Tensor, trial: Tensor, visitor: Tensor, which: Tensor) -> Tensor:
        """Return the number of a drawing, int64 [B].

        `kind` int64 [B] is one of the three; `trial` [B, 1 + V] and `which` [B] are uniform draws of the trial (its
        script, then everyone's letter) and of the encounter.
        """
        script = (trial[:, 0] * self._n_scripts[kind]).long()
        letter = _letters(trial[:, 1:], self._size[kind, script]).gather(1, visitor[:, None]).squeeze(1)
        return (self._first[kind, script] + letter) * N_DRAWINGS + (which * N_DRAWINGS).long()

    def show(self, drawing: Tensor, ring: Tensor) -> Tensor:
        """Return the pictures float32 [B, SIDE, SIDE] in [0, 1], with a ring round those who wear one."""
        image = self._images.index_select(0, drawing).float() / 255.0
        return torch.maximum(image, ring[:, None] * self._ring).view(-1, SIDE, SIDE)


def _letters(draws: Tensor, size: Tensor) -> Tensor:
    """Return one letter per visitor, int64 [B, V], all different: the i-th is drawn among those left.

    `draws` [B, V] is uniform; `size` int64 [B] says how many letters there are, at least V.
    """
    taken: list[Tensor] = []
    for i, draw in enumerate(draws.unbind(1)):
        letter = (draw * (size - i)).long()
        for before in torch.stack(taken, dim=1).sort(dim=1)[0].unbind(1) if taken else ():
            letter = letter + (letter >= before)
        taken.append(letter)
    return torch.stack(taken, dim=1)
