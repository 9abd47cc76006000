"""Upstream's arithmetic on symbolic values, with Python's and NumPy's rules of promotion."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from metarl.envs.metaworld.program import DType

from .builder import Builder
from .values import (
    ARITHMETIC,
    COMPARISONS,
    DTYPE,
    UNBOUND,
    Either,
    Kind,
    Scalar,
    UpstreamRaisesError,
    Value,
    Vector,
    alternatives,
    array_kind,
    group_of,
    is_symbolic,
    kind_of,
    object_array,
    result_kind,
)


class NotUnderstoodError(Exception):
    """Something the interpreter does not know how to write as a program; the message says what."""


class Algebra:
    """Operations on values; results that are known at once stay concrete."""

    def __init__(self, builder: Builder) -> None:
        self.build = builder
        self.always = builder.const(True, "bool")

    # ------------------------------------------------------------ conversions

    def scalar(self, value: Value) -> Scalar:
        """Return a scalar, symbolic or concrete, as a symbolic one."""
        if isinstance(value, Scalar):
            return value
        kind = kind_of(value)
        if kind is None:
            raise UpstreamRaisesError(f"{type(value).__name__} where a number is needed")
        return Scalar(self.build.const(value, DTYPE[kind]), kind)

    def node(self, value: Value, dtype: DType) -> int:
        """Return the node of a value converted to `dtype`, whatever its kind."""
        if isinstance(value, Either):
            return self.node(self.lift(lambda v: Scalar(self.node(v, dtype), "f64"), value), dtype)
        if isinstance(value, Vector):
            if value.items.size != 1:
                raise UpstreamRaisesError("an array of more than one number where a number is needed")
            value = value.items.ravel()[0]
        return self.build.cast(self.scalar(value).node, dtype)

    def convert(self, value: Value, kind: Kind) -> Scalar:
        """Return a value as a scalar of `kind`."""
        return Scalar(self.node(value, DTYPE[kind]), kind)

    def wrap(self, value: Value, writable: bool = True) -> Value:
        """Return `value` with NumPy arrays, also inside tuples and lists, turned into vectors."""
        if isinstance(value, np.ndarray):
            if value.dtype == object:
                raise NotUnderstoodError("an array of objects")
            kind = kind_of(value.dtype.type(0))
            if kind is None:
                raise NotUnderstoodError(f"an array of {value.dtype}")
            items = [self.scalar(v) for v in value.ravel()]
            return Vector(object_array(items, value.shape), kind, writable)
        if type(value) in (list, tuple):
            return type(value)(self.wrap(v, writable) for v in value)
        return value

    def vector(self, value: Value) -> Vector:
        """Return numbers, or nested lists of them, as a vector: NumPy's `asarray`."""
        if isinstance(value, Vector):
            return value
        if isinstance(value, list | tuple):
            parts = [self.vector(v) for v in value]
            shapes = {p.items.shape for p in parts}
            if len(shapes) > 1 or not parts:
                raise NotUnderstoodError("an array of ragged or no parts")
            kind = array_kind([p.kind for p in parts])
            items = [self.convert(s, kind) for p in parts for s in p.items.ravel()]
            return Vector(object_array(items, (len(parts), *shapes.pop())), kind)
        if isinstance(value, Either):
            kinds = {array_kind([k]) for _, v in value.alternatives if (k := kind_of(v)) is not None}
            if len(kinds) != 1:
                raise NotUnderstoodError("an array whose type depends on the state")
            kind = kinds.pop()
        else:
            kind = array_kind([self.scalar(value).kind])
        return Vector(object_array([self.convert(value, kind)], ()), kind)

    def unwrap(self, items: Any, kind: Kind) -> Value:
        """Return a ufunc's result: a scalar if it has no axes, as NumPy does, else a vector."""
        return items[()] if items.shape == () else Vector(items, kind)

    # ------------------------------------------------------------ joining and lifting

    def lift(self, function: Callable[..., Value], *args: Value) -> Value:
        """Apply `function` to each combination of alternatives and join the results.

        Combinations on which upstream would raise are taken to be impossible.
        """
        if not any(isinstance(a, Either) for a in args):
            return function(*args)
        results: list[tuple[int, Value]] = []
        refusal = UpstreamRaisesError("")
        for choice in itertools.product(*(alternatives(a, self.always) for a in args)):
            guard = reduce(lambda a, b: self.build.op("and", a, b), (g for g, _ in choice))
            if self.build.value_of(guard) is not None and not self.build.value_of(guard):
                continue
            try:
                result = function(*(v for _, v in choice))
            except UpstreamRaisesError as error:
                refusal = error
                continue
            results += [(self.build.op("and", guard, g), v) for g, v in alternatives(result, self.always)]
        if not results:
            raise refusal
        return self._grouped(results)

    def _grouped(self, results: list[tuple[int, Value]]) -> Value:
        """Join alternatives of one group, and return a plain value if a single group is left."""
        groups: dict[Any, tuple[int, Value]] = {}
        for guard, value in reversed(results):
            key = group_of(value)
            if key in groups:
                other_guard, other = groups[key]
                groups[key] = (self.build.op("or", guard, other_guard), self.join(guard, value, other))
            else:
                groups[key] = (guard, value)
        if len(groups) == 1:
            return next(iter(groups.values()))[1]
        return Either(tuple(groups.values()))

    def join(self, condition: int, yes: Value, no: Value) -> Value:
        """Return what a variable holds after an `if`: `yes` where `condition`, else `no`."""
        known = self.build.value_of(condition)
        if known is not None:
            return yes if known else no
        if yes is no or no is UNBOUND:
            return yes
        if yes is UNBOUND:
            return no
        if isinstance(yes, Either) or isinstance(no, Either) or group_of(yes) != group_of(no):
            return self._join_groups(condition, yes, no)
        if kind_of(yes) is not None:
            a, b = self.scalar(yes), self.scalar(no)
            return Scalar(self.build.op("select", condition, a.node, b.node), a.kind)
        if isinstance(yes, Vector):
            pairs = zip(yes.items.ravel(), no.items.ravel(), strict=True)
            items = [self.join(condition, a, b) for a, b in pairs]
            return Vector(object_array(items, yes.items.shape), yes.kind, writable=False)  # it may alias either
        if isinstance(yes, dict):
            return {k: self.join(condition, yes[k], no[k]) for k in yes}
        if isinstance(yes, list | tuple):
            return type(yes)(self.join(condition, a, b) for a, b in zip(yes, no, strict=True))
        return yes

    def _join_groups(self, condition: int, yes: Value, no: Value) -> Value:
        mine = {group_of(v): (g, v) for g, v in alternatives(yes, self.always)}
        other = {group_of(v): (g, v) for g, v in alternatives(no, self.always)}
        never = self.build.const(False, "bool")
        joined = []
        for key in dict.fromkeys([*mine, *other]):
            guard_yes, value_yes = mine.get(key, (never, UNBOUND))
            guard_no, value_no = other.get(key, (never, UNBOUND))
            guard = self.build.op("select", condition, guard_yes, guard_no)
            if self.build.value_of(guard) is None or self.build.value_of(guard):
                joined.append((guard, self.join(condition, value_yes, value_no)))
        return joined[0][1] if len(joined) == 1 else Either(tuple(joined))

    # ------------------------------------------------------------ operators

    def binary(self, name: str, a: Value, b: Value) -> Value:
        """Apply the binary operator whose syntax node is called `name`."""
        if name not in ARITHMETIC:
            raise NotUnderstoodError(f"operator {name} on symbolic values")
        if name == "Pow" and isinstance(a, Vector):
            if b != 2:  # NumPy squares arrays by multiplying, but raises scalars with the C library's pow
                raise NotUnderstoodError("a power of an array other than its square")
            return self.elementwise(lambda x: self._binary("Mult", x, x), a)
        return self.elementwise(lambda x, y: self._binary(name, x, y), a, b)

    def _binary(self, name: str, a: Value, b: Value) -> Value:
        op, function = ARITHMETIC[name]
        if not is_symbolic(a) and not is_symbolic(b):
            return concrete(function, a, b)
        x, y = self.scalar(a), self.scalar(b)
        kind = result_kind(function, x.kind, y.kind)
        if kind is None:
            raise UpstreamRaisesError(f"{x.kind} {name} {y.kind}")
        dtype = DTYPE[kind]
        if dtype == "bool":
            raise NotUnderstoodError(f"operator {name} on truth values")
        return Scalar(self.build.op(op, self.build.cast(x.node, dtype), self.build.cast(y.node, dtype)), kind)

    def unary(self, op: str, function: Callable[..., Any], a: Value) -> Value:
        """Apply a function of one number that the program calls `op`."""

        def one(x: Value) -> Value:
            if not is_symbolic(x):
                return concrete(function, x)
            scalar = self.scalar(x)
            kind = result_kind(function, scalar.kind)
            if kind is None or DTYPE[kind] == "bool":
                raise NotUnderstoodError(f"{op} of {scalar.kind}")
            return Scalar(self.build.op(op, self.build.cast(scalar.node, DTYPE[kind])), kind)

        return self.elementwise(one, a)

    def compare(self, name: str, a: Value, b: Value) -> Value:
        """Apply the comparison whose syntax node is called `name`."""
        if name not in COMPARISONS:
            raise NotUnderstoodError(f"comparison {name} of symbolic values")
        op, swapped, function = COMPARISONS[name]

        def one(x: Value, y: Value) -> Value:
            if not is_symbolic(x) and not is_symbolic(y):
                return concrete(function, x, y)
            return self._compared(op, function, *((y, x) if swapped else (x, y)))

        return self.elementwise(one, a, b)

    def _compared(self, op: str, function: Callable[..., Any], x: Value, y: Value) -> Scalar:
        a, b = self.scalar(x), self.scalar(y)
        common = result_kind(operator.add, a.kind, b.kind)
        kind = result_kind(function, a.kind, b.kind)
        assert common is not None
        assert kind is not None
        dtype = "i64" if DTYPE[common] == "bool" else DTYPE[common]
        return Scalar(self.build.op(op, self.build.cast(a.node, dtype), self.build.cast(b.node, dtype)), kind)

    def truth(self, value: Value) -> int:
        """Return the bool node of `bool(value)`."""
        if isinstance(value, Either):
            return self.scalar(self.lift(lambda v: Scalar(self.truth(v), "bool"), value)).node
        if isinstance(value, Scalar):
            return self.build.cast(value.node, "bool")
        if isinstance(value, Vector):
            return self.node(value, "bool")
        return self.build.const(bool(value), "bool")

    def elementwise(self, function: Callable[..., Value], *args: Value) -> Value:
        """Apply `function` to scalars, or to the broadcast elements of vectors."""

        def all_at_once(*values: Value) -> Value:
            if not any(isinstance(v, Vector) for v in values):
                return function(*values)
            vectors = [self.vector(v) if isinstance(v, list | tuple) else v for v in values]
            arrays = [v.items if isinstance(v, Vector) else object_array([v], ()) for v in vectors]
            try:
                arrays = list(np.broadcast_arrays(*arrays))
            except ValueError as error:
                raise UpstreamRaisesError(str(error)) from error
            items = [self.scalar(function(*row)) for row in zip(*(a.ravel() for a in arrays), strict=True)]
            if not items:
                raise NotUnderstoodError("an array without elements")
            return self.unwrap(object_array(items, arrays[0].shape), items[0].kind)

        return self.lift(all_at_once, *args)


def concrete(function: Callable[..., Any], *args: Any) -> Any:
    """Compute with concrete values as upstream would."""
    try:
        return function(*args)
    except Exception as error:  # whatever upstream's own line would raise
        raise UpstreamRaisesError(f"{type(error).__name__}: {error}") from error
