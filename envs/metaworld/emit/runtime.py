"""What emitted array code calls, on NumPy and on PyTorch, and the functions that come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from metarl.envs.metaworld.program import DType, Program

from .arrays import emit_arrays
from .semantics import NUMPY_DTYPE, TRANSCENDENTAL, power

_TORCH_DTYPE = {"f64": torch.float64, "f32": torch.float32, "i64": torch.int64, "bool": torch.bool}


class Result(NamedTuple):
    """What a program computes for N envs: NumPy arrays or tensors, float64."""

    obs: Any
    """[39, N]."""
    reward: Any
    """[N]."""
    info: Any
    """[7, N]."""
    slots: Any
    """[n_slots, N], new."""


class NumpyRuntime:
    """NumPy's functions: the bits of upstream's scalars and of the emitted C++."""

    sqrt = staticmethod(np.sqrt)
    minimum = staticmethod(np.minimum)
    maximum = staticmethod(np.maximum)
    select = staticmethod(np.where)
    pow = staticmethod(power)
    copy = staticmethod(np.copy)

    def __init__(self) -> None:
        for name in TRANSCENDENTAL:
            setattr(self, name, getattr(np, name))

    @staticmethod
    def constant(value: float, dtype: DType) -> Any:
        """Return a number of that type."""
        return NUMPY_DTYPE[dtype](value)

    @staticmethod
    def column(values: Sequence[float], dtype: DType) -> Any:
        """Return numbers as [k, 1], to be spread over N envs."""
        return np.array(values, NUMPY_DTYPE[dtype])[:, None]

    @staticmethod
    def cast(x: Any, dtype: DType) -> Any:
        """Convert; truth values are 0 and 1."""
        return x.astype(NUMPY_DTYPE[dtype])

    @staticmethod
    def empty(n: int, like: Any) -> Any:
        """Return [n, N] float64, N from `like` [any, N]."""
        return np.empty((n, like.shape[1]))

    @staticmethod
    def stack(rows: Sequence[Any], like: Any) -> Any:
        """Return [k, N] of k arrays [N] or numbers."""
        stacked = np.empty((len(rows), like.shape[1]), rows[0].dtype)
        for target, row in zip(stacked, rows, strict=True):
            target[...] = row
        return stacked

    @staticmethod
    def dot(x: Any, y: Any) -> Any:
        """Return BLAS's inner products of the columns of two [k, N], as it computes them for contiguous vectors."""
        columns = x.T.copy()
        return np.vecdot(columns, columns if y is x else y.T.copy())


class TorchRuntime:
    """PyTorch's functions: equal to NumPy's up to rounding, because exp, pow, inner products... round otherwise."""

    sqrt = staticmethod(torch.sqrt)
    minimum = staticmethod(torch.minimum)
    maximum = staticmethod(torch.maximum)
    select = staticmethod(torch.where)
    pow = staticmethod(torch.pow)
    copy = staticmethod(torch.clone)

    def __init__(self, device: torch.device) -> None:
        self.device = device
        for name in TRANSCENDENTAL:
            setattr(self, name, getattr(torch, name))

    def constant(self, value: float, dtype: DType) -> Any:
        """Return a number of that type."""
        return torch.tensor(value, dtype=_TORCH_DTYPE[dtype], device=self.device)

    def column(self, values: Sequence[float], dtype: DType) -> Any:
        """Return numbers as [k, 1], to be spread over N envs."""
        return torch.tensor(values, dtype=_TORCH_DTYPE[dtype], device=self.device)[:, None]

    @staticmethod
    def cast(x: Any, dtype: DType) -> Any:
        """Convert; truth values are 0 and 1."""
        return x.to(_TORCH_DTYPE[dtype])

    @staticmethod
    def empty(n: int, like: Any) -> Any:
        """Return [n, N] float64, N from `like` [any, N]."""
        return torch.empty(n, like.shape[1], dtype=torch.float64, device=like.device)

    @staticmethod
    def stack(rows: Sequence[Any], like: Any) -> Any:
        """Return [k, N] of k tensors [N] or []."""
        return torch.stack([row.expand(like.shape[1]) for row in rows])

    @staticmethod
    def dot(x: Any, y: Any) -> Any:
        """Return the inner products of the columns of two [k, N]."""
        total = x[0] * y[0]
        for a, b in zip(x[1:], y[1:], strict=True):
            total = total + a * b
        return total


@dataclass(frozen=True)
class ArrayProgram:
    """A program as a function on arrays; keeps its source for the reader."""

    key: str
    source: str
    run: Callable[[Any, Any, Any], tuple[Any, Any, Any, Any]]
    backend: Literal["numpy", "torch"]

    def __call__(self, reads: Any, slots: Any, action: Any) -> Result:
        """Compute the program for N envs.

        Args:
            reads: [F, N] float64, the program's reads after the step ("touching" as 0 or 1).
            slots: [n_slots, N] float64.
            action: [4, N] float32, as passed to step.
        """
        if self.backend == "torch":
            return Result(*self.run(reads, slots, action))
        with np.errstate(all="ignore"):  # upstream's NaN and inf are results here
            return Result(*self.run(reads, slots, action))


def compile_arrays(
    program: Program, backend: Literal["numpy", "torch"] = "numpy", device: torch.device | str = "cpu"
) -> ArrayProgram:
    """Return a program as a function on arrays.

    Raises:
        ConfigError: if the program breaks a rule of `program.py`.
    """
    source = emit_arrays(program)
    namespace: dict[str, Any] = {}
    exec(compile(source, f"<{program.key}>", "exec"), namespace)
    runtime = NumpyRuntime() if backend == "numpy" else TorchRuntime(torch.device(device))
    return ArrayProgram(program.key, source, namespace[program.key](runtime), backend)
