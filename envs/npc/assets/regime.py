"""The market of `npc/assets-regime` and `npc/assets-tiny`: a two-state hidden Markov model per asset.

Each asset has a hidden mood s in {+1, -1} that flips after every step with chance h_j, and

    r_{j,t+1} = d_j s_{j,t} + sigma eps.

Moods go on from episode to episode. A task is the size d_j and the restlessness h_j of each asset's moods, drawn from a
few levels, and the moods it begins with; nothing but returns is seen. Beliefs over (d, h, s) are a hidden Markov model,
so the filter is exact. With one asset and one level each (`npc/assets-tiny`) the belief is one number, and the best
policy is found by value iteration; see `assets_exact`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from metarl.envs.families import check_counts
from metarl.envs.tensor_world import EpisodeState
from metarl.errors import ConfigError
from metarl.seeding import EnvStreams

from .market import LEAST_RETURN, MarketWorld, market_spec


@dataclass(frozen=True)
class RegimeConfig:
    """Constants of the market of moods."""

    n_assets: int = 4
    """Assets A, 1..16."""
    horizon: int = 24
    """Steps of an episode, 2..500."""
    n_episodes: int = 5
    """Episodes of a trial, 1..100."""
    fee: float = 0.002
    """Price of a change of position, in logarithms of wealth, in [0, 0.1]."""
    noise_sd: float = 0.045
    """Standard deviation of returns given the mood, > 0."""
    drifts: tuple[float, ...] = (0.01, 0.02, 0.03)
    """Levels of d, each in (0, 0.5)."""
    switches: tuple[float, ...] = (0.02, 0.1)
    """Levels of h, each in (0, 0.5]."""
    reward_in_obs: bool = False
    """Whether an agent that acts is told the reward."""
    held_out: tuple[tuple[int, int], ...] = ((0, 0), (2, 1))
    """Pairs (number of a level of d, number of a level of h) that training leaves out."""

    def __post_init__(self) -> None:
        """Check the ranges, and that every level is left in training."""
        check_counts("npc/assets-regime", self, n_assets=(1, 16), horizon=(2, 500), n_episodes=(1, 100))
        for name in ("drifts", "switches"):
            levels = getattr(self, name)
            if not levels or not all(0.0 < v <= 0.5 for v in levels):
                raise ConfigError(f"npc/assets-regime option {name} is {levels}; pass levels in (0, 0.5]")
        if not 0.0 <= self.fee <= 0.1 or not 0.0 < self.noise_sd <= 1.0:
            raise ConfigError(f"npc/assets-regime needs a fee in [0, 0.1] and noise_sd in (0, 1], got {self.fee} and "
                              f"{self.noise_sd}")  # fmt: skip
        kept = [p for p in self.pairs if p not in self.held_out]
        drifts, switches = ({pair[i] for pair in kept} for i in (0, 1))
        if len(drifts) != len(self.drifts) or len(switches) != len(self.switches):
            raise ConfigError(f"npc/assets-regime option held_out {self.held_out} leaves some level out of training")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of levels."""
        return list(product(range(len(self.drifts)), range(len(self.switches))))


class RegimeWorld(MarketWorld):
    """B markets of moods. Tasks: "drift", "switch", "start" float32 [B, A] (the first mood is good below 0.5), "fee".

    The state also holds "mood" float32 [B, H + 1, A], before each step and after the last, and "noise" [B, H, A].
    """

    def __init__(self, name: str, num_envs: int, config: RegimeConfig, *, device: torch.device | str = "cpu") -> None:
        """Build `num_envs` markets."""
        spec = market_spec(name, config, has_signal=False)
        super().__init__(spec, num_envs, device, n_episodes=config.n_episodes, feedback="full")
        self.config = config

    def market(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Draw moods and returns of whole episodes that begin a trial."""
        n, h, a = self.num_envs, self.horizon, self.n_assets
        noise = self.config.noise_sd * streams.normal(2 * episode, h * a).view(n, h, a)
        chance = streams.uniform(2 * episode + 1, h * a).view(n, h, a)
        stays = torch.where(chance < self.params["switch"][:, None], -1.0, 1.0)
        first = torch.where(self.params["start"] < 0.5, 1.0, -1.0)[:, None]
        mood = torch.cat([first, first * stays.cumprod(1)], dim=1)
        return {"mood": mood, "noise": noise, "fee": self.params["fee"], "paths": self._paths(mood, noise)}

    def _paths(self, mood: Tensor, noise: Tensor) -> Tensor:
        returns = (self.params["drift"][:, None] * mood[:, :-1] + noise).clamp(min=LEAST_RETURN)
        nothing = torch.zeros_like(returns)
        return torch.stack([nothing, nothing, returns, returns.log1p()], dim=2)

    def persist(self, ended: EpisodeState, fresh: EpisodeState) -> EpisodeState:
        """Go on in the moods of the last episode's end."""
        fresh = super().persist(ended, fresh)
        mood = fresh["mood"] * (fresh["mood"][:, :1] * ended["mood"][:, -1:])
        return fresh | {"mood": mood, "paths": self._paths(mood, fresh["noise"])}

    def mood(self) -> Tensor:
        """Return the moods that decide the next returns, float32 [B, A]."""
        state = self.state
        at = state["t"].clamp(max=self.horizon)[:, None, None].expand(-1, 1, self.n_assets)
        return state["mood"].gather(1, at).squeeze(1)

    def latent(self) -> dict[str, Tensor]:
        """Return size and restlessness of moods, and the present ones."""
        return {"drift": self.params["drift"], "switch": self.params["switch"], "mood": self.mood()}
