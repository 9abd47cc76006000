"""No memory at all: a policy that sees this step only, trained like those that remember.

Where the observation says all there is to know - the task itself, or the exact belief about it (`metarl.envs.revealed`)
- it is an oracle or a Bayes-adaptive policy; elsewhere it is one policy for all tasks, what memory has to beat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metarl.agent import State

from .recurrent import CoreSize, empty_linear, orthogonal


@dataclass(frozen=True)
class NoMemoryConfig:
    """Nothing to set."""

    recurrent: ClassVar[bool] = False

    def build(self, size: CoreSize) -> NoMemory:
        """Return the layer with fresh weights."""
        return NoMemory(size.n_inputs, size.hidden, size.generator, size.device)


class NoMemory(nn.Module):
    """One tanh layer in a memory's place; see `recurrent.MemoryCore`. "h" [N, hidden] is its output, never read."""

    keys: tuple[str, ...] = ("h",)

    def __init__(self, n_inputs: int, hidden: int, generator: torch.Generator, device: torch.device | str) -> None:
        """Draw the weights from `generator`."""
        super().__init__()
        self.n_outputs = hidden
        self.layer = empty_linear(n_inputs, hidden, device)
        with torch.no_grad():
            orthogonal(self.layer.weight, math.sqrt(2.0), generator)
            self.layer.bias.zero_()

    def start(self, n: int) -> State:
        """Return zeros."""
        weight = self.layer.weight
        return {"h": torch.zeros(n, self.n_outputs, dtype=weight.dtype, device=weight.device)}

    def step(self, x: Tensor, memory: State) -> State:
        """Return the outputs for x [N, n_inputs], whatever the memory."""
        return {"h": self.layer(x).tanh()}

    def unroll(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Return the outputs for x [T, N, n_inputs], all steps at once."""
        outputs: Tensor = self.layer(x).tanh()
        return outputs, {"h": outputs[-1]}
