"""A companion and its recurring visitors: a recurring identity is to be recognised and what was learnt of it recalled.

A trial is K encounters of H turns. At each, one of V visitors comes, all equally likely, and shows who it is: a letter
of an unknown script, drawn anew, or plainly a number (`identity="id"`, for studies of memory alone). The NPC chooses
speech, distance and game; the visitor shows a mood. The reward is the engagement, which is not shown.

Observation, a Dict: "glyph" float32 [28, 28] in [0, 1] (or "id", one-hot [V]), the same during an encounter; "vec":
the mood shown last (one-hot, the last entry "none yet"), the action it answers (one-hot per factor, zeros at first),
1 in the first turn of an encounter, 1 if the visitor wears a ring, and the share of turns gone. The mood that ends an
encounter is in the first observation of the next one, beside the next visitor's glyph.

A ring says: do not remember me; what its wearer showed last is not in the next encounter's observation. Glyphs, rings
and the order of visitors follow from the env's streams, not from the task, whose styles are in no first observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from metarl.envs.npc.draws import running_sums
from metarl.envs.npc.shift import Shift
from metarl.envs.npc.world import NpcWorld, npc_spec
from metarl.envs.tensor_world import EpisodeState
from metarl.seeding import EnvStreams
from metarl.spec import WorldSpec

from .identities import SIDE, Scripts
from .render import draw_encounter, mood_names
from .styles import Styles

_TRIAL, _CHANGE, _PERMUTATION = 20_000_003, 30_000_001, 40_000_003
"""Counters of draws that belong to a trial, to a shift, and to its permutation of actions."""
_LANES = 5
"""Draws at a beginning: who comes, which drawing, whether a taste changed, which one, to what."""


@dataclass(frozen=True)
class CompanionSettings:
    """What defines the world; the family checks it."""

    n_visitors: int = 3
    """V: the most visitors of a trial, 1 to 8."""
    n_encounters: int = 12
    """K: episodes of a trial."""
    n_turns: int = 6
    """H: turns of an encounter."""
    identity: str = "glyph"
    """"glyph": a letter drawn anew at each encounter; "id": the visitor's number."""
    rho: float = 0.0
    """Chance that a visitor comes back with one taste redrawn."""
    opt_out: float = 0.0
    """Chance that a visitor wears a ring."""
    reward_in_obs: bool = False
    """Tell an acting agent its last reward."""


def companion_spec(name: str, settings: CompanionSettings, styles: Styles) -> WorldSpec:
    """Return what a companion's world is: a visitor's letter or number, and what it showed last."""
    who: dict[str, Any] = (
        {"glyph": spaces.Box(0.0, 1.0, (SIDE, SIDE), np.float32)}
        if settings.identity == "glyph"
        else {"id": spaces.Box(0.0, 1.0, (settings.n_visitors,), np.float32)}
    )
    seen = spaces.Dict(who | {"vec": spaces.Box(0.0, 1.0, (styles.moods + 1 + sum(styles.sizes) + 3,), np.float32)})
    action = spaces.MultiDiscrete(list(styles.sizes))
    return npc_spec(name, seen, action, settings.n_turns, reward_in_obs=settings.reward_in_obs)


class CompanionWorld(NpcWorld):
    """B companions. `params`: "style", "later" int64 [B, V], "count" int64 [B] visitors, "letters" int64 [B].

    "letters" is a kind of letters in `companion_glyphs`.
    """

    def __init__(
        self,
        name: str,
        num_envs: int,
        settings: CompanionSettings,
        styles: Styles,
        prior: Tensor,
        *,
        n_rows: int | None = None,
        shift: Shift | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Build `num_envs`; `prior` [n styles] is what a redrawn taste follows.

        `n_rows` is the width of the tasks' "style", at least the most visitors of a trial; `n_visitors` if None.
        """
        super().__init__(companion_spec(name, settings, styles), num_envs, device, n_episodes=settings.n_encounters)
        self.settings, self.styles, self.shift = settings, styles, shift
        self.n_rows = n_rows or settings.n_visitors
        self._build_tables(prior)
        self._scripts = Scripts(self.device) if settings.identity == "glyph" else None

    def _build_tables(self, prior: Tensor) -> None:
        """Keep everything that a step looks up."""
        styles, device = self.styles, self.device
        self._engagement = styles.engagement.float().flatten().to(device)
        self._closeness = styles.closeness.float().flatten().to(device)
        self._factors = styles.factors.to(device)
        self._strides = torch.tensor(styles.strides, device=device)
        self._conditionals = running_sums(styles.conditionals(prior)).float().to(device)
        actions = torch.cat([F.one_hot(c, k) for c, k in zip(styles.factors.T, styles.sizes, strict=True)], dim=1)
        nothing = torch.zeros(1, actions.shape[1])
        # Row mood * (n + 1) + action: what is shown of the last turn; action n is "none yet".
        reactions = torch.eye(styles.moods + 1).repeat_interleave(styles.n + 1, dim=0)
        shown = torch.cat([actions.float(), nothing]).repeat(styles.moods + 1, 1)
        self._shown = torch.cat([reactions, shown], dim=1).to(device)
        self._ids = torch.eye(self.settings.n_visitors, device=device)

    def initial(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Let a visitor in."""
        n_encounters, n_visitors = self.n_episodes, self.n_rows
        number = episode % n_encounters
        draw = streams.uniform(episode, _LANES)
        visitor = self._who(draw)
        trial = streams.uniform(_TRIAL + episode // n_encounters, 2 * n_visitors + 1)
        ring = (trial[:, :n_visitors] < self.settings.opt_out).gather(1, visitor[:, None]).squeeze(1)
        changes = torch.zeros_like(episode)
        if self.shift is not None:
            changes = self.shift.count(streams, episode, n_encounters)
        zero = torch.zeros_like(episode)
        state = {
            "visitor": visitor, "ring": ring.float(), "changes": changes,
            "style": self._style(streams, episode - number, number, visitor, changes),
            "mood": zero + self.styles.moods, "last": zero + self.styles.n, "turn": zero,
            "engagement": torch.zeros_like(draw[:, 0]), "cost": torch.zeros_like(draw[:, 0]),
        }  # fmt: skip
        if self._scripts is not None:
            kind = self.params["letters"]
            drawing = self._scripts.drawing(kind, trial[:, n_visitors:], visitor, draw[:, 1])
            state["glyph"] = self._scripts.show(drawing, state["ring"])
        if self.shift is not None and self.shift.kind == "interface":
            state["meaning"] = self._meaning(streams, changes)
        return state

    def _who(self, draw: Tensor) -> Tensor:
        """Return who comes, int64 [B], by the first of a beginning's draws."""
        return (draw[:, 0] * self.params["count"]).long()

    def _style(self, streams: EnvStreams, first: Tensor, number: Tensor, visitor: Tensor, changes: Tensor) -> Tensor:
        """Return the style of the visitor who comes: the task's, and all that became of it until now."""
        kind = "" if self.shift is None else self.shift.kind
        chosen = self.params["style"]
        if kind == "visitor":
            chosen = torch.where((changes % 2 == 1)[:, None], self.params["later"], chosen)
        style = chosen.gather(1, visitor[:, None]).squeeze(1)
        most = self.n_episodes - 1 if self.shift is None or self.shift.hazard else 1
        for change in range(1, most + 1) if kind == "drift" else ():
            draw = streams.uniform(_CHANGE + change, 2 * self.n_rows)
            lanes = draw.view(-1, self.n_rows, 2)
            mine = lanes[torch.arange(len(draw), device=draw.device), visitor]
            style = torch.where(changes >= change, self._redraw(style, mine[:, 0], mine[:, 1]), style)
        for past in range(1, self.n_episodes) if self.settings.rho else ():
            draw = streams.uniform(first + past, _LANES)
            here = (past <= number) & (self._who(draw) == visitor) & (draw[:, 2] < self.settings.rho)
            style = torch.where(here, self._redraw(style, draw[:, 3], draw[:, 4]), style)
        return style

    def _redraw(self, style: Tensor, which: Tensor, value: Tensor) -> Tensor:
        """Return styles with one factor redrawn given the others; `which` and `value` are uniform."""
        factor = (which * len(self.styles.sizes)).long()
        chances = self._conditionals[factor, style]
        # Rounding may leave their sum below a uniform draw.
        drawn = (value[:, None] >= chances / chances[:, -1:]).sum(1)
        own = self._factors[style].gather(1, factor[:, None]).squeeze(1)
        return style + (drawn - own) * self._strides[factor]

    def _meaning(self, streams: EnvStreams, changes: Tensor) -> Tensor:
        """Return what each action means, int64 [B, n]: as it says until a shift permutes every factor's values."""
        draw = streams.uniform(_PERMUTATION + changes, sum(self.styles.sizes))
        parts = [
            torch.where((changes > 0)[:, None], d.argsort(dim=1), torch.arange(d.shape[1], device=d.device))
            for d in torch.split(draw, list(self.styles.sizes), dim=1)
        ]
        columns = [p[:, self._factors[:, f]] for f, p in enumerate(parts)]
        return (torch.stack(columns, dim=-1) * self._strides).sum(-1)

    def persist(self, ended: EpisodeState, fresh: EpisodeState) -> EpisodeState:
        """Keep the last turn in sight, within a trial, unless the visitor wore a ring."""
        within = (self.episode % self.n_episodes > 0) & (ended["ring"] == 0)
        return fresh | {k: torch.where(within, ended[k], fresh[k]) for k in ("mood", "last")}

    def transition(
        self, state: EpisodeState, actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[EpisodeState, Tensor, Tensor | None, Tensor | None]:
        """Play a turn: the visitor is as engaged as its style says and shows it, more or less."""
        action = (actions * self._strides).sum(1)
        meant = action
        if "meaning" in state:
            meant = state["meaning"].gather(1, action[:, None]).squeeze(1)
        cell = state["style"] * self.styles.n + meant
        engagement = self._engagement.index_select(0, cell)
        noise = streams.normal(clock).squeeze(1) * self.styles.noise
        if self.shift is not None and self.shift.kind == "sensor":
            noise = noise * (1 + (state["changes"] > 0))
        mood = ((engagement + noise) * self.styles.moods).floor().long().clamp(0, self.styles.moods - 1)
        if self.spoken is not None:
            mood = torch.full_like(mood, self.spoken)
        after = state | {
            "mood": mood, "last": action, "turn": state["turn"] + 1, "engagement": engagement,
            "cost": self._closeness.index_select(0, cell),
        }  # fmt: skip
        return after, engagement.clone(), None, None

    def observation(self, state: EpisodeState) -> dict[str, Tensor]:
        """Return who is there and what was shown."""
        shown = self._shown.index_select(0, state["mood"] * (self.styles.n + 1) + state["last"])
        turn = state["turn"]
        extra = torch.stack([(turn == 0).float(), state["ring"], turn / self.horizon], dim=1)
        vec = torch.cat([shown, extra], dim=1)
        if "glyph" in state:
            return {"glyph": state["glyph"].clone(), "vec": vec}
        return {"id": self._ids.index_select(0, state["visitor"]), "vec": vec}

    def cost(self, state: EpisodeState) -> Tensor:
        """Return how many steps too near the NPC stood."""
        return state["cost"].clone()

    def rings(self) -> Tensor:
        """Return which visitors of the present trial wear a ring, bool [B, V]: for examiners."""
        trial = self._begin_streams.uniform(_TRIAL + self.episode // self.n_episodes, 2 * self.n_rows + 1)
        return trial[:, : self.n_rows] < self.settings.opt_out

    def latent(self) -> dict[str, Tensor]:
        """Return the present visitor's number and style."""
        return {"visitor": self.state["visitor"], "style": self.state["style"]}

    def action_names(self) -> list[list[str]]:
        """Return what the choices of an action are called."""
        return self.styles.names()

    def asks(self, env: int, action: Tensor) -> list[str]:
        """Return the moods that a visitor can show."""
        return mood_names(self.styles.moods)

    def frame(self, env: int) -> dict[str, Any]:
        """Return who is there, the last mood and action, and under "hidden" the visitor's number and style."""
        state, styles = self.state, self.styles
        mood, last = int(state["mood"][env]), int(state["last"][env])
        glyph = (state["glyph"][env] * 255).round().int().tolist() if "glyph" in state else None
        style = int(state["style"][env])
        return {
            "encounter": int(self.episode[env]) % self.n_episodes, "encounters": self.n_episodes,
            "turn": int(state["turn"][env]), "turns": self.horizon,
            "visitor": int(state["visitor"][env]) if glyph is None else None, "visitors": self.settings.n_visitors,
            "glyph": glyph, "ring": bool(state["ring"][env]),
            "mood": mood if mood < styles.moods else None, "moods": styles.moods,
            "mood_names": mood_names(styles.moods),
            "action": styles.factors[last].tolist() if last < styles.n else None,
            "cost": float(state["cost"][env]),
            "hidden": {
                "visitor": int(state["visitor"][env]), "style": styles.factors[style].tolist(),
                "style_name": styles.name(style), "engagement": round(float(state["engagement"][env]), 4),
            },
        }  # fmt: skip

    def picture(self, env: int) -> NDArray[np.uint8]:
        """Return a picture of the encounter (uint8 [240, 360, 3])."""
        return draw_encounter(self.frame(env), self.styles.sizes)
