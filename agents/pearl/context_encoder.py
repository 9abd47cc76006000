"""From transitions to a belief about the task: the inference networks of PEARL.

An encoder takes in transitions a part at a time and keeps what it needs of them in a state with one row per task, so
that a belief can be carried on from phase to phase without the transitions. The belief is a diagonal Gaussian over a
latent z; before any transition it is N(0, I).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metarl.agent import State
from metarl.agents.memory.recurrent import RecurrentCore, empty_linear, orthogonal

MIN_VARIANCE = 1e-7
"""Least variance of one transition's Gaussian."""

Belief = tuple[Tensor, Tensor]
"""Mean and variance of a diagonal Gaussian over z, each [N, latent]."""


def product_of_gaussians(mean: Tensor, variance: Tensor) -> Belief:
    """Return the normalised product over axis -2 of Gaussians [..., k, d]: precisions add (arXiv:1903.08254, eq. 2)."""
    precision = variance.reciprocal()
    total = precision.sum(-2)
    return (mean * precision).sum(-2) / total, total.reciprocal()


def kl_to_standard_normal(mean: Tensor, variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, I)) in nats, summed over the last axis: [...]."""
    return 0.5 * (mean.square() + variance - variance.log() - 1.0).sum(-1)


def _layers(sizes: Sequence[int], generator: torch.Generator, device: torch.device | str) -> nn.ModuleList:
    """Return affine layers, orthogonal with gain √2 but for the last one (gain 1); biases 0."""
    layers = [empty_linear(a, b, device) for a, b in pairwise(sizes)]
    with torch.no_grad():
        for i, layer in enumerate(layers):
            orthogonal(layer.weight, 1.0 if i == len(layers) - 1 else 2.0**0.5, generator)
            layer.bias.zero_()
    return nn.ModuleList(layers)


def _run(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for i, layer in enumerate(layers):
        x = layer(x)
        if i < len(layers) - 1:
            x = x.relu()
    return x


class ProductEncoder(nn.Module):
    """Each transition votes with a Gaussian of its own; the belief is their product, so their order says nothing.

    The state is the product's natural parameters: "precision" and "weighted" (precision times mean), [N, latent].
    """

    prior_precision = 0.0
    """Precision of N(0, .) among the factors: none."""

    def __init__(
        self, n_inputs: int, latent: int, hidden: Sequence[int], generator: torch.Generator, device: torch.device | str
    ) -> None:
        """Draw the weights of an MLP with ReLU layers `hidden`."""
        super().__init__()
        self.latent = latent
        self.layers = _layers((n_inputs, *hidden, 2 * latent), generator, device)

    def start(self, n_tasks: int) -> State:
        """Return the state before the first transition."""
        weight = cast(Tensor, self.layers[0].weight)
        nothing = torch.zeros(n_tasks, self.latent, device=weight.device)
        return {"precision": nothing + self.prior_precision, "weighted": nothing}

    def votes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and precision of each transition's Gaussian: x [..., n_inputs] -> [..., latent] each."""
        mean, raw = _run(self.layers, x).chunk(2, dim=-1)
        return mean, F.softplus(raw).clamp(min=MIN_VARIANCE).reciprocal()

    def absorb(self, state: State, x: Tensor, count: Tensor) -> State:
        """Take in the first `count` [N] transitions of each row of x [N, k, n_inputs]; return the new state."""
        mean, precision = self.votes(x)
        counts = (torch.arange(x.shape[1], device=x.device) < count[:, None])[..., None]
        precision = torch.where(counts, precision, 0.0)
        return {
            "precision": state["precision"] + precision.sum(1),
            "weighted": state["weighted"] + torch.where(counts, precision * mean, 0.0).sum(1),
        }

    def belief(self, state: State) -> Belief:
        """Return the product; N(0, I) where nothing was taken in."""
        known = state["precision"] > 0
        precision = torch.where(known, state["precision"], 1.0)
        return state["weighted"] / precision, precision.reciprocal()


class PriorProductEncoder(ProductEncoder):
    """The same product with N(0, I) as one more factor, so that a belief is never wider than before any transition.

    Where reward is rare, most transitions say next to nothing about the task. Here they can say so, in any number: the
    network gives log precisions, and a vote with none leaves the prior as it is. Without the prior as a factor many
    empty votes add up to a narrow belief, and few of them to one much wider than the prior. At first `typical`
    transitions together weigh as much as the prior.
    """

    prior_precision = 1.0

    def __init__(
        self,
        n_inputs: int,
        latent: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        device: torch.device | str,
        *,
        typical: int = 1,
    ) -> None:
        """See `ProductEncoder`."""
        super().__init__(n_inputs, latent, hidden, generator, device)
        with torch.no_grad():
            cast(Tensor, self.layers[-1].bias)[latent:] = -math.log(typical)

    def votes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and precision of each transition's Gaussian: x [..., n_inputs] -> [..., latent] each."""
        mean, raw = _run(self.layers, x).chunk(2, dim=-1)
        return mean, raw.clamp(max=-math.log(MIN_VARIANCE)).exp()


class RecurrentEncoder(nn.Module):
    """A GRU reads the transitions in the order in which they happened; its last output gives the belief.

    The state is its memory "h" [N, units] and "known" [N, 1], 1 once a transition was taken in.
    """

    def __init__(
        self, n_inputs: int, latent: int, hidden: Sequence[int], generator: torch.Generator, device: torch.device | str
    ) -> None:
        """Draw the weights: ReLU layers `hidden[:-1]` per transition, `hidden[-1]` GRU units, an affine head."""
        super().__init__()
        self.latent = latent
        sizes = (n_inputs, *hidden[:-1])
        self.layers = _layers(sizes, generator, device)
        self.core = RecurrentCore("gru", sizes[-1], hidden[-1], generator, device)
        self.head = _layers((hidden[-1], 2 * latent), generator, device)

    def start(self, n_tasks: int) -> State:
        """Return an empty memory."""
        memory = self.core.start(n_tasks)
        return {**memory, "known": torch.zeros_like(memory["h"][:, :1])}

    def absorb(self, state: State, x: Tensor, count: Tensor) -> State:
        """Take in the first `count` [N] transitions of each row of x [N, k, n_inputs]; return the new state."""
        y = _run(self.layers, x)
        y = y.relu() if len(self.layers) else y
        outputs, _ = self.core.unroll(y.transpose(0, 1), {"h": state["h"]})
        last = (count - 1).clamp(min=0)
        read = outputs.transpose(0, 1)[torch.arange(len(last), device=last.device), last]
        some = (count > 0)[:, None]
        return {"h": torch.where(some, read, state["h"]), "known": torch.where(some, 1.0, state["known"])}

    def belief(self, state: State) -> Belief:
        """Return what the memory says; N(0, I) where nothing was taken in."""
        mean, raw = _run(self.head, state["h"]).chunk(2, dim=-1)
        known = state["known"] > 0
        variance = F.softplus(raw).clamp(min=MIN_VARIANCE)
        return torch.where(known, mean, 0.0), torch.where(known, variance, 1.0)


Encoder = ProductEncoder | RecurrentEncoder
