"""Recurrent networks that run one step at a time and over whole sequences with the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from metarl.agent import State, WorldSpec
from metarl.errors import ConfigError

from . import sequence

MemoryKind = Literal["gru", "lstm"]
_GATES = {"gru": 3, "lstm": 4}


def empty_linear(n_in: int, n_out: int, device: torch.device | str) -> nn.Linear:
    """Return a Linear whose weights are yet to be drawn; torch's own constructor would use the global generator."""
    return nn.Linear(n_in, n_out, device="meta").to_empty(device=device)


@torch.no_grad()
def orthogonal(tensor: Tensor, gain: float, generator: torch.Generator) -> None:
    """Fill a matrix with orthonormal rows or columns times `gain` (Saxe et al. 2014), whatever its device."""
    drawn = torch.empty(tensor.shape, device=generator.device)
    tensor.copy_(nn.init.orthogonal_(drawn, gain=gain, generator=generator))


class MemoryCore(Protocol):
    """What every memory offers, recurrent or not: one step and whole sequences, with the same numbers to rounding."""

    n_outputs: int
    """Units of the output."""
    keys: tuple[str, ...]
    """Entries of the memory, tensors [N, ...]; "h" [N, n_outputs] is the output of the last step."""

    def start(self, n: int) -> State:
        """Return the memory before anything was seen."""
        ...

    def step(self, x: Tensor, memory: State) -> State:
        """Take in one row per sequence, x [N, n_inputs]."""
        ...

    def unroll(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Take in sequences x [T, N, n_inputs]; return the outputs [T, N, n_outputs] and the last memory."""
        ...


@runtime_checkable
class AuxiliaryLossCore(MemoryCore, Protocol):
    """A memory with an auxiliary loss of its own beside the policy's."""

    def auxiliary_loss(self, x: Tensor, generator: torch.Generator) -> Tensor | None:
        """Return a loss on sequences x [T, N, n_inputs] for each optimiser step, or None if that loss is off."""
        ...


@dataclass(frozen=True)
class CoreSize:
    """What a memory of whatever kind is built for."""

    n_inputs: int
    hidden: int
    """Units of the memory, >= 1."""
    trial_steps: int
    """Length of a training trial, in env steps."""
    generator: torch.Generator
    """Where fresh weights are drawn from."""
    device: torch.device
    memory_steps: int | None = None
    """Longest time constant of fresh gates, in env steps (None: torch's usual start)."""
    spec: WorldSpec | None = None
    """What the inputs are, for memories that tell them apart."""


class MemoryConfig(Protocol):
    """The settings of one kind of memory, which build it."""

    recurrent: ClassVar[bool]
    """False if the memory sees all steps of a trial at once, or none: nothing is carried from chunk to chunk."""

    def build(self, size: CoreSize) -> MemoryCore:
        """Return the memory with fresh weights; raises ConfigError if it cannot hold a trial or read the inputs."""
        ...


CoreMaker = Callable[[int, torch.Generator], MemoryCore]
"""From the number of inputs and a generator to a fresh memory."""


def step_by_step(step: Callable[[Tensor, State], State], x: Tensor, memory: State) -> tuple[Tensor, State]:
    """Return the outputs "h" of `step` along sequences x [T, N, ...], stacked, and the last memory."""
    outputs = []
    for row in x.unbind(0):
        memory = step(row, memory)
        outputs.append(memory["h"])
    return torch.stack(outputs), memory


class RecurrentCore(nn.Module):
    """One GRU (Cho et al. 2014, as in cuDNN) or LSTM layer whose memory is a dict of tensors [N, hidden].

    Each gate's recurrent block starts orthogonal, its input block too; biases start at 0, an LSTM's forget gate at 1
    (Jozefowicz et al. 2015). On a CPU `step` calls torch's cell kernel, and so does `unroll` without gradients, bit for
    bit; with gradients `unroll` is `metarl.agents.memory.sequence`, the same to rounding. On a GPU `unroll` is one
    cuDNN call.
    """

    def __init__(
        self,
        kind: MemoryKind,
        n_inputs: int,
        hidden: int,
        generator: torch.Generator,
        device: torch.device | str,
        *,
        memory_steps: int | None = None,
    ) -> None:
        """Draw the weights from `generator`.

        With `memory_steps` the units start with time constants spread over 1 to `memory_steps` env steps ("chrono
        initialisation", Tallec and Ollivier 2018, arXiv:1804.11188); otherwise a GRU starts out keeping half of what it
        knows at each step. Raises ConfigError for an unknown kind.
        """
        super().__init__()
        if kind not in _GATES:
            raise ConfigError(f"unknown memory {kind!r}; known: gru, lstm")
        self.kind, self.hidden, self.n_outputs = kind, hidden, hidden
        self.keys: tuple[str, ...] = ("h",) if kind == "gru" else ("h", "c")
        layer = nn.GRU if kind == "gru" else nn.LSTM
        # Born on "meta", where torch's own initialisation draws nothing from the global generator.
        self.rnn = layer(n_inputs, hidden, device="meta").to_empty(device=device)
        # Looked up once: nn.Module's own way there costs as much as an operation, at each step.
        weight_ih, weight_hh, bias_ih, bias_hh = self.rnn.all_weights[0]
        self._parts: tuple[Tensor, Tensor, Tensor, Tensor] = (weight_ih, weight_hh, bias_ih, bias_hh)
        with torch.no_grad():
            for block in (*weight_ih.chunk(_GATES[kind]), *weight_hh.chunk(_GATES[kind])):
                orthogonal(block, 1.0, generator)
            bias_ih.zero_()
            bias_hh.zero_()
            # Both kinds keep their "keep" gate second: a GRU's z, an LSTM's forget gate.
            keep = bias_ih[hidden : 2 * hidden]
            if memory_steps is not None:
                spread = torch.rand(hidden, generator=generator, device=generator.device).to(keep.device)
                keep.copy_((1.0 + spread * (memory_steps - 2)).log())
                if kind == "lstm":
                    bias_ih[:hidden] = -keep  # the input gate takes in what the forget gate lets go
            elif kind == "lstm":
                keep.fill_(1.0)

    def _weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return input weights, recurrent weights, and the biases of both."""
        return self._parts

    def start(self, n: int) -> State:
        """Return the memory before anything was seen: zeros."""
        weight = self._weights()[1]
        return {k: torch.zeros(n, self.hidden, dtype=weight.dtype, device=weight.device) for k in self.keys}

    def step(self, x: Tensor, memory: Mapping[str, Tensor]) -> State:
        """Take in one row per sequence, x [N, n_inputs]; `memory["h"]` is the output."""
        if self.kind == "gru":
            return {"h": torch.gru_cell(x, memory["h"], *self._weights())}
        h, c = torch.lstm_cell(x, (memory["h"], memory["c"]), *self._weights())
        return {"h": h, "c": c}

    def unroll(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Take in sequences x [T, N, n_inputs]; return the outputs [T, N, hidden] and the last memory."""
        if x.device.type != "cpu":
            return self._unroll_fused(x, memory)
        learned = (x, *memory.values(), *self._weights())
        if torch.is_grad_enabled() and any(v.requires_grad for v in learned):
            return self._unroll_with_gradients(x, memory)
        return step_by_step(self.step, x, memory)

    def _unroll_with_gradients(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        if self.kind == "gru":
            outputs = sequence.gru(x, memory["h"], self._weights())
            return outputs, {"h": outputs[-1]}
        outputs, c = sequence.lstm(x, memory["h"], memory["c"], self._weights())
        return outputs, {"h": outputs[-1], "c": c}

    def _unroll_fused(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        first = [v.unsqueeze(0).contiguous() for v in memory.values()]
        outputs, last = self.rnn(x, first[0] if self.kind == "gru" else tuple(first))
        parts = (last,) if self.kind == "gru" else last
        return outputs, {k: v.squeeze(0) for k, v in zip(memory, parts, strict=True)}


@dataclass(frozen=True)
class RecurrentConfig:
    """A GRU or an LSTM, which has no settings but its size."""

    recurrent: ClassVar[bool] = True

    kind: MemoryKind

    def build(self, size: CoreSize) -> RecurrentCore:
        """Return the layer with fresh weights."""
        return RecurrentCore(
            self.kind, size.n_inputs, size.hidden, size.generator, size.device, memory_steps=size.memory_steps
        )


class RecurrentNet(nn.Module):
    """Encoder layers (tanh), a memory, optionally a layer norm, readout layers (ReLU), and one affine head.

    The readout sees the memory's output *and* what the memory took in at this step, so that looking something up in the
    memory, by what is seen now, needs no unit of the memory itself.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        core: CoreMaker,
        encoder: Sequence[int],
        layer_norm: bool,
        readout: Sequence[int] = (),
        head_gains: Sequence[float],
        generator: torch.Generator,
        device: torch.device | str,
    ) -> None:
        """`head_gains` gives the scale of each of the `n_outputs` rows of the head's initial weights."""
        super().__init__()
        sizes = (n_inputs, *encoder)
        self.encoder = nn.ModuleList(empty_linear(a, b, device) for a, b in pairwise(sizes))
        self.core = core(sizes[-1], generator)
        hidden = self.core.n_outputs
        self.norm = nn.LayerNorm(hidden, device=device) if layer_norm else None
        wide = (hidden + sizes[-1], *readout) if readout else (hidden,)
        self.readout = nn.ModuleList(empty_linear(a, b, device) for a, b in pairwise(wide))
        self.head = empty_linear(wide[-1], n_outputs, device)
        with torch.no_grad():
            for layer in (*self.encoder, *self.readout):
                orthogonal(cast(Tensor, layer.weight), math.sqrt(2.0), generator)
                cast(Tensor, layer.bias).zero_()
            orthogonal(self.head.weight, 1.0, generator)
            self.head.weight.mul_(torch.tensor(head_gains, device=self.head.weight.device)[:, None])
            self.head.bias.zero_()

    def encode(self, x: Tensor) -> Tensor:
        """Return what the memory takes in of inputs [..., n_inputs]."""
        for layer in self.encoder:
            x = layer(x).tanh()
        return x

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        """Return the outputs for the memory's output and what it took in, [..., n]."""
        y = h if self.norm is None else self.norm(h)
        if self.readout:
            y = torch.cat([y, x], dim=-1)
        for layer in self.readout:
            y = layer(y).relu()
        return cast(Tensor, self.head(y))

    def step(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Return the outputs [N, n_outputs] and the memory after one row per sequence."""
        x = self.encode(x)
        memory = self.core.step(x, memory)
        return self.read(memory["h"], x), memory

    def unroll(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Return the outputs [T, N, n_outputs] and the last memory of whole sequences x [T, N, n_inputs]."""
        x = self.encode(x)
        outputs, memory = self.core.unroll(x, memory)
        return self.read(outputs, x), memory
