"""Worlds `npc/assets` and `npc/assets-held`: a market whose return parameters are learnt while trading.

A visible signal x_j (foot traffic on a parcel, say) follows an AR(1) process with coefficient 0.7 and unit variance. A
hidden drift mu_j ~ N(0, 0.01²) and a hidden effect alpha_j ~ N(0, 0.04²) of that signal make an asset:

    r_{j,t+1} = mu_j + alpha_j x_{j,t} + 0.05 eps.

A task is (mu, alpha) of all assets, and the fee; prices are new in each episode. If all returns are seen ("full"),
what is learnt does not depend on actions, and playing what the posterior predicts is best but for fees. If only the
asset held is seen ("held"), one that is never tried is never known: exploration is compulsory.

This is not a model of any stock market.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from metarl.envs.families import check_counts
from metarl.envs.npc.shift import Shift
from metarl.envs.tensor_world import EpisodeState
from metarl.errors import ConfigError
from metarl.seeding import EnvStreams
from metarl.tasks import Tasks

from .market import LEAST_RETURN, Feedback, MarketWorld, market_spec

SHIFTS = ("visitor", "drift", "economy", "interface", "sensor")
"""All assets redrawn; one asset redrawn; fee and effects doubled; actions permuted; noise doubled."""
_HEAVY_DRAWS = 20_000_003


@dataclass(frozen=True)
class AssetsConfig:
    """Constants of the linear market."""

    feedback: Feedback = "full"
    """Which returns are seen: "full", all; "held", that of the asset held."""
    n_assets: int = 4
    """Assets A, 1..16."""
    horizon: int = 24
    """Steps of an episode, 2..500."""
    n_episodes: int = 5
    """Episodes of a trial, 1..100."""
    fee: float = 0.002
    """Price of a change of position, in logarithms of wealth, in [0, 0.1]."""
    mu_sd: float = 0.01
    """Standard deviation of drifts per step, > 0."""
    alpha_sd: float = 0.04
    """Standard deviation of the signal's effect per step, > 0."""
    noise_sd: float = 0.05
    """Standard deviation of returns given the signal, > 0."""
    persistence: float = 0.7
    """Coefficient of the signal's AR(1) process, in [0, 1)."""
    reward_in_obs: bool = False
    """Whether an agent that acts is told the reward."""
    shift: str = ""
    """Unannounced change within the trial, such as "visitor@3"; see `metarl.envs.npc.shift`."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.feedback not in ("full", "held"):
            raise ConfigError(f"npc/assets option feedback is {self.feedback!r}; choose 'full' or 'held'")
        check_counts("npc/assets", self, n_assets=(1, 16), horizon=(2, 500), n_episodes=(1, 100))
        for name, low, high in (("fee", 0.0, 0.1), ("persistence", 0.0, 0.999)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"npc/assets option {name} is {getattr(self, name)!r}; pass {low} to {high}")
        for name in ("mu_sd", "alpha_sd", "noise_sd"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ConfigError(f"npc/assets option {name} is {getattr(self, name)!r}; pass more than 0, at most 1")
        Shift.parse(self.shift, SHIFTS)

    @property
    def versions(self) -> int:
        """How many markets a trial may go through: 1 without a shift."""
        change = Shift.parse(self.shift, SHIFTS)
        return 1 if change is None else 2 if change.episode is not None else self.n_episodes


class AssetsWorld(MarketWorld):
    """B linear markets.

    Tasks: "mu", "alpha" float32 [B, V, A]; "fee" float32 [B]; "heavy" bool [B]; "order" int64 [B, V, A + 1]. V is 1, or
    the number of versions that a shift may lead through. "heavy" tails are Student's t with 3 degrees of freedom, of
    the same variance. "order" says which position each action is.
    """

    def __init__(self, name: str, num_envs: int, config: AssetsConfig, *, device: torch.device | str = "cpu") -> None:
        """Build `num_envs` markets."""
        spec = market_spec(name, config)
        super().__init__(spec, num_envs, device, n_episodes=config.n_episodes, feedback=config.feedback)
        self.config = config
        self._shift = Shift.parse(config.shift, SHIFTS)
        self._any_heavy = False

    def set_tasks(self, tasks: Tasks) -> None:
        """See `World.set_tasks`."""
        super().set_tasks(tasks)
        # Asked here once: the draws of heavy tails are skipped where nobody has them.
        self._any_heavy = self._any_heavy or bool(tasks.values["heavy"].any())

    def _version(self, streams: EnvStreams, episode: Tensor) -> Tensor:
        """Return which of a task's markets an episode is in, int64 [B]."""
        if self._shift is None:
            return torch.zeros_like(episode)
        return self._shift.count(streams, episode, self.n_episodes).clamp(max=self.config.versions - 1)

    def _noise(self, streams: EnvStreams, episode: Tensor) -> tuple[Tensor, Tensor]:
        """Return the signals' shocks [B, H + 1, A] and the returns' [B, H, A], both of unit variance."""
        n, h, a = self.num_envs, self.horizon, self.n_assets
        drawn = streams.normal(episode, (2 * h + 1) * a).view(n, 2 * h + 1, a)
        shocks, noise = drawn[:, : h + 1], drawn[:, h + 1 :]
        if self._any_heavy:
            more = streams.normal(episode + _HEAVY_DRAWS, 3 * h * a).view(n, h, a, 3)
            # Student's t with 3 degrees has variance 3, which the square root of the sum of squares undoes.
            heavy = noise / more.square().sum(-1).clamp(min=1e-6).sqrt()
            noise = torch.where(self.params["heavy"][:, None, None], heavy, noise)
        return shocks, noise

    def market(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Draw signals and returns of whole episodes."""
        shocks, noise = self._noise(streams, episode)
        keep = self.config.persistence
        fresh = sqrt(1.0 - keep * keep)
        signals = [shocks[:, 0]]
        for t in range(1, self.horizon + 1):
            signals.append(keep * signals[-1] + fresh * shocks[:, t])
        signal = torch.stack(signals, dim=1)
        version = self._version(streams, episode)
        mu, alpha = (self._pick(self.params[k], version)[:, None] for k in ("mu", "alpha"))
        scale = torch.full_like(self._nothing, self.config.noise_sd)
        if self._shift is not None and self._shift.kind == "sensor":
            scale = scale * (1.0 + (version > 0))
        returns = (mu + alpha * signal[:, :-1] + scale[:, None, None] * noise).clamp(min=LEAST_RETURN)
        paths = torch.stack([signal[:, :-1], signal[:, 1:], returns, returns.log1p()], dim=2)
        fee = self.params["fee"]
        if self._shift is not None and self._shift.kind == "economy":
            fee = fee * (1.0 + (version > 0))
        return {"paths": paths, "version": version, "fee": fee}

    @staticmethod
    def _pick(values: Tensor, version: Tensor) -> Tensor:
        """Return each env's present row of [B, V, n]."""
        if values.shape[1] == 1:
            return values[:, 0]
        index = version[:, None, None].expand(-1, 1, values.shape[2])
        return values.gather(1, index).squeeze(1)

    def asset_of(self, actions: Tensor) -> Tensor:
        """Undo the permutation of actions, if a shift brings one."""
        if self._shift is None or self._shift.kind != "interface":
            return actions
        order = self._pick(self.params["order"], self.state["version"])
        return order.gather(1, actions[:, None]).squeeze(1)

    def latent(self) -> dict[str, Tensor]:
        """Return drifts, effects and fee of the present episode."""
        version = self.state["version"]
        found = {k: self._pick(self.params[k], version) for k in ("mu", "alpha", "order")}
        return found | {"fee": self.state["fee"]}
