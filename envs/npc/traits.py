"""Fixed rules that turn five personality traits into how a visitor likes to be treated."""

from __future__ import annotations

import torch
from torch import Tensor

from .draws import tally

TRAITS = ("agreeableness", "conscientiousness", "extraversion", "neuroticism", "openness")
SPEECHES = ("warm", "playful", "formal", "terse")
DISTANCES = ("far", "apart", "near", "close")
GAMES = ("cooperative", "puzzle", "party", "calm", "creative")
"""One per trait, in the order of TRAITS."""
N_STYLES = len(SPEECHES) * len(DISTANCES) * len(GAMES)


def style_index(speech: Tensor, distance: Tensor, game: Tensor) -> Tensor:
    """Return int64 style numbers 0..79 of three factors, tensors of one shape; the game varies fastest."""
    return (speech * len(DISTANCES) + distance) * len(GAMES) + game


def style_factors(style: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (speech, distance, game) of int64 style numbers, the inverse of `style_index`."""
    return style // (len(DISTANCES) * len(GAMES)), style // len(GAMES) % len(DISTANCES), style % len(GAMES)


def style_of(traits: Tensor) -> Tensor:
    """Return the style number, int64 [P], of people with trait scores [P, 5] in the order of TRAITS.

    Scores are standardised over these P people, so the rules need no units. Speech is the strongest of agreeableness
    (warm), the mean of openness and extraversion (playful), conscientiousness (formal) and introversion (terse); the
    distance a person keeps is the quartile of agreeableness plus extraversion; the game goes by the strongest trait.
    """
    score = (traits - traits.mean(0)) / traits.std(0, correction=0)
    agreeable, conscientious, extravert, _, open_ = score.unbind(1)
    speech = torch.stack([agreeable, (open_ + extravert) / 2, conscientious, -extravert], 1).argmax(1)
    closeness = agreeable + extravert
    quartiles = closeness.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=closeness.dtype, device=closeness.device))
    return style_index(speech, torch.searchsorted(quartiles, closeness.contiguous()), score.argmax(1))


def style_histogram(traits: Tensor) -> Tensor:
    """Return how many of the people with `traits` [P, 5] have each style: int64 [80]."""
    return tally(style_of(traits), N_STYLES)
