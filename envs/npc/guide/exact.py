"""The Bayes-optimal guide of a small world, by enumeration of all observation histories.

Visitors are of a few kinds, all equally likely, each loving one theme and taking the others alike. Then what was seen
is summed up by how often each theme got a thumb up and down, and who loves which theme only names the themes: sorted
counts are one state for all orders.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.envs.npc.reference import Policy

from .visitor_model import GuideSettings, reaction_probabilities, satisfaction
from .world import Places

Counts = tuple[tuple[int, int], ...]
"""Thumbs down and up per theme."""
Returns = tuple[float, ...]
"""Expected return of each episode of a trial."""


class Room(NamedTuple):
    """Where an episode stands: what is on show where, and what can still be done."""

    layout: int
    themes: tuple[int, ...]
    at: int
    seen: tuple[bool, ...]
    patience: float


class Solver:
    """Exact values and decisions; everything is worked out when first asked for, and kept."""

    def __init__(self, settings: GuideSettings, places: Places, interests: Tensor) -> None:
        """Solve for visitors with `interests` [kinds, 10], pace 1 and no aversion; kind i loves theme i.

        Raises: ValueError where kinds differ in more than which theme they love.
        """
        self.n_episodes, self.settings = settings.n_episodes, settings
        n = len(interests)
        felt = satisfaction(interests[:, :n].double(), torch.tensor(0.0), torch.tensor(0.5))
        others = felt[~torch.eye(n, dtype=torch.bool)]
        if not torch.allclose(felt.diagonal(), felt[0, 0]) or not torch.allclose(others, others[0]):
            raise ValueError("kinds must differ in nothing but which theme they love")
        # What is felt, and the chances of thumbs down and up: for a theme that is not loved, then for one that is.
        self.felt = (float(others[0]), float(felt[0, 0]))
        both = torch.tensor(self.felt, dtype=torch.float64)
        self.chances = [tuple(row) for row in reaction_probabilities(both, settings).tolist()]
        self.n_themes, self.n_layouts = n, len(places.layouts)
        self.distance: list[list[list[float]]] = places.layouts.distance.tolist()
        self._value = cache(self._solve_episode)

    def belief(self, counts: Counts) -> list[float]:
        """Return how likely each kind is after `counts`."""
        odds = []
        for down, up in counts:
            loved, other = self.chances[1], self.chances[0]
            odds.append((loved[0] / other[0]) ** down * (loved[1] / other[1]) ** up)
        total = sum(odds)
        return [x / total for x in odds]

    def value(self, episode: int, counts: Counts) -> Returns:
        """Return the returns per episode from `episode` on, having seen `counts`."""
        if episode == self.n_episodes:
            return (0.0,) * self.n_episodes
        return self._value(episode, tuple(sorted(counts)))

    def _solve_episode(self, episode: int, counts: Counts) -> Returns:
        """Average over what an episode may show."""
        m = self.settings.n_exhibits
        total = [0.0] * self.n_episodes
        shows = [()]  # type: list[tuple[int, ...]]
        for _ in range(m):
            shows = [(*s, t) for s in shows for t in range(self.n_themes)]
        for layout in range(self.n_layouts):
            for themes in shows:
                room = Room(layout, themes, m, (False,) * m, float(self.settings.patience))
                found = self.decide(episode, counts, room)[1]
                total = [a + b / (self.n_layouts * len(shows)) for a, b in zip(total, found, strict=True)]
        return tuple(total)

    def decide(self, episode: int, counts: Counts, room: Room) -> tuple[int, Returns]:
        """Return the best decision (M ends the episode) and the returns per episode from here on."""
        m = self.settings.n_exhibits
        best, worth = m, self.value(episode + 1, counts)
        for exhibit in range(m):
            left = room.patience - self.distance[room.layout][room.at][exhibit] - self.settings.look_ticks
            if room.seen[exhibit] or left < 0:
                continue
            found = self._show(episode, counts, room, exhibit, left)
            if sum(found) > sum(worth) + 1e-12:
                best, worth = exhibit, found
        return best, worth

    def _show(self, episode: int, counts: Counts, room: Room, exhibit: int, left: float) -> Returns:
        """Return the returns of showing `exhibit`, whatever the thumb then says."""
        theme = room.themes[exhibit]
        loves = self.belief(counts)[theme]
        seen = tuple(s or i == exhibit for i, s in enumerate(room.seen))
        total = [0.0] * self.n_episodes
        total[episode] = loves * self.felt[1] + (1.0 - loves) * self.felt[0]
        for thumb in range(2):
            chance = loves * self.chances[1][thumb] + (1.0 - loves) * self.chances[0][thumb]
            after = tuple(
                (d + (i == theme and thumb == 0), u + (i == theme and thumb == 1)) for i, (d, u) in enumerate(counts)
            )
            if all(seen):
                onward = self.value(episode + 1, after)
            else:
                onward = self.decide(episode, after, Room(room.layout, room.themes, exhibit, seen, left))[1]
            total = [a + chance * b for a, b in zip(total, onward, strict=True)]
        return tuple(total)

    def nothing(self) -> Counts:
        """Return the counts before anything was seen."""
        return ((0, 0),) * self.n_themes

    def returns(self) -> list[float]:
        """Return the expected return of each episode of the Bayes-optimal policy."""
        return list(self.value(0, self.nothing()))


class BayesOptimal(Policy):
    """Decides as the solver does, env by env: for measurements, not for speed."""

    def __init__(self, solver: Solver) -> None:
        """Follow `solver`."""
        self.solver = solver

    def start(self, world: object, generator: torch.Generator) -> None:
        """Begin with empty counts."""
        super().start(world, generator)  # type: ignore[arg-type]
        self._counts = [self.solver.nothing()] * self.world.num_envs

    def act(self) -> Tensor:
        """Look the decisions up."""
        state = {k: v.tolist() for k, v in self.world.state.items()}
        chosen = []
        for i, counts in enumerate(self._counts):
            room = Room(
                state["layout"][i], tuple(state["theme"][i]), state["at"][i], tuple(state["seen"][i]),
                state["patience"][i],
            )  # fmt: skip
            chosen.append(self.solver.decide(state["number"][i], counts, room)[0])
        return torch.tensor(chosen, device=self.world.device)

    def see(self, before: object, actions: Tensor, reached: dict[str, Tensor], ended: Tensor) -> None:
        """Count thumbs."""
        for i, (shown, theme) in enumerate(
            zip(reached["reaction"].tolist(), reached["last_theme"].tolist(), strict=True)
        ):
            if shown:
                down, up = self._counts[i][theme]
                changed = list(self._counts[i])
                changed[theme] = (down + (shown == 1), up + (shown == 2))
                self._counts[i] = tuple(changed)
