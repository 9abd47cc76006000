"""Visitor styles of the companion: factors, engagement per action, and mood probabilities, as exact tables.

A style has three factors: the speech somebody likes, the distance kept, and the game played. Engagement in a turn is

    e = w_speech 1[speech] + w_distance exp(-(d' - d)^2) + w_game 1[game],

with d' the distance kept and d the one liked. All that is shown is a mood: the level of e + noise N(0, 1) among equal
parts of [0, 1]. One mood for three factors: credit must be split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metarl.envs.npc.traits import DISTANCES, GAMES, SPEECHES


@dataclass(frozen=True)
class Styles:
    """The factors, their weights and the moods; every table is float64 on the CPU."""

    sizes: tuple[int, ...] = (4, 4, 5)
    """Speeches, distances (the last is the closest), games; the third may be left out."""
    weights: tuple[float, ...] = (0.35, 0.30, 0.35)
    """Of each factor in the engagement; they add up to 1."""
    moods: int = 5
    """Levels of the reaction."""
    noise: float = 0.15
    """Standard deviation added to the engagement before the mood is read off."""

    @property
    def n(self) -> int:
        """Number of styles, and of actions: an action is the style that it would please most."""
        return math.prod(self.sizes)

    @cached_property
    def factors(self) -> Tensor:
        """int64 [n, factors]: speech, distance and game of each style."""
        return torch.cartesian_prod(*(torch.arange(k) for k in self.sizes))

    @property
    def strides(self) -> list[int]:
        """What one step in each factor adds to the number of a style."""
        return [math.prod(self.sizes[f + 1 :]) for f in range(len(self.sizes))]

    def names(self) -> list[list[str]]:
        """Return what the values of each factor are called."""
        known = (SPEECHES, DISTANCES, GAMES)
        return [list(known[f][:size]) for f, size in enumerate(self.sizes)]

    @cached_property
    def liking(self) -> Tensor:
        """[n styles, sum of sizes]: what each value of each factor of an action adds to the engagement."""
        parts = []
        for f, (size, weight) in enumerate(zip(self.sizes, self.weights, strict=True)):
            gap = (self.factors[:, f, None] - torch.arange(size)).double()
            parts.append(weight * ((-gap.square()).exp() if f == 1 else (gap == 0).double()))
        return torch.cat(parts, dim=1)

    @cached_property
    def engagement(self) -> Tensor:
        """[n styles, n actions]: e, in (0, 1]."""
        columns = torch.split(self.liking, list(self.sizes), dim=1)
        return torch.stack([c[:, self.factors[:, f]] for f, c in enumerate(columns)]).sum(0)

    @cached_property
    def closeness(self) -> Tensor:
        """[n styles, n actions]: steps that the NPC stands nearer than the visitor likes; what a turn costs."""
        distance = self.factors[:, 1]
        return (distance[None] - distance[:, None]).clamp(min=0).double()

    def mood_probabilities(self, noise: float | None = None) -> Tensor:
        """Return [n actions, moods, n styles]: the chance of each mood."""
        edges = torch.arange(1, self.moods, dtype=torch.float64) / self.moods
        above = torch.special.ndtr((self.engagement.T[:, None] - edges[:, None]) / (noise or self.noise))
        one, zero = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
        return torch.cat([one, above], dim=1) - torch.cat([above, zero], dim=1)

    def conditionals(self, prior: Tensor) -> Tensor:
        """Return [factors, n, largest size]: each factor's distribution given the other two, under `prior` [n].

        One factor redrawn so leaves the prior as it is (a Gibbs step). Where the prior knows no such style, the factor
        stays what it is.
        """
        values = torch.zeros(len(self.sizes), self.n, max(self.sizes), dtype=torch.float64)
        for f, size in enumerate(self.sizes):
            for value in range(size):
                values[f, :, value] = prior.double()[self.replace(f, torch.full((self.n,), value))]
        total = values.sum(-1, keepdim=True)
        own = torch.nn.functional.one_hot(self.factors.T, max(self.sizes)).double()
        return torch.where(total > 0, values / total.clamp(min=1e-300), own)

    def replace(self, factor: int, value: Tensor, style: Tensor | None = None) -> Tensor:
        """Return the style [n] that each style is with `factor` set to `value` [n]."""
        stride = self.strides[factor]
        style = torch.arange(self.n, device=value.device) if style is None else style
        own = (style // stride) % self.sizes[factor]
        return style + (value - own) * stride

    def drift(self, prior: Tensor) -> Tensor:
        """Return the kernel [n, n] of one redrawn factor, each as likely as any other: rows are where from."""
        chances, rows = self.conditionals(prior), torch.arange(self.n)
        kernel = torch.zeros(self.n, self.n, dtype=torch.float64)
        for f, size in enumerate(self.sizes):
            for value in range(size):
                kernel[rows, self.replace(f, torch.full((self.n,), value))] += chances[f, :, value] / len(self.sizes)
        return kernel

    def held_out(self) -> Tensor:
        """bool [n]: a fourth of the styles, whose every factor's value other styles have too."""
        return self.factors.sum(1) % 4 == 0

    def name(self, style: int) -> str:
        """Return a style in words."""
        words = zip((SPEECHES, DISTANCES, GAMES), self.factors[style].tolist(), strict=False)
        return ", ".join(names[value] for names, value in words)


TINY = Styles(sizes=(2, 3), weights=(0.5, 0.5), moods=3)
"""Six styles and three moods: small enough for the best policy of all."""
