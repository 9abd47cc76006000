"""Reference policies of the guide: non-adaptive, memory reset per episode, exact Bayes filter, known-task oracle.

All but the random one plan the best tour by what they expect of each exhibit (`guide_planner`), walk its first leg,
see how the visitor takes it and plan again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.envs.npc.people import THEMES
from metarl.envs.npc.reference import Policy
from metarl.envs.tensor_world import EpisodeState

from .planner import NEVER, Tour, best_tour
from .visitor_model import BIAS, GAIN, PACES, satisfaction
from .world import GuideWorld

Rows = slice | Tensor
"""Which envs: all, or int64 numbers."""
ALL = slice(None)
_IMPOSSIBLE = -20.0
"""Log-likelihood of what a hypothesis rules out. Finite, so that a visitor like nobody known leaves a posterior."""
_MEAN_PACE = sum(PACES) / len(PACES)


@dataclass(frozen=True, eq=False)
class Prior:
    """A prior over visitors: interests are those of one of P people, (tau, kappa) one of a list."""

    bank: Tensor
    """float32 [P, 10]."""
    pairs: Tensor
    """float32 [Q, 2], (tau, kappa), equally likely."""

    def aversions(self) -> tuple[Tensor, Tensor]:
        """Return the aversions there are, [A], and how likely each is given the pace.

        The latter is [paces + 1, A], rows in the order of `paces`; the last one is for a pace not seen yet.
        """
        pace, aversion = self.pairs[:, 0], self.pairs[:, 1]
        values = torch.tensor(sorted(set(aversion.tolist())))
        same = aversion[:, None] == values
        rows = [same[pace == p].float().mean(0) for p in self.paces()]
        return values, torch.stack([*rows, same.float().mean(0)])

    def paces(self) -> Tensor:
        """Return the paces there are."""
        return torch.tensor(sorted(set(self.pairs[:, 0].tolist())))


class Belief:
    """The exact posterior over P people x A aversions, given what a guide was shown; one per env."""

    def __init__(self, world: GuideWorld, prior: Prior) -> None:
        """Know nothing yet."""
        device, self.world = world.device, world
        self.bank = prior.bank.to(device)
        aversions, chances = prior.aversions()
        self.aversions, self._chances = aversions.to(device), chances.log().clamp(min=_IMPOSSIBLE).to(device)
        self._paces = prior.paces().to(device)
        same = (prior.pairs[:, 1, None] == aversions).float()
        self._usual_pace = ((prior.pairs[:, :1] * same).sum(0) / same.sum(0)).to(device)
        """Mean pace of visitors with each aversion, [A]."""
        self.shown = torch.zeros(world.num_envs, len(self.bank), len(aversions), device=device)
        """Log-likelihood of what was shown, [B, P, A]."""
        self._flat = self.shown
        self._known = world.places.themes.rows @ self.bank.T

    def forget(self, where: Tensor, keep: float = 0.0) -> None:
        """Mix the posterior of the envs `where` with the prior: weight `keep` on what was learned."""
        old = torch.log_softmax(self.shown.flatten(1), 1).view_as(self.shown)
        if keep:
            flat = -torch.log(torch.tensor(float(self._flat[0].numel()), device=old.device))
            logs = torch.tensor([keep, 1.0 - keep], device=old.device).log()
            new = torch.logaddexp(old + logs[0], flat + logs[1])
        else:
            new = self._flat
        self.shown = torch.where(where[:, None, None], new, self.shown)

    def weights(self, rows: Rows = ALL) -> Tensor:
        """Return the posterior, float32 [rows, P, A]."""
        speed = self.world.state["speed"][rows]
        seen = ((1.0 / speed.clamp(min=1e-3))[:, None] - self._paces).abs() < 1e-3
        row = torch.where(speed > 0, seen.long().argmax(1), len(self._paces))
        logs = self.shown[rows] + self._chances[row][:, None]
        return torch.softmax(logs.flatten(1), 1).view_as(logs)

    def felt(self, theme: Tensor, crowd: Tensor) -> Tensor:
        """Return g under every hypothesis: theme and crowd [B] -> [B, P, A]."""
        likes = GAIN * self._known.index_select(0, theme)
        return torch.tanh(likes[..., None] - (crowd[:, None, None] - 0.5) * self.aversions + BIAS)

    def see(self, before: EpisodeState, reached: EpisodeState) -> None:
        """Learn from a step in which an exhibit may have been shown."""
        rules = self.world.settings
        shown = reached["reaction"] > 0
        felt = self.felt(reached["last_theme"], reached["last_crowd"])
        blur = rules.noise
        edges = torch.tensor([-torch.inf, *rules.thresholds, torch.inf], device=felt.device)
        y = (reached["reaction"] - 1).clamp(min=0)
        low, high = edges[y][:, None, None], edges[y + 1][:, None, None]
        chance = torch.special.ndtr((felt - low) / blur) - torch.special.ndtr((felt - high) / blur)
        logs = chance.log().clamp(min=_IMPOSSIBLE)
        if rules.dislike_ticks:
            disliked = self.world.dislike_shown(before, reached)
            logs = torch.where((felt < 0) == disliked[:, None, None], logs, logs + _IMPOSSIBLE)
        self.shown = self.shown + torch.where(shown[:, None, None], logs, torch.zeros_like(logs))

    def moments(self, rows: Rows = ALL) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and deviation of g and the chance that it is negative, for every exhibit, [rows, M] each."""
        state, weights = self.world.state, self.weights(rows)
        found = []
        for m in range(self.world.n_exhibits):
            felt = self.felt(state["theme"][rows, m], state["crowd"][rows, m])
            mean = (weights * felt).sum((1, 2))
            spread = ((weights * felt.square()).sum((1, 2)) - mean.square()).clamp(min=0.0).sqrt()
            found.append(torch.stack([mean, spread, (weights * (felt < 0)).sum((1, 2))]))
        mean, spread, negative = torch.stack(found, 2).unbind(0)
        return mean, spread, negative

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a hypothesis per env: interests [B, 10] and aversion [B]."""
        flat = self.weights().flatten(1)
        drawn = torch.multinomial(flat, 1, generator=generator).squeeze(1)
        a = len(self.aversions)
        return self.bank[drawn // a], self.aversions[drawn % a]

    def expected(self, env: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the interests [10], the aversion [] and the pace [] that are to be expected of an env's visitor."""
        weights = self.weights(slice(env, env + 1))[0]
        speed, aversion = self.world.state["speed"][env], weights.sum(0)
        pace = torch.where(speed > 0, 1.0 / speed.clamp(min=1e-3), aversion @ self._usual_pace)
        return weights.sum(1) @ self.bank, aversion @ self.aversions, pace


class Planner(Policy):
    """Plans by `expect`, which says what each exhibit gives and how likely it is disliked."""

    world: GuideWorld

    @abstractmethod
    def expect(self, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        """Return prizes and chances of a dislike, [rows, M] each, at the present state."""

    def pace(self, rows: Rows = ALL) -> Tensor:
        """Return ticks per cell [rows] as far as the guide has seen."""
        speed = self.world.state["speed"][rows]
        return torch.where(speed > 0, 1.0 / speed.clamp(min=1e-3), torch.full_like(speed, _MEAN_PACE))

    def act(self) -> Tensor:
        """Return where to go, or M to end."""
        return self.press(self.plan().first)

    def press(self, meant: Tensor) -> Tensor:
        """Return the action that is thought to do what is `meant`: the one labelled so."""
        return meant

    def plan(self, rows: Rows = ALL) -> Tour:
        """Return the best tours from where the envs `rows` stand."""
        world = self.world
        state = {k: world.state[k][rows] for k in ("seen", "layout", "at", "patience")}
        prize, disliked = self.expect(rows)
        m, rules = world.n_exhibits, world.settings
        stay = rules.look_ticks + rules.dislike_ticks * disliked
        stay = torch.where(state["seen"], torch.full_like(stay, NEVER), stay)
        way = world.places.layouts.distance.index_select(0, state["layout"]) * self.pace(rows)[:, None, None]
        here = way.gather(1, state["at"][:, None, None].expand(-1, 1, m + 1)).squeeze(1)[:, :m]
        return best_tour(prize, stay, way[:, :m, :m], here, state["patience"])


class Filter(Planner):
    """Expects the mean of the exact posterior, plus `optimism` deviations at first and none at the end of the trial.

    `memory` is how much of what was learned is kept from an episode to the next: 1 all, 0 nothing (forgetful), between
    them a visitor is taken to have been replaced with chance 1 - `memory` (Bayes' rule with that hazard). `learns`
    False expects the same of everybody.
    """

    def __init__(self, prior: Prior, *, memory: float = 1.0, optimism: float = 0.0, learns: bool = True) -> None:
        """Fix what is believed at first."""
        self.prior, self.memory, self.optimism, self.learns = prior, memory, optimism, learns

    def start(self, world: Any, generator: torch.Generator) -> None:
        """Know nothing of any visitor."""
        super().start(world, generator)
        self.belief = Belief(world, self.prior)

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, ended: Tensor) -> None:
        """Apply Bayes' rule; at an episode's end, doubt."""
        if self.learns:
            self.belief.see(before, reached)
            if self.memory < 1.0:
                self.belief.forget(ended, self.memory)

    def believes(self, env: int) -> dict[str, Any]:
        """Return the expected "interests" {theme: number}, "aversion" and "pace"."""
        interests, aversion, pace = self.belief.expected(env)
        themes = dict(zip(THEMES, interests.tolist(), strict=True))
        return {"interests": themes, "aversion": float(aversion), "pace": float(pace)}

    def learned(self) -> dict[str, Tensor]:
        """Return what exhibits taught."""
        return {"shown": self.belief.shown}

    def put_back(self, learned: dict[str, Tensor]) -> None:
        """Know what `learned` says."""
        self.belief.shown = learned["shown"]

    def expect(self, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        """Return the posterior mean, with a bonus for not knowing."""
        mean, spread, negative = self.belief.moments(rows)
        if self.optimism:
            left = 1.0 - self.world.state["number"][rows].float() / self.world.n_episodes
            mean = mean + self.optimism * left[:, None] * spread
        return mean, negative


class Thompson(Filter):
    """Posterior sampling: acts optimally for one hypothesis per episode, drawn from the posterior (Thompson 1933)."""

    def start(self, world: Any, generator: torch.Generator) -> None:
        """Draw the first hypotheses."""
        super().start(world, generator)
        self._drawn = self.belief.sample(generator)

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, ended: Tensor) -> None:
        """Learn, and draw anew where an episode ended."""
        super().see(before, actions, reached, ended)
        drawn = self.belief.sample(self.generator)
        self._drawn = (torch.where(ended[:, None], drawn[0], self._drawn[0]),
                       torch.where(ended, drawn[1], self._drawn[1]))  # fmt: skip

    def expect(self, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        """Return what the hypothesis says."""
        who, aversion = self._drawn[0][rows], self._drawn[1][rows]
        theme, crowd = self.world.state["theme"][rows], self.world.state["crowd"][rows]
        likes = (who @ self.world.places.themes.rows.T).gather(1, theme)
        felt = satisfaction(likes, aversion[:, None], crowd)
        return felt, (felt < 0).float()


class Oracle(Planner):
    """Knows the visitor: the best tour there is, exactly."""

    def expect(self, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        """Return what is felt."""
        felt = self.world.felt(self.world.state)[rows]
        return felt, (felt < 0).float()

    def pace(self, rows: Rows = ALL) -> Tensor:
        """Return the true pace."""
        return self.world.latent()["pace"][rows]

    def press(self, meant: Tensor) -> Tensor:
        """Return the action that does what is meant, whatever the wiring."""
        wiring = self.world.wiring(self.world.state)
        return meant if wiring is None else wiring.argsort(1).gather(1, meant[:, None]).squeeze(1)


def policies(known: Prior, broad: Prior, *, hazard: float) -> dict[str, Callable[[], Policy]]:
    """Return makers of the reference policies that plan.

    `known` is the prior over visitors in training, `broad` one that expects people like nobody known. `hazard` is the
    chance of a change that `bayes_hazard` reckons with before each episode; 0 leaves it out.
    """
    found: dict[str, Callable[[], Policy]] = {
        "non_adaptive": lambda: Filter(known, learns=False),
        "forgetful": lambda: Filter(broad, memory=0.0),
        "bayes_greedy": lambda: Filter(broad),
        "bayes_explore": lambda: Filter(broad, optimism=OPTIMISM),
        "thompson": lambda: Thompson(broad),
    }
    if hazard:
        found["bayes_hazard"] = lambda: Filter(broad, memory=1.0 - hazard, optimism=OPTIMISM)
    return found | {"oracle": Oracle}


OPTIMISM = 0.6
"""Deviations that count as a prize in the first episode, as in the specification's measurements."""
