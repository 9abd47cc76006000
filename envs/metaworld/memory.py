"""MuJoCo's structures as they lie in memory, and one array over the memory of many of them.

Reading an array of `mujoco.MjData` through Python costs about a microsecond; a batch of envs needs hundreds of
numbers of it each step. So the Python core computes addresses once, and reads and writes all envs with one indexed
NumPy call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from mujoco.introspect import ast_nodes, structs
from numpy.typing import NDArray

_SCALARS: dict[str, Any] = {
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "float": ctypes.c_float,
    "char": ctypes.c_char,
    "mjtNum": ctypes.c_double,
    "mjtByte": ctypes.c_ubyte,
    "size_t": ctypes.c_size_t,
    "uint64_t": ctypes.c_uint64,
    "uintptr_t": ctypes.c_size_t,
}

Addresses = NDArray[np.intp]


@cache
def layout(name: str) -> Any:
    """Return the ctypes structure of MuJoCo's struct `name`, from the description that the mujoco package carries."""
    return _structure(structs.STRUCTS[name])


def _structure(declaration: Any) -> Any:
    fields = [(field.name, _c_type(field.type)) for field in declaration.fields]
    return type(getattr(declaration, "name", "anonymous"), (ctypes.Structure,), {"_fields_": fields})


def _c_type(described: Any) -> Any:
    if isinstance(described, ast_nodes.PointerType):
        return ctypes.c_void_p
    if isinstance(described, ast_nodes.ArrayType):
        inner = _c_type(described.inner_type)
        for extent in reversed(described.extents):
            inner = inner * extent
        return inner
    if isinstance(described, ast_nodes.AnonymousStructDecl):
        return _structure(described)
    return _SCALARS.get(described.name) or layout(described.name)


def offset(struct: str, field: str) -> int:
    """Return where `field` lies in a struct, bytes."""
    return int(getattr(layout(struct), field).offset)


def address_of(array: NDArray[Any]) -> int:
    """Return where an array's first element lies."""
    return int(array.__array_interface__["data"][0])


class Memory:
    """Numbers at given addresses, in all of the process's memory between the lowest and the highest of them.

    An address must belong to something alive: nothing is checked. Addresses become positions once (`doubles`, `ints`,
    `pointers`), which then serve in each step.
    """

    def __init__(self, addresses: Iterable[int]) -> None:
        """Span the given addresses, and what lies less than a gigabyte behind the last."""
        known = list(addresses)
        self._base = min(known) // 64 * 64
        size = (max(known) + 2**30 - self._base) // 64 * 64
        whole: Any = (ctypes.c_char * size).from_address(self._base)
        self.f64: NDArray[np.float64] = np.frombuffer(whole, np.float64)
        """The memory as float64, indexed by `doubles`."""
        self.i32: NDArray[np.int32] = np.frombuffer(whole, np.int32)
        """The memory as int32, indexed by `ints`."""
        self.i64: NDArray[np.int64] = np.frombuffer(whole, np.int64)
        """The memory as int64, indexed by `doubles`."""

    def doubles(self, addresses: Any) -> Addresses:
        """Return positions in `f64` and `i64` of addresses (any shape)."""
        return np.ascontiguousarray((np.asarray(addresses, np.intp) - self._base) // 8)

    def ints(self, addresses: Any) -> Addresses:
        """Return positions in `i32` of addresses (any shape)."""
        return np.ascontiguousarray((np.asarray(addresses, np.intp) - self._base) // 4)
