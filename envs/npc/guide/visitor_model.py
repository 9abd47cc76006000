"""Model of the guide's visitors: interests, aversion to crowds and pace, and reactions on a scale of five.

A visitor likes exhibit m with themes f_m in a crowd c_m by g_m = tanh(1.3 u.f_m - kappa (c_m - 1/2) + 0.1), in [-1, 1].
What shows of it is y = number of thresholds below g_m + noise, one of five faces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from metarl.envs.families import check_count, check_counts
from metarl.envs.npc.people import N_INTERESTED, THEMES, interest_moments, interests
from metarl.errors import ConfigError

AVERSIONS = (0.0, 0.6, 1.2)
"""kappa: how much a crowd spoils, the quietest place being liked by kappa / 2 more than an average one."""
PACES = (1.0, 1.5, 2.0)
"""tau: ticks that a visitor takes per cell."""
HELD_OUT_PAIRS = ((1.0, 1.2), (2.0, 0.6))
"""(tau, kappa) that no visitor in training has; each of the four numbers occurs there in other pairs."""
THEME_PAIRS = tuple(combinations(range(len(THEMES)), 2))
HELD_OUT_THEME_PAIRS = tuple(sorted((i, (i + 5) % 10) if i < 5 else (i - 5, i) for i in range(5)))
"""Pairs of themes that no exhibit in training mixes: each theme is in one of them, and in eight others."""
SINGLE, MIXED, MIXED_HELD_OUT = 0, 1, 2
"""What exhibits an episode draws: of one theme, of two, of two that training never mixes."""
GAIN, BIAS = 1.3, 0.1
THRESHOLDS: dict[str, tuple[float, ...]] = {"faces": (-0.6, -0.2, 0.2, 0.6), "thumbs": (0.0,), "none": ()}

Reactions = Literal["faces", "thumbs", "none"]


@dataclass(frozen=True)
class GuideSettings:
    """Rules of one guide world."""

    n_exhibits: int = 8
    """Exhibits per layout, M, 1..10."""
    themes: int = 1
    """Themes that an exhibit mixes, 1 or 2."""
    noise: float = 0.25
    """Standard deviation of what shows around what is felt, >= 0.01."""
    reactions: Reactions = "faces"
    """What shows: five faces, a thumb, or nothing but the patience."""
    patience: int = 80
    """Ticks until a visitor leaves, 1..200."""
    look_ticks: int = 3
    """Ticks of looking at an exhibit, >= 1."""
    dislike_ticks: int = 4
    """Patience lost besides at an exhibit that is disliked, >= 0."""
    n_episodes: int = 6
    """Episodes per trial, K, 1..50."""
    view: int = 9
    """Cells along each side of what the guide sees around itself when walking, odd, 3..15."""
    reward_in_obs: bool = False
    """Tell an acting agent its reward; otherwise only reactions show."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range."""
        check_counts("npc/guide", self, n_exhibits=(1, 10), themes=(1, 2), patience=(1, 200), look_ticks=(1, 20),
                     dislike_ticks=(0, 20), n_episodes=(1, 50), view=(3, 15))  # fmt: skip
        if self.view % 2 == 0:
            raise ConfigError(f"npc/guide option view is {self.view}; pass an odd number, the guide is in the middle")
        if isinstance(self.noise, bool) or not isinstance(self.noise, int | float) or not 0.01 <= self.noise <= 10.0:
            raise ConfigError(f"npc/guide option noise is {self.noise!r}; pass a number in 0.01..10")
        if self.reactions not in THRESHOLDS:
            raise ConfigError(
                f"npc/guide option reactions is {self.reactions!r}; choose one of {', '.join(THRESHOLDS)}"
            )

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Where one reaction ends and the next begins."""
        return THRESHOLDS[self.reactions]

    @property
    def n_reactions(self) -> int:
        """Different reactions; in states and observations 0 is none yet, y is 1 + number of thresholds passed."""
        return len(self.thresholds) + 1


@dataclass(frozen=True, eq=False)
class ThemeTable:
    """What themes an exhibit may have, one row each, and which rows an episode may draw."""

    rows: Tensor
    """float32 [R, 10], weights that sum to 1; the last row is all 0 and stands for no exhibit."""
    first: Tensor
    """int64 [3]: first row to draw, by what is drawn (SINGLE, MIXED, MIXED_HELD_OUT)."""
    count: Tensor
    """int64 [3]: how many rows."""

    def to(self, device: torch.device | str) -> ThemeTable:
        """Return the same table on `device`."""
        return ThemeTable(self.rows.to(device), self.first.to(device), self.count.to(device))


def theme_table(n_themes: int = len(THEMES), further: Tensor | None = None) -> ThemeTable:
    """Return the table of the first `n_themes` single themes, then all pairs, then the rows `further` [E, 10].

    The rows `further` are never drawn: hand-drawn exhibits have them.
    """
    eye = torch.eye(len(THEMES))[:n_themes]
    in_training = [p for p in THEME_PAIRS if p not in HELD_OUT_THEME_PAIRS]
    mixed = torch.tensor([*in_training, *HELD_OUT_THEME_PAIRS])
    pairs = torch.zeros(len(mixed), len(THEMES)).scatter_(1, mixed, 0.5)
    parts = [eye, pairs, *([] if further is None else [further]), torch.zeros(1, len(THEMES))]
    first = torch.tensor([0, n_themes, n_themes + len(in_training)])
    return ThemeTable(torch.cat(parts), first, torch.tensor([n_themes, len(in_training), len(HELD_OUT_THEME_PAIRS)]))


def satisfaction(drawn_to: Tensor, aversion: Tensor, crowd: Tensor) -> Tensor:
    """Return g = tanh(1.3 u.f - kappa (c - 1/2) + 0.1), all arguments of shapes that broadcast; `drawn_to` is u.f."""
    return torch.tanh(GAIN * drawn_to - aversion * (crowd - 0.5) + BIAS)


def reaction_probabilities(felt: Tensor, settings: GuideSettings) -> Tensor:
    """Return the chance of each reaction when `felt` [...] is g: float32 [..., n_reactions]."""
    if not settings.thresholds:
        return torch.ones_like(felt).unsqueeze(-1)
    edges = torch.tensor(settings.thresholds, dtype=felt.dtype, device=felt.device)
    above = torch.special.ndtr((felt.unsqueeze(-1) - edges) / settings.noise)
    one, zero = torch.ones_like(above[..., :1]), torch.zeros_like(above[..., :1])
    return torch.cat([one, above], dim=-1) - torch.cat([above, zero], dim=-1)


@dataclass(frozen=True, eq=False)
class Visitors:
    """A prior over visitors: somebody of a bank of interests, independently one of the (tau, kappa) pairs."""

    bank: Tensor
    """float32 [P, 10]."""
    pairs: Tensor
    """float32 [Q, 2], (tau, kappa)."""

    def __len__(self) -> int:
        """Return how many different visitors there are."""
        return len(self.bank) * len(self.pairs)

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return interests [n, 10], pace [n] and aversion [n]; nobody twice before everybody came once."""
        rounds = [torch.randperm(len(self), generator=generator) for _ in range(-(-n // len(self)))]
        drawn = torch.cat(rounds)[:n]
        who, how = drawn // len(self.pairs), drawn % len(self.pairs)
        return {"interests": self.bank[who], "pace": self.pairs[how, 0], "aversion": self.pairs[how, 1]}


@dataclass(frozen=True)
class People:
    """Where visitors' interests come from."""

    synthetic: bool = False
    """Invented people instead of those with the shipped data."""
    n_validation: int = 40
    """Train people kept for validation."""
    n_people: int | None = None
    """People to train on (None: all), to see what their diversity is worth."""
    table: tuple[tuple[float, ...], ...] = field(default=())
    """Instead of all that, these rows of interests, the same in every split."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a number of people that there are not."""
        most = N_INTERESTED["train"] - self.n_validation
        if self.n_people is not None:
            check_count("npc/guide", "n_people", self.n_people, 1, most)

    def bank(self, who: str) -> Tensor:
        """Return the interests of "train", "validation" or "test" people, float32 [P, 10]."""
        if self.table:
            return torch.tensor(self.table)
        if who == "test":
            return interests("test", synthetic=self.synthetic)
        known = interests("train", synthetic=self.synthetic)
        if who == "validation":
            return known[len(known) - self.n_validation :]
        kept = known[: len(known) - self.n_validation]
        return kept if self.n_people is None else kept[: self.n_people]

    def smooth_bank(self, copies: int, generator: torch.Generator) -> Tensor:
        """Return the train people and `copies` blurred doubles of each: .8 of the person and .6 of a normal draw.

        A prior for visitors nobody has met: their covariance is that of people, and no two are the same.
        """
        known = self.bank("train")
        if self.table:
            return known
        moments = interest_moments()
        factor = torch.linalg.cholesky(moments.covariance + 1e-4 * torch.eye(len(THEMES)))
        noise = torch.randn(copies * len(known), len(THEMES), generator=generator) @ factor.T
        doubles = moments.mean + 0.8 * (known.repeat(copies, 1) - moments.mean) + 0.6 * noise
        return torch.cat([known, doubles])


def pace_pairs(*, held_out: bool) -> Tensor:
    """Return the (tau, kappa) pairs of training, or those held out: float32 [Q, 2]."""
    chosen = [(t, k) for t in PACES for k in AVERSIONS if ((t, k) in HELD_OUT_PAIRS) == held_out]
    return torch.tensor(chosen)
