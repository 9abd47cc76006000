"""Observations in units of what training has seen: shift and scale by running statistics, then clip.

Gradient-based and recurrent agents share one rule, the only one under which importance ratios, inner gradients and
stored memories stay right: **statistics are constant while a batch of trials is collected, learnt from and evaluated**.
`Agent.update` takes the batch in as its very last act, so the next iteration is the first to see it. `act` and `adapt`
read only; a held-out task changes nothing, whatever it looks like. Before the first batch, mean is 0 and divisor 1.

Sums are those of Chan, Golub and LeVeque 1983 (the pairwise form of Welford 1962), in float64, and the shift is
subtracted in float64 too. Textbook sums of squares in float32 lose all digits of a variance once the mean is a few
thousand times the spread, and so does `x - mean` with a float32 mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metarl.checks import check_ranges
from metarl.errors import CheckpointError
from metarl.rollout import Rollout


@dataclass(frozen=True)
class NormaliserConfig:
    """Settings of the observation normaliser; off by default."""

    observations: bool = False
    """Normalise observations by the mean and standard deviation of all training steps so far."""
    clip: float = 10.0
    """Largest normalised entry, in standard deviations, > 0."""
    min_std: float = 0.01
    """Least divisor, in units of an observation entry, > 0. What hardly varies in training (an object that only other
    task classes have, a quaternion's rounding) would otherwise reach a new class's agent blown up without bound."""

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        check_ranges(self, "normaliser.", {"> 0 and finite": "clip min_std"})


class Moments:
    """Mean and variance of every row ever taken in: equal, up to rounding, to those of all rows laid end to end."""

    def __init__(self, width: int, device: torch.device | str) -> None:
        """Start without rows; `width` is the length of a row."""
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.deviation = torch.zeros(width, dtype=torch.float64, device=device)
        """Sum of squared distances from the mean, [width]."""

    @property
    def var(self) -> Tensor:
        """Variance (of the rows themselves, no n - 1), float64 [width]; 0 before the first row."""
        return self.deviation / self.count.clamp(min=1.0)

    @torch.no_grad()
    def update(self, rows: Tensor, valid: Tensor) -> None:
        """Take in the valid rows of `rows` [..., width]; `valid` is bool [...]. The others may hold anything."""
        weight = valid.reshape(-1, 1)
        wide = torch.where(weight, rows.reshape(-1, len(self.mean)).to(torch.float64), 0.0)
        fresh = weight.sum().to(torch.float64)
        some = fresh.clamp(min=1.0)
        mean = wide.sum(0) / some
        deviation = torch.where(weight, wide - mean, 0.0).square().sum(0)
        total = (self.count + fresh).clamp(min=1.0)
        shift = mean - self.mean
        share = fresh / total
        self.deviation = self.deviation + deviation + shift.square() * self.count * share
        self.mean = self.mean + shift * share
        self.count = self.count + fresh

    def state_dict(self) -> dict[str, Tensor]:
        """Return all of it, copied."""
        return {name: getattr(self, name).clone() for name in ("count", "mean", "deviation")}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError if it is missing or of another width."""
        for name in ("count", "mean", "deviation"):
            own, stored = getattr(self, name), state.get(name)
            if stored is None or stored.shape != own.shape:
                found = "none" if stored is None else f"shape {tuple(stored.shape)}"
                raise CheckpointError(
                    f"the checkpoint's normaliser {name!r} does not fit: {found}, expected {tuple(own.shape)}; load it "
                    f"with the configuration and world it was written with"
                )
            setattr(self, name, stored.to(own.device, copy=True))


class Normaliser:
    """What stands between an agent's networks and the observations; does nothing unless the config asks for it."""

    def __init__(self, config: NormaliserConfig, obs_dim: int, device: torch.device | str) -> None:
        """Start at mean 0 and divisor 1."""
        self.config, self.enabled = config, config.observations
        self._moments = Moments(obs_dim, device)
        self._refresh()

    def _refresh(self) -> None:
        std = self._moments.var.sqrt().clamp(min=self.config.min_std)
        self._mean, self._std = self._moments.mean, torch.where(self._moments.count > 0, std, 1.0)

    def __call__(self, obs: Tensor) -> Tensor:
        """Return observations [..., obs_dim] as the networks see them, in `obs`'s dtype."""
        if not self.enabled:
            return obs
        clip = self.config.clip
        return ((obs.to(torch.float64) - self._mean) / self._std).clamp(-clip, clip).to(obs.dtype)

    def rollout(self, rollout: Rollout) -> Rollout:
        """Return `rollout` with its observations as the networks see them; nothing else changes."""
        if not self.enabled:
            return rollout
        return replace(rollout, obs=self(rollout.obs), next_obs=self(rollout.next_obs))

    def update(self, *rollouts: Rollout) -> None:
        """Take in what training has just collected (raw); to be called once, when nothing needs the old units."""
        if not self.enabled:
            return
        for rollout in rollouts:
            self._moments.update(rollout.obs, rollout.valid)
        self._refresh()

    def state_dict(self) -> dict[str, Any]:
        """Return the entry of the agent's state: nothing if the normaliser is off."""
        return {"normaliser": self._moments.state_dict()} if self.enabled else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the entry out of the agent's state.

        Raises: CheckpointError if the agent was trained with the normaliser and this one has none, or the reverse.
        """
        if self.enabled != ("normaliser" in state):
            wrote, reads = ("with", "without") if "normaliser" in state else ("without", "with")
            raise CheckpointError(
                f"the checkpoint was written {wrote} normaliser.observations, but this agent is {reads}; load it with "
                f"the configuration it was written with"
            )
        if self.enabled:
            self._moments.load_state_dict(state["normaliser"])
            self._refresh()
