"""Reference policies of the market of moods: exact filters over (size, restlessness, mood), and the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metarl.envs.npc.reference import Policy, Random
from metarl.envs.tensor_world import EpisodeState

from .exact import solve
from .references import BuyAndHold, Cash, Trader, log_growth
from .regime import RegimeConfig, RegimeWorld

HELD_OUT_SHARE = 0.02
"""Prior of each pair of levels that training leaves out, so that the filter can come to believe in it."""


class MoodFilter:
    """P(d, h, s | returns) of each asset, float32 [B, A, M], M = 2 x pairs of levels; exact (forward algorithm)."""

    def __init__(self, config: RegimeConfig, num_envs: int, device: torch.device) -> None:
        """Start with the prior: training's pairs alike, both moods alike."""
        held_out = torch.tensor([p in config.held_out for p in config.pairs])
        weight = torch.where(held_out, HELD_OUT_SHARE, (1.0 - HELD_OUT_SHARE * held_out.sum()) / (~held_out).sum())
        drift = torch.tensor([config.drifts[d] for d, _ in config.pairs])
        switch = torch.tensor([config.switches[h] for _, h in config.pairs])
        self.noise = config.noise_sd
        self.mean = torch.cat([drift, -drift]).to(device)
        """Expected return of each hypothesis [M]: good moods first."""
        self._switch = torch.cat([switch, switch]).to(device)
        self.prior = (torch.cat([weight, weight]) / 2.0).to(device).expand(num_envs, config.n_assets, -1)
        self.p = self.prior

    def add(self, returns: Tensor) -> None:
        """Take in returns [B, A]; moods may then flip."""
        log_p = -0.5 * ((returns[..., None] - self.mean) / self.noise).square()
        p = self.p * (log_p - log_p.amax(-1, keepdim=True)).exp()
        p = p / p.sum(-1, keepdim=True)
        other = p.roll(p.shape[-1] // 2, dims=-1)
        self.p = (1.0 - self._switch) * p + self._switch * other

    def reset(self, rows: Tensor) -> None:
        """Forget everything where `rows` [B]."""
        self.p = torch.where(rows[:, None, None], self.prior, self.p)

    def growth(self) -> Tensor:
        """Return the expected growth at the next step, [B, A]."""
        return (self.p * log_growth(self.mean, torch.full_like(self.mean, self.noise**2))).sum(-1)


class Filtered(Trader):
    """Holds what the filter expects most of at the next step; may forget at every episode, or at every step."""

    world: RegimeWorld

    def __init__(self, *, forget: bool = False, last_only: bool = False) -> None:
        """Choose what to forget."""
        self.forget, self.last_only = forget, last_only

    def start(self, world: RegimeWorld, generator: torch.Generator) -> None:  # type: ignore[override]
        """Know the prior."""
        super().start(world, generator)
        self.filter = MoodFilter(world.config, world.num_envs, world.device)

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, ended: Tensor) -> None:
        """Take in the returns."""
        if self.last_only:
            self.filter.reset(torch.ones_like(ended))
        self.filter.add(reached["shown"])
        if self.forget:
            self.filter.reset(ended)

    def believes(self, env: int) -> dict[str, Any]:
        """Return "good", the chance of each asset's good mood, and "mean", its expected next return."""
        p = self.filter.p[env]
        return {"good": p[:, : p.shape[1] // 2].sum(1).tolist(), "mean": (p @ self.filter.mean).tolist()}

    def learned(self) -> dict[str, Tensor]:
        """Return the chances of all hypotheses."""
        return {"p": self.filter.p}

    def put_back(self, learned: dict[str, Tensor]) -> None:
        """Believe these."""
        self.filter.p = learned["p"]

    def worth(self) -> Tensor:
        """Return the filter's expectation."""
        return self.filter.growth()


class MoodOracle(Trader):
    """Knows sizes and the present moods."""

    world: RegimeWorld

    def worth(self) -> Tensor:
        """Return the true expected growth."""
        mean = self.world.params["drift"] * self.world.mood()
        return log_growth(mean, torch.full_like(mean, self.world.config.noise_sd**2))


class Optimal(Filtered):
    """The best policy there is with one asset and known levels: acts by the solver's table."""

    def start(self, world: RegimeWorld, generator: torch.Generator) -> None:  # type: ignore[override]
        """Solve."""
        super().start(world, generator)
        self.solution = solve(world.config)
        self.values = self.solution.action_values.to(world.device)

    def act(self) -> Tensor:
        """Look the belief up between the grid's points; asset 0 or cash (action 1)."""
        world = self.world
        at = self.filter.p[:, 0, 0].clamp(0.0, 1.0) * (self.values.shape[1] - 1)
        low = at.floor().long().clamp(max=self.values.shape[1] - 2)
        step = (world.episode % world.n_episodes) * world.horizon + world.state["t"]
        cash = world.state["position"]
        share = (at - low)[:, None]
        values = (1.0 - share) * self.values[step, low, cash] + share * self.values[step, low + 1, cash]
        return values.argmax(1)


def policies(config: RegimeConfig) -> dict[str, Callable[[], Policy]]:
    """Return makers of the reference policies by name."""
    found: dict[str, Callable[[], Policy]] = {
        "random": Random,
        "non_adaptive": Cash,
        "buy_and_hold": BuyAndHold,
        "reactive": lambda: Filtered(last_only=True),
        "forgetful": lambda: Filtered(forget=True),
        "bayes_greedy": Filtered,
        "oracle": MoodOracle,
    }
    if config.n_assets == 1 and len(config.pairs) == 1:
        found["bayes_optimal"] = Optimal
    return found
