"""Python's built-in functions on symbolic values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from .algebra import Algebra, NotUnderstoodError, concrete
from .values import SAMPLE, Scalar, UpstreamRaisesError, Value, Vector, is_symbolic, kind_of


class BuiltinCalls:
    """Calls of float, max, isinstance and their like."""

    def __init__(self, algebra: Algebra) -> None:
        self.algebra = algebra
        self._functions: dict[Any, Callable[..., Value]] = {
            float: self._float, int: self._int, bool: lambda x=False: Scalar(algebra.truth(x), "bool"),
            abs: lambda x: algebra.unary("abs", abs, x), len: self._len, isinstance: self._isinstance,
            min: lambda *a: self._extreme("Lt", *a), max: lambda *a: self._extreme("Gt", *a), sum: self._sum,
            any: lambda a: self._reduced("or", a), all: lambda a: self._reduced("and", a),
            zip: lambda *a: list(zip(*map(self.iterate, a), strict=False)),
            enumerate: lambda a: list(enumerate(self.iterate(a))),
            list: lambda a=(): list(self.iterate(a)), tuple: lambda a=(): tuple(self.iterate(a)),
        }  # fmt: skip

    def knows(self, function: Any) -> bool:
        """Tell whether `function` is built into Python and has no effects."""
        return function in self._functions or function in (range, round, str)

    def call(self, function: Any, args: Sequence[Value], kwargs: dict[str, Value]) -> Value:
        """Apply a built-in function."""
        if not is_symbolic(list(args)) and not kwargs:
            result = concrete(function, *args)
            return list(result) if isinstance(result, zip | enumerate) else result
        if function not in self._functions or kwargs:
            raise NotUnderstoodError(f"{function.__name__}() with these arguments")
        try:
            return self._functions[function](*args)
        except TypeError as error:
            raise NotUnderstoodError(f"these arguments of {function.__name__}() ({error})") from error

    def iterate(self, value: Value) -> list[Value]:
        """Return the elements of something whose length is known."""
        if isinstance(value, Vector):
            if not value.items.ndim:
                raise UpstreamRaisesError("iteration over a 0-d array")
            return [v if isinstance(v, Scalar) else value.like(v) for v in value.items]
        if isinstance(value, list | tuple | range | dict):
            return list(value)
        raise NotUnderstoodError(f"iteration over {type(value).__name__}")

    def _float(self, value: Value) -> Value:
        return self.algebra.lift(lambda v: self.algebra.convert(v, "float"), value)

    def _int(self, value: Value) -> Scalar:
        if isinstance(value, Scalar) and value.kind in ("bool", "b8", "int", "i64"):
            return self.algebra.convert(value, "int")
        raise NotUnderstoodError("int() of a symbolic number with a fraction")

    def _len(self, value: Value) -> Value:
        def length(v: Value) -> int:
            if isinstance(v, Vector) and v.items.ndim:
                return len(v.items)
            return int(concrete(len, v))

        return self.algebra.lift(length, value)

    def _isinstance(self, value: Value, types: Any) -> Value:
        def test(v: Value) -> bool:
            if isinstance(v, Vector):
                return isinstance(np.zeros(1), types)
            kind = kind_of(v)
            return isinstance(v if kind is None else SAMPLE[kind], types)

        return self.algebra.lift(test, value)

    def _extreme(self, comparison: str, *args: Value) -> Value:
        """Python's min and max: a later value wins only if it is strictly smaller or larger."""
        values = self.iterate(args[0]) if len(args) == 1 else list(args)

        def better(best: Value, value: Value) -> Value:
            return self.algebra.join(self.algebra.truth(self.algebra.compare(comparison, value, best)), value, best)

        return reduce(better, values)

    def _sum(self, values: Value, start: Value = 0) -> Value:
        terms = self.iterate(values)
        if len(terms) > 2 and sys.version_info >= (3, 12) and any(kind_of(t) in (None, "float") for t in terms):
            raise NotUnderstoodError("sum() of more than two floats, which this Python rounds in its own way")
        return reduce(lambda a, b: self.algebra.binary("Add", a, b), terms, start)

    def _reduced(self, op: str, values: Value) -> Scalar:
        truths = [self.algebra.truth(v) for v in self.iterate(values)]
        return Scalar(reduce(lambda a, b: self.algebra.build.op(op, a, b), truths), "bool")
