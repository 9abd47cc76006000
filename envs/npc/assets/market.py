"""Base of the asset worlds: exogenous prices, one position at a time, log growth of wealth as reward.

Each step an agent chooses what to hold until the next one: asset 0..A-1, or cash (action A). With simple returns
r_{j,t+1} it is paid

    reward = log(1 + r_{a,t+1}) - fee * 1[a is not what was held before],      cash: r = 0,

so that a return is the logarithm of the factor by which wealth grew. The path of an episode is drawn when it begins and
does not depend on actions. With feedback "full" all returns are then seen, with "held" only that of the asset held.

`info["cost"]` is by how much the step deepened the largest drawdown of this episode (in logarithms): its sum over an
episode is the largest drawdown.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs.npc.world import NpcWorld, npc_spec
from metarl.envs.tensor_world import EpisodeState
from metarl.seeding import EnvStreams
from metarl.spec import WorldSpec

from .render import draw_market

Feedback = Literal["full", "held"]
RETURN_UNIT = 0.05
"""Returns are observed in this unit, so that they are about as large as signals."""
LEAST_RETURN = -0.9
"""Nothing loses more than this share of its worth in a step; with normal noise it never binds."""


def _width(n_assets: int, *, has_signal: bool) -> int:
    return (5 if has_signal else 3) * n_assets + 3


def market_spec(name: str, config: Any, *, has_signal: bool = True) -> WorldSpec:
    """Return what a market is, `config` having `n_assets`, `horizon` and `reward_in_obs`."""
    seen = spaces.Box(-np.inf, np.inf, (_width(config.n_assets, has_signal=has_signal),), np.float32)
    held = spaces.Discrete(config.n_assets + 1)
    return npc_spec(name, seen, held, config.horizon, reward_in_obs=config.reward_in_obs)


class MarketWorld(NpcWorld):
    """B markets of A assets. A subclass draws `paths` when an episode begins.

    State, beside what a subclass adds: "paths" float32 [B, H, 4, A] with, for step t, the signal before it, the signal
    after it, the return and log(1 + return); "t" int64 [B]; "position" int64 [B]; "signal", "before" (the signal that
    the last return followed), "shown" (last returns, 0 where not seen) and "seen" float32 [B, A]; "wealth", "peak",
    "worst" (drawdown) and "cost" float32 [B]; "first" float32 [B].

    Observation, float32 [B, 5 A + 3]: signal, before, shown / 0.05, seen, position (one-hot, A + 1), share of the
    episode that has passed, 1 at an episode's first step. What the last step of an episode showed is in the first
    observation of the next one.
    """

    def __init__(
        self, spec: WorldSpec, num_envs: int, device: torch.device | str = "cpu", *, n_episodes: int, feedback: Feedback
    ) -> None:
        """Build `num_envs` markets that `market_spec` describes."""
        super().__init__(spec, num_envs, device, n_episodes=n_episodes)
        n_assets, horizon = int(cast(spaces.Discrete, spec.action_space).n) - 1, spec.horizon
        self.n_assets, self.feedback = n_assets, feedback
        self.has_signal = spec.obs_dim == _width(n_assets, has_signal=True)
        self._rows = torch.arange(num_envs, device=self.device) * horizon
        self._nothing = torch.zeros(num_envs, device=self.device)
        self._none = torch.zeros(num_envs, n_assets, device=self.device)
        self._cash = torch.full((num_envs,), n_assets, dtype=torch.int64, device=self.device)
        self._held = torch.eye(n_assets + 1, device=self.device)

    @abstractmethod
    def market(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Return "paths" and "fee" (float32 [B]) of fresh episodes, and what else a subclass keeps in its state."""

    def initial(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Draw the paths and hold cash."""
        drawn = self.market(streams, episode)
        return drawn | {
            "t": torch.zeros_like(episode),
            "position": self._cash,
            "signal": drawn["paths"][:, 0, 0],
            "before": self._none,
            "shown": self._none,
            "seen": self._none,
            "wealth": self._nothing,
            "peak": self._nothing,
            "worst": self._nothing,
            "cost": self._nothing,
            "first": self._nothing + 1.0,
        }

    def persist(self, ended: EpisodeState, fresh: EpisodeState) -> EpisodeState:
        """Keep what the last step showed."""
        return fresh | {k: ended[k] for k in ("before", "shown", "seen")}

    def transition(
        self, state: EpisodeState, actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[EpisodeState, Tensor, Tensor | None, Tensor | None]:
        """Hold what was chosen for one step."""
        paths = state["paths"]
        row = paths.view(-1, 4, self.n_assets).index_select(0, self._rows + state["t"])
        signal, after, returns, growth = row.unbind(1)
        asset = self.asset_of(actions)
        held = self._held.index_select(0, asset)[:, :-1]
        switched = (asset != state["position"]).to(growth.dtype)
        reward = (growth * held).sum(1) - state["fee"] * switched
        wealth = state["wealth"] + reward
        peak = torch.maximum(state["peak"], wealth)
        worst = torch.maximum(state["worst"], peak - wealth)
        seen = held if self.feedback == "held" else torch.ones_like(held)
        new = state | {
            "t": state["t"] + 1,
            "position": asset,
            "signal": after,
            "before": signal,
            "shown": returns * seen,
            "seen": seen,
            "wealth": wealth,
            "peak": peak,
            "worst": worst,
            "cost": worst - state["worst"],
            "first": self._nothing,
        }
        return new, reward, None, None

    def asset_of(self, actions: Tensor) -> Tensor:
        """Return what the actions hold, int64 [B]; A is cash."""
        return actions

    def observation(self, state: EpisodeState) -> Tensor:
        """Return the observation described above."""
        passed = state["t"].to(torch.float32) / self.horizon
        position = self._held.index_select(0, state["position"])
        signals = [state["signal"], state["before"]] if self.has_signal else []
        shown = [state["shown"] * (1.0 / RETURN_UNIT), state["seen"]]
        return torch.cat([*signals, *shown, position, passed[:, None], state["first"][:, None]], dim=1)

    def cost(self, state: EpisodeState) -> Tensor:
        """Return by how much the step deepened the largest drawdown."""
        return state["cost"]

    def action_names(self) -> list[list[str]]:
        """Return what can be held."""
        return [[*(f"parcel {'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[j % 26]}" for j in range(self.n_assets)), "cash"]]

    def frame(self, env: int) -> dict[str, Any]:
        """Return prices since the episode began (if seen), signals, position, wealth; under "hidden" the truth."""
        state = self.state
        passed = int(state["t"][env])
        growth = state["paths"][env, :passed, 3].cumsum(0).exp()
        return {
            "step": passed,
            "horizon": self.horizon,
            "episode": int(self.episode[env]),
            "feedback": self.feedback,
            "signal": state["signal"][env].tolist(),
            "shown": [r if s else None for r, s in zip(state["shown"][env].tolist(), state["seen"][env].tolist(),
                                                       strict=True)],
            "prices": growth.tolist() if self.feedback == "full" else None,
            "position": int(state["position"][env]),
            "wealth": float(state["wealth"][env].exp()),
            "drawdown": float(state["worst"][env]),
            "hidden": {k: v[env].tolist() for k, v in self.latent().items()} | {"prices": growth.tolist()},
        }  # fmt: skip

    def picture(self, env: int) -> NDArray[np.uint8]:
        """Return the price lines of an episode so far, signals as bars, and what is held."""
        frame = self.frame(env)
        return draw_market(
            np.asarray(frame["hidden"]["prices"], dtype=np.float64).reshape(-1, self.n_assets),
            np.asarray(frame["signal"], dtype=np.float64),
            position=frame["position"],
            wealth=frame["wealth"],
            horizon=self.horizon,
            hide=self.feedback == "held",
        )
