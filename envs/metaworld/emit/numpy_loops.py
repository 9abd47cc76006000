"""NumPy's arithmetic as compiled code can use it: addresses of its inner loops, and how its inner product rounds.

NumPy computes exp, log, tanh and the like with vector code of its own that differs from the C library's in the last
bits (measured: exp in 5 % of arguments, tanh in 28 %, sin and cos in none). Upstream's rewards come from NumPy, so
compiled programs call the same code: `functions[]` of NumPy's public ufunc struct (numpy/ufuncobject.h) holds C
functions that need neither Python objects nor the GIL.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np

from metarl.envs.metaworld.program import Program
from metarl.errors import ConfigError

from .semantics import TRANSCENDENTAL

_N_PROBES = 200
"""Random vectors per length; the two orders differ in a quarter of them or more."""


class NumpyFunction(ctypes.Structure):
    """`NumpyFunction` of program.hpp: an inner loop and its data, both null where NumPy's is not to be had."""

    _fields_ = (("loop", ctypes.c_void_p), ("data", ctypes.c_void_p))


class _Ufunc(ctypes.Structure):
    """The head of PyUFuncObject, unchanged from NumPy 1 to 2."""

    _fields_ = (
        ("ob_refcnt", ctypes.c_ssize_t),
        ("ob_type", ctypes.c_void_p),
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
        ("reserved1", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("types", ctypes.POINTER(ctypes.c_ubyte)),
    )


def numpy_functions() -> ctypes.Array[NumpyFunction]:
    """Return the table for `set_numpy_functions` of the compiled programs, which copies it.

    An entry is null, so that programs use the C library there, where the running NumPy does not look as expected.
    """
    kinds = (np.dtype(np.float64), np.dtype(np.float32))
    loops = [_loop(getattr(np, name), dtype) for dtype in kinds for name in TRANSCENDENTAL]
    return (NumpyFunction * len(loops))(*loops)


def _loop(function: np.ufunc, dtype: np.dtype[np.floating]) -> NumpyFunction:
    head = _Ufunc.from_address(id(function))
    expected = (function.nin, function.nout, function.nargs, function.ntypes, function.__name__.encode())
    if (head.nin, head.nout, head.nargs, head.ntypes, head.name) != expected:
        return NumpyFunction()
    for i in range(head.ntypes):
        if all(head.types[i * head.nargs + j] == dtype.num for j in range(head.nargs)):
            return NumpyFunction(head.functions[i], head.data[i])
    return NumpyFunction()


def dot_lengths(programs: Iterable[Program]) -> set[int]:
    """Return the lengths of all float64 inner products in the programs."""
    return {len(n.args) // 2 for p in programs for n in p.nodes if n.op == "dot" and n.dtype == "f64"}


def dot_is_fused(lengths: Iterable[int] = (2, 3, 4)) -> bool:
    """Return whether NumPy's inner product of such short vectors is a chain of fused multiply-adds on this machine.

    Raises:
        ConfigError: if for some length it is neither that nor the plain sum of rounded products.
    """
    lengths = sorted(lengths)
    if all(_dot_is(_plain_dot, k) for k in lengths):
        return False
    for k in lengths:
        if not _dot_is(_fused_dot, k):
            raise ConfigError(
                f"NumPy's inner product of {k} numbers rounds in an order unknown here; expected a chain of "
                "multiply-adds, fused or not, for all lengths. Use the Python core, which calls NumPy itself."
            )
    return True


def _dot_is(order: Callable[[list[float], list[float]], float], k: int) -> bool:
    generator = np.random.default_rng(k)
    x, y = generator.normal(size=(2, _N_PROBES, k))
    expected = [order(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return bool(np.array_equal([a.dot(b) for a, b in zip(x, y, strict=True)], expected))


def _plain_dot(x: list[float], y: list[float]) -> float:
    total = 0.0
    for a, b in zip(x, y, strict=True):
        total += a * b
    return total


def _fused_dot(x: list[float], y: list[float]) -> float:
    total = 0.0
    for a, b in zip(x, y, strict=True):
        total = float(Fraction(a) * Fraction(b) + Fraction(total))  # exact, then rounded once
    return total
