"""Exact posteriors over tasks given the history of a trial, by conjugate updates.

They are what a Bayes-optimal policy needs besides the observation and the clock (Duff 2002; Zintgraf et al. 2020,
arXiv:1910.08348, section 2.2), in closed form for the worlds that offer them. `metarl.envs.revealed` shows them to
agents.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Seen(NamedTuple):
    """One step of B envs, as an agent sees it."""

    obs: Tensor
    """float32 [B, d], flat."""
    action: Tensor
    """In the world's action space, [B] or [B, a]."""
    reward: Tensor
    """float32 [B]."""
    next_obs: Tensor
    """float32 [B, d]: the observation reached, before any reset."""


class Belief(ABC):
    """A conjugate family of beliefs; one belief is a row of numbers, all B rows are updated at once."""

    n_features: int
    """Length of what `features` returns per row."""

    @abstractmethod
    def prior(self, n: int) -> Tensor:
        """Return `n` beliefs before anything was seen, [n, ...]."""

    @abstractmethod
    def update(self, belief: Tensor, seen: Seen) -> Tensor:
        """Return the posterior of `belief` [B, ...] after one step; a new tensor."""

    @abstractmethod
    def features(self, belief: Tensor) -> Tensor:
        """Return a sufficient statistic of the belief, of order 1: float32 [B, n_features]."""


class FiniteBelief(Belief):
    """Probabilities of K tasks, equally likely at first: p'(k) is proportional to p(k) p(step | k)."""

    def __init__(
        self, n_hypotheses: int, likelihood: Callable[[Seen], Tensor], device: torch.device | str = "cpu"
    ) -> None:
        """`likelihood` returns p(step | k) up to a factor per row: float32 [B, K]."""
        self.n_features, self._likelihood, self._device = n_hypotheses, likelihood, torch.device(device)

    def prior(self, n: int) -> Tensor:
        """Return the uniform distribution, float32 [n, K]."""
        return torch.full((n, self.n_features), 1.0 / self.n_features, device=self._device)

    def update(self, belief: Tensor, seen: Seen) -> Tensor:
        """Return the posterior; a step that no hypothesis explains leaves the belief as it was."""
        joint = belief * self._likelihood(seen)
        total = joint.sum(1, keepdim=True)
        return torch.where(total > 0, joint / total.clamp(min=1e-30), belief)

    def features(self, belief: Tensor) -> Tensor:
        """Return the probabilities."""
        return belief.clone()


class BetaBelief(Belief):
    """k independent chances of success, uniform on [0, 1] at first: Beta(1 + wins, 1 + losses) each."""

    def __init__(self, n_arms: int, device: torch.device | str = "cpu") -> None:
        """The action is the arm pulled; a reward of 1 is a win, 0 a loss."""
        self.n_arms, self.n_features, self._device = n_arms, 2 * n_arms, torch.device(device)

    def prior(self, n: int) -> Tensor:
        """Return the parameters (alpha, beta) of each arm, all 1: float32 [n, k, 2]."""
        return torch.ones(n, self.n_arms, 2, device=self._device)

    def update(self, belief: Tensor, seen: Seen) -> Tensor:
        """Count one win or loss of the arm that was pulled."""
        pulled = F.one_hot(seen.action, self.n_arms).to(torch.float32)
        outcome = torch.stack([seen.reward, 1.0 - seen.reward], dim=1)
        return belief + pulled[:, :, None] * outcome[:, None, :]

    def features(self, belief: Tensor) -> Tensor:
        """Return each arm's posterior mean, and its standard deviation as a share of the prior's: [n, 2 k]."""
        total = belief.sum(2)
        mean = belief[..., 0] / total
        spread = (mean * (1.0 - mean) / (total + 1.0)).sqrt() * math.sqrt(12.0)
        return torch.cat([mean, spread], dim=1)
