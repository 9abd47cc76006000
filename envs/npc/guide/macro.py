"""`npc/guide-macro`: where to next? The guide names an exhibit, and the visitor walks there with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.npc.world import npc_spec
from metarl.envs.tensor_world import EpisodeState, choose_rows
from metarl.seeding import EnvStreams
from metarl.spec import WorldSpec

from .layouts import UNREACHABLE
from .visitor_model import GuideSettings
from .world import DISTANCE_UNIT, N_THEMES, GuideWorld, last_step_width

_FARTHEST = 5.0
"""Largest distance in observations, in units of `DISTANCE_UNIT`."""


class GuideMacro(GuideWorld):
    """Decisions 0..M-1 lead to an exhibit not seen yet, M ends the episode; so does whatever the mask forbids.

    A leg takes tau d + look_ticks + dislike_ticks [g < 0] of the patience. If that is more than is left, the visitor
    walks off on the way: no reward, no reaction, cost 1. An episode also ends when all is seen. The reward is g.

    Observation: "exhibits" [B, M, 13] (themes 10, crowd, walking distance in units of 20 cells, whether it can still be
    led to) and "vec", see `GuideWorld.last_step`.
    """

    @classmethod
    def spec_for(cls, name: str, settings: GuideSettings) -> WorldSpec:
        """Return what naming exhibits is."""
        m, n_vec = settings.n_exhibits, last_step_width(settings)
        seen = spaces.Dict(
            {
                "exhibits": spaces.Box(0.0, _FARTHEST, (m, N_THEMES + 3), np.float32),
                "vec": spaces.Box(0.0, 1.0, (n_vec,), np.float32),
            }
        )
        return npc_spec(
            name, seen, spaces.Discrete(m + 1), m + 1, reward_in_obs=settings.reward_in_obs, fixed_horizon=False
        )

    def prepare(self) -> None:
        """Lay out the distances that are shown."""
        m = self.n_exhibits
        self._end = torch.ones(self.num_envs, 1, dtype=torch.bool, device=self.device)
        shown = (self._distance / DISTANCE_UNIT).clamp(max=_FARTHEST).reshape(-1, m + 1)
        self._shown_distance = shown[:, :m].contiguous()

    def begin_walk(self, layout: Tensor) -> EpisodeState:
        """Stand where row M of the layout's points is."""
        return {"at": torch.full_like(self._none, self.n_exhibits)}

    def dislike_shown(self, before: EpisodeState, reached: EpisodeState) -> Tensor:
        """Tell a dislike by the patience lost beyond walking and looking."""
        m = self.n_exhibits
        way = self._distance.index_select(0, (before["layout"] * (m + 1) + before["at"]) * (m + 1) + reached["at"])
        walked = way / reached["speed"].clamp(min=1e-3)
        return before["patience"] - reached["patience"] > walked + self.settings.look_ticks + 0.5

    def distances(self, state: EpisodeState) -> Tensor:
        """Return walking distances from where guide and visitor are to all exhibits, cells, float32 [B, M]."""
        m = self.n_exhibits
        row = state["layout"] * (m + 1) + state["at"]
        return self._distance.view(-1, m + 1).index_select(0, row)[:, :m]

    def transition(
        self, state: EpisodeState, actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[EpisodeState, Tensor, Tensor | None, Tensor | None]:
        """Walk there, look, and see how the visitor takes it."""
        m, rules = self.n_exhibits, self.settings
        wiring = self.wiring(state)
        if wiring is not None:
            actions = wiring.gather(1, actions[:, None]).squeeze(1)
        exhibit = actions.clamp(max=m - 1)
        leads = (actions < m) & ~state["seen"].gather(1, exhibit[:, None]).squeeze(1)
        index = (state["layout"] * (m + 1) + state["at"]) * (m + 1) + exhibit
        way = self._distance.index_select(0, index)
        pace = self._current("pace", state)
        felt, shown = self.show(state, exhibit, streams, clock)
        left = state["patience"] - pace * way - rules.look_ticks - rules.dislike_ticks * (felt < 0)
        arrives = leads & (left >= 0)
        walks_off = leads & ~arrives
        changes = choose_rows(arrives, shown, self.nothing_shown(state))
        changes["cost"] = torch.where(walks_off, self._one, changes["cost"])
        reached = state | changes
        reached["patience"] = torch.where(arrives, left, torch.where(walks_off, self._zero, state["patience"]))
        reached["speed"] = torch.where(leads, 1.0 / pace, state["speed"])
        reached["at"] = torch.where(arrives, exhibit, state["at"])
        reached["first"] = self._zero
        reward = torch.where(arrives, felt, self._zero)
        return reached, reward, ~arrives | changes["seen"].all(1), None

    def would_show(self, env: int, action: int) -> bool:
        """Return whether the visitor has the patience to go there and look."""
        state = {k: v[env] for k, v in self.state.items()}
        if action >= self.n_exhibits or bool(state["seen"][action]):
            return False
        way = float(self.distances(self.state)[env, action]) * float(self.latent()["pace"][env])
        return float(state["patience"]) >= way + self.settings.look_ticks

    def observation(self, state: EpisodeState) -> dict[str, Tensor]:
        """Return what is on show and how far it is, and what `last_step` tells."""
        b, m = state["seen"].shape
        themes = self.places.themes.rows.index_select(0, state["theme"].reshape(-1)).view(b, m, N_THEMES)
        far = self._shown_distance.index_select(0, state["layout"] * (m + 1) + state["at"])
        exhibits = torch.cat([themes, torch.stack([state["crowd"], far, (~state["seen"]).float()], 2)], 2)
        return {"exhibits": exhibits, "vec": torch.cat(self.last_step(state), 1)}

    def action_mask(self, state: EpisodeState) -> Tensor:
        """Forbid what was seen."""
        mask = torch.cat([~state["seen"], self._end], 1)
        wiring = self.wiring(state)
        return mask if wiring is None else mask.gather(1, wiring)

    def walkers(self, state: EpisodeState) -> dict[str, Any]:
        """Return the one cell where both are."""
        here = self.cell(self.places.layouts.points[state["layout"], state["at"]])
        return {"guide": here, "visitor": here, "trail": []}

    def action_names(self) -> list[list[str]]:
        """Return whereto each action leads, by the exhibits' numbers from 1."""
        return [[*(f"to {i + 1}" for i in range(self.n_exhibits)), "end"]]

    def legal(self, state: EpisodeState) -> Tensor:
        """Return which exhibits can be led to, bool [B, M], whatever the wiring."""
        return ~state["seen"] & (self.distances(state) < UNREACHABLE)
