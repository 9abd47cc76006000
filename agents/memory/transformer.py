"""A causal transformer as memory: each step attends to all steps of its trial so far.

Vaswani et al. 2017 (arXiv:1706.03762) with layer norms before each block (Xiong et al. 2020, arXiv:2002.04745) and
rotary positions (Su et al. 2021, arXiv:2104.09864), so that a head sees *how long ago* a step was. Acting keeps keys
and values of past steps instead of computing them again; it gives the numbers of the full forward pass to rounding.
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
from metarl.errors import ConfigError

from . import history
from .recurrent import CoreSize, empty_linear, orthogonal, step_by_step


@dataclass(frozen=True)
class TransformerConfig:
    """Settings of the transformer; its width is the agent's `hidden`."""

    recurrent: ClassVar[bool] = False

    layers: int = 2
    """Blocks of attention and feed-forward layer, >= 1."""
    heads: int = 4
    """Attention heads per block, >= 1; `hidden` / `heads` must be even."""
    widening: int = 2
    """Units of a feed-forward layer per unit of width, >= 1."""
    context: int | None = None
    """Env steps that it can look back, at least a whole training trial (None: exactly that). In longer trials, as an
    evaluation may have them, the oldest steps are forgotten."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "rl2.transformer.", {">= 1": "layers heads widening", ">= 1, or None": "context"})

    def check_width(self, hidden: int) -> None:
        """Raise ConfigError if heads of even size cannot share `hidden` units."""
        if hidden % (2 * self.heads):
            raise ConfigError(
                f"rl2.hidden must be a multiple of 2 x rl2.transformer.heads = {2 * self.heads} (rotary positions turn "
                f"pairs of units), got {hidden}; try {-(-hidden // (2 * self.heads)) * 2 * self.heads}"
            )

    def build(self, size: CoreSize) -> TransformerCore:
        """Return the memory with fresh weights; raises ConfigError if its context is shorter than a trial."""
        context = history.checked_context(self.context, size.trial_steps, "transformer")
        return TransformerCore(self, size.n_inputs, size.hidden, context, size.generator, size.device)


def rotate(x: Tensor, position: Tensor) -> Tensor:
    """Turn pairs of units (i, i + d/2) of x [..., d] by the angle position * 10000^(-2i/d); `position` is [...].

    Su et al. 2021, equation 34: the product of a turned query and a turned key depends on their distance only.
    """
    half = x.shape[-1] // 2
    frequency = torch.exp(torch.arange(half, dtype=x.dtype, device=x.device) * (-math.log(1e4) / half))
    angle = position.to(x.dtype)[..., None] * frequency
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class _Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, config: TransformerConfig, generator: torch.Generator, device: torch.device) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm_attention = nn.LayerNorm(width, device=device)
        self.norm_forward = nn.LayerNorm(width, device=device)
        self.qkv, self.out = empty_linear(width, 3 * width, device), empty_linear(width, width, device)
        wide = config.widening * width
        self.up, self.down = empty_linear(width, wide, device), empty_linear(wide, width, device)
        # What a block adds starts small, so that the sum over all blocks keeps its size.
        added = 1.0 / math.sqrt(2.0 * config.layers)
        with torch.no_grad():
            for part in self.qkv.weight.chunk(3):
                orthogonal(part, 1.0, generator)
            for layer, gain in ((self.out, added), (self.up, math.sqrt(2.0)), (self.down, added)):
                orthogonal(layer.weight, gain, generator)
            for layer in (self.qkv, self.out, self.up, self.down):
                layer.bias.zero_()

    def project(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values [..., heads, width / heads] of x [..., width]; `position` is [...]."""
        parts = self.qkv(self.norm_attention(x))
        parts = parts.view(*x.shape[:-1], 3, self.heads, -1)
        q, k, v = parts.unbind(-3)
        position = position[..., None].expand(q.shape[:-1])
        return rotate(q, position), rotate(k, position), v

    def finish(self, x: Tensor, read: Tensor) -> Tensor:
        """Return the block's output from its input and what attention read, [..., heads, width / heads]."""
        x = x + self.out(read.flatten(-2))
        return cast(Tensor, x + self.down(F.gelu(self.up(self.norm_forward(x)))))


class TransformerCore(nn.Module):
    """The memory: "h" [N, hidden], "count" [N] (steps seen), keys and values "k0", "v0", ... [N, context, hidden]."""

    def __init__(
        self,
        config: TransformerConfig,
        n_inputs: int,
        hidden: int,
        context: int,
        generator: torch.Generator,
        device: torch.device | str,
    ) -> None:
        """Draw the weights from `generator`; raises ConfigError if heads and `hidden` do not fit."""
        super().__init__()
        config.check_width(hidden)
        self.n_outputs, self.context, self.heads = hidden, context, config.heads
        self.embed = empty_linear(n_inputs, hidden, device)
        with torch.no_grad():
            orthogonal(self.embed.weight, 1.0, generator)
            self.embed.bias.zero_()
        self.blocks = nn.ModuleList(
            _Block(hidden, config, generator, torch.device(device)) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(hidden, device=device)
        caches = [f"{kind}{i}" for i in range(config.layers) for kind in "kv"]
        self.keys: tuple[str, ...] = ("h", "count", *caches)

    def _blocks(self) -> list[_Block]:
        return [cast(_Block, block) for block in self.blocks]

    def start(self, n: int) -> State:
        """Return the memory before anything was seen: zeros."""
        like = self.embed.weight
        state = {k: like.new_zeros(n, self.context, self.n_outputs) for k in self.keys[2:]}
        return {"h": like.new_zeros(n, self.n_outputs), "count": like.new_zeros(n, dtype=torch.int64), **state}

    def step(self, x: Tensor, memory: State) -> State:
        """Take in one row per sequence, x [N, n_inputs]; `memory["h"]` is the output."""
        count = memory["count"]
        seen = history.filled(count, self.context)[:, None, None, :]
        y, after = self.embed(x), {"count": count + 1}
        for i, block in enumerate(self._blocks()):
            q, k, v = block.project(y, count)
            caches = []
            for key, value in ((f"k{i}", k), (f"v{i}", v)):
                after[key] = history.append(memory[key], count, value.flatten(-2))
                split = after[key].view(len(count), self.context, self.heads, -1)
                caches.append(split.transpose(1, 2))
            read = F.scaled_dot_product_attention(q[:, :, None], caches[0], caches[1], attn_mask=seen)
            y = block.finish(y, read[:, :, 0])
        return {"h": self.norm(y), **after}

    def unroll(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Take in sequences x [T, N, n_inputs]; return the outputs [T, N, hidden] and the last memory.

        From an empty memory this is one pass over all steps at once; from any other one it goes step by step.
        """
        if bool(memory["count"].any()):
            return step_by_step(self.step, x, memory)
        n_steps, n_rows = x.shape[:2]
        position = torch.arange(n_steps, device=x.device)[:, None].expand(n_steps, n_rows)
        mask = history.window(n_steps, self.context, x.device)
        y, after = self.embed(x), {"count": memory["count"] + n_steps}
        for i, block in enumerate(self._blocks()):
            q, k, v = block.project(y, position)
            for key, value in ((f"k{i}", k), (f"v{i}", v)):
                after[key] = history.to_ring(value.detach().flatten(-2), self.context)
            q, k, v = (part.permute(1, 2, 0, 3) for part in (q, k, v))
            read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
            y = block.finish(y, read.permute(2, 0, 1, 3))
        y = self.norm(y)
        return y, {"h": y[-1], **after}
