"""The best policy of the tiny companion, exactly: dynamic programming over counts of (action, mood) pairs.

With one visitor the turns of a trial are one long conversation, and the answers, given the style, are independent: the
counts say all. There are C(P + t - 1, t) of them after t turns, P the pairs of action and mood (33,649 in 6 turns).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from metarl.envs.npc.reference import Policy
from metarl.envs.npc.world import NpcWorld
from metarl.envs.tensor_world import EpisodeState
from metarl.errors import ConfigError

from .styles import Styles

_MOST_STATES = 2_000_000


@dataclass(frozen=True)
class Solution:
    """Optimal play of `n_turns` turns with one visitor of `styles`, all equally likely beforehand."""

    styles: Styles
    n_turns: int

    @property
    def value(self) -> float:
        """The best expected return of a trial."""
        return float(self._levels[0][1][0])

    @property
    def n_states(self) -> int:
        """Different counts before the last answer."""
        return sum(len(keys) for keys, _, _ in self._levels)

    def action(self, turn: int, keys: Tensor) -> Tensor:
        """Return the best actions [B] after `turn` turns with counts `keys` [B] (see `weights`)."""
        known, _, best = self._levels[turn]
        return best[torch.searchsorted(known, keys)]

    @cached_property
    def weights(self) -> Tensor:
        """int64 [pairs]: what one more of each pair (action * moods + mood) adds to a key."""
        base = self.n_turns + 1
        return torch.tensor([base**i for i in range(self.styles.n * self.styles.moods)])

    @cached_property
    def _levels(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return per turn: sorted keys, their value of what is left, the best action."""
        n_pairs = self.styles.n * self.styles.moods
        if (self.n_turns + 1) ** n_pairs >= 2**63:
            raise ConfigError(f"{self.n_turns} turns of {n_pairs} pairs of action and mood are too many to solve")
        counts = [torch.zeros(1, n_pairs, dtype=torch.int64)]
        for _ in range(self.n_turns - 1):
            grown = (counts[-1][:, None] + torch.eye(n_pairs, dtype=torch.int64)).flatten(0, 1)
            # All counts of one more answer, once each, in the order of their keys.
            keys, where = torch.unique(grown @ self.weights, return_inverse=True)
            first = torch.zeros(len(keys), n_pairs, dtype=torch.int64)
            first[where] = grown
            counts.append(first)
            if len(first) > _MOST_STATES:
                raise ConfigError(f"{self.n_turns} turns give more than {_MOST_STATES} states; take fewer")
        levels: list[tuple[Tensor, Tensor, Tensor]] = []
        for level in reversed(counts):
            levels.insert(0, self._level(level, levels[0][:2] if levels else None))
        return levels

    def _level(self, counts: Tensor, after: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys, values and best actions of `counts` [n, pairs]; `after` holds the next turn's."""
        styles = self.styles
        chances = styles.mood_probabilities().flatten(0, 1)
        belief = (counts.double() @ chances.log()).softmax(dim=1)
        value = belief @ styles.engagement
        keys = counts @ self.weights
        if after is not None:
            reached = torch.searchsorted(after[0], keys[:, None] + self.weights)
            later = (belief @ chances.T) * after[1][reached]
            value = value + later.view(-1, styles.n, styles.moods).sum(2)
        best = value.max(dim=1)
        return keys, best.values, best.indices


@cache
def solve(styles: Styles, n_turns: int) -> Solution:
    """Return the solution, worked out once."""
    return Solution(styles, n_turns)


class BayesOptimal(Policy):
    """Plays the solution."""

    def __init__(self, styles: Styles, n_turns: int) -> None:
        """Solve `n_turns` turns with one visitor of `styles`."""
        self.solution = solve(styles, n_turns)

    def start(self, world: NpcWorld, generator: torch.Generator) -> None:
        """Begin with no answer."""
        super().start(world, generator)
        self.turn, self.keys = 0, torch.zeros(world.num_envs, dtype=torch.int64)

    def act(self) -> Tensor:
        """Return the best action after the answers so far."""
        best = self.solution.action(self.turn, self.keys)
        return self.solution.styles.factors[best].to(self.world.device)

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, ended: Tensor) -> None:
        """Count the answer."""
        pair = reached["last"] * self.solution.styles.moods + reached["mood"]
        self.keys, self.turn = self.keys + self.solution.weights[pair.cpu()], self.turn + 1
