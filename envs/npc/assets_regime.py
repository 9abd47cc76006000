"""Worlds `npc/assets-regime` and `npc/assets-tiny`: assets that go through good and bad times.

Each asset has a hidden mood s in {+1, -1} that flips after every step with chance h_j, and

    r_{j,t+1} = d_j s_{j,t} + sigma eps.

Moods go on from episode to episode. A task is the size d_j and the restlessness h_j of each asset's moods, drawn from a
few levels, and the moods it begins with; nothing but returns is seen. Beliefs over (d, h, s) are a hidden Markov model,
so the filter is exact. With one asset and one level each (`npc/assets-tiny`) the belief is one number, and the best
policy is found by value iteration; see `assets_exact`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any

import torch
from torch import Tensor

from envs.tensor_world import EpisodeState
from metarl.errors import ConfigError
from metarl.seeding import CopyStreams
from metarl.task_distribution import check_split
from metarl.tasks import Tasks

from .assets_family import HARDER_FEE
from .assets_market import LEAST_RETURN, MarketWorld
from .family import NpcFamily
from .reference import Policy


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
        for name, low, high in (("n_assets", 1, 16), ("horizon", 2, 500), ("n_episodes", 1, 100)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"npc/assets-regime option {name} is {value!r}; pass a whole number in {low}..{high}")
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

    def __init__(self, name: str, n_copies: int, config: RegimeConfig, *, device: torch.device | str = "cpu") -> None:
        """Build `n_copies` markets."""
        super().__init__(
            name,
            n_copies,
            n_assets=config.n_assets,
            horizon=config.horizon,
            n_episodes=config.n_episodes,
            feedback="full",
            has_signal=False,
            reward_in_obs=config.reward_in_obs,
            device=device,
        )
        self.config = config

    def market(self, streams: CopyStreams, episode: Tensor) -> EpisodeState:
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

    def carry(self, ended: EpisodeState, fresh: EpisodeState) -> EpisodeState:
        """Go on in the moods of the last episode's end."""
        fresh = super().carry(ended, fresh)
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


class RegimeTasks(NpcFamily):
    """Levels drawn per asset from the pairs left for training; `test-combinations` draws from the others.

    `test-worlds` has twice the fee, `test-all` both. Without held-out pairs there are no further splits.
    """

    def __init__(self, name: str, config: RegimeConfig) -> None:
        """Take the constants from `config`."""
        extra = ("test-worlds", "test-combinations", "test-all") if config.held_out else ()
        settings = {k: v for k, v in asdict(config).items() if k != "reward_in_obs" or v}
        super().__init__(name, settings, n_episodes=config.n_episodes, extra_splits=extra)
        self.config = config

    def draw(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw levels and first moods."""
        check_split(self.name, split, self.splits)
        config, device = self.config, generator.device
        held_out = split in ("test-combinations", "test-all")
        pairs = torch.tensor([p for p in config.pairs if (p in config.held_out) == held_out], device=device)
        chosen = pairs[torch.randint(len(pairs), (n, config.n_assets), generator=generator, device=device)]
        drifts, switches = (torch.tensor(v, device=device) for v in (config.drifts, config.switches))
        start = torch.rand(n, config.n_assets, generator=generator, device=device)
        fee = config.fee * (HARDER_FEE if split in ("test-worlds", "test-all") else 1.0)
        return Tasks.of(
            self.name,
            drift=drifts[chosen[..., 0]],
            switch=switches[chosen[..., 1]],
            start=start,
            fee=torch.full((n,), fee, device=device),
        )

    def make_world(self, n_copies: int, *, device: torch.device | str = "cpu") -> RegimeWorld:
        """Build `n_copies` markets."""
        return RegimeWorld(self.name, n_copies, self.config, device=device)

    def policies(self, split: str) -> dict[str, Callable[[], Policy]]:
        """Return makers of the reference policies."""
        from .assets_regime_references import policies

        return policies(self.config)


TINY: dict[str, Any] = {
    "n_assets": 1, "horizon": 12, "n_episodes": 5, "drifts": (0.02,), "switches": (0.05,), "held_out": (),
}  # fmt: skip


def make(**options: Any) -> RegimeTasks:
    """Build the market of moods; options are those of `RegimeConfig`."""
    return _build("npc/assets-regime", options)


def make_tiny(**options: Any) -> RegimeTasks:
    """Build the market of one asset and known levels, 5 episodes of 12 steps; options are those of `RegimeConfig`."""
    return _build("npc/assets-tiny", {**TINY, **options})


def _build(name: str, options: dict[str, Any]) -> RegimeTasks:
    known = sorted(f.name for f in fields(RegimeConfig))
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"{name} has no option {unknown[0]!r}; it has {', '.join(known)}")
    for key in ("drifts", "switches"):
        if key in options:
            options = {**options, key: tuple(options[key])}
    if "held_out" in options:
        options = {**options, "held_out": tuple((int(a), int(b)) for a, b in options["held_out"])}
    return RegimeTasks(name, RegimeConfig(**options))
