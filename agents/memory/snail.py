"""Temporal convolutions and attention in turn, as memory: SNAIL.

Mishra et al. 2018 (arXiv:1707.03141), section 3 and figure 2. Dilated causal convolutions of width 2 gather what
happened 1, 2, 4, ... steps ago into features; attention then looks features up anywhere in the trial. Each layer adds
its output to the features of those before it. Acting keeps past features, keys and values instead of computing them
again; it gives the numbers of the full forward pass to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metarl.agent import State
from metarl.checks import check_ranges

from . import history
from .recurrent import CoreSize, empty_linear, orthogonal, step_by_step


@dataclass(frozen=True)
class SNAILConfig:
    """Settings of SNAIL; its input is embedded in the agent's `hidden` units."""

    recurrent: ClassVar[bool] = False

    blocks: int = 2
    """Pairs of temporal convolutions and attention, >= 1."""
    filters: int = 16
    """Features that each convolution adds, >= 1."""
    key_size: int = 16
    """Units of a query and of a key, >= 1."""
    value_size: int = 16
    """Features that attention adds, >= 1."""
    context: int | None = None
    """Env steps that it can look back, at least a whole training trial (None: exactly that), >= 2. In longer trials
    attention forgets the oldest steps."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "rl2.snail.", {">= 1": "blocks filters key_size value_size", ">= 2, or None": "context"})

    def build(self, size: CoreSize) -> SNAILCore:
        """Return the memory with fresh weights; raises ConfigError if its context is shorter than a trial."""
        context = history.checked_context(self.context, size.trial_steps, "snail")
        return SNAILCore(self, size.n_inputs, size.hidden, context, size.generator, size.device)


def dilations(context: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... so that a stack of convolutions of width 2 reaches over `context` steps."""
    return tuple(2**i for i in range(max(1, math.ceil(math.log2(max(context, 2))))))


def delayed(x: Tensor, steps: int) -> Tensor:
    """Return x [T, ...] `steps` later, with zeros before it starts."""
    steps = min(steps, len(x))
    return torch.cat([torch.zeros_like(x[:steps]), x[: len(x) - steps]])


class _Pair(nn.Module):
    """One stack of temporal convolutions and the attention after it."""

    def __init__(
        self, n_inputs: int, config: SNAILConfig, context: int, generator: torch.Generator, device: torch.device | str
    ) -> None:
        super().__init__()
        self.dilations = dilations(context)
        self.sizes = [n_inputs + i * config.filters for i in range(len(self.dilations) + 1)]
        self.n_outputs = self.sizes[-1] + config.value_size
        self.split = (config.key_size, config.key_size, config.value_size)
        self.convolutions = nn.ModuleList(empty_linear(2 * n, 2 * config.filters, device) for n in self.sizes[:-1])
        self.attention = empty_linear(self.sizes[-1], sum(self.split), device)
        with torch.no_grad():
            for layer in (*self.convolutions, self.attention):
                orthogonal(cast(Tensor, layer.weight), 1.0, generator)
                cast(Tensor, layer.bias).zero_()

    def convolve(self, i: int, now: Tensor, before: Tensor) -> Tensor:
        """Return the features `now` [..., sizes[i]] and those of layer i, which sees what was there `before`, too."""
        content, gate = self.convolutions[i](torch.cat([now, before], dim=-1)).chunk(2, dim=-1)
        return torch.cat([now, content.tanh() * gate.sigmoid()], dim=-1)


class SNAILCore(nn.Module):
    """The memory: features, keys and values of past steps.

    "h" [N, n_outputs] is the output, "count" [N] the number of steps seen; per pair, the features before its last
    convolution "f0", ..., and attention's keys "k0", ... and values "v0", ..., each [N, context, size].
    """

    def __init__(
        self,
        config: SNAILConfig,
        n_inputs: int,
        hidden: int,
        context: int,
        generator: torch.Generator,
        device: torch.device | str,
    ) -> None:
        """Draw the weights from `generator`."""
        super().__init__()
        self.context, self.config = context, config
        self.embed = empty_linear(n_inputs, hidden, device)
        with torch.no_grad():
            orthogonal(self.embed.weight, 1.0, generator)
            self.embed.bias.zero_()
        pairs, size = [], hidden
        for _ in range(config.blocks):
            pairs.append(_Pair(size, config, context, generator, device))
            size = pairs[-1].n_outputs
        self.pairs, self.n_outputs = nn.ModuleList(pairs), size
        self.keys: tuple[str, ...] = ("h", "count", *(f"{kind}{i}" for i in range(config.blocks) for kind in "fkv"))

    def _pairs(self) -> list[_Pair]:
        return [cast(_Pair, pair) for pair in self.pairs]

    def start(self, n: int) -> State:
        """Return the memory before anything was seen: zeros."""
        like, state = self.embed.weight, State()
        for i, pair in enumerate(self._pairs()):
            for kind, size in zip("fkv", (pair.sizes[-2], *pair.split[1:]), strict=True):
                state[f"{kind}{i}"] = like.new_zeros(n, self.context, size)
        return {"h": like.new_zeros(n, self.n_outputs), "count": like.new_zeros(n, dtype=torch.int64), **state}

    def step(self, x: Tensor, memory: State) -> State:
        """Take in one row per sequence, x [N, n_inputs]; `memory["h"]` is the output."""
        count = memory["count"]
        seen, after = history.filled(count, self.context)[:, None, :], {"count": count + 1}
        y = self.embed(x)
        for i, pair in enumerate(self._pairs()):
            past = memory[f"f{i}"]
            for j, dilation in enumerate(pair.dilations):
                y = pair.convolve(j, y, history.look_back(past[:, :, : pair.sizes[j]], count, dilation))
            after[f"f{i}"] = history.append(past, count, y[:, : pair.sizes[-2]])
            q, k, v = pair.attention(y).split(pair.split, dim=-1)
            after[f"k{i}"] = history.append(memory[f"k{i}"], count, k)
            after[f"v{i}"] = history.append(memory[f"v{i}"], count, v)
            read = F.scaled_dot_product_attention(q[:, None], after[f"k{i}"], after[f"v{i}"], attn_mask=seen)
            y = torch.cat([y, read[:, 0]], dim=-1)
        return {"h": y, **after}

    def unroll(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Take in sequences x [T, N, n_inputs]; return the outputs [T, N, n_outputs] and the last memory.

        From an empty memory this is one pass over all steps at once; from any other one it goes step by step.
        """
        if bool(memory["count"].any()):
            return step_by_step(self.step, x, memory)
        mask = history.window(len(x), self.context, x.device)
        y, after = self.embed(x), {"count": memory["count"] + len(x)}
        for i, pair in enumerate(self._pairs()):
            for j, dilation in enumerate(pair.dilations):
                y = pair.convolve(j, y, delayed(y, dilation))
            q, k, v = pair.attention(y).split(pair.split, dim=-1)
            for key, value in ((f"f{i}", y[..., : pair.sizes[-2]]), (f"k{i}", k), (f"v{i}", v)):
                after[key] = history.to_ring(value.detach(), self.context)
            q, k, v = (part.transpose(0, 1) for part in (q, k, v))
            read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
            y = torch.cat([y, read.transpose(0, 1)], dim=-1)
        return y, {"h": y[-1], **after}
