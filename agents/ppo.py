"""Proximal policy optimisation as parts: loss terms, minibatches, optimiser, running statistics.

Schulman et al. 2017 (arXiv:1707.06347), equations 7 and 9. Shared by the recurrent agent and the multi-task baseline.
Two deviations, both switchable: the value head predicts returns in running units of their own mean and spread (after
van Hasselt et al. 2016, arXiv:1602.07714), so that `value_coef` means the same for every reward scale; and the value
loss is Huber's, which bounds the pull of rare returns.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from metarl.checks import check_choices, check_ranges
from metarl.errors import CheckpointError
from metarl.returns import masked_mean

from .nn.optim import annealing, set_lr

ValueLoss = Literal["huber", "mse"]

_MOST = 1e37
"""Largest variance: a spread beyond 3e18 counts as 3e18, for float32 does not hold its square."""


@dataclass(frozen=True)
class PPOConfig:
    """Settings of the clipped-surrogate update."""

    lr: float = 1e-3
    """Adam's step size, > 0."""
    clip: float = 0.2
    """Largest useful change of the probability ratio, > 0."""
    epochs: int = 4
    """Passes over each batch, >= 1."""
    minibatches: int = 4
    """Optimiser steps per pass, >= 1; fewer if there are fewer rows to share out."""
    gamma: float = 0.99
    """Discount per env step, in [0, 1]."""
    lam: float = 0.95
    """Decay of the generalised advantage per env step, in [0, 1]."""
    entropy_coef: float = 0.01
    """Reward units (standardised, if `standardise_advantages`) per nat of policy entropy, >= 0."""
    value_coef: float = 0.5
    """Weight of the value loss, >= 0."""
    value_loss: ValueLoss = "huber"
    """Huber with threshold 1 in the value head's units, or half the squared error."""
    max_grad_norm: float = 0.5
    """Longest gradient, Euclidean over all parameters, > 0."""
    standardise_advantages: bool = True
    """Shift and scale each batch's advantages to mean 0 and standard deviation 1."""
    normalise_values: bool = True
    """Let the value head predict returns in units of their running mean and spread."""
    anneal_iters: int | None = None
    """Updates over which lr and entropy_coef shrink linearly to `anneal_to` of themselves (None: constant), >= 1."""
    anneal_to: float = 0.1
    """Fraction of lr and entropy_coef that is left at the end, in [0, 1]."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            "> 0 and finite": "lr clip max_grad_norm", ">= 0 and finite": "entropy_coef value_coef",
            "in [0, 1]": "gamma lam anneal_to", ">= 1": "epochs minibatches", ">= 1, or None": "anneal_iters",
        }  # fmt: skip
        check_ranges(self, "ppo.", ranges)
        check_choices(self, "ppo.", {"value_loss": get_args(ValueLoss)})

    def annealing(self, n_updates: int) -> float:
        """Return the factor on lr and entropy_coef after `n_updates` updates."""
        return annealing(n_updates, self.anneal_iters, self.anneal_to)


@dataclass(frozen=True)
class Targets:
    """What one update holds fixed, per step; every tensor has the same shape, [T, B] or [R]."""

    log_prob: Tensor
    """float: of the action when it was taken."""
    advantage: Tensor
    value: Tensor
    """float: what the value head should say, in its own units."""
    valid: Tensor
    """bool: the steps that count."""

    def pick(self, index: tuple[Any, ...]) -> Targets:
        """Return the part at `index`."""
        return Targets(self.log_prob[index], self.advantage[index], self.value[index], self.valid[index])


def surrogate(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return min(r A, clip(r, 1 - clip, 1 + clip) A) with r = exp(log_prob - old_log_prob), element by element.

    Equation 7 of Schulman et al. 2017; to be maximised.
    """
    ratio = (log_prob - old_log_prob).exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)


def value_error(value: Tensor, target: Tensor, kind: ValueLoss) -> Tensor:
    """Return Huber's loss with threshold 1, or half the squared error, element by element."""
    if kind == "huber":
        return F.smooth_l1_loss(value, target, reduction="none")
    return 0.5 * (value - target).square()


def ppo_loss(
    log_prob: Tensor, entropy: Tensor, value: Tensor, targets: Targets, config: PPOConfig, *, entropy_coef: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss *summed* over valid steps, and summed metrics (detached).

    Equation 9 of Schulman et al. 2017 with the opposite sign. Sums, so that a minibatch may be walked through in
    chunks: divide by its number of valid steps. Steps that are not valid add nothing, whatever they hold.
    """
    valid = targets.valid
    new_log_prob = torch.where(valid, log_prob, targets.log_prob)
    gain = surrogate(new_log_prob, targets.log_prob, targets.advantage, config.clip)
    error = value_error(value, targets.value, config.value_loss)
    zero = torch.zeros((), device=value.device, dtype=value.dtype)
    gain, error, nats = (torch.where(valid, x, zero).sum() for x in (gain, error, entropy))
    with torch.no_grad():
        log_ratio = new_log_prob - targets.log_prob
        ratio = log_ratio.exp()
        metrics = {
            "policy_loss": -gain.detach(),
            "value_loss": error.detach(),
            "entropy": nats.detach(),
            # Never negative, lower variance than the mean of -log_ratio, same expectation.
            "kl": (ratio - 1.0 - log_ratio).sum(),
            "clip_fraction": ((ratio - 1.0).abs() > config.clip).sum().to(value.dtype),
        }
    return config.value_coef * error - gain - entropy_coef * nats, metrics


def minibatches(
    n_rows: int, config: PPOConfig, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[Tensor, ...]]:
    """Yield, for each epoch, fresh random shares of `n_rows` rows: every row once, sizes differing by at most one."""
    n_parts = min(config.minibatches, n_rows)
    for _ in range(config.epochs):
        order = torch.randperm(n_rows, generator=generator, device=generator.device).to(device)
        yield torch.tensor_split(order, n_parts)


def explained_variance(value: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return 1 - Var(target - value) / Var(target) over the valid steps: 1 is perfect, 0 is a constant's."""

    def variance(x: Tensor) -> Tensor:
        return _mean_square(x - masked_mean(x, valid), valid)

    return 1.0 - variance(target - value) / variance(target).clamp(min=1e-12)


def _mean_square(x: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the valid squares, at most `_MOST`; smaller ones are what they are to the bit."""
    return masked_mean(x.square().clamp(max=_MOST), valid).clamp(max=_MOST)


class RunningMoments:
    """Exponential average of a batch's mean and variance: exact over the first batches, then ever `rate` new."""

    def __init__(self, shape: Sequence[int], rate: float, device: torch.device | str) -> None:
        """Start at mean 0 and variance 1, which hold until the first `update`."""
        self.rate, self.count = rate, 0
        self.mean, self.var = torch.zeros(tuple(shape), device=device), torch.ones(tuple(shape), device=device)
        self._refresh()

    def _refresh(self) -> None:
        """Derive what every step of a rollout reads."""
        self.std = self.var.sqrt().clamp(min=1e-3)
        self.rms = (self.var + self.mean.square().clamp(max=_MOST)).sqrt().clamp(min=1e-3)

    @torch.no_grad()
    def update(self, values: Tensor, valid: Tensor) -> None:
        """Take in the valid rows of `values` [T, B, *shape]; `valid` is bool [T, B]."""
        weight = valid.reshape(*valid.shape, *[1] * (values.dim() - valid.dim())).to(values.dtype)
        total = weight.sum().clamp(min=1.0)
        values = torch.where(weight > 0, values, torch.zeros_like(values))
        mean = values.sum((0, 1)) / total
        var = (((values - mean).square().clamp(max=_MOST) * weight).sum((0, 1)) / total).clamp(max=_MOST)
        self.count += 1
        share = max(1.0 / self.count, self.rate)
        shift = (mean - self.mean).square().clamp(max=_MOST)
        # The mixture's own variance; at the first update (share 1) the start values leave no trace.
        self.var = ((1.0 - share) * self.var + share * var + share * (1.0 - share) * shift).clamp(max=_MOST)
        self.mean = self.mean + share * (mean - self.mean)
        self._refresh()

    def state_dict(self) -> dict[str, Any]:
        """Return all of it."""
        return {"count": self.count, "mean": self.mean.clone(), "var": self.var.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`; raises CheckpointError if something is missing or of another shape."""
        self.count, self.mean, self.var = _moments(state, self.mean, self.var, "running moments")
        self._refresh()


def _moments(state: Mapping[str, Any], mean: Tensor, var: Tensor, what: str) -> tuple[int, Tensor, Tensor]:
    """Return count, mean and variance of a stored state, shaped like `mean` and `var`, copied to where these are."""
    for name, own in (("mean", mean), ("var", var)):
        stored = state.get(name)
        if not isinstance(stored, Tensor) or stored.shape != own.shape:
            found = f"shape {tuple(stored.shape)}" if isinstance(stored, Tensor) else repr(stored)
            raise CheckpointError(
                f"the checkpoint's {what} {name!r} do not fit: {found}, expected shape {tuple(own.shape)}; load it "
                f"with the configuration and world it was written with"
            )
    if type(state.get("count")) is not int or state["count"] < 0:
        raise CheckpointError(f"the checkpoint's {what} have count {state.get('count')!r}, expected a whole number")
    return state["count"], state["mean"].to(mean.device, copy=True), state["var"].to(var.device, copy=True)


class ValueScale:
    """The units of the value head: return = mean of its time step + std * head.

    With `n_times` > 1 there is a running mean for each of the first dimension's steps: in trials that all start at step
    0 most of a return's variance is how much of the trial is left, which the head then need not learn. The spread is
    one number. A change of spread rewrites the head so that its deviations from the mean stay what they were.
    """

    def __init__(self, config: PPOConfig, device: torch.device | str, n_times: int = 1) -> None:
        """Start with mean 0 and spread 1."""
        self.enabled, self.count = config.normalise_values, 0
        self.mean, self.var = torch.zeros(n_times, 1, device=device), torch.ones((), device=device)

    @property
    def std(self) -> Tensor:
        """Spread of returns about their mean, at least 1e-3."""
        return self.var.sqrt().clamp(min=1e-3)

    def _mean(self, like: Tensor) -> Tensor:
        return self.mean if len(self.mean) == 1 else self.mean[: len(like)]

    def to_return(self, head: Tensor) -> Tensor:
        """Return what the head says [T, B] in units of a return."""
        return self._mean(head) + self.std * head if self.enabled else head

    def to_head(self, value: Tensor) -> Tensor:
        """Return what the head should say for returns `value` [T, B]."""
        return (value - self._mean(value)) / self.std if self.enabled else value

    @torch.no_grad()
    def update(self, returns: Tensor, valid: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Take in returns [T, B] and rescale the head's value row: `weight` [in] and `bias` [], in place."""
        if not self.enabled:
            return
        self.count += 1
        share, before = max(1.0 / self.count, 0.1), self.std
        dims, mean = ((0, 1) if len(self.mean) == 1 else (1,)), self._mean(returns)
        count = valid.sum(dims).reshape(mean.shape)
        fresh = torch.where(valid, returns, 0.0).sum(dims).reshape(mean.shape) / count.clamp(min=1)
        # A step that no trial reached keeps its mean.
        mean = torch.where(count > 0, mean + share * (fresh - mean), mean)
        self.mean = torch.cat([mean, self.mean[len(mean) :]])
        self.var = (1.0 - share) * self.var + share * _mean_square(returns - mean, valid)
        weight.mul_(before / self.std)
        bias.mul_(before / self.std)

    def state_dict(self) -> dict[str, Any]:
        """Return all of it."""
        return {"count": self.count, "mean": self.mean.clone(), "var": self.var.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`; raises CheckpointError if something is missing or of another shape."""
        self.count, self.mean, self.var = _moments(state, self.mean, self.var, "value scale's moments")


class Optimiser:
    """Adam with a bounded gradient and the annealing of `PPOConfig`."""

    def __init__(self, params: Sequence[Tensor], config: PPOConfig) -> None:
        """`params` are leaf tensors that require grad."""
        self.params, self.config, self.n_updates = list(params), config, 0
        self._adam = torch.optim.Adam(self.params, lr=config.lr, eps=1e-5)

    @property
    def entropy_coef(self) -> float:
        """The entropy coefficient of the update that is going on."""
        return self.config.entropy_coef * self.config.annealing(self.n_updates)

    @property
    def lr(self) -> float:
        """The step size of the update that is going on."""
        return self.config.lr * self.config.annealing(self.n_updates)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._adam.zero_grad(set_to_none=True)

    def step(self) -> Tensor:
        """Take one step along the accumulated gradients; return their norm before it was bounded."""
        set_lr((self._adam,), self.lr)
        norm = torch.nn.utils.clip_grad_norm_(self.params, self.config.max_grad_norm)
        self._adam.step()
        return norm

    def end_update(self) -> None:
        """Count one update."""
        self.n_updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return Adam's state and the counter, copied."""
        return {"adam": copy.deepcopy(self._adam.state_dict()), "n_updates": self.n_updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        self._adam.load_state_dict(copy.deepcopy(state["adam"]))
        self.n_updates = int(state["n_updates"])
