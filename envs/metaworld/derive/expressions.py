"""Evaluates upstream's expressions on symbolic values."""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np

from .algebra import NotUnderstoodError, concrete
from .calls import BuiltinCalls
from .machine import Machine
from .numpy_calls import Method, NumpyCalls, Rotation, is_pure
from .simulation import Handle, Lookup, Simulation
from .source import is_upstream, undecorated
from .values import UNBOUND, Either, Scalar, UpstreamRaisesError, Value, Vector, is_symbolic

_CONCRETE_OPERATORS = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Div": operator.truediv, "Pow": operator.pow,
    "FloorDiv": operator.floordiv, "Mod": operator.mod, "MatMult": operator.matmul,
}  # fmt: skip
_CONCRETE_COMPARISONS = {
    "Eq": operator.eq, "NotEq": operator.ne, "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt,
    "GtE": operator.ge, "In": lambda a, b: a in b, "NotIn": lambda a, b: a not in b,
}  # fmt: skip
_READING_METHODS = {"get", "items", "keys", "values", "index", "count", "startswith", "endswith"}


@dataclass(frozen=True)
class Environment:
    """Upstream's `self`."""

    env: Any


@dataclass(frozen=True)
class Parent:
    """Upstream's `super()`."""

    defined_in: type


@dataclass(frozen=True)
class BoundFunction:
    """An upstream function, with `self` if it is a method."""

    function: Any
    owner: Environment | None


@dataclass(frozen=True)
class Closure:
    """A function defined inside an upstream function."""

    tree: ast.FunctionDef | ast.Lambda
    frame: Any


class Expressions:
    """Evaluates syntax nodes in a frame of the interpreter."""

    def __init__(
        self,
        machine: Machine,
        simulation: Simulation,
        builtin_calls: BuiltinCalls,
        numpy_calls: NumpyCalls,
        call_function: Callable[[BoundFunction, Sequence[Value], dict[str, Value]], Value],
        call_closure: Callable[[Closure, Sequence[Value], dict[str, Value]], Value],
    ) -> None:
        self.machine = machine
        self.algebra = machine.algebra
        self.simulation = simulation
        self.builtins = builtin_calls
        self.numpy = numpy_calls
        self._call_function = call_function
        self._call_closure = call_closure
        self._in_assertion = False

    @contextmanager
    def inside_assertion(self) -> Iterator[None]:
        """Mark that what is evaluated is an assertion: it does not suggest that an attribute may be None."""
        before, self._in_assertion = self._in_assertion, True
        yield
        self._in_assertion = before

    def evaluate(self, node: ast.expr, frame: Any) -> Value:  # noqa: C901 - a case per kind of node
        """Return the value of an expression."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._name(name, frame)
            case ast.Attribute(value=owner, attr=name):
                return self.algebra.lift(lambda v: self.attribute(v, name), self.evaluate(owner, frame))
            case ast.Subscript(value=owner, slice=index):
                where = self.index(index, frame)
                return self.algebra.lift(lambda v: self._item(v, where), self.evaluate(owner, frame))
            case ast.Call():
                return self._call(node, frame)
            case ast.BinOp(left=left, op=op, right=right):
                return self._binary(type(op).__name__, self.evaluate(left, frame), self.evaluate(right, frame))
            case ast.UnaryOp(op=op, operand=operand):
                return self._unary(op, self.evaluate(operand, frame))
            case ast.Compare():
                return self._comparison(node, frame)
            case ast.BoolOp(op=op, values=values):
                return self._boolean(isinstance(op, ast.And), values, frame)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition = self.algebra.truth(self.evaluate(test, frame))
                return self.machine.branch(
                    condition, lambda: self.evaluate(body, frame), lambda: self.evaluate(orelse, frame)
                )
            case ast.Tuple() | ast.List():
                items = self._items(node.elts, frame)
                return items if isinstance(node, ast.List) else tuple(items)
            case ast.Dict(keys=keys, values=values) if all(keys):
                return {
                    self.evaluate(k, frame): self.evaluate(v, frame) for k, v in zip(keys, values, strict=True) if k
                }
            case ast.ListComp() | ast.GeneratorExp():
                inner = frame.fork()
                return list(self._comprehension(node.elt, node.generators, inner))
            case ast.Lambda():
                return Closure(node, frame)
        raise NotUnderstoodError(f"expression {type(node).__name__}")

    # ------------------------------------------------------------ names, attributes, items

    def _name(self, name: str, frame: Any) -> Value:
        scope = frame
        while scope is not None:
            if name in scope.variables:
                value = scope.variables[name]
                if value is UNBOUND:
                    raise UpstreamRaisesError(f"local variable {name} is not set")
                return value
            scope = scope.parent
        if name in frame.names:
            return self.algebra.wrap(frame.names[name], writable=False)
        builtin = frame.names["__builtins__"]
        found = (builtin if isinstance(builtin, dict) else vars(builtin)).get(name, UNBOUND)
        if found is UNBOUND:
            raise UpstreamRaisesError(f"NameError: {name}")
        return found

    def attribute(self, owner: Value, name: str) -> Value:
        """Return `owner.name`."""
        if isinstance(owner, Environment):
            return self._environment_attribute(owner, name)
        if isinstance(owner, Parent):
            return self._parent_attribute(owner, name)
        if isinstance(owner, Handle):
            return self.simulation.attribute(owner, name)
        if isinstance(owner, Vector) and name in ("shape", "ndim", "size"):
            return getattr(owner.items, name)
        if isinstance(owner, Vector | Scalar | Rotation):
            return Method(owner, name)
        if owner is None:
            raise UpstreamRaisesError(f"AttributeError: None has no {name}")
        if isinstance(owner, Lookup | Method | Closure | BoundFunction):
            raise NotUnderstoodError(f"attribute {name} of a function")
        return self.algebra.wrap(concrete(getattr, owner, name), writable=False)

    def _environment_attribute(self, owner: Environment, name: str) -> Value:
        if name in ("data", "model"):
            return Handle(getattr(owner.env, name), "")
        static = inspect.getattr_static(type(owner.env), name, UNBOUND)
        if isinstance(static, property):
            return self._call_function(BoundFunction(static.fget, owner), (), {})
        if isinstance(static, cached_property):
            return concrete(getattr, owner.env, name)
        if self.machine.attributes.has(name):
            return self.machine.attributes.get(name)
        return self._class_attribute(static, owner, name)

    def _parent_attribute(self, parent: Parent, name: str) -> Value:
        env = self.simulation.env
        mro = type(env).__mro__
        for cls in mro[mro.index(parent.defined_in) + 1 :]:
            if name in vars(cls):
                static = vars(cls)[name]
                if isinstance(static, property):
                    return self._call_function(BoundFunction(static.fget, Environment(env)), (), {})
                return self._class_attribute(static, Environment(env), name)
        raise UpstreamRaisesError(f"AttributeError: super() has no {name}")

    def _class_attribute(self, static: Any, owner: Environment, name: str) -> Value:
        if static is UNBOUND:
            raise UpstreamRaisesError(f"AttributeError: {name}")
        if isinstance(static, staticmethod):
            return BoundFunction(static.__func__, None)
        if isinstance(static, FunctionType):
            return BoundFunction(static, owner)
        if isinstance(static, classmethod):
            raise NotUnderstoodError(f"class method {name}")
        return self.algebra.wrap(static, writable=False)

    def index(self, node: ast.expr, frame: Any) -> Any:
        """Return what stands between the brackets of a subscript; it has to be concrete."""
        if isinstance(node, ast.Slice):
            parts = [None if p is None else self.evaluate(p, frame) for p in (node.lower, node.upper, node.step)]
            where: Any = slice(*parts)
        elif isinstance(node, ast.Tuple):
            where = tuple(self.index(e, frame) for e in node.elts)
        else:
            where = self.evaluate(node, frame)
        if is_symbolic(where) or (isinstance(where, slice) and is_symbolic([where.start, where.stop, where.step])):
            raise NotUnderstoodError("an index that depends on the state")
        return where

    def _item(self, owner: Value, where: Any) -> Value:
        if isinstance(owner, Vector):
            found = concrete(operator.getitem, owner.items, where)
            return owner.like(found) if isinstance(found, np.ndarray) else found
        if isinstance(owner, Scalar | Handle | Environment):
            raise NotUnderstoodError(f"an item of a {type(owner).__name__.lower()}")
        return self.algebra.wrap(concrete(operator.getitem, owner, where))

    # ------------------------------------------------------------ operators

    def _binary(self, name: str, left: Value, right: Value) -> Value:
        if is_symbolic(left) or is_symbolic(right):
            return self.algebra.binary(name, left, right)
        return concrete(_CONCRETE_OPERATORS[name], left, right)

    def _unary(self, op: ast.unaryop, operand: Value) -> Value:
        if isinstance(op, ast.Not):
            truth = self.algebra.build.op("not", self.algebra.truth(operand))
            return self._plain(Scalar(truth, "bool"))
        if isinstance(op, ast.USub):
            return self.algebra.unary("neg", operator.neg, operand)
        if isinstance(op, ast.UAdd) and not is_symbolic(operand):
            return concrete(operator.pos, operand)
        raise NotUnderstoodError(f"operator {type(op).__name__}")

    def _plain(self, value: Scalar) -> Value:
        """Return a truth value that is known as Python's own."""
        known = self.algebra.build.value_of(value.node)
        return value if known is None else bool(known)

    def _boolean(self, conjunction: bool, values: Sequence[ast.expr], frame: Any) -> Value:
        """Return `a and b ...` or `a or b ...`: the first operand that decides, or the last."""
        first = self.evaluate(values[0], frame)
        if len(values) == 1:
            return first
        condition = self.algebra.truth(first)

        def later() -> Value:
            return self._boolean(conjunction, values[1:], frame)

        def decided() -> Value:
            return first

        return self.machine.branch(condition, *((later, decided) if conjunction else (decided, later)))

    def _comparison(self, node: ast.Compare, frame: Any) -> Value:
        """Return a comparison, or a chain of them, which stops at the first that fails."""
        left = self.evaluate(node.left, frame)
        self._note_none_test(node, frame)

        def rest(left: Value, i: int) -> Value:
            right = self.evaluate(node.comparators[i], frame)
            result = self._compare(node.ops[i], left, right)
            if i + 1 == len(node.ops):
                return result
            return self.machine.branch(self.algebra.truth(result), lambda: rest(right, i + 1), lambda: result)

        return rest(left, 0)

    def _note_none_test(self, node: ast.Compare, frame: Any) -> None:
        target = node.left
        if self._in_assertion or not isinstance(target, ast.Attribute):
            return
        if isinstance(node.ops[0], ast.Is | ast.IsNot) and isinstance(self.evaluate(target.value, frame), Environment):
            self.machine.attributes.note_none_test(target.attr)

    def _compare(self, op: ast.cmpop, left: Value, right: Value) -> Value:
        if isinstance(op, ast.Is | ast.IsNot):
            return self._identity(isinstance(op, ast.Is), left, right)
        if is_symbolic(left) or is_symbolic(right):
            return self.algebra.compare(type(op).__name__, left, right)
        return concrete(_CONCRETE_COMPARISONS[type(op).__name__], left, right)

    def _identity(self, same: bool, left: Value, right: Value) -> Value:
        if right is not None:
            raise NotUnderstoodError("`is` with something other than None")
        if not isinstance(left, Either):
            return (left is None) == same
        none = [guard for guard, value in left.alternatives if value is None]
        found = none[0] if none else self.algebra.build.const(False, "bool")
        return self._plain(Scalar(found if same else self.algebra.build.op("not", found), "bool"))

    # ------------------------------------------------------------ calls and comprehensions

    def _call(self, node: ast.Call, frame: Any) -> Value:
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            if frame.defined_in is None:
                raise NotUnderstoodError("super() outside a method")
            return Parent(frame.defined_in)
        function = self.evaluate(node.func, frame)
        args = self._items(node.args, frame)
        kwargs: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.evaluate(keyword.value, frame)
            kwargs |= {keyword.arg: value} if keyword.arg else value
        return self.call(function, args, kwargs)

    def call(self, function: Value, args: Sequence[Value], kwargs: dict[str, Value]) -> Value:
        """Call whatever `function` is."""
        if isinstance(function, BoundFunction):
            if function.function.__qualname__ == "SawyerXYZEnv.touching_object":
                return self._touching(*args, **kwargs)
            return self._call_function(function, args, kwargs)
        if isinstance(function, Closure):
            return self._call_closure(function, args, kwargs)
        if isinstance(function, Lookup):
            return self.simulation.look_up(function, *args)
        if isinstance(function, Method):
            return self.numpy.method(function, args, kwargs)
        if is_upstream(undecorated(function)):
            return self._call_function(BoundFunction(function, None), args, kwargs)
        if self.builtins.knows(function):
            return self.builtins.call(function, args, kwargs)
        if is_symbolic([*args, *kwargs.values()]):
            return self.numpy.call(function, args, kwargs)
        plain = getattr(function, "__self__", None)
        if is_pure(function) or (
            isinstance(plain, dict | list | tuple | str) and function.__name__ in _READING_METHODS
        ):
            return self.algebra.wrap(concrete(lambda: function(*args, **kwargs)))
        if isinstance(plain, np.generic):
            return self.algebra.wrap(concrete(lambda: function(*args, **kwargs)))
        raise NotUnderstoodError(f"a call of {getattr(function, '__name__', function)}")

    def _touching(self, geom: Value) -> Value:
        if geom is None:  # no contact has that geom
            return False
        if not isinstance(geom, int):
            raise NotUnderstoodError("touching_object of a geom that depends on the state")
        return self.simulation.touching(geom)

    def _items(self, nodes: Sequence[ast.expr], frame: Any) -> list[Value]:
        items: list[Value] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                items += self.builtins.iterate(self.evaluate(node.value, frame))
            else:
                items.append(self.evaluate(node, frame))
        return items

    def _comprehension(self, element: ast.expr, generators: Sequence[ast.comprehension], frame: Any) -> Iterator[Value]:
        if not generators:
            yield self.evaluate(element, frame)
            return
        first = generators[0]
        for item in self.builtins.iterate(self.evaluate(first.iter, frame)):
            self._bind(first.target, item, frame)
            conditions = [self.algebra.build.value_of(self.algebra.truth(self.evaluate(c, frame))) for c in first.ifs]
            if any(c is None for c in conditions):
                raise NotUnderstoodError("a comprehension whose length depends on the state")
            if all(conditions):
                yield from self._comprehension(element, generators[1:], frame)

    def _bind(self, target: ast.expr, value: Value, frame: Any) -> None:
        if isinstance(target, ast.Name):
            frame.variables[target.id] = value
        elif isinstance(target, ast.Tuple):
            for part, item in zip(target.elts, self.builtins.iterate(value), strict=True):
                self._bind(part, item, frame)
        else:
            raise NotUnderstoodError("a comprehension variable that is not a name")
