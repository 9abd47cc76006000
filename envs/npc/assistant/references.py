"""Reference policies of the dialogues: exact filters over (visitors of the bank x intents) with a planner, oracles.

The planner compares the best proposal with every question, by the value of what the answer would tell about the best
proposal (one step of value of information); part of that value comes again in later dialogues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.envs.npc.reference import Policy, Random
from metarl.envs.tensor_world import EpisodeState
from metarl.seeding import generator as stream

from .catalogue import N_ATTRIBUTES
from .world import (
    ACCEPT_MARGIN,
    ACCEPT_SHARPNESS,
    ANSWER_WIDTH,
    N_LEVELS,
    NO_DEAL,
    REFUSAL,
    RIGHT,
    AssistantConfig,
    AssistantWorld,
)

AFTER_REFUSAL = 0.25
"""What going on is worth after a refusal, as long as turns are left."""
LASTING = 0.1
"""How much of what an answer about an attribute is worth now it is worth in each later dialogue."""
MOST_PEOPLE = 300
"""Visitors of training that a filter reckons with, per domain: more of them tell it nothing new."""
_STRANGERS = 300
"""Visitors of the generic bank for a domain never met."""


def reply_chances(b: Tensor, levels: Tensor) -> Tensor:
    """Return P(answer | visitor) of questions about attributes, [..., 6, 3], for standardised part-worths [..., 6]."""
    return (-0.5 * ((b[..., None] - levels) / ANSWER_WIDTH).square()).softmax(-1)


def proposal_outlook(beta: Tensor, offers: Tensor, fits: Tensor) -> tuple[Tensor, Tensor]:
    """Return P(accepted) and that times what it pays, float32 [B, P, J, I].

    For visitors `beta` [B, P, 6], `offers` [B, J, 6] and `fits` [B, 1, J, I], which offers suit which intent.
    """
    utility = (beta @ offers.transpose(1, 2))[..., None]
    best = utility.masked_fill(~fits, -torch.inf).amax(2, keepdim=True)
    mean = (utility * fits).sum(2, keepdim=True) / fits.sum(2, keepdim=True)
    accept = torch.sigmoid((utility - best + ACCEPT_MARGIN) / ACCEPT_SHARPNESS) * fits
    return accept, accept * ((utility - mean) / (best - mean + 0.3)).clamp(-1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Bank:
    """Support of a filter's prior: possible visitors, by domain; rows of zeros fill up to the largest P."""

    people: Tensor
    """float32 [D, P, 6], part-worths."""
    prior: Tensor
    """float32 [D, P], each row sums to 1."""

    @classmethod
    def of(cls, met: Sequence[Tensor], unmet: Sequence[int]) -> Bank:
        """Take the first 300 of the visitors [P, 6] of each domain `met`, and make up some for domains never met.

        Of the latter `unmet` tells the numbers of attributes: one may know in which direction these count, not for how
        much.
        """
        banks = [people[:MOST_PEOPLE] for people in met]
        for n_attributes in unmet:
            noise = torch.randn(_STRANGERS, N_ATTRIBUTES, generator=stream(0, "npc-assistant", "strangers"))
            known = torch.arange(N_ATTRIBUTES) < n_attributes
            size = torch.cat(banks).square().mean().sqrt()
            banks.append(torch.where(known, -noise.abs() * size, 0.0))
        most = max(map(len, banks))
        padded = torch.stack([torch.nn.functional.pad(b, (0, 0, 0, most - len(b))) for b in banks])
        return cls(padded, torch.stack([(torch.arange(most) < len(b)) / len(b) for b in banks]))


class Planner(Policy):
    """Knows a bank of possible visitors and keeps P(visitor, intent | history).

    Subclasses say what it may forget and know. State of the filter: `weight` [B, P, I]; of the present catalogue
    `accept` [B, P, J, I], the chance that a proposal is accepted, and `gain`, that chance times what it pays.
    """

    world: AssistantWorld

    def __init__(
        self,
        bank: Bank,
        *,
        lasting: float = 0.0,
        forget: bool = False,
        learn_people: bool = True,
        hazard: float = 0.0,
        sample: bool = False,
    ) -> None:
        """Choose how far to look, what to forget, and whether to believe in one visitor drawn per dialogue."""
        self._bank, self.lasting, self.forget = bank, lasting, forget
        self.learn_people, self.hazard, self.sample = learn_people, hazard, sample

    def bank(self) -> tuple[Tensor, Tensor]:
        """Return part-worths [B, P, 6] and prior [B, P] of the visitors there may be in each env's domain."""
        device, domain = self.world.device, self.world.params["domain"]
        return self._bank.people.to(device)[domain], self._bank.prior.to(device)[domain]

    def start(self, world: AssistantWorld, generator: torch.Generator) -> None:  # type: ignore[override]
        """Know the prior."""
        super().start(world, generator)
        config = world.config
        self.beta, self.prior = self.bank()
        n, p, i, j = (*self.prior.shape, config.n_intents, config.n_offers)
        self.replies = reply_chances(world.standard_of(self.beta), world.levels)
        c = config.n_categories
        said = torch.full((c, c), (1.0 - RIGHT) / max(c - 1, 1)).fill_diagonal_(RIGHT if c > 1 else 1.0)
        self.said = said.repeat(i // c, 1).to(world.device)
        """[I, C]: P(category said | intent)."""
        limited = torch.tensor([[RIGHT, 1.0 - RIGHT], [1.0 - RIGHT, RIGHT]])
        self.limit_said = limited.repeat_interleave(c, 0)[:i].to(world.device)
        """[I, 2]: P(limit denied, confirmed | intent), with limits only."""
        self.weight = self.prior[:, :, None].expand(n, p, i) / i
        self.accept, self.gain = (torch.zeros(n, p, j, i, device=world.device) for _ in range(2))
        self.drawn = torch.zeros(n, dtype=torch.int64, device=world.device)

    def _open(self, rows: Tensor) -> None:
        """Work out what proposals from a new catalogue would bring, for envs `rows`."""
        state = self.world.state
        offers = state["offers"][rows]
        fits = self.world.admissible(offers)[:, None]
        self.accept[rows], self.gain[rows] = proposal_outlook(self.beta[rows], offers, fits)
        if self.sample:
            people = self.weight[rows].sum(2)
            self.drawn[rows] = torch.multinomial(people, 1, generator=self.generator).squeeze(1)

    def _proposals(self, gain: Tensor, accept: Tensor, total: Tensor, turns_left: Tensor) -> Tensor:
        """Return the value of each proposal [B, ..., J] for sums over beliefs whose mass is `total` [B, ...]."""
        after = torch.where(turns_left > 1, AFTER_REFUSAL, NO_DEAL).reshape(-1, *[1] * (gain.dim() - 1))
        return gain + (total[..., None] - accept) * (REFUSAL + after)

    def ready(self) -> None:
        """Look at the catalogues of dialogues that begin."""
        rows = (self.world.state["first"] > 0).nonzero().squeeze(1)
        for begin in range(0, len(rows), 128):
            self._open(rows[begin : begin + 128])

    def act(self) -> Tensor:
        """Propose or ask, whichever is worth more."""
        self.ready()
        world, state = self.world, self.world.state
        weight = self.weight
        if self.sample:
            one = torch.nn.functional.one_hot(self.drawn, weight.shape[1])[:, :, None]
            weight = weight * one
            weight = weight / weight.sum((1, 2), keepdim=True).clamp(min=1e-30)
        left = world.horizon - state["turn"]
        open_ = state["tried"] == 0
        by_intent = [torch.einsum("bpi,bpji->bji", weight, x) for x in (self.gain, self.accept)]
        now = self._proposals(by_intent[0].sum(2), by_intent[1].sum(2), torch.ones_like(left), left)
        now = now.masked_fill(~open_, -torch.inf)
        best = now.amax(1)
        values = [
            now,
            self._ask_attributes(weight, best, left, open_),
            self._ask_intent(weight, by_intent, left, open_),
        ]
        return torch.cat(values, dim=1).masked_fill(~world.action_mask(state), -torch.inf).argmax(1)

    def _ask_attributes(self, weight: Tensor, best: Tensor, left: Tensor, open_: Tensor) -> Tensor:
        """Return the value of asking about each attribute, [B, 6]."""
        world = self.world
        if not self.learn_people or self.sample or weight.shape[1] == 1:
            return torch.full((len(best), N_ATTRIBUTES), -torch.inf, device=best.device)
        gain, accept = (torch.einsum("bpi,bpji->bpj", weight, x) for x in (self.gain, self.accept))
        replies = self.replies.flatten(2)  # [B, P, 18]
        summed = replies.transpose(1, 2) @ torch.cat([gain, accept, weight.sum(2, keepdim=True)], dim=2)
        j = gain.shape[2]
        after = self._proposals(summed[..., :j], summed[..., j : 2 * j], summed[..., -1], left - 1)
        after = after.masked_fill(~open_[:, None], -torch.inf).amax(2).view(len(best), N_ATTRIBUTES, N_LEVELS).sum(2)
        later = (world.n_episodes - 1 - world.episode % world.n_episodes)[:, None]
        worth = (after - best[:, None]) * (1.0 + self.lasting * later)
        return torch.where(left[:, None] > 1, best[:, None] + worth - world.config.ask_price, -torch.inf)

    def _ask_intent(self, weight: Tensor, by_intent: list[Tensor], left: Tensor, open_: Tensor) -> Tensor:
        """Return the value of asking for the category, and for the limit if there is one, [B, 1 or 2]."""
        found = []
        for said in (self.said, self.limit_said)[: 2 if self.world.config.limits else 1]:
            gain, accept = ((x @ said).transpose(1, 2) for x in by_intent)  # [B, answers, J]
            after = self._proposals(gain, accept, weight.sum(1) @ said, left - 1)
            worth = after.masked_fill(~open_[:, None], -torch.inf).amax(2).sum(1) - self.world.config.ask_price
            found.append(torch.where(left > 1, worth, -torch.inf))
        return torch.stack(found, dim=1)

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, ended: Tensor) -> None:
        """Update the filter by the reaction; at a dialogue's end the intent is anybody's guess again."""
        j = self.world.config.n_offers
        n, p, i = self.weight.shape
        at = actions.clamp(max=j - 1)[:, None, None, None].expand(n, p, 1, i)
        accept = self.accept.gather(2, at).squeeze(2)
        accepted = (reached["answer"] == self.world.n_answers - 2)[:, None, None]
        likelihood = torch.where(accepted, accept, 1.0 - accept)
        question = (actions - j).clamp(min=0)
        level = reached["answer"].clamp(max=N_LEVELS - 1)
        cell = (question.clamp(max=N_ATTRIBUTES - 1) * N_LEVELS + level)[:, None, None].expand(n, p, 1)
        about = self.replies.flatten(2).gather(2, cell)
        said = (reached["answer"] - N_LEVELS).clamp(0, self.said.shape[1] - 1)
        intent = self.said[:, said].T[:, None]
        yes = (reached["answer"] - N_LEVELS).clamp(0, 1)
        limit = self.limit_said[:, yes].T[:, None]
        asked = (actions >= j)[:, None, None]
        kind = question[:, None, None]
        answered = torch.where(kind < N_ATTRIBUTES, about, torch.where(kind == N_ATTRIBUTES, intent, limit))
        likelihood = torch.where(asked, answered, likelihood)
        weight = self.weight * likelihood
        weight = weight / weight.sum((1, 2), keepdim=True).clamp(min=1e-30)
        if not self.learn_people:
            weight = self.prior[:, :, None] * weight.sum(1, keepdim=True)
        people = self.prior if self.forget else (1.0 - self.hazard) * weight.sum(2) + self.hazard * self.prior
        self.weight = torch.where(ended[:, None, None], people[:, :, None] / i, weight)

    def believes(self, env: int) -> dict[str, Any]:
        """Return the expected "beta" over the attributes of the domain, and the chances of "category".

        With limits also "limit", the chance that there is one.
        """
        weight, c = self.weight[env], self.world.config.n_categories
        beta = weight.sum(1) @ self.beta[env]
        intent = weight.sum(0).view(-1, c)
        found = {
            "beta": beta[: len(self.world.attributes(env))].tolist(),
            "category": intent.sum(0).tolist(),
        }
        return found | ({"limit": float(intent[1].sum())} if self.world.config.limits else {})

    def learned(self) -> dict[str, Tensor]:
        """Return the weights of visitors and intents."""
        return {"weight": self.weight}

    def put_back(self, learned: dict[str, Tensor]) -> None:
        """Take weights back."""
        self.weight = learned["weight"]


class PersonaOracle(Planner):
    """Knows the visitor, not the intent: an upper bound for what can be inferred."""

    def bank(self) -> tuple[Tensor, Tensor]:
        """Return the one true visitor."""
        beta = self.world.latent()["beta"][:, None]
        return beta, torch.ones_like(beta[..., 0])

    def _open(self, rows: Tensor) -> None:
        self.beta = self.world.latent()["beta"][:, None]
        super()._open(rows)


class Oracle(Policy):
    """Knows visitor and intent: proposes what suits best."""

    world: AssistantWorld

    def act(self) -> Tensor:
        """Propose the best admissible offer that was not refused."""
        state = self.world.state
        fits = state["admissible"] & (state["tried"] == 0)
        return state["utility"].masked_fill(~fits, -torch.inf).argmax(1)


def policies(bank: Bank, config: AssistantConfig) -> dict[str, Callable[[], Policy]]:
    """Return makers of the reference policies by name; no filter where it would have to learn the columns too."""
    found: dict[str, Callable[[], Policy]] = {"random": Random}
    if not config.anonymise:
        found |= {
            "non_adaptive": lambda: Planner(bank, learn_people=False),
            "forgetful": lambda: Planner(bank, forget=True),
            "bayes_greedy": lambda: Planner(bank),
            "bayes_lasting": lambda: Planner(bank, lasting=LASTING),
            "thompson": lambda: Planner(bank, sample=True),
        }
        if config.shift:
            found["bayes_hazard"] = lambda: Planner(bank, hazard=0.12)
    return found | {"persona_oracle": lambda: PersonaOracle(bank), "oracle": Oracle}
