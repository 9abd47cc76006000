"""What the interpreter computes with: symbolic scalars, vectors of them, and values of more than one Python type.

Upstream mixes Python numbers, NumPy scalars of two widths and truth values, and the result of an operation depends on
which it got: `float32 * 0.5` is rounded to float32, `float64(float32) * 0.5` is not. So each scalar carries its `Kind`,
and what kind an operation yields is asked of Python and NumPy themselves, with sample operands.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np

from metarl.envs.metaworld.program import DType

Kind: TypeAlias = Literal["bool", "int", "float", "b8", "i64", "f32", "f64"]
"""Python's bool, int and float, then NumPy's scalars."""

Value: TypeAlias = Any
"""Anything upstream's variables hold: Scalar, Vector, Either, or a concrete Python object."""

DTYPE: dict[Kind, DType] = {
    "bool": "bool", "int": "i64", "float": "f64", "b8": "bool", "i64": "i64", "f32": "f32", "f64": "f64",
}  # fmt: skip
"""What a scalar of each kind is computed in."""

SAMPLE: dict[Kind, Any] = {
    "bool": True, "int": 1, "float": 1.0, "b8": np.True_, "i64": np.int64(1), "f32": np.float32(1),
    "f64": np.float64(1),
}  # fmt: skip
_KIND_OF_TYPE: dict[type, Kind] = {type(sample): kind for kind, sample in SAMPLE.items()}


class UpstreamRaisesError(Exception):
    """Upstream's code raises here; a branch that always does so is taken to be never entered."""

    where = ""
    """Innermost statement, "file:line"."""


@dataclass(frozen=True)
class Scalar:
    """One number, known as a node."""

    node: int
    kind: Kind


@dataclass(eq=False)
class Vector:
    """An array of scalars of one NumPy kind. Slices share memory with it, as in NumPy."""

    items: np.ndarray[Any, np.dtype[np.object_]]
    kind: Kind
    writable: bool = True

    def like(self, items: np.ndarray[Any, Any]) -> Vector:
        """Return a view or a copy of this vector with other items."""
        return Vector(items, self.kind, self.writable)


@dataclass(frozen=True)
class Either:
    """One of several values of different kinds; exactly one guard (a bool node) is true."""

    alternatives: tuple[tuple[int, Value], ...]


class Unbound:
    """A local variable or attribute that was assigned in the other branch only."""


UNBOUND = Unbound()


def kind_of(value: Value) -> Kind | None:
    """Return the kind of a scalar, symbolic or concrete; None for anything else."""
    return value.kind if isinstance(value, Scalar) else _KIND_OF_TYPE.get(type(value))


def group_of(value: Value) -> Any:
    """Return what two values must share so that a `select` can join them."""
    if isinstance(value, Vector):
        return ("vector", value.kind, value.items.shape)
    if isinstance(value, list | tuple):
        return (type(value), len(value))
    if isinstance(value, dict):
        return (dict, tuple(value))
    return kind_of(value) or ("object", id(value) if not isinstance(value, str) else value)


def alternatives(value: Value, always: int) -> tuple[tuple[int, Value], ...]:
    """Return the (guard, value) pairs of a value; `always` is the node of True."""
    return value.alternatives if isinstance(value, Either) else ((always, value),)


def is_symbolic(value: Value) -> bool:
    """Tell whether a value, or anything inside it, is not known before the program runs."""
    if isinstance(value, list | tuple):
        return any(is_symbolic(v) for v in value)
    if isinstance(value, dict):
        return any(is_symbolic(v) for v in value.values())
    return isinstance(value, Scalar | Vector | Either)


@cache
def result_kind(function: Callable[..., Any], *kinds: Kind) -> Kind | None:
    """Return the kind of `function` on scalars of these kinds, None where Python or NumPy refuses."""
    try:
        result = function(*(SAMPLE[k] for k in kinds))
    except TypeError:
        return None
    return _KIND_OF_TYPE.get(type(result))


def array_kind(kinds: Sequence[Kind]) -> Kind:
    """Return the kind of an array made of scalars of these kinds (a Python float is a full float64 there)."""
    kind = _KIND_OF_TYPE.get(np.result_type(*(np.asarray(SAMPLE[k]) for k in kinds)).type)
    assert kind is not None, kinds
    return kind


def each(vector: Vector) -> Iterator[Scalar]:
    """Iterate over all scalars of a vector in row-major order."""
    yield from vector.items.ravel()


def object_array(items: Sequence[Any], shape: tuple[int, ...] | None = None) -> np.ndarray[Any, Any]:
    """Return an array that holds `items` as they are."""
    out = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        out[i] = item
    return out if shape is None else out.reshape(shape)


ARITHMETIC: dict[str, tuple[str, Callable[..., Any]]] = {
    "Add": ("add", operator.add),
    "Sub": ("sub", operator.sub),
    "Mult": ("mul", operator.mul),
    "Div": ("div", operator.truediv),
    "Pow": ("pow", operator.pow),
}
"""Python's operators by the name of their syntax node: the program's operation, and the operator itself."""

COMPARISONS: dict[str, tuple[str, bool, Callable[..., Any]]] = {
    "Lt": ("lt", False, operator.lt),
    "LtE": ("le", False, operator.le),
    "Gt": ("lt", True, operator.gt),
    "GtE": ("le", True, operator.ge),
    "Eq": ("eq", False, operator.eq),
    "NotEq": ("ne", False, operator.ne),
}
"""Likewise; the flag says that the operands change places."""
