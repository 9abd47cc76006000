"""World `npc/assistant`: a dialogue in which an assistant finds the offer that suits an unknown visitor.

A visitor has part-worths beta (a real respondent's), the same in all dialogues of a trial. Each dialogue has a
catalogue of J offers with attributes x_j and categories, and an intent z, the category the visitor is after this time,
possibly with a limit: no offer whose first attribute exceeds the catalogue's median. With utilities U_j = beta x_j over
the admissible offers (category z, within the limit), best M and mean m, a turn is one of

* propose j: accepted with chance sigmoid((U_j - M + 1.5) / 0.5) if j is admissible, else refused. Accepted it pays
  clip((U_j - m) / (M - m + 0.3), -1, 1) and ends the dialogue; refused it pays -0.12;
* ask about attribute a: pays -0.04, and the answer is one of three levels c in (-1, 0, 1) with chances proportional to
  exp(-((b_a - c) / 0.6)² / 2), where b_a = (beta_a - mean) / deviation over train visitors;
* ask for the category (and, with limits, for the limit): pays -0.04, the answer is right with chance 0.85.

After T turns without a deal the visitor leaves, which pays -0.5. A question about a sensitive attribute costs 1 in
`info["cost"]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs.families import check_counts
from metarl.envs.npc.draws import pick
from metarl.envs.npc.people import DOMAINS
from metarl.envs.npc.shift import Shift
from metarl.envs.npc.world import NpcWorld, npc_spec
from metarl.envs.tensor_world import EpisodeState
from metarl.errors import ConfigError, nearest
from metarl.seeding import EnvStreams
from metarl.spec import WorldSpec

from .catalogue import N_ATTRIBUTES, shelf
from .render import draw_catalogue

SHIFTS = ("visitor", "drift", "economy", "interface", "sensor")
"""Another visitor; one part-worth of another visitor; questions cost thrice; an attribute means its opposite; answers
are twice as vague."""
ACCEPT_MARGIN, ACCEPT_SHARPNESS = 1.5, 0.5
ANSWER_WIDTH = 0.6
RIGHT = 0.85
"""Chance that an answer about the intent is right."""
REFUSAL, NO_DEAL = -0.12, -0.5
N_LEVELS = 3
_NOTHING, _PROPOSED, _ASKED, _ASKED_INTENT = range(4)


@dataclass(frozen=True)
class AssistantConfig:
    """Constants of the dialogues."""

    domains: tuple[str, ...] = ("electricity", "swissmetro")
    """Domains of training, see `people.DOMAINS`."""
    n_offers: int = 12
    """Offers of a catalogue J, a multiple of the number of categories, 2..24."""
    n_categories: int = 2
    """Categories C, 1..4; a catalogue has equally many offers of each."""
    horizon: int = 8
    """Turns T, 1..50."""
    n_episodes: int = 6
    """Dialogues of a trial, 1..100."""
    ask_price: float = 0.04
    """What a question takes from the reward, in [0, 1]."""
    het: float = 1.0
    """Factor on how far visitors are from the average, in [0, 3]."""
    limits: bool = False
    """Whether a visitor may also have a limit on the first attribute, one dialogue in two."""
    critique: bool = False
    """Whether a refusal names the attribute in which the offer is worst beside the best one (or the category)."""
    anonymise: bool = False
    """Whether the columns of attributes are shuffled, and some signs flipped, anew in each trial; questions are then
    about beta / its root mean square over visitors, since an average has no meaning."""
    questions: tuple[int, ...] = tuple(range(N_ATTRIBUTES))
    """Attributes one may ask about."""
    sensitive: tuple[int, ...] = (0,)
    """Attributes one should not ask about."""
    n_catalogues: int = 2048
    """Size of a pool of catalogues, 1..100000."""
    reward_in_obs: bool = False
    """Whether an agent that acts is told the reward."""
    synthetic: bool = False
    """Invented visitors and offers with the moments of the real ones."""
    shift: str = ""
    """Unannounced change within the trial, such as "visitor@3"; see `metarl.envs.npc.shift`."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_counts("npc/assistant", self, n_offers=(2, 24), n_categories=(1, 4), horizon=(1, 50), n_episodes=(1, 100),
                     n_catalogues=(1, 100_000))  # fmt: skip
        if self.n_offers % self.n_categories:
            raise ConfigError(f"npc/assistant has {self.n_offers} offers for {self.n_categories} categories; choose a "
                              f"multiple")  # fmt: skip
        if not 0.0 <= self.ask_price <= 1.0 or not 0.0 <= self.het <= 3.0:
            raise ConfigError(f"npc/assistant needs ask_price in [0, 1] and het in [0, 3], got {self.ask_price} and "
                              f"{self.het}")  # fmt: skip
        if not self.domains or any(d not in DOMAINS for d in self.domains):
            raise ConfigError(f"npc/assistant option domains is {self.domains}; {nearest(str(self.domains), DOMAINS)}")
        for name in ("questions", "sensitive"):
            if any(a not in range(N_ATTRIBUTES) for a in getattr(self, name)):
                raise ConfigError(f"npc/assistant option {name} is {getattr(self, name)}; attributes are 0..5")
        Shift.parse(self.shift, SHIFTS)

    @property
    def n_intents(self) -> int:
        """Intents: categories, times two with limits. Intent i is category i % C, limited if i >= C."""
        return self.n_categories * (2 if self.limits else 1)

    @property
    def n_questions(self) -> int:
        """Questions: attributes, the category, with limits the limit."""
        return N_ATTRIBUTES + (2 if self.limits else 1)

    @property
    def versions(self) -> int:
        """How many visitors a trial may go through: 1 without a shift."""
        change = Shift.parse(self.shift, SHIFTS)
        return 1 if change is None else 2 if change.episode is not None else self.n_episodes


def _n_answers(config: AssistantConfig) -> int:
    return N_LEVELS + max(config.n_categories, 2) + 2


def assistant_spec(name: str, config: AssistantConfig) -> WorldSpec:
    """Return what a dialogue is; what is hidden are the weights of the attributes and the intent."""
    j, q = config.n_offers, config.n_questions
    n_vec = 4 + _n_answers(config) + N_ATTRIBUTES + 2 * q + 2 + (7 if config.critique else 0)
    seen = spaces.Dict({
        "offers": spaces.Box(-np.inf, np.inf, (j, N_ATTRIBUTES + config.n_categories + 1), np.float32),
        "vec": spaces.Box(-np.inf, np.inf, (n_vec,), np.float32),
    })  # fmt: skip
    return npc_spec(
        name, seen, spaces.Discrete(j + q), config.horizon, reward_in_obs=config.reward_in_obs, fixed_horizon=False,
        has_success=True, n_privileged=N_ATTRIBUTES + config.n_intents,
    )  # fmt: skip


class AssistantWorld(NpcWorld):
    """B dialogues.

    Tasks: "beta" float32 [B, V, 6], "domain" int64 [B] (a number into `domains`), "pool" int64 [B] (0 known, 1 new
    catalogues), "order" int64 and "sign" float32 [B, 6] (columns as shown), "intents" float32 [B, C]: chances.

    Actions: J proposals, 6 questions about attributes, one for the category, with limits one for the limit. The mask
    leaves out offers refused in this dialogue and attributes that the domain does not have.

    Observation, a dict: "offers" [B, J, 6 + C + 1] (attributes, category, refused) and "vec": kind of the last action
    (nothing yet, proposal, question, question for the intent), its answer (3 levels, C categories or limit no / yes,
    accepted, refused), attributes of the offer last proposed [6], question last asked (one-hot), questions asked in
    this dialogue, share of turns taken, first turn, [with critique: what was worst, 7]. What the last turn of a
    dialogue showed is in the first observation of the next one.
    """

    def __init__(
        self,
        name: str,
        num_envs: int,
        config: AssistantConfig,
        domains: tuple[str, ...],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        """Build `num_envs` dialogues over all `domains` (those of training and held-out ones)."""
        j, c, q = config.n_offers, config.n_categories, config.n_questions
        super().__init__(assistant_spec(name, config), num_envs, device, n_episodes=config.n_episodes)
        self.n_answers = _n_answers(config)
        self.config, self.domains = config, domains
        shelves = [shelf(d, j, config.n_catalogues, config.synthetic) for d in domains]
        self.pool = torch.stack([s.offers for s in shelves]).to(self.device)
        """float32 [D, 2, G, J, 6]."""
        self.mean, self.sd = (torch.stack([getattr(s, k) for s in shelves]).to(self.device) for k in ("mean", "sd"))
        self._rms = (self.mean.square() + self.sd.square()).sqrt()
        about = [[a < len(s.attributes) and a in config.questions for a in range(N_ATTRIBUTES)] for s in shelves]
        rest = [c > 1, True][: q - N_ATTRIBUTES]
        self._askable = torch.tensor([a + rest for a in about], device=self.device)
        self.category = torch.arange(j, device=self.device) % c
        """int64 [J]: offers come in random order, so their categories may go round."""
        self._category_seen = torch.nn.functional.one_hot(self.category, c).float().expand(num_envs, -1, -1)
        self.levels = torch.linspace(-1.0, 1.0, N_LEVELS, device=self.device)
        self._sensitive = torch.zeros(q, device=self.device)
        self._sensitive[list(config.sensitive)] = 1.0
        self._shift = Shift.parse(config.shift, SHIFTS)
        self._kinds = torch.tensor([_PROPOSED] * j + [_ASKED] * N_ATTRIBUTES + [_ASKED_INTENT] * (q - N_ATTRIBUTES),
                                   device=self.device)  # fmt: skip
        self._eye_kind, self._eye_answer = (
            torch.eye(4, device=self.device),
            torch.eye(self.n_answers + 1)[:, :-1].to(self.device),
        )
        self._eye_action = torch.eye(j + q, device=self.device)

    def initial(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Draw a catalogue and an intent."""
        config, params, n = self.config, self.params, self.num_envs
        u = streams.uniform(episode, 3)
        size = self.pool.shape[2]
        catalogue = (u[:, 0] * size).long().clamp(max=size - 1)
        at = (params["domain"] * 2 + params["pool"]) * size + catalogue
        offers = self.pool.view(-1, config.n_offers, N_ATTRIBUTES).index_select(0, at)
        version = self._version(streams, episode)
        beta = self._beta(version)
        if config.anonymise:
            offers = offers.gather(2, params["order"][:, None].expand_as(offers)) * params["sign"][:, None]
        category = pick(params["intents"], u[:, 1])
        intent = category + (config.n_categories * (u[:, 2] < 0.5).long() if config.limits else 0)
        utility = (offers * beta[:, None]).sum(2)
        nothing = torch.zeros(n, device=self.device)
        return {
            "catalogue": catalogue,
            "offers": offers,
            "utility": utility,
            "admissible": self.admissible(offers).gather(2, intent[:, None, None].expand(-1, config.n_offers, 1))[
                ..., 0
            ],
            "intent": intent,
            "version": version,
            "tried": torch.zeros(n, config.n_offers, device=self.device),
            "asked": torch.zeros(n, config.n_questions, device=self.device),
            "kind": torch.zeros(n, dtype=torch.int64, device=self.device),
            "answer": torch.full((n,), self.n_answers, dtype=torch.int64, device=self.device),
            "last_offer": torch.zeros(n, N_ATTRIBUTES, device=self.device),
            "last_question": torch.zeros(n, config.n_questions, device=self.device),
            "worst": torch.zeros(n, 7, device=self.device),
            "turn": nothing,
            "first": nothing + 1.0,
            "cost": nothing,
        }

    def _version(self, streams: EnvStreams, episode: Tensor) -> Tensor:
        if self._shift is None:
            return torch.zeros_like(episode)
        return self._shift.count(streams, episode, self.n_episodes).clamp(max=self.config.versions - 1)

    def _beta(self, version: Tensor) -> Tensor:
        """Return the present visitors' part-worths, in the columns' order, float32 [B, 6]."""
        beta = self.params["beta"]
        if beta.shape[1] == 1:
            return beta[:, 0]
        return beta.gather(1, version[:, None, None].expand(-1, 1, N_ATTRIBUTES)).squeeze(1)

    def admissible(self, offers: Tensor) -> Tensor:
        """Return which offers suit each intent, bool [B, J, I]."""
        c = self.config.n_categories
        fits = (self.category[:, None] == torch.arange(c, device=self.device)).expand(len(offers), -1, -1)
        if not self.config.limits:
            return fits
        # The median of each category's first attribute, so that half of a category stays admissible.
        first = offers[..., 0].view(len(offers), -1, c)
        within = (first <= first.median(1, keepdim=True).values).reshape(len(offers), -1, 1)
        return torch.cat([fits, fits & within], dim=2)

    def persist(self, ended: EpisodeState, fresh: EpisodeState) -> EpisodeState:
        """Keep what the last turn showed."""
        return fresh | {k: ended[k] for k in ("kind", "answer", "last_offer", "last_question", "worst")}

    def standard(self, beta: Tensor, domain: Tensor) -> Tensor:
        """Return b, what answers are about, for part-worths [B, 6] as the columns stand."""
        if self.config.anonymise:
            return beta / self._rms[domain].gather(1, self.params["order"])
        return (beta - self.mean[domain]) / self.sd[domain]

    def standard_of(self, people: Tensor) -> Tensor:
        """Return the same for a bank of people per env, [B, P, 6]; not for anonymous columns."""
        domain = self.params["domain"]
        return (people - self.mean[domain][:, None]) / self.sd[domain][:, None]

    def transition(
        self, state: EpisodeState, actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[EpisodeState, Tensor, Tensor | None, Tensor | None]:
        """Take one turn."""
        config, j = self.config, self.config.n_offers
        u = streams.uniform(clock, 1)[:, 0]
        chosen = self._eye_action.index_select(0, actions)
        proposed, question = chosen[:, :j], chosen[:, j:]
        kind = self._kinds.index_select(0, actions)
        accepted, pay = self._propose(state, proposed, u)
        is_proposal = kind == _PROPOSED
        accepted = accepted & is_proposal if self.spoken is None else is_proposal & (self.spoken == 1)
        turn = state["turn"] + 1.0
        left = (turn >= self.horizon) & ~accepted
        price = config.ask_price * (1.0 + 2.0 * (state["version"] > 0)) if self._is("economy") else config.ask_price
        reward = torch.where(is_proposal, torch.where(accepted, pay, REFUSAL), -price) + NO_DEAL * left
        answer = torch.where(is_proposal, self.n_answers - 1 - accepted.long(), self._answer(state, question, kind, u))
        if self.spoken is not None:
            said = self.spoken + N_LEVELS * (kind == _ASKED_INTENT)
            answer = torch.where(is_proposal, answer, said)
        new = state | {
            "tried": state["tried"] + proposed,
            "asked": torch.maximum(state["asked"], question),
            "kind": kind,
            "answer": answer,
            "last_offer": (state["offers"] * proposed[:, :, None]).sum(1),
            "last_question": question,
            "turn": turn,
            "first": torch.zeros_like(turn),
            "cost": (question * self._sensitive).sum(1),
        }
        if config.critique:
            new["worst"] = self._criticise(state, proposed) * (is_proposal & ~accepted)[:, None]
        return new, reward, accepted | left, accepted

    def _is(self, kind: str) -> bool:
        return self._shift is not None and self._shift.kind == kind

    def _propose(self, state: EpisodeState, proposed: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether the proposal would be accepted, bool [B], and what it would pay."""
        utility, fits = state["utility"], state["admissible"]
        best = utility.masked_fill(~fits, -torch.inf).amax(1)
        mean = (utility * fits).sum(1) / fits.sum(1)
        own = (utility * proposed).sum(1)
        suits = (proposed * fits).sum(1)
        chance = torch.sigmoid((own - best + ACCEPT_MARGIN) / ACCEPT_SHARPNESS) * suits
        return u < chance, ((own - mean) / (best - mean + 0.3)).clamp(-1.0, 1.0)

    def _answer(self, state: EpisodeState, question: Tensor, kind: Tensor, u: Tensor) -> Tensor:
        """Return the number of the answer to a question, int64 [B]: levels, then categories or no / yes."""
        c = self.config.n_categories
        b = (self.standard(self._beta(state["version"]), self.params["domain"]) * question[:, :N_ATTRIBUTES]).sum(1)
        width = ANSWER_WIDTH * (1.0 + (state["version"] > 0)) if self._is("sensor") else ANSWER_WIDTH
        log_p = -0.5 * ((b[:, None] - self.levels) / (width[:, None] if isinstance(width, Tensor) else width)).square()
        level = pick(log_p.softmax(1), u)
        # A wrong answer is any of the others, alike.
        wrong = ((u - RIGHT).clamp(min=0.0) / (1.0 - RIGHT) * max(c - 1, 1)).long().clamp(max=max(c - 2, 0))
        truth = state["intent"] % c
        said = torch.where(u < RIGHT, truth, (truth + 1 + wrong) % c)
        if self.config.limits:
            limited = (state["intent"] >= c).long()
            said = torch.where(question[:, -1] > 0, torch.where(u < RIGHT, limited, 1 - limited), said)
        return torch.where(kind == _ASKED, level, N_LEVELS + said)

    def _criticise(self, state: EpisodeState, proposed: Tensor) -> Tensor:
        """Return what is worst about the proposed offer, one-hot [B, 7]: an attribute, or (last) its category."""
        utility, fits = state["utility"], state["admissible"]
        best = utility.masked_fill(~fits, -torch.inf).argmax(1)
        offers = state["offers"]
        ideal = offers.gather(1, best[:, None, None].expand(-1, 1, N_ATTRIBUTES)).squeeze(1)
        loss = (ideal - (offers * proposed[:, :, None]).sum(1)) * self._beta(state["version"])
        unfit = (proposed * ~fits).sum(1) > 0
        return torch.nn.functional.one_hot(torch.where(unfit, N_ATTRIBUTES, loss.argmax(1)), 7).float()

    def action_mask(self, state: EpisodeState) -> Tensor:
        """Return which offers were not refused yet, and which questions make sense."""
        return torch.cat([state["tried"] == 0, self._askable.index_select(0, self.params["domain"])], dim=1)

    def observation(self, state: EpisodeState) -> dict[str, Tensor]:
        """Return catalogue and dialogue."""
        offers = torch.cat([state["offers"], self._category_seen, state["tried"][:, :, None]], dim=2)
        vec = [
            self._eye_kind.index_select(0, state["kind"]),
            self._eye_answer.index_select(0, state["answer"]),
            state["last_offer"],
            state["last_question"],
            state["asked"],
            state["turn"][:, None] / self.horizon,
            state["first"][:, None],
        ]
        if self.config.critique:
            vec.append(state["worst"])
        return {"offers": offers, "vec": torch.cat(vec, dim=1)}

    def cost(self, state: EpisodeState) -> Tensor:
        """Return 1 where a sensitive question was asked."""
        return state["cost"]

    def latent(self) -> dict[str, Tensor]:
        """Return part-worths, the intent of this dialogue and the offers' utilities."""
        state = self.state
        return {"beta": self._beta(state["version"]), "intent": state["intent"], "utility": state["utility"]}

    def privileged_info(self) -> Tensor:
        """Return what answers are about, [B, 6], and the intent of this dialogue, one-hot."""
        about = self.standard(self._beta(self.state["version"]), self.params["domain"])
        return torch.cat([about, torch.nn.functional.one_hot(self.state["intent"], self.config.n_intents).float()], 1)

    def attributes(self, env: int) -> list[str]:
        """Return the names of the columns that a visitor's domain has."""
        domain = DOMAINS[self.domains[int(self.params["domain"][env])]]
        if self.config.anonymise:
            return [f"attribute {a + 1}" for a in range(N_ATTRIBUTES)]
        return list(domain.attributes)

    def action_names(self) -> list[list[str]]:
        """Return offers and questions by their numbers."""
        asks = [*(f"ask attribute {a + 1}" for a in range(N_ATTRIBUTES)), "ask category", "ask limit"]
        return [[*(f"offer {j + 1}" for j in range(self.config.n_offers)), *asks[: self.config.n_questions]]]

    def asks(self, env: int, action: Tensor) -> list[str]:
        """Return what a visitor can say to a proposal or a question."""
        kind, number = int(self._kinds[action]), int(action) - self.config.n_offers
        if kind == _PROPOSED:
            return ["no", "I take it"]
        if kind == _ASKED:
            return ["less than most", "like most", "more than most"]
        categories = [f"category {'ABCD'[c]}" for c in range(self.config.n_categories)]
        return categories if number == N_ATTRIBUTES else ["no limit", "limit"]

    def frame(self, env: int) -> dict[str, Any]:
        """Return the catalogue, the last turn in words, and under "hidden" the visitor."""
        state, hidden = self.state, self.latent()
        kind, answer = int(state["kind"][env]), int(state["answer"][env])
        names = self.attributes(env)
        questions = [*names, *[""] * (N_ATTRIBUTES - len(names)), "category", "limit"]
        asked = questions[int(state["last_question"][env].argmax())] if kind >= _ASKED else None
        replies = ["less than most", "like most", "more than most", *(f"category {c}" for c in range(max(2, self.config.n_categories))), "accepted", "refused"]  # noqa: E501  # fmt: skip
        if asked == "limit":
            replies[N_LEVELS : N_LEVELS + 2] = ["no limit", "limit"]
        return {
            "episode": int(self.episode[env]),
            "turn": int(state["turn"][env]),
            "horizon": self.horizon,
            "attributes": names,
            "offers": [
                {"values": row[: len(names)], "category": int(c), "refused": bool(t)}
                for row, c, t in zip(state["offers"][env].tolist(), self.category.tolist(),
                                     state["tried"][env].tolist(), strict=True)
            ],
            "last": ["nothing", "proposal", "question", "question"][kind],
            "question": asked,
            "answer": replies[answer] if answer < len(replies) else None,
            "cost": float(state["cost"][env]),
            "hidden": {
                "beta": hidden["beta"][env, : len(names)].tolist(),
                "intent": int(hidden["intent"][env]),
                "utility": hidden["utility"][env].tolist(),
                "admissible": state["admissible"][env].tolist(),
            },
        }  # fmt: skip

    def picture(self, env: int) -> NDArray[np.uint8]:
        """Return the offers as cards: bars for attributes, a frame in the colour of the category."""
        frame = self.frame(env)
        return draw_catalogue(frame)
