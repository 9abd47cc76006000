"""Action distributions as functions of a flat parameter tensor [..., P], one row per decision.

A distribution is chosen once from the action space; its parameters are plain tensors, so that they pass through
autograd, stack over tasks and need no objects in a hot loop. Leading axes are free. `fisher_product` gives the exact
Fisher information of the parameters, which the natural gradient of TRPO is built on.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from .errors import ConfigError
from .seeding import normal


class Distribution(Protocol):
    """What every action distribution can do; `params` is [..., n_params]."""

    n_params: int

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one action per row."""
        ...

    def mode(self, params: Tensor) -> Tensor:
        """Return the most likely action per row."""
        ...

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        """Return log p(action), summed over action dimensions: [...]."""
        ...

    def entropy(self, params: Tensor) -> Tensor:
        """Return the entropy in nats: [...]."""
        ...

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Return KL(old || new) in nats: [...]."""
        ...

    def fisher_product(self, params: Tensor, v: Tensor) -> Tensor:
        """Return F v, with F the Fisher information of `params` at `params`, row by row: [..., n_params]."""
        ...


class DiagonalGaussian:
    """Independent normals; params = [mean, log standard deviation], each [..., a]."""

    def __init__(self, n_dims: int) -> None:
        """`n_dims` is the length a of an action."""
        self.n_dims, self.n_params = n_dims, 2 * n_dims

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        """Return mean + std * noise: float [..., a]."""
        mean, log_std = params.chunk(2, dim=-1)
        return mean + log_std.exp() * normal(mean, generator)

    def mode(self, params: Tensor) -> Tensor:
        """Return the mean."""
        return params.chunk(2, dim=-1)[0]

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        """Return the log density, *summed* over action dimensions."""
        mean, log_std = params.chunk(2, dim=-1)
        z = (action - mean) * (-log_std).exp()
        return (-0.5 * z.square() - log_std).sum(-1) - 0.5 * self.n_dims * math.log(2 * math.pi)

    def entropy(self, params: Tensor) -> Tensor:
        """Return the differential entropy."""
        return params.chunk(2, dim=-1)[1].sum(-1) + 0.5 * self.n_dims * math.log(2 * math.pi * math.e)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Return KL(old || new)."""
        m0, s0 = old.chunk(2, dim=-1)
        m1, s1 = new.chunk(2, dim=-1)
        ratio = ((2 * s0).exp() + (m0 - m1).square()) * (-2 * s1).exp()
        return (s1 - s0 + 0.5 * ratio - 0.5).sum(-1)

    def fisher_product(self, params: Tensor, v: Tensor) -> Tensor:
        """Return F v with F = diag(1 / std², 2)."""
        _, log_std = params.chunk(2, dim=-1)
        v_mean, v_log_std = v.chunk(2, dim=-1)
        return torch.cat([v_mean * (-2 * log_std).exp(), 2 * v_log_std], dim=-1)


class Categorical:
    """One choice among n; params = unnormalised log-probabilities [..., n]. Illegal actions carry `MASKED`."""

    def __init__(self, n: int, start: int = 0) -> None:
        """`start` is the number of the first action."""
        self.n_params, self.start = n, start

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        """Draw by the Gumbel-max trick: int64 [...]."""
        u = torch.rand(params.shape, generator=generator, device=params.device, dtype=params.dtype)
        gumbel = -(-(u.clamp(min=torch.finfo(params.dtype).tiny)).log()).clamp(min=1e-20).log()
        return (params + gumbel).argmax(-1) + self.start

    def mode(self, params: Tensor) -> Tensor:
        """Return the most likely choice."""
        return params.argmax(-1) + self.start

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        """Return log p(action)."""
        return params.log_softmax(-1).gather(-1, (action.long() - self.start).unsqueeze(-1)).squeeze(-1)

    def entropy(self, params: Tensor) -> Tensor:
        """Return -sum p log p."""
        log_p = params.log_softmax(-1)
        return -(log_p.exp() * log_p).sum(-1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Return KL(old || new)."""
        log_p = old.log_softmax(-1)
        return (log_p.exp() * (log_p - new.log_softmax(-1))).sum(-1)

    def fisher_product(self, params: Tensor, v: Tensor) -> Tensor:
        """Return F v with F = diag(p) - p pᵀ."""
        p = params.softmax(-1)
        return p * (v - (p * v).sum(-1, keepdim=True))


class MultiCategorical:
    """Independent choices; params = the categoricals' log-probabilities side by side [..., sum of n]."""

    def __init__(self, sizes: list[int], starts: list[int]) -> None:
        """`sizes` gives the number of choices per action dimension, `starts` the number of its first choice."""
        self.sizes, self.n_params = sizes, sum(sizes)
        self.parts = [Categorical(n, s) for n, s in zip(sizes, starts, strict=True)]

    def _split(self, params: Tensor) -> list[tuple[Categorical, Tensor]]:
        return list(zip(self.parts, torch.split(params, self.sizes, dim=-1), strict=True))

    def sample(self, params: Tensor, generator: torch.Generator) -> Tensor:
        """Draw every choice: int64 [..., k]."""
        return torch.stack([d.sample(p, generator) for d, p in self._split(params)], dim=-1)

    def mode(self, params: Tensor) -> Tensor:
        """Return the most likely choices."""
        return torch.stack([d.mode(p) for d, p in self._split(params)], dim=-1)

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        """Return the sum of the choices' log-probabilities."""
        parts = zip(self._split(params), action.unbind(-1), strict=True)
        return torch.stack([d.log_prob(p, a) for (d, p), a in parts], dim=-1).sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        """Return the sum of the choices' entropies."""
        return torch.stack([d.entropy(p) for d, p in self._split(params)], dim=-1).sum(-1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Return the sum of the choices' divergences."""
        pairs = zip(self._split(old), torch.split(new, self.sizes, dim=-1), strict=True)
        return torch.stack([d.kl(p, q) for (d, p), q in pairs], dim=-1).sum(-1)

    def fisher_product(self, params: Tensor, v: Tensor) -> Tensor:
        """Return F v, block by block."""
        pairs = zip(self._split(params), torch.split(v, self.sizes, dim=-1), strict=True)
        return torch.cat([d.fisher_product(p, w) for (d, p), w in pairs], dim=-1)


MASKED = -1e9
"""Logit of an illegal action: its probability is exactly 0 in float32, and no gradient becomes NaN."""


def mask_logits(params: Tensor, action_mask: Tensor | None) -> Tensor:
    """Return logits with illegal actions (False in `action_mask`) set to `MASKED`."""
    return params if action_mask is None else params.masked_fill(~action_mask, MASKED)


def for_space(space: gym.Space[Any]) -> Distribution:
    """Return the distribution that fits an action space.

    Raises: ConfigError for a space that is not Box, Discrete or MultiDiscrete.
    """
    if isinstance(space, spaces.Box):
        return DiagonalGaussian(int(torch.Size(space.shape).numel()))
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(space.nvec.tolist(), space.start.tolist())
    raise ConfigError(f"no action distribution for {space}; use a Box, Discrete or MultiDiscrete action space")
