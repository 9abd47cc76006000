"""World `npc/assistant-tiny`: dialogues small enough for the Bayes-optimal policy by recursion over all histories.

Two catalogues of 3 offers, one category, two attributes to ask about, 3 dialogues of 2 turns: what matters of a history
is how often each question got each answer and each offer was accepted or refused, in whatever order. With the dialogue,
the turn and the catalogue these counts decide what is best; values are kept by them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs.families import check_options
from metarl.envs.npc.reference import Policy
from metarl.envs.tensor_world import EpisodeState

from .catalogue import N_ATTRIBUTES
from .references import proposal_outlook, reply_chances
from .tasks import AssistantTasks
from .world import NO_DEAL, REFUSAL, AssistantConfig, AssistantWorld

TINY: dict[str, Any] = {
    "domains": ("electricity",), "n_offers": 3, "n_categories": 1, "horizon": 2, "n_episodes": 3, "n_catalogues": 2,
    "questions": (0, 4),
}  # fmt: skip

Array = NDArray[np.float64]
History = tuple[int, ...]
"""Numbers of the events so far, sorted."""


class Exact:
    """The best policy for a bank of visitors that are alike likely, by recursion over all histories."""

    def __init__(self, world: AssistantWorld, bank: Tensor) -> None:
        """Take constants from `world`, which must have one category, no limits and known catalogues; bank [P, 6]."""
        self.config = config = world.config
        self.offers_n, self.n_catalogues = config.n_offers, world.pool.shape[2]
        offers = world.pool[0, 0]
        accept, gain = proposal_outlook(
            bank.expand(len(offers), -1, -1), offers, torch.ones(len(offers), 1, config.n_offers, 1, dtype=torch.bool)
        )
        self._accept: Array = accept[..., 0].transpose(1, 2).double().numpy()  # [G, J, P]
        self._gain: Array = gain[..., 0].transpose(1, 2).double().numpy()
        b = (bank - world.mean[0]) / world.sd[0]
        replies = reply_chances(b, world.levels).double().numpy()  # [P, 6, 3]
        self.levels = int(replies.shape[2])
        # Events: answers first (attribute, level), then proposals (catalogue, offer, refused or accepted).
        self.first_proposal: int = N_ATTRIBUTES * self.levels
        outcomes = np.stack([1.0 - self._accept, self._accept], axis=2).reshape(-1, len(bank))
        self._chance: Array = np.concatenate([replies.transpose(1, 2, 0).reshape(-1, len(bank)), outcomes])
        self._weights: dict[History, Array] = {(): np.full(len(bank), 1.0 / len(bank))}
        self._values: dict[tuple[int, int, int, int, History], tuple[float, int]] = {}

    def answer(self, attribute: int, level: int) -> int:
        """Return the number of the event "asked about `attribute`, told `level`"."""
        return attribute * self.levels + level

    def outcome(self, catalogue: int, offer: int, accepted: bool) -> int:
        """Return the number of the event that a proposal was accepted or refused."""
        return self.first_proposal + (catalogue * self.offers_n + offer) * 2 + int(accepted)

    def _weight(self, history: History) -> Array:
        """Return P(visitor, history) for every visitor."""
        if history not in self._weights:
            self._weights[history] = self._weight(history[:-1]) * self._chance[history[-1]]
        return self._weights[history]

    def next_dialogue(self, number: int, history: History) -> float:
        """Return what dialogues `number`, `number` + 1, ... are worth, before the catalogue is known."""
        if number >= self.config.n_episodes:
            return 0.0
        values = [self.best(number, 0, g, 0, history)[0] for g in range(self.n_catalogues)]
        return sum(values) / len(values)

    def best(self, number: int, turn: int, catalogue: int, tried: int, history: History) -> tuple[float, int]:
        """Return the value of the rest of the trial and the best action; `tried` has a bit per refused offer."""
        key = (number, turn, catalogue, tried, history)
        if key not in self._values:
            self._values[key] = max(
                (self._worth(action, *key), -action) for action in range(self.offers_n + N_ATTRIBUTES)
                if self._legal(action, tried)
            )  # fmt: skip
            value, action = self._values[key]
            self._values[key] = (value, -action)
        return self._values[key]

    def _legal(self, action: int, tried: int) -> bool:
        if action < self.offers_n:
            return not tried >> action & 1
        return action - self.offers_n in self.config.questions

    def _worth(self, action: int, number: int, turn: int, catalogue: int, tried: int, history: History) -> float:
        """Return what `action` is worth with the best play after it."""
        weight = self._weight(history)
        total = weight.sum()

        def goes_on(event: int, more: int) -> float:
            after = tuple(sorted((*history, event)))
            if turn + 1 < self.config.horizon:
                return self.best(number, turn + 1, catalogue, tried | more, after)[0]
            return NO_DEAL + self.next_dialogue(number + 1, after)

        if action < self.offers_n:
            yes = float(weight @ self._accept[catalogue, action] / total)
            gain = float(weight @ self._gain[catalogue, action] / total)
            taken = tuple(sorted((*history, self.outcome(catalogue, action, True))))
            refused = goes_on(self.outcome(catalogue, action, False), 1 << action)
            return gain + yes * self.next_dialogue(number + 1, taken) + (1.0 - yes) * (REFUSAL + refused)
        found = -self.config.ask_price
        for level in range(self.levels):
            event = self.answer(action - self.offers_n, level)
            found += float(weight @ self._chance[event] / total) * goes_on(event, 0)
        return found


class Optimal(Policy):
    """Plays what the recursion says; it keeps a history per env, one after the other."""

    world: AssistantWorld

    def __init__(self, family: TinyTasks) -> None:
        """Solve for the bank of `family`."""
        self.exact = family.exact()

    def start(self, world: AssistantWorld, generator: torch.Generator) -> None:  # type: ignore[override]
        """Begin with empty histories."""
        super().start(world, generator)
        self.histories: list[History] = [()] * world.num_envs

    def act(self) -> Tensor:
        """Look up the best action of every env."""
        world, state = self.world, self.world.state
        number = (world.episode % world.n_episodes).tolist()
        bits = 2 ** torch.arange(world.config.n_offers, device=world.device)
        tried = (state["tried"].long() * bits).sum(1).tolist()
        rows = zip(
            number, state["turn"].long().tolist(), state["catalogue"].tolist(), tried, self.histories, strict=True
        )
        return torch.tensor([self.exact.best(*row)[1] for row in rows], device=world.device)

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, ended: Tensor) -> None:
        """Add what happened to the histories; a trial's end ends them."""
        n = self.world.config.n_offers
        accepted = (reached["answer"] == self.world.n_answers - 2).tolist()
        over = (ended & (self.world.episode % self.world.n_episodes == 0)).tolist()
        rows = zip(
            actions.tolist(), before["catalogue"].tolist(), reached["answer"].tolist(), accepted, over, strict=True
        )
        for env, (action, catalogue, answer, yes, last) in enumerate(rows):
            event = self.exact.outcome(catalogue, action, yes) if action < n else self.exact.answer(action - n, answer)
            self.histories[env] = () if last else tuple(sorted((*self.histories[env], event)))


class TinyTasks(AssistantTasks):
    """The tiny dialogues: known catalogues only."""

    def __init__(self, config: AssistantConfig) -> None:
        """Take the constants from `config`."""
        super().__init__("npc/assistant-tiny", config)
        self._splits = ("train", "validation", "test")
        self._exact: Exact | None = None

    def exact(self) -> Exact:
        """Return the solver for this family, solved once."""
        if self._exact is None:
            self._exact = Exact(self.make_world(1), self.people("train", 0))
        return self._exact

    def policies(self, split: str) -> dict[str, Callable[[], Policy]]:
        """Return makers of the reference policies, the best one included."""
        return super().policies(split) | {"bayes_optimal": lambda: Optimal(self)}


def make(**options: Any) -> TinyTasks:
    """Build the family; `n_episodes` and `ask_price` may be chosen, see `AssistantConfig`."""
    check_options("npc/assistant-tiny", options, (f.name for f in fields(AssistantConfig)))
    return TinyTasks(AssistantConfig(**{**TINY, **options}))
