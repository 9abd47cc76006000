"""What each operation of a program means: NumPy's own function, the one that upstream calls.

Upstream computes with NumPy scalars. Measured (NumPy 2.4, x86-64): a NumPy function gives the same bits for a scalar
and for an array, but `scalar ** scalar` is the C library's `pow`, which `np.float_power` calls too and `np.power` not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.metaworld.program import DType

NUMPY_DTYPE: Mapping[DType, type[np.generic]] = {
    "f64": np.float64,
    "f32": np.float32,
    "i64": np.int64,
    "bool": np.bool_,
}

TRANSCENDENTAL = ("exp", "log", "sin", "cos", "tan", "arcsin", "arccos", "arctan2", "tanh", "arctanh", "cosh")
"""Operations that NumPy computes with its own vector code, whose last bit may differ from the C library's."""

FLOAT_ONLY = frozenset((*TRANSCENDENTAL, "div", "sqrt", "pow", "dot"))


def dot(*operands: Any) -> Any:
    """Return NumPy's inner product of x1..xk with y1..yk.

    `operands` are 2k scalars or arrays [N]. BLAS rounds contiguous vectors and strided ones differently from k = 4 on;
    upstream's are contiguous.
    """
    k = len(operands) // 2
    x = np.ascontiguousarray(np.stack(operands[:k], axis=-1))
    return np.vecdot(x, np.ascontiguousarray(np.stack(operands[k:], axis=-1)))


def power(x: Any, y: Any) -> Any:
    """Return what `x ** y` is for two NumPy scalars, for arrays too: the C library's `pow` or `powf`."""
    if x.dtype == np.float64:
        return np.float_power(x, y)
    pairs = np.broadcast(x, y)
    values: NDArray[np.float32] = np.array([np.float32(a) ** np.float32(b) for a, b in pairs], np.float32)
    return values.reshape(pairs.shape)


FUNCTION: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "abs": np.absolute,
    "sqrt": np.sqrt,
    "pow": power,
    **{name: getattr(np, name) for name in TRANSCENDENTAL},
    "minimum": np.minimum,
    "maximum": np.maximum,
    "dot": dot,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "select": np.where,
}
"""All operations with operands but `cast`, for operands of the right types."""


def constant(op: str, dtype: DType, args: Sequence[tuple[DType, Any]]) -> Any:
    """Compute an operation on constants given as (type, value); return a Python number."""
    with np.errstate(all="ignore"):
        operands = [NUMPY_DTYPE[kind](value) for kind, value in args]
        result = operands[0] if op == "cast" else FUNCTION[op](*operands)
        return np.asarray(result).astype(NUMPY_DTYPE[dtype]).item()
