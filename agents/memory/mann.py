"""An external memory beside an LSTM: content-addressed reads, writes to what was read or to what is least used.

Santoro et al. 2016 (arXiv:1605.06065), section 3.2. Three choices where the paper leaves room: a step reads before it
writes (its own key would otherwise find itself); with several heads, head j writes to the j-th least used slot; and the
controller may sharpen its reads by a strength per head, as in Graves et al. 2014 (arXiv:1410.5401, equation 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metarl.agent import State
from metarl.checks import check_ranges
from metarl.errors import ConfigError

from .recurrent import CoreSize, RecurrentCore, empty_linear, orthogonal, step_by_step

_EPS = 1e-6


@dataclass(frozen=True)
class MANNConfig:
    """Settings of the external memory; its controller is an LSTM of the agent's `hidden` units."""

    recurrent: ClassVar[bool] = True

    slots: int = 32
    """Rows of the memory, more than `heads`."""
    width: int = 16
    """Numbers per row, >= 1."""
    heads: int = 1
    """Reads, and writes, per step, >= 1."""
    usage_decay: float = 0.95
    """Share of a slot's usage that is left after a step, in [0, 1)."""
    strength: bool = True
    """Let the controller sharpen its reads; otherwise similarities in [-1, 1] go into the softmax as they are, as in
    the paper, and a read mixes all slots."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "rl2.mann.", {">= 1": "width heads", "in [0, 1)": "usage_decay"})
        if self.slots <= self.heads:
            raise ConfigError(f"rl2.mann.slots must exceed rl2.mann.heads = {self.heads}, got {self.slots}")

    def build(self, size: CoreSize) -> MANNCore:
        """Return the memory with fresh weights."""
        return MANNCore(self, size.n_inputs, size.hidden, size.generator, size.device, memory_steps=size.memory_steps)


def similarity(memory: Tensor, key: Tensor) -> Tensor:
    """Return the cosine between each key [N, heads, width] and each row [N, slots, width]: [N, heads, slots].

    Santoro et al. 2016, equation 2. An empty row is like nothing: 0.
    """
    keys, rows = (torch.linalg.vector_norm(v, dim=-1) for v in (key, memory))
    cosine: Tensor = key @ memory.transpose(1, 2) / (keys[:, :, None] * rows[:, None, :] + _EPS)
    return cosine


def least_used(usage: Tensor, heads: int) -> Tensor:
    """Return one-hot rows [N, heads, slots]: the least used slot of `usage` [N, slots] first; ties go to low slots."""
    order = usage.argsort(dim=1, stable=True)[:, :heads]
    return F.one_hot(order, usage.shape[1]).to(usage.dtype)


def write(memory: Tensor, key: Tensor, weight: Tensor, free: Tensor) -> Tensor:
    """Return the memory [N, slots, width] after the `free` slots were cleared and the keys added.

    Equation 8: M_t(i) = M_{t-1}(i) + w_t(i) k_t, summed over heads; `weight` and `free` are [N, heads, slots].
    """
    kept = 1.0 - free.sum(1)
    return memory * kept[:, :, None] + weight.transpose(1, 2) @ key


class MANNCore(nn.Module):
    """The memory: a controller's, the slots, and how they were used.

    The controller's "h_lstm" and "c_lstm" [N, hidden]; "slots" [N, slots, width]; "usage" [N, slots]; "weights" of the
    last read [N, heads, slots]; and "h" [N, hidden + heads * width], the controller's output beside what was read.
    """

    keys: tuple[str, ...] = ("h", "h_lstm", "c_lstm", "slots", "usage", "weights")

    def __init__(
        self,
        config: MANNConfig,
        n_inputs: int,
        hidden: int,
        generator: torch.Generator,
        device: torch.device | str,
        *,
        memory_steps: int | None = None,
    ) -> None:
        """Draw the weights from `generator`; `memory_steps` is the controller's, as in `RecurrentCore`."""
        super().__init__()
        self.config, self.hidden = config, hidden
        self.n_outputs = hidden + config.heads * config.width
        n_read = config.heads * config.width
        self.controller = RecurrentCore("lstm", n_inputs + n_read, hidden, generator, device, memory_steps=memory_steps)
        self.interface = empty_linear(hidden, config.heads * (config.width + 1 + config.strength), device)
        with torch.no_grad():
            orthogonal(self.interface.weight, 1.0, generator)
            self.interface.bias.zero_()

    def start(self, n: int) -> State:
        """Return the memory before anything was seen: zeros."""
        config, like = self.config, self.interface.weight
        shapes = {
            "h": (self.n_outputs,), "h_lstm": (self.hidden,), "c_lstm": (self.hidden,),
            "slots": (config.slots, config.width), "usage": (config.slots,), "weights": (config.heads, config.slots),
        }  # fmt: skip
        return {k: like.new_zeros(n, *shape) for k, shape in shapes.items()}

    def step(self, x: Tensor, memory: State) -> State:
        """Take in one row per sequence, x [N, n_inputs]; `memory["h"]` is the output."""
        config, slots = self.config, memory["slots"]
        read = memory["h"][:, self.hidden :]
        lstm = self.controller.step(torch.cat([x, read], dim=1), {"h": memory["h_lstm"], "c": memory["c_lstm"]})
        said = self.interface(lstm["h"]).view(len(x), config.heads, -1)
        key, gate = said[..., : config.width].tanh(), said[..., config.width, None].sigmoid()
        like = similarity(slots, key)
        if config.strength:
            like = like * (1.0 + F.softplus(said[..., config.width + 1, None]))
        weights = like.softmax(dim=-1)
        found = (weights @ slots).flatten(1)
        free = least_used(memory["usage"], config.heads)
        # Equation 7: to what the last step read, or to what is least used.
        writes = gate * memory["weights"] + (1.0 - gate) * free
        # Equation 5. Only the order of usages matters, so no gradient goes there.
        usage = config.usage_decay * memory["usage"] + (weights + writes).detach().sum(1)
        return {
            "h": torch.cat([lstm["h"], found], dim=1), "h_lstm": lstm["h"], "c_lstm": lstm["c"],
            "slots": write(slots, key, writes, free), "usage": usage, "weights": weights,
        }  # fmt: skip

    def unroll(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Take in sequences x [T, N, n_inputs] step by step; return the outputs [T, N, n_outputs], the last memory."""
        return step_by_step(self.step, x, memory)
