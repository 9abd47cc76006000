"""The NumPy and SciPy functions, and the methods of arrays and numbers, that upstream's rewards use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np

from .algebra import Algebra, NotUnderstoodError
from .values import SAMPLE, Either, Kind, Scalar, UpstreamRaisesError, Value, Vector, array_kind, kind_of, object_array

_UNARY = {
    np.abs: "abs", np.negative: "neg", np.sqrt: "sqrt", np.exp: "exp", np.log: "log", np.sin: "sin", np.cos: "cos",
    np.tan: "tan", np.arcsin: "arcsin", np.arccos: "arccos", np.tanh: "tanh", np.arctanh: "arctanh", np.cosh: "cosh",
}  # fmt: skip
_BINARY = {np.add: "Add", np.subtract: "Sub", np.multiply: "Mult", np.divide: "Div"}
_EXTREMES = {np.minimum: "minimum", np.maximum: "maximum"}


@dataclass(frozen=True)
class Rotation:
    """SciPy's Rotation made from a matrix [3, 3]."""

    matrix: Vector


@dataclass(frozen=True)
class Method:
    """A method of a symbolic value, before the call."""

    owner: Value
    name: str


class NumpyCalls:
    """Calls with at least one symbolic argument."""

    def __init__(self, algebra: Algebra) -> None:
        self.algebra = algebra
        self._functions: dict[Any, Callable[..., Value]] = {
            np.array: self._array, np.asarray: self._array, np.copy: self._array,
            np.hstack: self._hstack, np.concatenate: self._hstack, np.split: self._split,
            np.clip: self._clip, np.where: self._where, np.linalg.norm: self._norm,
            np.logical_and: self._logical("and"), np.logical_or: self._logical("or"), np.logical_not: self._logical_not,
            np.all: self._reduced("and"), np.any: self._reduced("or"),
            np.zeros_like: self._zeros_like, np.isscalar: self._isscalar,
            np.arctan2: lambda a, b: self._float_pair("arctan2", np.arctan2, a, b),
        }  # fmt: skip

    def call(self, function: Any, args: Sequence[Value], kwargs: dict[str, Value]) -> Value:
        """Apply a function of NumPy or SciPy."""
        if function in _UNARY and not kwargs:
            return self.algebra.unary(_UNARY[function], function, *args)
        if function in _BINARY and not kwargs:
            return self.algebra.binary(_BINARY[function], *args)
        if function in _EXTREMES and not kwargs:
            return self._float_pair(_EXTREMES[function], function, *args)
        if getattr(function, "__qualname__", "") == "Rotation.from_matrix" and not kwargs:
            return self._rotation(*args)
        if function not in self._functions:
            raise NotUnderstoodError(f"a call of {getattr(function, '__name__', function)} with symbolic arguments")
        try:
            return self._functions[function](*args, **kwargs)
        except TypeError as error:
            raise NotUnderstoodError(f"these arguments of {function.__name__} ({error})") from error

    def method(self, method: Method, args: Sequence[Value], kwargs: dict[str, Value]) -> Value:
        """Call a method of an array, a number or a rotation."""
        owner, name = method.owner, method.name
        if isinstance(owner, Rotation) and name == "as_quat" and not args and not kwargs:
            return self._quaternion(owner.matrix)
        if kwargs:
            raise NotUnderstoodError(f"keyword arguments of .{name}()")
        if name == "item" and not args:
            scalar = owner if isinstance(owner, Scalar) else self.algebra.convert(owner, owner.kind)
            plain: dict[Kind, Kind] = {"b8": "bool", "i64": "int", "f32": "float", "f64": "float"}
            return self.algebra.convert(scalar, plain[scalar.kind])
        if isinstance(owner, Scalar) and name == "copy" and not args:
            return owner
        if isinstance(owner, Vector) and name in ("copy", "flatten", "ravel", "reshape"):
            shape = () if name == "copy" else (-1,) if name != "reshape" else args
            items = owner.items.copy() if name == "copy" else owner.items.reshape(*shape)
            fresh = name in ("copy", "flatten")
            return Vector(items.copy() if fresh else items, owner.kind, fresh or owner.writable)
        raise NotUnderstoodError(f"method .{name}() of a symbolic value")

    # ------------------------------------------------------------ making and cutting arrays

    def _array(self, value: Value, dtype: Any = None) -> Value:
        def copied(v: Value) -> Value:
            vector = self.algebra.vector(v)
            kind = vector.kind if dtype is None else kind_of(np.dtype(dtype).type(0))
            if kind is None:
                raise NotUnderstoodError(f"arrays of {dtype}")
            items = [self.algebra.convert(s, kind) for s in vector.items.ravel()]
            return Vector(object_array(items, vector.items.shape), kind)

        return (
            copied(value)
            if not isinstance(value, Either) or kind_of(value.alternatives[0][1])
            else (self.algebra.lift(copied, value))
        )

    def _hstack(self, values: Sequence[Value]) -> Vector:
        parts = [self.algebra.vector(v) for v in values]
        if any(p.items.ndim > 1 for p in parts):
            raise NotUnderstoodError("joining matrices")
        kind = array_kind([p.kind for p in parts])
        return Vector(object_array([self.algebra.convert(s, kind) for p in parts for s in p.items.ravel()]), kind)

    def _split(self, value: Vector, n: int) -> list[Vector]:
        if not isinstance(n, int) or value.items.ndim != 1:
            raise NotUnderstoodError("splitting at given places")
        if len(value.items) % n:
            raise UpstreamRaisesError("array split does not result in an equal division")
        return [value.like(part) for part in np.split(value.items, n)]

    def _zeros_like(self, value: Value) -> Vector:
        vector = self.algebra.vector(value)
        zeros = [self.algebra.convert(0, vector.kind)] * vector.items.size
        return Vector(object_array(zeros, vector.items.shape), vector.kind)

    # ------------------------------------------------------------ choosing

    def _clip(self, a: Value, a_min: Value, a_max: Value, dtype: Any = None) -> Value:
        """Clip as NumPy does: NaN stays; at a tie of zeros a scalar bound keeps `a`, an array bound wins."""
        if dtype not in (None, np.float64):
            raise NotUnderstoodError("clip to another type")
        wins = any(isinstance(bound, Vector) for bound in (a_min, a_max))

        def one(x: Value, low: Value, high: Value) -> Value:
            scalars = [self.algebra.scalar(v) for v in (x, low, high)]
            kind = kind_of(np.clip(*(SAMPLE[s.kind] for s in scalars)))
            if kind not in ("f64", "f32"):
                raise NotUnderstoodError("clip of whole numbers")
            v, below, above = (self.algebra.convert(s, kind).node for s in scalars)
            build = self.algebra.build
            if build.value_of(below) != -np.inf:
                lower = build.op("le", v, below) if wins else build.op("lt", v, below)
                v = build.op("select", lower, below, v)
            if build.value_of(above) != np.inf:
                higher = build.op("le", above, v) if wins else build.op("lt", above, v)
                v = build.op("select", higher, above, v)
            return Scalar(v, kind)

        return self.algebra.elementwise(one, a, a_min, a_max)

    def _isscalar(self, value: Value) -> Value:
        return self.algebra.lift(lambda v: kind_of(v) is not None, value)  # of a mixed value, all kinds may be scalars

    def _where(self, condition: Value, yes: Value, no: Value) -> Value:
        def one(c: Value, a: Value, b: Value) -> Value:
            x, y = self.algebra.scalar(a), self.algebra.scalar(b)
            kind = kind_of(np.where(True, SAMPLE[x.kind], SAMPLE[y.kind])[()])
            assert kind is not None
            pair = (self.algebra.convert(x, kind).node, self.algebra.convert(y, kind).node)
            return Scalar(self.algebra.build.op("select", self.algebra.truth(c), *pair), kind)

        def array(c: Value, a: Value, b: Value) -> Value:  # np.where returns an array even for three numbers
            found = self.algebra.elementwise(one, c, a, b)
            return found if isinstance(found, Vector) else Vector(object_array([found], ()), found.kind)

        return self.algebra.lift(array, condition, yes, no)

    def _logical(self, op: str) -> Callable[[Value, Value], Value]:
        def call(a: Value, b: Value) -> Value:
            return self.algebra.elementwise(
                lambda x, y: Scalar(self.algebra.build.op(op, self.algebra.truth(x), self.algebra.truth(y)), "b8"), a, b
            )

        return call

    def _logical_not(self, a: Value) -> Value:
        return self.algebra.elementwise(lambda x: Scalar(self.algebra.build.op("not", self.algebra.truth(x)), "b8"), a)

    def _reduced(self, op: str) -> Callable[[Value], Scalar]:
        def call(a: Value) -> Scalar:
            truths = [self.algebra.truth(s) for s in self.algebra.vector(a).items.ravel()]
            return Scalar(reduce(lambda x, y: self.algebra.build.op(op, x, y), truths), "b8")

        return call

    def _float_pair(self, op: str, function: Any, a: Value, b: Value) -> Value:
        def one(x: Value, y: Value) -> Scalar:
            u, v = self.algebra.scalar(x), self.algebra.scalar(y)
            kind = kind_of(function(SAMPLE[u.kind], SAMPLE[v.kind]))
            if kind not in ("f64", "f32"):
                raise NotUnderstoodError(f"{op} of whole numbers")
            pair = (self.algebra.convert(u, kind).node, self.algebra.convert(v, kind).node)
            return Scalar(self.algebra.build.op(op, *pair), kind)

        return self.algebra.elementwise(one, a, b)

    # ------------------------------------------------------------ lengths and rotations

    def _norm(self, x: Value, ord: Any = None) -> Value:
        """Return the Euclidean length: the root of BLAS's inner product, whose rounding is the platform's."""

        def length(v: Value) -> Value:
            vector = self.algebra.vector(v)
            if (
                vector.items.ndim > 1
                or vector.kind == "f32"
                or ord not in (None, 2)
                or (ord == 2 and not vector.items.ndim)
            ):
                raise NotUnderstoodError("a norm other than the Euclidean one of float64 numbers")
            nodes = [self.algebra.convert(s, "f64").node for s in vector.items.ravel()]
            build = self.algebra.build
            squared = build.op("mul", *nodes, *nodes) if len(nodes) == 1 else build.op("dot", *nodes, *nodes)
            return Scalar(build.op("sqrt", squared), "f64")

        return self.algebra.lift(length, x)

    def _rotation(self, matrix: Value) -> Rotation:
        if not isinstance(matrix, Vector) or matrix.items.shape != (3, 3):
            raise NotUnderstoodError("a rotation from something other than one 3x3 matrix")
        return Rotation(matrix)

    def _quaternion(self, matrix: Vector) -> Vector:
        """Return SciPy's x, y, z, w of a rotation matrix, with SciPy's order of operations.

        SciPy takes the largest of the three diagonal entries and the trace for granted as the stable case, and divides
        by the length (a plain sum of squares). It also makes matrices orthogonal that are not so within 1e-12; MuJoCo's
        are.
        """
        times, plus, minus = (partial(self.algebra.binary, name) for name in ("Mult", "Add", "Sub"))
        m = matrix.items
        trace = plus(plus(m[0, 0], m[1, 1]), m[2, 2])
        cases = []
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            case: list[Value] = [None] * 4
            case[i] = plus(minus(1.0, trace), times(2.0, m[i, i]))
            case[j], case[k] = plus(m[j, i], m[i, j]), plus(m[k, i], m[i, k])
            case[3] = minus(m[k, j], m[j, k])
            cases.append(case)
        cases.append([minus(m[2, 1], m[1, 2]), minus(m[0, 2], m[2, 0]), minus(m[1, 0], m[0, 1]), plus(1.0, trace)])
        chosen, largest = cases[0], m[0, 0]
        for case, candidate in zip(cases[1:], (m[1, 1], m[2, 2], trace), strict=True):
            better = self.algebra.truth(self.algebra.compare("Gt", candidate, largest))
            chosen = [self.algebra.join(better, a, b) for a, b in zip(case, chosen, strict=True)]
            largest = self.algebra.join(better, candidate, largest)
        squares = [times(c, c) for c in chosen]
        length = self.algebra.unary("sqrt", np.sqrt, reduce(plus, squares))
        return Vector(object_array([self.algebra.binary("Div", c, length) for c in chosen]), "f64")


def is_pure(function: Any) -> bool:
    """Tell whether a NumPy function may be called at once with concrete arguments."""
    return isinstance(function, np.ufunc) or getattr(function, "__module__", "") in ("numpy", "numpy.linalg")
