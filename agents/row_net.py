"""A policy for choices that the observation describes one by one: each is scored by the same small network.

Where an observation has an entry [n, ...] whose row i says what Discrete action i would be (an exhibit to lead to, an
offer to make), what was learned about one row ought to hold for all: their logits come from one network that sees the
row and the memory (pointer networks, Vinyals et al. 2015, arXiv:1506.03134), and the memory sees them as a set, the
mean of their embeddings (deep sets, Zaheer et al. 2017, arXiv:1703.06114). All other actions have logits as usual.
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
from metarl.errors import ConfigError, nearest

from .recurrent import RecurrentNet, empty_linear, orthogonal


@dataclass(frozen=True)
class RowsConfig:
    """Settings of choices that are described row by row."""

    entry: str = ""
    """Entry of a Dict observation, [n, ...], whose row i describes Discrete action i ("": none, all logits alike)."""
    hidden: int = 64
    """Units of a row's embedding and of the layer that scores it, >= 1."""

    def __post_init__(self) -> None:
        """Check the range."""
        if self.hidden < 1:
            raise ConfigError(f"rl2.rows.hidden must be >= 1, got {self.hidden}")


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
    """A `RecurrentNet` over all but the rows and over their mean embedding; its first outputs are the rows' scores."""

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        layout: RowLayout,
        hidden: int,
        scores: bool,
        head_gains: Sequence[float],
        generator: torch.Generator,
        device: torch.device | str,
        **options: Any,
    ) -> None:
        """Draw the weights; `options` are those of `RecurrentNet`. Without `scores` all outputs are its outputs."""
        super().__init__()
        self.layout, n_scores = layout, layout.n if scores else 0
        self.inner = RecurrentNet(
            n_inputs - layout.size + hidden,
            n_outputs - n_scores,
            head_gains=head_gains[n_scores:],
            generator=generator,
            device=device,
            **options,
        )
        encoder = self.inner.encoder
        seen = cast(nn.Linear, encoder[-1]).out_features if len(encoder) else n_inputs - layout.size + hidden
        self.embed = empty_linear(layout.width, hidden, device)
        layers = [(self.embed, math.sqrt(2.0))]
        self.scores = scores
        if scores:
            self.from_row = empty_linear(hidden, hidden, device)
            self.from_memory = empty_linear(self.inner.core.n_outputs + seen, hidden, device)
            self.score = empty_linear(hidden, 1, device)
            layers += [(self.from_row, 1.0), (self.from_memory, 1.0), (self.score, head_gains[0])]
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

    def _see(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows' embeddings [..., n, hidden] and what the memory takes in."""
        rows, rest = self.layout.split(x)
        embedded = self.embed(rows).relu()
        return embedded, self.inner.encode(torch.cat([rest, embedded.mean(-2)], dim=-1))

    def _say(self, h: Tensor, x: Tensor, embedded: Tensor) -> Tensor:
        """Return the scores, and after them all other outputs."""
        others = self.inner.read(h, x)
        if not self.scores:
            return others
        known = h if self.inner.norm is None else self.inner.norm(h)
        context = self.from_memory(torch.cat([known, x], dim=-1)).unsqueeze(-2)
        scores = self.score((self.from_row(embedded) + context).relu()).squeeze(-1)
        return torch.cat([scores, others], dim=-1)

    def step(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Return the outputs [N, n_outputs] and the memory after one row per sequence."""
        embedded, x = self._see(x)
        memory = self.core.step(x, memory)
        return self._say(memory["h"], x, embedded), memory

    def unroll(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Return the outputs [T, N, n_outputs] and the last memory of whole sequences x [T, N, n_inputs]."""
        embedded, x = self._see(x)
        outputs, memory = self.core.unroll(x, memory)
        return self._say(outputs, x, embedded), memory


def make_net(
    config: RowsConfig, spec: WorldSpec, n_inputs: int, n_outputs: int, *, scores: bool, **options: Any
) -> RecurrentNet | RowNet:
    """Return the network that `config` asks for; `scores` says that its first outputs are logits.

    Raises: ConfigError for a world that does not describe its actions as `config` says.
    """
    if not config.entry:
        return RecurrentNet(n_inputs, n_outputs, **options)
    layout = RowLayout.of(spec, config.entry)
    return RowNet(n_inputs, n_outputs, layout=layout, hidden=config.hidden, scores=scores, **options)
