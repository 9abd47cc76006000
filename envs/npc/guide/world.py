"""Base of both guide worlds: layout and exhibits of an episode, and the visitor's reactions."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.envs.npc.people import THEMES
from metarl.envs.npc.shift import Shift
from metarl.envs.npc.world import NpcWorld
from metarl.envs.tensor_world import EpisodeState
from metarl.seeding import EnvStreams
from metarl.spec import WorldSpec

from .layouts import Layouts
from .render import paint
from .visitor_model import GuideSettings, ThemeTable, satisfaction

N_THEMES = len(THEMES)
REACTION_NAMES: dict[str, tuple[str, ...]] = {
    "faces": ("awful", "dull", "so-so", "nice", "wonderful"),
    "thumbs": ("thumb down", "thumb up"),
    "none": (),
}
"""Reactions, from the least to the most pleased."""
DISTANCE_UNIT = 20.0
"""Cells that count as 1 in observations."""


@dataclass(frozen=True, eq=False)
class Places:
    """All layouts of a family: pools one after the other, and what may be on show in them."""

    layouts: Layouts
    first: Tensor
    """int64 [pools]: number of each pool's first layout."""
    count: Tensor
    """int64 [pools]: how many layouts it has."""
    themes: ThemeTable
    drawn_by_hand: bool
    """True if some layout says itself what is on show."""

    def to(self, device: torch.device | str) -> Places:
        """Return the same places on `device`; this very object if they are there."""
        if self.first.device == torch.device(device):
            return self
        return Places(
            self.layouts.to(device),
            self.first.to(device),
            self.count.to(device),
            self.themes.to(device),
            self.drawn_by_hand,
        )


def last_step_width(settings: GuideSettings) -> int:
    """Return the columns of `GuideWorld.last_step`."""
    return settings.n_reactions + 1 + N_THEMES + 5


class GuideWorld(NpcWorld):
    """B guides with a visitor each.

    `params`, V being the versions of a visitor that a shift leads through: "interests" [B, V, 10], "pace" and
    "aversion" [B, V], "place" int64 [B, V] (a pool of `Places`), "mix" int64 [B] (what exhibits to draw); with an
    interface shift "wiring" int64 [B, V, actions]; with a sensor shift "blur" [B, V], a factor on the noise.

    The state's `reaction`, `last_theme` and `last_crowd` tell of the last step: how the visitor took the exhibit shown
    in it (0, the empty theme and 0 if none was). They and `speed` are carried into the next episode's beginning, where
    otherwise nobody would see them.
    """

    def __init__(
        self,
        name: str,
        num_envs: int,
        settings: GuideSettings,
        places: Places,
        *,
        shift: Shift | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Build `num_envs` guides."""
        super().__init__(self.spec_for(name, settings), num_envs, device, n_episodes=settings.n_episodes)
        self.settings, self.shift = settings, shift
        self.places = places.to(self.device)
        layouts, m = self.places.layouts, settings.n_exhibits
        self.n_exhibits, self.width = m, layouts.width
        self._distance = layouts.distance.reshape(-1).contiguous()
        self._no_theme = len(self.places.themes.rows) - 1
        self._rows = torch.arange(num_envs, device=self.device)
        self._zero = torch.zeros(num_envs, device=self.device)
        self._one = torch.ones(num_envs, device=self.device)
        self._none = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._face = torch.eye(settings.n_reactions + 1, device=self.device)
        self._edges = torch.tensor(settings.thresholds, device=self.device)
        self._slots = torch.arange(m, device=self.device)
        self.prepare()

    def prepare(self) -> None:
        """Work out what a kind of guide looks up in each step."""

    @classmethod
    @abstractmethod
    def spec_for(cls, name: str, settings: GuideSettings) -> WorldSpec:
        """Return what such a world is."""

    def initial(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Draw a layout of the visitor's kind of place and what is on show in it."""
        m, themes = self.n_exhibits, self.places.themes
        draw = streams.uniform(episode, 2 * m + 1)
        number = episode % self.n_episodes
        state: EpisodeState = {"number": number}
        if self.shift is not None:
            # At most as many changes as there are versions; later ones find the last one.
            last = self.params["pace"].shape[1] - 1
            state["version"] = self.shift.count(streams, episode, self.n_episodes).clamp(max=last)
        place = self._current("place", state)
        # A uniform number below 1 times a count may round up to the count.
        pick = (draw[:, 0] * self.places.count[place]).long()
        layout = self.places.first[place] + torch.minimum(pick, self.places.count[place] - 1)
        mix = self.params["mix"]
        count = themes.count[mix, None]
        theme = themes.first[mix, None] + torch.minimum((draw[:, 1 : m + 1] * count).long(), count - 1)
        crowd = draw[:, m + 1 :]
        seen = torch.zeros(self.num_envs, m, dtype=torch.bool, device=self.device)
        if self.places.drawn_by_hand:
            given = self.places.layouts.theme.index_select(0, layout)
            at = self.places.layouts.crowd.index_select(0, layout)
            theme, crowd = torch.where(given >= 0, given, theme), torch.where(at >= 0, at, crowd)
            seen = theme == self._no_theme
        return state | {
            "layout": layout,
            "theme": theme,
            "crowd": crowd,
            "seen": seen,
            "patience": torch.full_like(self._zero, float(self.settings.patience)),
            "reaction": self._none,
            "last_theme": torch.full_like(self._none, self._no_theme),
            "last_crowd": self._zero,
            "speed": self._zero,
            "first": self._one,
            "cost": self._zero,
            **self.begin_walk(layout),
        }

    @abstractmethod
    def begin_walk(self, layout: Tensor) -> EpisodeState:
        """Return what says where guide and visitor are at the start of an episode in `layout` (int64 [B])."""

    @abstractmethod
    def dislike_shown(self, before: EpisodeState, reached: EpisodeState) -> Tensor:
        """Return where a step from `before` to `reached` showed a dislike by the patience it took, bool [B]."""

    def wiring(self, state: EpisodeState) -> Tensor | None:
        """Return what each action does, int64 [B, actions], where a shift has rewired them."""
        return self._current("wiring", state) if "wiring" in self.params else None

    def persist(self, ended: EpisodeState, fresh: EpisodeState) -> EpisodeState:
        """Let the next episode begin with what the last step of this one showed."""
        return fresh | {k: ended[k] for k in ("reaction", "last_theme", "last_crowd", "speed")}

    def cost(self, state: EpisodeState) -> Tensor:
        """Return what the last step did to the visitor: see `show` and the worlds' own rules."""
        return state["cost"]

    def _current(self, name: str, state: EpisodeState) -> Tensor:
        """Return a parameter [B, V, ...] of the present version: [B, ...]."""
        values = self.params[name]
        return values[:, 0] if "version" not in state else values[self._rows, state["version"]]

    def felt(self, state: EpisodeState) -> Tensor:
        """Return what the visitor feels, or would feel, at each exhibit: g, float32 [B, M]. Hidden from agents."""
        likes = self._current("interests", state) @ self.places.themes.rows.T
        return satisfaction(likes.gather(1, state["theme"]), self._current("aversion", state)[:, None], state["crowd"])

    def show(
        self, state: EpisodeState, exhibit: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[Tensor, EpisodeState]:
        """Return what the visitor feels at `exhibit` (int64 [B]), g [B], and how the state changes if it is shown.

        The cost of it is how much more crowded it is than an average place, times the aversion to that.
        """
        theme = state["theme"].gather(1, exhibit[:, None]).squeeze(1)
        crowd = state["crowd"].gather(1, exhibit[:, None]).squeeze(1)
        aversion = self._current("aversion", state)
        drawn_to = (self._current("interests", state) * self.places.themes.rows.index_select(0, theme)).sum(1)
        felt = satisfaction(drawn_to, aversion, crowd)
        noise = streams.normal(clock).squeeze(1) * self.settings.noise
        if "blur" in self.params:
            noise = noise * self._current("blur", state)
        shown = 1 + ((felt + noise)[:, None] > self._edges).sum(1)
        if self.spoken is not None:
            # A person is the visitor: what it says is what it feels.
            middle = (2.0 * self.spoken + 1.0) / self.settings.n_reactions - 1.0
            felt, shown = torch.full_like(felt, middle), torch.full_like(shown, 1 + self.spoken)
        return felt, {
            "reaction": shown,
            "last_theme": theme,
            "last_crowd": crowd,
            "seen": state["seen"] | (self._slots == exhibit[:, None]),
            "cost": aversion * (crowd - 0.5).clamp(min=0.0),
        }

    def nothing_shown(self, state: EpisodeState) -> EpisodeState:
        """Return how the state changes in a step in which nothing is shown."""
        return {
            "reaction": self._none,
            "last_theme": torch.full_like(self._none, self._no_theme),
            "last_crowd": self._zero,
            "seen": state["seen"],
            "cost": self._zero,
        }

    def last_step(self, state: EpisodeState) -> list[Tensor]:
        """Return what observations tell of the last step and of time, [B, n_reactions + 1], [B, 10] and [B, 5].

        The five are the crowd at the exhibit last shown, patience left (1 is full), the visitor's speed in cells per
        tick (0 before it was seen walking), whether an episode begins, and how many of the trial's are over (1 is all).
        """
        numbers = [
            state["last_crowd"],
            state["patience"] * (1.0 / self.settings.patience),
            state["speed"],
            state["first"],
            state["number"].float() * (1.0 / self.n_episodes),
        ]
        face = self._face.index_select(0, state["reaction"])
        return [face, self.places.themes.rows.index_select(0, state["last_theme"]), torch.stack(numbers, 1)]

    def latent(self) -> dict[str, Tensor]:
        """Return the present visitor: "interests" [B, 10], "pace" [B], "aversion" [B], and "felt" [B, M]."""
        state = self.state
        found = {k: self._current(k, state) for k in ("interests", "pace", "aversion")}
        return found | {"felt": self.felt(state)}

    @abstractmethod
    def would_show(self, env: int, action: int) -> bool:
        """Return whether `action` (what is done, whatever the wiring) lets the visitor of `env` look at an exhibit."""

    def asks(self, env: int, action: Tensor) -> list[str] | None:
        """Return the faces that the visitor can make, if it is shown something."""
        names, wiring = REACTION_NAMES[self.settings.reactions], self.wiring(self.state)
        does = int(action) if wiring is None else int(wiring[env, int(action)])
        return list(names) if names and self.would_show(env, does) else None

    def picture(self, env: int) -> Any:
        """Return an RGB picture (uint8 [H, W, 3]) of one env."""
        return paint(self.frame(env))

    def frame(self, env: int) -> dict[str, Any]:
        """Return what a page needs to draw one env now, as JSON-able values.

        "size" [rows, columns]; "walls", a string per row, "#" where nobody walks; "guide" and "visitor" (cells, [row,
        column]); "trail", cells from the visitor to the guide; "exhibits", each with "cell", "themes" {name: weight},
        "crowd" in [0, 1], "seen" and "there"; "patience" in [0, 1]; "reaction", 0 for none or 1..n, and "reactions", n;
        "shown", the exhibit that it is about, or null; "speed" in cells per tick, 0 if not seen yet; "episode" of
        "episodes". Under "hidden": "interests" {theme: number}, "pace", "aversion", and "felt", g at each exhibit.
        """
        state = {k: v[env] for k, v in self.state.items()}
        wall = self.places.layouts.wall[int(state["layout"])]
        reaction = int(state["reaction"])
        hidden = {k: v[env].tolist() for k, v in self.latent().items()}
        return {
            "size": list(wall.shape),
            "walls": ["".join("#" if w else "." for w in row) for row in wall.tolist()],
            **self.walkers(state),
            "exhibits": self._exhibits(state),
            "patience": float(state["patience"]) / self.settings.patience,
            "reaction": reaction,
            "reactions": self.settings.n_reactions,
            "shown": int(state["at"]) if reaction and not state["first"] else None,
            "speed": float(state["speed"]),
            "episode": int(state["number"]),
            "episodes": self.n_episodes,
            "hidden": hidden | {"interests": dict(zip(THEMES, hidden["interests"], strict=True))},
        }

    def _exhibits(self, state: EpisodeState) -> list[dict[str, Any]]:
        """Return each exhibit of one env's state for its `frame`."""
        points = self.places.layouts.points[state["layout"]].tolist()
        rows = self.places.themes.rows[state["theme"]]
        return [
            {
                "cell": self.cell(points[i]),
                "themes": {name: round(w, 3) for name, w in zip(THEMES, rows[i].tolist(), strict=True) if w > 0},
                "crowd": round(float(state["crowd"][i]), 3),
                "seen": bool(state["seen"][i]),
                "there": bool(rows[i].sum() > 0),
            }
            for i in range(self.n_exhibits)
        ]

    @abstractmethod
    def walkers(self, state: EpisodeState) -> dict[str, Any]:
        """Return where guide and visitor are in one env's state, and the "trail" between them, for its `frame`."""

    def cell(self, number: Tensor | int) -> list[int]:
        """Return [row, column] of a cell."""
        return [int(number) // self.width, int(number) % self.width]
