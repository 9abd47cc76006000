"""Named random streams: every random number is a function of (seed, stream name, keys).

Nothing here keeps state, so resuming a run needs no generator state: iteration 17 of stream "tasks" is the same
numbers whether the process started at 0 or at 17.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from .moved import moved

__getattr__ = moved(__name__, __name__, {"CopyStreams": "EnvStreams"})

_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed 64-bit number (Steele et al. 2014, SplitMix64)
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def derive(seed: int, *keys: str | int) -> int:
    """Return a 63-bit seed for the stream that `keys` name under `seed`; different keys give unrelated seeds."""
    text = "\x1f".join([str(int(seed)), *(f"{type(k).__name__}:{k}" for k in keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *keys: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh torch generator for the stream that `keys` name under `seed`."""
    return torch.Generator(device=device).manual_seed(derive(seed, *keys))


class RowsGenerator(torch.Generator):
    """Stands for `source` where only `own` of `n` rows are computed: `normal` draws for all of them and keeps those."""

    source: torch.Generator
    n: int
    own: slice

    @classmethod
    def of(cls, source: torch.Generator, n: int, own: slice) -> torch.Generator:
        """Return `source` itself if the rows are all there are, else what stands for it."""
        if own == slice(0, n):
            return source
        made = cls(device=source.device)
        made.source, made.n, made.own = source, n, own
        return made


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers in the shape of `like`, rows first."""
    if isinstance(generator, RowsGenerator):
        shape = (generator.n, *like.shape[1:])
        return torch.randn(shape, generator=generator.source, device=like.device, dtype=like.dtype)[generator.own]
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Shift right logically (torch shifts signed integers arithmetically)."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mix(z: Tensor) -> Tensor:
    """Scramble int64 values with SplitMix64's finaliser; a bijection on 64-bit integers."""
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


class EnvStreams:
    """Counter-based random numbers, one independent stream per env of a world.

    Draw number `counter` of env i depends on (seed, i, counter) and nothing else: not on how many envs there are,
    nor on what the other envs drew. All arrays stay on `device`; there is no state besides the counters that the
    world itself keeps.
    """

    def __init__(self, num_envs: int, seed: int, device: torch.device | str = "cpu", *, first: int = 0) -> None:
        """`first` is the number of the first env, for those that are some among the envs of several processes."""
        each = torch.arange(1 + first, num_envs + first + 1, dtype=torch.int64, device=device)
        self.keys = mix(mix(torch.full_like(each, derive(seed, "copy-streams"))) + each * _GOLDEN)

    def _bits(self, counter: Tensor | int, n: int) -> Tensor:
        lane = torch.arange(1, n + 1, dtype=torch.int64, device=self.keys.device) * _GOLDEN
        if isinstance(counter, int):
            counter = torch.tensor(counter, dtype=torch.int64, device=self.keys.device)
        base = mix(self.keys + (counter + 1) * _MIX_1)
        return mix(base[:, None] + lane)

    def uniform(self, counter: Tensor | int, n: int = 1) -> Tensor:
        """Return draw `counter` (an int, or int64 [B]) of each env: float32 [B, n], uniform on [0, 1)."""
        return _shift_right(self._bits(counter, n), 40).to(torch.float32) * 2.0**-24

    def normal(self, counter: Tensor | int, n: int = 1) -> Tensor:
        """Return draw `counter` of each env: float32 [B, n], standard normal (Box and Muller 1958)."""
        pairs = (n + 1) // 2
        u = self.uniform(counter, 2 * pairs)
        radius = (-2.0 * torch.log1p(-u[:, :pairs])).sqrt()
        angle = (2.0 * torch.pi) * u[:, pairs:]
        return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :n]
