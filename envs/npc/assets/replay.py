"""World `npc/assets-replay`: real daily prices from your own install of skfolio, or from a CSV file of yours.

Nothing is shipped and nothing is promised: a strategy that does well here did well on these days. Results belong beside
buy-and-hold and a constant Kelly fraction, which `references` gives.

A task is a first day and A of the series; a trial is K episodes of H consecutive days. The signal of a series is its
mean return over the last 20 days in units of what such a mean varies by. Splits are times: training ends where
validation begins, and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl.commandline import pip_command
from metarl.envs.families import check_counts, check_options
from metarl.envs.npc.family import NpcFamily, settings_of
from metarl.envs.npc.measure import play
from metarl.envs.npc.reference import Policy, Random
from metarl.envs.tensor_world import EpisodeState
from metarl.errors import ConfigError
from metarl.seeding import EnvStreams
from metarl.spec import WorldSpec
from metarl.tasks import Tasks, check_split

from .market import LEAST_RETURN, MarketWorld, market_spec
from .prices import read_prices
from .references import BuyAndHold, Cash, Trader

LOOKBACK = 20
"""Days that a signal looks back on."""
CUTS = (0.6, 0.75)
"""Shares of the days at which validation and test begin."""
_SKFOLIO_FILE = "datasets/data/sp500_dataset.csv.gz"


@dataclass(frozen=True)
class ReplayConfig:
    """Constants of the replayed market."""

    path: str = ""
    """A CSV file (maybe .gz): a column of dates, then one of prices per series ("": 20 stocks of skfolio's)."""
    columns: str = ""
    """Names of the series to use, with commas between ("": all of the file)."""
    n_assets: int = 4
    """Series per trial A, 1..16."""
    horizon: int = 24
    """Days of an episode, 2..250."""
    n_episodes: int = 5
    """Episodes of a trial, 1..50."""
    reward_in_obs: bool = False
    """Whether an agent that acts is told the reward."""
    fee: float = 0.001
    """Price of a change of position, in logarithms of wealth, in [0, 0.1]."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_counts("npc/assets-replay", self, n_assets=(1, 16), horizon=(2, 250), n_episodes=(1, 50))
        if isinstance(self.fee, bool) or not isinstance(self.fee, int | float) or not 0.0 <= self.fee <= 0.1:
            raise ConfigError(f"npc/assets-replay option fee is {self.fee!r}; pass 0 to 0.1")
        for name in ("path", "columns"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"npc/assets-replay option {name} is {getattr(self, name)!r}; pass text")


@dataclass(frozen=True, eq=False)
class Series:
    """Daily series: float32 [T, S] simple returns, and the signals known before each of them."""

    names: tuple[str, ...]
    returns: Tensor
    signal: Tensor
    digest: str
    """of names, days and prices"""


def _file(path: str) -> Path:
    """Return where prices are; raises ConfigError if nowhere."""
    if path:
        return Path(path)
    found = find_spec("skfolio")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            f"npc/assets-replay replays prices that metarl does not ship: `{pip_command('skfolio')}` brings 20 stocks, "
            "or pass path=FILE.csv with a column of dates and one of prices per series"
        )
    file = Path(next(iter(found.submodule_search_locations))) / _SKFOLIO_FILE
    if not file.is_file():
        raise ConfigError(f"npc/assets-replay: this skfolio has no {_SKFOLIO_FILE}; 1.12.2 has, or pass path=FILE.csv")
    return file


def load(path: str, columns: str = "") -> Series:
    """Read prices, again if the file has changed; raises ConfigError naming line and column of what is wrong."""
    file = _file(path)
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        remedy = "pass a CSV file of dates and prices"
        raise ConfigError(f"npc/assets-replay finds no file {path!r} ({error}); {remedy}") from error
    return _load(file, tuple(name.strip() for name in columns.split(",")) if columns else (), status.st_mtime_ns)


@lru_cache(maxsize=8)
def _load(file: Path, columns: tuple[str, ...], changed_ns: int) -> Series:
    found = read_prices(file, columns)
    price = found.prices
    if len(price) <= 2 * LOOKBACK:
        raise ConfigError(f"{file} has {len(price)} days, expected more than {2 * LOOKBACK}; take a longer file")
    returns = price[1:] / price[:-1] - 1.0
    windows = returns.unfold(0, LOOKBACK, 1)  # the one that ends on day t is known before the return of day t + 1
    signal = windows.mean(2) / (windows.std(2) / LOOKBACK**0.5).clamp(min=1e-6)
    return Series(found.names, returns[LOOKBACK:].float(), signal[:-1].float().clamp(-5.0, 5.0), found.digest())


class ReplayWorld(MarketWorld):
    """B replayed markets. Tasks: "day" int64 [B], "series" int64 [B, A], "fee" float32 [B]."""

    def __init__(self, name: str, num_envs: int, config: ReplayConfig, *, device: torch.device | str = "cpu") -> None:
        """Build `num_envs` markets."""
        spec = market_spec(name, config)
        super().__init__(spec, num_envs, device, n_episodes=config.n_episodes, feedback="full")
        found = load(config.path, config.columns)
        self._returns, self._signals = found.returns.to(self.device), found.signal.to(self.device)
        self._days = torch.arange(self.horizon + 1, device=self.device)

    def market(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Cut out the days of this episode."""
        first = self.params["day"] + (episode % self.n_episodes) * self.horizon
        day = (first[:, None] + self._days).clamp(max=len(self._returns) - 1)[:, :, None]
        series = self.params["series"][:, None]
        signal = self._signals[day, series]
        returns = self._returns[day[:, :-1], series].clamp(min=LEAST_RETURN)
        paths = torch.stack([signal[:, :-1], signal[:, 1:], returns, returns.log1p()], dim=2)
        return {"paths": paths, "fee": self.params["fee"]}

    def latent(self) -> dict[str, Tensor]:
        """Return which days and series these are."""
        return {"day": self.params["day"], "series": self.params["series"]}


class Momentum(Trader):
    """Holds what rose most of late; cash if nothing did."""

    def worth(self) -> Tensor:
        """Return the signal, in units of a day's growth."""
        return self.world.state["signal"] * 0.002


class Hindsight(Trader):
    """Knows tomorrow's prices: an upper bound that no policy attains."""

    def worth(self) -> Tensor:
        """Return the next growth."""
        state = self.world.state
        at = state["t"][:, None, None].expand(-1, 1, self.world.n_assets)
        return state["paths"][:, :, 3].gather(1, at).squeeze(1)


class ReplayTasks(NpcFamily):
    """First days drawn from a split's time, series at random."""

    visible_parameters = ("day", "series")
    """What signals show."""

    def __init__(self, config: ReplayConfig) -> None:
        """Take the constants from `config`; raises ConfigError if there are no prices, or too few days or series."""
        self.config, self.series = config, load(config.path, config.columns)
        if config.n_assets > len(self.series.names):
            raise ConfigError(f"npc/assets-replay has {len(self.series.names)} series, not {config.n_assets}")
        days, trial = len(self.series.returns), config.horizon * config.n_episodes
        marks = [0, *(int(days * c) for c in CUTS), days]
        self._days = {s: (marks[i], marks[i + 1] - trial) for i, s in enumerate(("train", "validation", "test"))}
        if any(high <= low for low, high in self._days.values()):
            raise ConfigError(f"npc/assets-replay: {days} days are too few for trials of {trial} days in three splits")
        # The digest knows what was read, wherever it lies.
        settings = {k: v for k, v in settings_of(config).items() if k not in ("path", "columns")}
        settings |= {"days": days, "prices": self.series.digest}
        super().__init__("npc/assets-replay", settings, n_episodes=config.n_episodes)

    def draw(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw first days and series."""
        check_split(self.name, split, self.splits)
        low, high = self._days[split]
        device, size = generator.device, len(self.series.names)
        day = torch.randint(low, high, (n,), generator=generator, device=device)
        series = torch.rand(n, size, generator=generator, device=device).argsort(1)[:, : self.config.n_assets]
        return Tasks.of(self.name, day=day, series=series, fee=torch.full((n,), self.config.fee, device=device))

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return market_spec(self.name, self.config)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> ReplayWorld:
        """Build `num_envs` markets."""
        return ReplayWorld(self.name, num_envs, self.config, device=device)

    def policies(self, split: str) -> dict[str, Callable[[], Policy]]:
        """Return makers of the reference policies; "oracle" knows tomorrow's prices."""
        return {"random": Random, "cash": Cash, "non_adaptive": BuyAndHold, "momentum": Momentum, "oracle": Hindsight}

    def kelly(self) -> float:
        """Return the constant share of wealth in equal parts of all series that was best in training, in [0, 1]."""
        low, high = self._days["train"]
        pooled = self.series.returns[low:high].double().mean(1)
        return float((pooled.mean() / pooled.var()).clamp(0.0, 1.0))

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return references played now (nothing about the data is committed), and "constant_kelly" worked out."""
        tasks = self.fixed_tasks(split)
        found = {n: play(self, m(), split, n=min(256, len(tasks))).mean() for n, m in self.policies(split).items()}
        share, horizon = self.kelly(), self.config.horizon
        day = tasks.values["day"][:256, None] + torch.arange(self.n_episodes * horizon)
        pooled = self.series.returns.mean(1)[day]
        growth = (share * pooled).log1p().view(len(day), self.n_episodes, horizon).sum(2).mean(0)
        found["constant_kelly"] = growth.tolist()
        return {name: values[:n_episodes] for name, values in found.items() if len(values) >= n_episodes}


def make(**options: Any) -> ReplayTasks:
    """Build the family; options are those of `ReplayConfig`. Raises ConfigError if there are no prices."""
    check_options("npc/assets-replay", options, (f.name for f in fields(ReplayConfig)))
    return ReplayTasks(ReplayConfig(**options))
