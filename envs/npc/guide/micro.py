"""`npc/guide`: walking. The guide leaves a trail, the visitor follows it at a pace of its own."""

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

from .visitor_model import GuideSettings
from .world import N_THEMES, GuideWorld, last_step_width

NORTH, SOUTH, WEST, EAST, WAIT, PRESENT = range(6)
TRAIL = 16
"""Crumbs that the guide can lay ahead of the visitor; with so many it has to wait."""
LOST = 6
"""With more crumbs ahead than that, a visitor is lost and loses patience twice as fast."""
N_PLANES = 4 + N_THEMES
_MOODS = 4


class GuideMicro(GuideWorld):
    """Actions: north, south, west, east, wait, present. One tick per step, and patience goes down by 1 per tick.

    Each cell that the guide enters is a crumb; the visitor walks from crumb to crumb, tau ticks each, which knows of
    walls without any search. `present` works in the cell of an exhibit not seen yet, with the visitor at most one crumb
    away: reward g, a reaction, and look_ticks + dislike_ticks [g < 0] of patience gone. Elsewhere it is a tick of
    waiting, as is walking into a wall. The visitor leaves when its patience is gone or all is seen; what it has no time
    left to look at gives nothing. Cost: as in `GuideWorld.show`, and 1 per tick in which the visitor is lost.

    Observation: "map" [B, 14, view, view], the guide in the middle: walls, the visitor, exhibits not seen yet, how
    crowded these are, their ten themes; "vec": what `last_step` tells, the mood as one of four (patience in quarters),
    crumbs ahead of the visitor (1 is 16), and the guide's row and column (1 is the far side).
    """

    @classmethod
    def spec_for(cls, name: str, settings: GuideSettings) -> WorldSpec:
        """Return what guiding step by step is."""
        view, n_vec = settings.view, last_step_width(settings) + _MOODS + 3
        seen = spaces.Dict(
            {
                "map": spaces.Box(0.0, 1.0, (N_PLANES, view, view), np.float32),
                "vec": spaces.Box(0.0, 1.0, (n_vec,), np.float32),
            }
        )
        return npc_spec(
            name, seen, spaces.Discrete(6), settings.patience, reward_in_obs=settings.reward_in_obs, fixed_horizon=False
        )

    def prepare(self) -> None:
        """Lay out what does not change: walls with a margin as wide as half the view, and offsets within it."""
        view, half, layouts = self.settings.view, self.settings.view // 2, self.places.layouts
        self._height = int(layouts.wall.shape[1])
        n = len(layouts)
        padded = torch.ones(n, self._height + 2 * half, self.width + 2 * half, device=self.device)
        padded[:, half : half + self._height, half : half + self.width] = layouts.wall.float()
        self._padded_size, self._padded_width = padded[0].numel(), self.width + 2 * half
        self._walls = padded.reshape(-1)
        at = torch.arange(view, device=self.device)
        self._window = (at[:, None] * self._padded_width + at).reshape(-1)
        self._solid = layouts.wall.reshape(-1)
        self._cells = self._height * self.width
        self._moves = torch.tensor([-self.width, self.width, -1, 1, 0, 0], device=self.device)
        self._mood = torch.eye(_MOODS, device=self.device)
        self._chart_size = N_PLANES * view * view
        self._chart_start = self._rows * self._chart_size
        self._planes = torch.arange(2, N_PLANES, device=self.device) * (view * view)

    def begin_walk(self, layout: Tensor) -> EpisodeState:
        """Put guide and visitor where row M of the layout's points is, with no crumb between them."""
        cell = self.places.layouts.points.index_select(0, layout)[:, self.n_exhibits]
        return {
            "at": torch.full_like(self._none, self.n_exhibits),
            "cell": cell,
            "visitor": cell,
            "trail": torch.zeros(self.num_envs, TRAIL, dtype=torch.int64, device=self.device),
            "laid": self._none,
            "eaten": self._none,
            "stride": self._zero,
        }

    def dislike_shown(self, before: EpisodeState, reached: EpisodeState) -> Tensor:
        """Tell a dislike by the patience lost beyond looking."""
        return before["patience"] - reached["patience"] > self.settings.look_ticks + 0.5

    def _walk(self, state: EpisodeState, actions: Tensor) -> EpisodeState:
        """Return where guide and visitor are after one tick."""
        target = state["cell"] + self._moves.index_select(0, actions)
        blocked = self._solid.index_select(0, state["layout"] * self._cells + target)
        moves = (actions < WAIT) & ~blocked & (state["laid"] - state["eaten"] < TRAIL)
        cell = torch.where(moves, target, state["cell"])
        slot = (state["laid"] % TRAIL)[:, None]
        old = state["trail"].gather(1, slot)
        trail = state["trail"].scatter(1, slot, torch.where(moves[:, None], cell[:, None], old))
        laid = state["laid"] + moves.long()
        behind = laid > state["eaten"]
        stride = torch.where(behind, state["stride"] + 1.0, self._zero)
        pace = self._current("pace", state)
        steps = behind & (stride >= pace)
        next_crumb = trail.gather(1, (state["eaten"] % TRAIL)[:, None]).squeeze(1)
        return {
            "cell": cell,
            "trail": trail,
            "laid": laid,
            "eaten": state["eaten"] + steps.long(),
            "visitor": torch.where(steps, next_crumb, state["visitor"]),
            "stride": torch.where(steps, stride - pace, stride),
        }

    def present_at(self, state: EpisodeState) -> tuple[Tensor, Tensor]:
        """Return whether something can be presented here and now, bool [B], and which exhibit, int64 [B]."""
        here = (
            self.places.layouts.points.index_select(0, state["layout"])[:, : self.n_exhibits] == state["cell"][:, None]
        )
        here = here & ~state["seen"]
        close = state["laid"] - state["eaten"] <= 1
        return here.any(1) & close, here.long().argmax(1)

    def transition(
        self, state: EpisodeState, actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[EpisodeState, Tensor, Tensor | None, Tensor | None]:
        """Let a tick pass, or the time of a look."""
        rules, wiring = self.settings, self.wiring(state)
        if wiring is not None:
            actions = wiring.gather(1, actions[:, None]).squeeze(1)
        can, exhibit = self.present_at(state)
        looks = can & (actions == PRESENT)
        felt, shown = self.show(state, exhibit, streams, clock)
        left = state["patience"] - rules.look_ticks - rules.dislike_ticks * (felt < 0)
        enjoyed = looks & (left >= 0)
        walked = self._walk(state, actions)
        lost = ~looks & (walked["laid"] - walked["eaten"] > LOST)
        patience = torch.where(looks, left, state["patience"] - 1.0 - lost.float()).clamp(min=0.0)
        plain = self.nothing_shown(state)
        plain["cost"] = lost.float()
        # While the visitor looks, nobody walks.
        changes = choose_rows(enjoyed, shown, plain)
        changes |= choose_rows(looks, {k: state[k] for k in walked}, walked)
        reached = state | changes
        reached["patience"] = patience
        reached["at"] = torch.where(enjoyed, exhibit, state["at"])
        reached["speed"] = torch.where(enjoyed, 1.0 / self._current("pace", state), state["speed"])
        reached["first"] = self._zero
        reward = torch.where(enjoyed, felt, self._zero)
        return reached, reward, (patience <= 0) | changes["seen"].all(1), None

    def would_show(self, env: int, action: int) -> bool:
        """Return whether something can be presented here and now, and there is time to look."""
        can, _ = self.present_at(self.state)
        return action == PRESENT and bool(can[env] & (self.state["patience"][env] >= self.settings.look_ticks))

    def observation(self, state: EpisodeState) -> dict[str, Tensor]:
        """Return what lies around the guide and what it knows besides."""
        b, view, m = self.num_envs, self.settings.view, self.n_exhibits
        row, column = state["cell"] // self.width, state["cell"] % self.width
        # One plane after the other; the last number takes what is out of sight.
        flat = torch.zeros(b * self._chart_size + 1, device=self.device)
        visitor = self._in_view(state["visitor"], row, column)
        unseen = len(flat) - 1
        flat.scatter_(0, torch.where(visitor >= 0, self._chart_start + view * view + visitor, unseen), 1.0)
        points = self.places.layouts.points.index_select(0, state["layout"])[:, :m]
        where = self._in_view(points, row[:, None], column[:, None])
        visible = (where >= 0) & ~state["seen"]
        index = self._chart_start[:, None] + where
        index = torch.where(visible[..., None], index[..., None] + self._planes, unseen)
        themes = self.places.themes.rows.index_select(0, state["theme"].reshape(-1)).view(b, m, N_THEMES)
        marks = torch.cat([torch.ones_like(themes[..., :1]), state["crowd"][..., None], themes], 2)
        flat.scatter_(0, index.reshape(-1), marks.reshape(-1))
        chart = flat[:-1].view(b, N_PLANES, view * view)
        corner = state["layout"] * self._padded_size + row * self._padded_width + column
        chart[:, 0] = self._walls.index_select(0, (corner[:, None] + self._window).reshape(-1)).view(b, -1)
        return {"map": chart.view(b, N_PLANES, view, view), "vec": self._vec(state, row, column)}

    def _in_view(self, cell: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Return the number of `cell` within the view around (row, column), or a negative number if it is outside."""
        view, half = self.settings.view, self.settings.view // 2
        down, right = cell // self.width - row + half, cell % self.width - column + half
        inside = (down >= 0) & (down < view) & (right >= 0) & (right < view)
        return torch.where(inside, down * view + right, -1)

    def walkers(self, state: EpisodeState) -> dict[str, Any]:
        """Return the cells of guide and visitor, and the crumbs between them."""
        crumbs = range(int(state["eaten"]), int(state["laid"]))
        trail = [self.cell(state["trail"][i % TRAIL]) for i in crumbs]
        return {"guide": self.cell(state["cell"]), "visitor": self.cell(state["visitor"]), "trail": trail}

    def action_names(self) -> list[list[str]]:
        """Return what the six actions are called."""
        return [["north", "south", "west", "east", "wait", "present"]]

    def _vec(self, state: EpisodeState, row: Tensor, column: Tensor) -> Tensor:
        left = state["patience"] * (_MOODS / self.settings.patience)
        mood = self._mood.index_select(0, left.ceil().long().clamp(1, _MOODS) - 1)
        numbers = [
            (state["laid"] - state["eaten"]).float() * (1.0 / TRAIL),
            row.float() * (1.0 / (self._height - 1)),
            column.float() * (1.0 / (self.width - 1)),
        ]
        return torch.cat([*self.last_step(state), mood, torch.stack(numbers, 1)], 1)
