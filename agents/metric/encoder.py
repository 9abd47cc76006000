"""From a few transitions of a task to a point in a space where near means alike: readers, and what trains them.

A *context* is a fixed number of transitions of one task. A reader turns contexts [C, k, n_inputs] into embeddings
[C, d]. Two losses teach it: the contrastive one of Siamese networks (Hadsell, Chopra and LeCun 2006, equation 4), and
the cross-entropy of matching networks (Vinyals et al. 2016, arXiv:1606.04080, equation 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from metarl.agents.memory.recurrent import RecurrentCore, empty_linear, orthogonal

ReaderKind = Literal["set", "gru"]
READERS: tuple[str, ...] = get_args(ReaderKind)


def _layers(sizes: Sequence[int], generator: torch.Generator, device: torch.device | str) -> nn.ModuleList:
    """Return affine layers, orthogonal with gain √2; biases 0."""
    layers = [empty_linear(a, b, device) for a, b in pairwise(sizes)]
    with torch.no_grad():
        for layer in layers:
            orthogonal(layer.weight, 2.0**0.5, generator)
            layer.bias.zero_()
    return nn.ModuleList(layers)


class Reader(nn.Module):
    """ReLU layers on each transition, one vector per context, a ReLU layer and an affine one on top.

    "set": the vector is the mean over the transitions, so that their order plays no part. "gru": it is what a GRU has
    in mind after it has read them in order.
    """

    def __init__(
        self,
        kind: ReaderKind,
        n_inputs: int,
        hidden: Sequence[int],
        embedding: int,
        generator: torch.Generator,
        device: torch.device | str,
    ) -> None:
        """Draw the weights; `hidden` are the units of the layers, for "gru" the last number is the GRU's."""
        super().__init__()
        per_step = hidden if kind == "set" else hidden[:-1]
        self.layers = _layers((n_inputs, *per_step), generator, device)
        self.core = (
            None if kind == "set" else RecurrentCore("gru", (n_inputs, *per_step)[-1], hidden[-1], generator, device)
        )
        self.between = _layers((hidden[-1], hidden[-1]), generator, device)
        self.top = empty_linear(hidden[-1], embedding, device)
        orthogonal(self.top.weight, 1.0, generator)
        nn.init.zeros_(self.top.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings [C, d] of contexts [C, k, n_inputs]."""
        for layer in self.layers:
            x = layer(x).relu()
        x = self._summary(x)
        for layer in self.between:
            x = layer(x).relu()
        return self.top(x)  # type: ignore[no-any-return]

    def _summary(self, x: Tensor) -> Tensor:
        """Return one vector per context: [C, k, units] -> [C, units]."""
        if self.core is None:
            return x.mean(1)
        outputs, _ = self.core.unroll(x.transpose(0, 1), self.core.start(len(x)))
        return outputs[-1]


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distances of all pairs: a [A, d], b [B, d] -> [A, B].

    The derivative at distance 0, where there is none, is taken as 0.
    """
    squared = (a[:, None] - b[None]).square().sum(-1)
    return torch.where(squared > 0, squared, 1.0).sqrt() * (squared > 0)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine similarities of all pairs: a [A, d], b [B, d] -> [A, B]."""
    return nn.functional.normalize(a, dim=-1) @ nn.functional.normalize(b, dim=-1).mT


def contrastive_loss(distance: Tensor, same: Tensor, margin: float) -> Tensor:
    """Return y d² + (1 - y) max(0, m - d)², element by element.

    Hadsell et al. 2006, equation 4 without its factors of one half; `same` (bool) is y = 1: the pair is one task.
    Pairs of one task are pulled together wherever they are, others pushed apart until they are `margin` apart.
    """
    return torch.where(same, distance.square(), (margin - distance).clamp(min=0.0).square())


def siamese_loss(embedding: Tensor, owner: Tensor, margin: float) -> Tensor:
    """Return the contrastive loss of all pairs of contexts, those of one task weighing as much as the others in all.

    Args:
        embedding: [C, d].
        owner: int64 [C], which task a context belongs to.
        margin: m, in units of the embedding.
    """
    first, second = torch.triu_indices(len(owner), len(owner), 1, device=owner.device)
    same = owner[first] == owner[second]
    loss = contrastive_loss(distances(embedding, embedding)[first, second], same, margin)
    parts = [(loss * kind).sum() / kind.sum().clamp(min=1) for kind in (same, ~same)]
    return parts[0] + parts[1]


def attention(query: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Return a(q, k_i) = exp(cos(q, k_i) / temperature) / sum_j exp(cos(q, k_j) / temperature): [Q, C].

    Vinyals et al. 2016, section 2.1.1, where the temperature is 1.
    """
    return (cosines(query, keys) / temperature).softmax(-1)


def matching_loss(embedding: Tensor, owner: Tensor, temperature: float) -> Tensor:
    """Return the mean of -log of the attention that a context pays to the other contexts of its own task.

    Every context in turn is the query and all others are the support set, whose labels are their tasks: equation 1 of
    Vinyals et al. 2016 gives a task the attention on its contexts. Contexts without a second one are nobody's query.

    Args:
        embedding: [C, d].
        owner: int64 [C], which task a context belongs to.
        temperature: see `attention`.
    """
    itself = torch.eye(len(owner), dtype=torch.bool, device=owner.device)
    logits = (cosines(embedding, embedding) / temperature).masked_fill(itself, -torch.inf)
    own = (owner[:, None] == owner) & ~itself
    asks = own.any(1)
    everyone = logits.logsumexp(1)
    # Rows without another context of their task are given one, so that no gradient becomes NaN; they are left out.
    mine = logits.masked_fill(~(own | (~asks[:, None] & ~itself)), -torch.inf).logsumexp(1)
    return torch.where(asks, everyone - mine, 0.0).sum() / asks.sum().clamp(min=1)
