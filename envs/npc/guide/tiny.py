"""`npc/guide-tiny`: three kinds of visitors, two exhibits, two rooms, thumbs up or down. Solved exactly.

Each kind loves one of three themes and rather dislikes the others, so much that an unknown visitor is on average better
left alone: whoever never explores gets nothing. In one room there is time for both exhibits, in the other for one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache

import torch
from torch import Tensor

from metarl.envs.families import pick
from metarl.envs.npc.family import NpcFamily
from metarl.envs.npc.maps.walking import walking_distances
from metarl.envs.npc.reference import Policy, Random
from metarl.errors import ConfigError
from metarl.spec import WorldSpec
from metarl.tasks import Tasks, check_split

from .exact import BayesOptimal, Solver
from .layouts import Layouts
from .macro import GuideMacro
from .references import Prior, policies
from .visitor_model import SINGLE, GuideSettings, theme_table
from .world import N_THEMES, Places

SETTINGS = GuideSettings(
    n_exhibits=2, noise=0.8, reactions="thumbs", patience=12, look_ticks=3, dislike_ticks=0, n_episodes=4
)
N_KINDS = 3
LOVE, DISLIKE = 1.6, -0.6
"""Interest in the theme that a kind of visitor loves, and in the two others."""
_ROOMS = (
    ("#######", "#.....#", "#.0.1.#", "#..S..#", "#.....#", "#.....#", "#######"),
    ("#######", "#0....#", "#.....#", "#..S..#", "#.....#", "#....1#", "#######"),
)


def kinds() -> Tensor:
    """Return the interests of the three kinds, float32 [3, 10]."""
    interests = torch.zeros(N_KINDS, N_THEMES)
    interests[:, :N_KINDS] = DISLIKE + (LOVE - DISLIKE) * torch.eye(N_KINDS)
    return interests


PRIOR = Prior(kinds(), torch.tensor([[1.0, 0.0]]))
"""All kinds are equally likely, of pace 1 and without aversion."""


@cache
def rooms() -> Places:
    """Return the two rooms."""
    wall = torch.tensor([[[mark == "#" for mark in row] for row in room] for room in _ROOMS])
    points = torch.tensor([["".join(room).index(mark) for mark in "01S"] for room in _ROOMS])
    cells = torch.stack([points // 7, points % 7], 2)
    distance = torch.stack([walking_distances(w, c) for w, c in zip(wall, cells, strict=True)]).float()
    drawn = torch.full((len(_ROOMS), 2), -1)
    layouts = Layouts(wall, points, distance, drawn, drawn.float())
    return Places(layouts, torch.tensor([0]), torch.tensor([len(_ROOMS)]), theme_table(N_KINDS), False)


class GuideTiny(NpcFamily):
    """The three kinds of visitors; each split is all of them."""

    exhaustive = True

    def __init__(self) -> None:
        """Build the family."""
        super().__init__(
            "npc/guide-tiny",
            {**asdict(SETTINGS), "love": LOVE, "dislike": DISLIKE, "layouts": rooms().layouts.digest()},
            n_episodes=SETTINGS.n_episodes,
        )

    def _kinds(self, which: Tensor) -> Tasks:
        """Return tasks of the kinds `which` (int64 [n])."""
        n = len(which)
        return Tasks.of(
            self.name,
            [f"loves-{int(k)}" for k in which],
            interests=kinds()[which][:, None],
            pace=torch.ones(n, 1),
            aversion=torch.zeros(n, 1),
            place=torch.zeros(n, 1, dtype=torch.int64),
            mix=torch.full((n,), SINGLE),
        )

    def all(self, split: str) -> Tasks:
        """Return the three kinds."""
        check_split(self.name, split, self.splits)
        return self._kinds(torch.arange(N_KINDS))

    def fixed_tasks(self, split: str) -> Tasks:
        """Return the three kinds."""
        return self.all(split)

    def draw(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw `n` visitors, each kind as often as any other up to one."""
        return pick(self.all(split), n, generator)

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return GuideMacro.spec_for(self.name, SETTINGS)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> GuideMacro:
        """Build a world of `num_envs`."""
        return GuideMacro(self.name, num_envs, SETTINGS, rooms(), device=device)

    def policies(self, split: str) -> dict[str, Callable[[], Policy]]:
        """Return makers of the reference policies by name, the Bayes-optimal one among them."""
        check_split(self.name, split, self.splits)
        return {"random": Random, **policies(PRIOR, PRIOR, hazard=0.0), "bayes_optimal": lambda: BayesOptimal(solver())}

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return what was measured, and the exact value of the Bayes-optimal policy over whole trials."""
        found = super().references(split, n_episodes)
        if n_episodes == self.n_episodes:
            found["bayes_optimal"] = solver().returns()
        return found


@cache
def solver() -> Solver:
    """Return the exact solution."""
    return Solver(SETTINGS, rooms(), kinds())


def make(**options: object) -> GuideTiny:
    """Build `npc/guide-tiny`, which has no options."""
    for option in options:
        raise ConfigError(f"npc/guide-tiny has no options, got {option!r}; npc/guide-macro has")
    return GuideTiny()
