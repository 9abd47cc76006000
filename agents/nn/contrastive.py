"""Telling pictures apart without being told what they show: two views of one picture, and all others in the batch.

Chen et al. 2020 (SimCLR, arXiv:2002.05709), section 2, with views for things drawn by hand: turned, sheared, stretched,
moved and bent at random.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_TURN, _SHEAR, _STRETCH, _MOVE, _BEND = 0.45, 0.35, 0.3, 0.3, 0.06
"""Largest rotation in radians, shear, change of a side, displacement in half sides; deviation of the bending field."""


def another_view(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Return each of `pictures` [n, height, width] as another hand might have drawn it, the same shape."""
    n, height, width = pictures.shape

    def within(limit: float) -> Tensor:
        return (2.0 * torch.rand(n, generator=generator, device=generator.device) - 1.0) * limit

    turn, shear, wide, high = within(_TURN), within(_SHEAR), 1.0 + within(_STRETCH), 1.0 + within(_STRETCH)
    cos, sin = turn.cos(), turn.sin()
    rows = (
        torch.stack([cos * wide, (shear - sin) * high, within(_MOVE)], dim=1),
        torch.stack([sin * wide, cos * high, within(_MOVE)], dim=1),
    )
    nodes = torch.randn(n, 2, 4, 4, generator=generator, device=generator.device) * _BEND
    bent = F.interpolate(nodes, size=(height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    grid = F.affine_grid(torch.stack(rows, dim=1), [n, 1, height, width], align_corners=False) + bent
    return F.grid_sample(pictures[:, None], grid.to(pictures.device), align_corners=False)[:, 0]


def contrast(
    pictures: Tensor, embed: Callable[[Tensor], Tensor], generator: torch.Generator, temperature: float
) -> Tensor:
    """Return the loss, a mean: of all views in the batch, the other one of the same picture shall be the nearest.

    `pictures` is [n, height, width]; `embed` returns vectors [2 n, width] of length 1. Equation 1 of Chen et al. 2020.
    """
    n = len(pictures)
    views = embed(torch.cat([another_view(pictures, generator), another_view(pictures, generator)]))
    similarity = views @ views.T / temperature
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=views.device), -torch.inf)
    partner = torch.arange(2 * n, device=views.device).roll(n)
    return F.cross_entropy(similarity, partner)
