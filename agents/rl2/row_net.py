"""A policy for choices that the observation describes one by one: each is scored by the same small network.

Where an observation has an entry [n, ...] whose row i says what Discrete action i would be (an exhibit to lead to, an
offer to make), what was learned about one row ought to hold for all: their logits come from one network that sees the
row and the memory (pointer networks, Vinyals et al. 2015, arXiv:1506.03134), and the memory sees them as a set, the
mean of their embeddings (deep sets, Zaheer et al. 2017, arXiv:1703.06114). All other actions have logits as usual.

How good a choice is may be a product of what is known and what is shown: a visitor's tastes times the attributes of an
offer. With `products` P the scores of row x_i under the memory h therefore also see the P numbers (A x_i) * (B h), so
that any bilinear form of rank P is one linear map away; sums of ReLU units only come near to one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from gymnasium import spaces
from torch import Tensor, nn

from metarl import spaces as flat
from metarl.agent import State, WorldSpec
from metarl.agents.memory.recurrent import RecurrentNet, empty_linear, orthogonal
from metarl.checks import check_ranges
from metarl.errors import ConfigError, nearest


@dataclass(frozen=True)
class RowsConfig:
    """Settings of choices that are described row by row."""

    entry: str = ""
    """Entry of a Dict observation, [n, ...], whose row i describes Discrete action i ("": none, all logits alike)."""
    hidden: int = 64
    """Units of a row's embedding and of the layer that scores it, >= 1."""
    products: int = 0
    """Products of the row and the memory that the score sees beside that layer, >= 0."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "rl2.rows.", {">= 1": "hidden", ">= 0": "products"})


@dataclass(frozen=True)
class RowLayout:
    """Where the rows stand in a flat observation: `n` rows of `width` columns from column `start` on."""

    start: int
    n: int
    width: int

    @classmethod
    def of(cls, spec: WorldSpec, entry: str) -> RowLayout:
        """Find `entry` in the observations of a world.

        Raises: ConfigError if there is no such entry, or it has more rows than there are actions.
        """
        space, actions = spec.observation_space, spec.action_space
        parts = dict(space.items()) if isinstance(space, spaces.Dict) else {}
        if entry not in parts:
            raise ConfigError(f"rl2.rows.entry is {entry!r}, which this world does not show; {nearest(entry, parts)}")
        shape = parts[entry].shape or ()
        if len(shape) < 2 or not isinstance(actions, spaces.Discrete) or shape[0] > actions.n:
            raise ConfigError(
                f"rl2.rows.entry needs one row per Discrete action, at most as many as there are; {entry!r} is of "
                f"shape {shape} and the actions are {actions}"
            )
        before = list(parts)[: list(parts).index(entry)]
        return cls(sum(flat.flat_dim(parts[k]) for k in before), shape[0], math.prod(shape[1:]))

    @property
    def size(self) -> int:
        """Columns in all."""
        return self.n * self.width

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows [..., n, width] and the other columns of inputs [..., n_inputs]."""
        end = self.start + self.size
        rows = x[..., self.start : end].reshape(*x.shape[:-1], self.n, self.width)
        return rows, torch.cat([x[..., : self.start], x[..., end:]], dim=-1)


class RowNet(nn.Module):
    """A `RecurrentNet` over all but the rows and over their mean embedding; rows score some of the outputs."""

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        layout: RowLayout,
        config: RowsConfig,
        scored: Sequence[int],
        head_gains: Sequence[float],
        generator: torch.Generator,
        device: torch.device | str,
        **options: Any,
    ) -> None:
        """Draw the weights; `options` are those of `RecurrentNet`.

        From each output in `scored` on, in rising order, as many outputs as there are rows are the rows' scores.
        """
        super().__init__()
        self.layout, self.scored, hidden = layout, tuple(scored), config.hidden
        rows = {i for first in scored for i in range(first, first + layout.n)}
        self.inner = RecurrentNet(
            n_inputs - layout.size + hidden,
            n_outputs - len(rows),
            head_gains=[g for i, g in enumerate(head_gains) if i not in rows],
            generator=generator,
            device=device,
            **options,
        )
        encoder = self.inner.encoder
        seen = cast(nn.Linear, encoder[-1]).out_features if len(encoder) else n_inputs - layout.size + hidden
        self.embed = empty_linear(layout.width, hidden, device)
        layers = [(self.embed, math.sqrt(2.0))]
        self.products = config.products if scored else 0
        if scored:
            n_context = self.inner.core.n_outputs + seen
            self.from_row = empty_linear(hidden, hidden, device)
            self.from_memory = empty_linear(n_context, hidden, device)
            self.score = empty_linear(hidden + self.products, len(scored), device)
            layers += [(self.from_row, 1.0), (self.from_memory, 1.0), (self.score, head_gains[scored[0]])]
        if self.products:
            self.row_factor = empty_linear(layout.width, self.products, device)
            self.memory_factor = empty_linear(n_context, self.products, device)
            layers += [(self.row_factor, 1.0), (self.memory_factor, 1.0)]
        with torch.no_grad():
            for layer, gain in layers:
                orthogonal(layer.weight, gain, generator)
                layer.bias.zero_()

    @property
    def core(self) -> Any:
        """The memory."""
        return self.inner.core

    @property
    def head(self) -> nn.Linear:
        """The affine layer of all outputs but the scores; a value is its last row."""
        return self.inner.head

    def _see(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows [..., n, width], their embeddings [..., n, hidden] and what the memory takes in."""
        rows, rest = self.layout.split(x)
        embedded = self.embed(rows).relu()
        return rows, embedded, self.inner.encode(torch.cat([rest, embedded.mean(-2)], dim=-1))

    def _say(self, h: Tensor, x: Tensor, rows: Tensor, embedded: Tensor) -> Tensor:
        """Return all outputs, the rows' scores where they belong."""
        others = self.inner.read(h, x)
        if not self.scored:
            return others
        known = h if self.inner.norm is None else self.inner.norm(h)
        context = torch.cat([known, x], dim=-1).unsqueeze(-2)
        parts = (self.from_row(embedded) + self.from_memory(context)).relu()
        if self.products:
            parts = torch.cat([parts, self.row_factor(rows) * self.memory_factor(context)], dim=-1)
        outputs, at = list[Tensor](), 0
        for first, scores in zip(self.scored, self.score(parts).unbind(-1), strict=True):
            n_before = first - sum(o.shape[-1] for o in outputs)
            outputs += [others[..., at : at + n_before], scores]
            at += n_before
        return torch.cat([*outputs, others[..., at:]], dim=-1)

    def step(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Return the outputs [N, n_outputs] and the memory after one row per sequence."""
        rows, embedded, x = self._see(x)
        memory = self.core.step(x, memory)
        return self._say(memory["h"], x, rows, embedded), memory

    def unroll(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Return the outputs [T, N, n_outputs] and the last memory of whole sequences x [T, N, n_inputs]."""
        rows, embedded, x = self._see(x)
        outputs, memory = self.core.unroll(x, memory)
        return self._say(outputs, x, rows, embedded), memory


def make_net(
    config: RowsConfig, spec: WorldSpec, n_inputs: int, n_outputs: int, *, per_action: Sequence[int], **options: Any
) -> RecurrentNet | RowNet:
    """Return the network that `config` asks for; from each output in `per_action` on there is one per action.

    Raises: ConfigError for a world that does not describe its actions as `config` says.
    """
    if not config.entry:
        return RecurrentNet(n_inputs, n_outputs, **options)
    layout = RowLayout.of(spec, config.entry)
    return RowNet(n_inputs, n_outputs, layout=layout, config=config, scored=per_action, **options)
