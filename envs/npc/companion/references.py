"""Reference policies of the companion: from the best fixed action to a filter per visitor with one-step look-ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.envs.npc.reference import Policy
from metarl.envs.npc.shift import Shift
from metarl.envs.npc.world import NpcWorld
from metarl.envs.tensor_world import EpisodeState
from metarl.errors import ConfigError

from .styles import Styles
from .world import CompanionWorld

MEMORIES = ("visitor", "pooled", "encounter")
PLAYS = ("greedy", "look-ahead", "thompson")
_CHUNK = 256
"""Envs looked ahead for at a time: 5,200 numbers each."""


@dataclass(frozen=True, eq=False)
class FilterModel:
    """What a filter assumes: the prior over visitors, what moods mean, and how visitors may change."""

    styles: Styles
    prior: Tensor
    """float64 [n]: styles in training."""
    moods: Tensor
    """float64 [actions * moods, n]: chance of a mood after an action, by style."""
    drift: Tensor
    """float64 [n, n]: from the style at the last meeting to that of the next one."""
    hazard: float = 0.0
    """Chance, at each encounter, that everyone was replaced."""

    @classmethod
    def of(cls, styles: Styles, prior: Tensor, rho: float, shift: Shift | None) -> FilterModel:
        """Return the model of a task distribution; an unannounced change is given an even chance each time."""
        stay, drifted = torch.eye(styles.n, dtype=torch.float64), styles.drift(prior)
        kernel = (1 - rho) * stay + rho * drifted
        hazard = 0.0
        if shift is not None:
            chance = shift.hazard or GUESSED_HAZARD
            if shift.kind == "drift":
                kernel = kernel @ (
                    torch.eye(styles.n, dtype=torch.float64) * (1 - chance) + chance * styles.drift(prior)
                )
            hazard = chance if shift.kind == "visitor" else 0.0
        return cls(styles, prior.double(), styles.mood_probabilities().flatten(0, 1), kernel, hazard)


GUESSED_HAZARD = 0.12
"""Of a change that comes at one unknown encounter, for filters that reckon with it."""


class _Companion(Policy):
    """A policy in a companion's world."""

    def __init__(self, model: FilterModel) -> None:
        self.model = model

    def start(self, world: NpcWorld, generator: torch.Generator) -> None:
        """Begin a trial in every env."""
        if not isinstance(world, CompanionWorld):
            raise ConfigError(f"{type(self).__name__} plays in a companion's world only, not in {world.name!r}")
        super().start(world, generator)
        self.companion: CompanionWorld = world
        self.factors = self.model.styles.factors.to(world.device)
        self.engagement = self.model.styles.engagement.float().to(world.device)

    def say(self, action: Tensor) -> Tensor:
        """Return actions [B, 3] of action numbers [B]."""
        return self.factors[action]


class NonAdaptive(_Companion):
    """Always the action with the highest mean engagement over the training prior."""

    def act(self) -> Tensor:
        """Return the one action."""
        best = (self.model.prior.float() @ self.engagement.cpu()).argmax()
        return self.say(best.to(self.world.device).expand(self.world.num_envs))


class Oracle(_Companion):
    """Knows the style, and what actions mean."""

    def act(self) -> Tensor:
        """Return the action that is the visitor's style."""
        style = self.world.latent()["style"]
        meaning = self.world.state.get("meaning")
        if meaning is not None:
            style = (meaning == style[:, None]).long().argmax(dim=1)
        return self.say(style)


class Filter(_Companion):
    """The exact posterior over styles, per visitor, of one supposed visitor for all, or anew at each encounter.

    It plays the action best on average ("greedy"), best for a style drawn from the posterior ("thompson"), or best if
    the turn after next's choice, for all turns that are left with this visitor, could profit from the answer
    ("look-ahead"). What a visitor with a ring showed is forgotten when the encounter ends.
    """

    def __init__(
        self,
        model: FilterModel,
        memory: str = "visitor",
        play: str = "greedy",
        *,
        hazard: float | None = None,
        respect_rings: bool = True,
    ) -> None:
        """`hazard` overrides that of the model; 0 gives a filter that takes everything to stay as it is."""
        super().__init__(model)
        if memory not in MEMORIES or play not in PLAYS:
            raise ConfigError(f"a companion's filter has memory {MEMORIES} and play {PLAYS}, got {memory!r}, {play!r}")
        self.memory, self.play, self.respect_rings = memory, play, respect_rings
        self.hazard = model.hazard if hazard is None else hazard

    def start(self, world: NpcWorld, generator: torch.Generator) -> None:
        """Believe in the prior."""
        super().start(world, generator)
        device, settings = world.device, self.companion.settings
        self.prior = self.model.prior.float().to(device)
        self.moods, self.drift = self.model.moods.float().to(device), self.model.drift.float().to(device)
        self.rows = torch.arange(world.num_envs, device=device)
        n_slots = self.companion.n_rows if self.memory == "visitor" else 1
        self.n_turns, self.n_encounters = settings.n_turns, settings.n_encounters
        self.beliefs = self.prior.expand(world.num_envs, n_slots, -1).clone()
        self.entered = self.belief
        if self.play == "look-ahead":
            # [n, values * (actions * moods)]: what a value of the next action adds, times a mood's chance, by style.
            liking = self.model.styles.liking.float().to(device)
            self.after = (liking[:, :, None] * self.moods.T[:, None, :]).flatten(1)

    def slot(self) -> Tensor:
        """Return whose belief is meant, int64 [B]."""
        if self.memory == "visitor":
            return self.world.state["visitor"].clone()
        return torch.zeros_like(self.world.state["visitor"])

    @property
    def belief(self) -> Tensor:
        """The posterior over the present visitor's style, [B, n]."""
        belief: Tensor = self.beliefs[self.rows, self.slot()]
        return belief

    def act(self) -> Tensor:
        """Play by the present belief."""
        belief = self.belief
        if self.play == "thompson":
            return self.say(torch.multinomial(belief, 1, generator=self.generator).squeeze(1))
        value = belief @ self.engagement
        if self.play == "look-ahead":
            value = value + self._turns_left()[:, None] * self._next(belief)
        return self.say(value.argmax(dim=1))

    def _turns_left(self) -> Tensor:
        """Return the turns after this one that are to be expected with the present visitor, [B]."""
        state = self.world.state
        here = (self.n_turns - 1 - state["turn"]).float()
        if self.memory == "encounter":
            return here
        later = (self.n_encounters - 1 - self.world.episode % self.n_encounters).float() * self.n_turns
        share = 1.0 if self.memory == "pooled" else 1.0 / self.companion.settings.n_visitors
        return here + later * share

    def _next(self, belief: Tensor) -> Tensor:
        """Return what the best action of the next turn brings, by the present action: [B, n actions]."""
        styles = self.model.styles
        return torch.cat([self._next_of(part, styles) for part in torch.split(belief, _CHUNK)])

    def _next_of(self, belief: Tensor, styles: Styles) -> Tensor:
        """Engagement is a sum over factors, so the next action's factors can be chosen one by one."""
        value = (belief @ self.after).view(len(belief), -1, styles.n * styles.moods)
        best = torch.stack([part.amax(dim=1) for part in torch.split(value, list(styles.sizes), dim=1)]).sum(0)
        return best.view(len(belief), styles.n, styles.moods).sum(2)

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, ended: Tensor) -> None:
        """Take in the mood; between encounters, what may have changed."""
        slot = before["visitor"] if self.memory == "visitor" else torch.zeros_like(before["visitor"])
        action, n_moods = reached["last"], self.model.styles.moods
        belief = self.beliefs[self.rows, slot] * self.moods[action * n_moods + reached["mood"]]
        belief = belief / belief.sum(dim=1, keepdim=True).clamp(min=1e-30)
        beliefs = self.beliefs.clone()
        if self.respect_rings:
            forget = ended & (before["ring"] > 0)
            known = self.entered if self.memory == "pooled" else self.prior
            belief = torch.where(forget[:, None], known, belief)
        beliefs[self.rows, slot] = belief
        if self.memory == "encounter":
            beliefs = torch.where(ended[:, None, None], self.prior, beliefs)
        else:
            beliefs = torch.where(ended[:, None, None], self._between(beliefs, slot), beliefs)
        self.beliefs = beliefs
        self.entered = torch.where(ended[:, None], self.belief, self.entered)

    def believes(self, env: int) -> dict[str, Any]:
        """Return "style": the chance of each value of each factor, for the present visitor."""
        belief, styles = self.beliefs[env, self.slot()[env]], self.model.styles
        empty = (belief.new_zeros(size) for size in styles.sizes)
        return {"style": [e.index_add(0, c, belief).tolist() for e, c in zip(empty, self.factors.T, strict=True)]}

    def learned(self) -> dict[str, Tensor]:
        """Return what is believed of everyone, and was at the beginning of the encounter."""
        return {"beliefs": self.beliefs, "entered": self.entered}

    def put_back(self, learned: dict[str, Tensor]) -> None:
        """Believe what `learned` says."""
        self.beliefs, self.entered = learned["beliefs"], learned["entered"]

    def _between(self, beliefs: Tensor, slot: Tensor) -> Tensor:
        """Return the beliefs [B, slots, n] about everyone at the next encounter."""
        coming = self.slot()
        changed = beliefs.clone()
        changed[self.rows, coming] = beliefs[self.rows, coming] @ self.drift
        mixed: Tensor = (1 - self.hazard) * changed + self.hazard * self.prior
        return mixed
