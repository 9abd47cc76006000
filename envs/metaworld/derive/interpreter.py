"""Runs upstream's methods on symbolic values: statements and function calls."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

from metarl.errors import ConfigError

from .algebra import NotUnderstoodError
from .calls import BuiltinCalls
from .expressions import BoundFunction, Closure, Environment, Expressions
from .machine import Machine
from .numpy_calls import NumpyCalls
from .simulation import Simulation
from .source import defining_class, syntax_tree, undecorated
from .values import UNBOUND, Scalar, UpstreamRaisesError, Value, Vector, each

_MOST_CALLS = 40


@dataclass
class Frame:
    """One call of an upstream function."""

    variables: dict[str, Value]
    names: dict[str, Any]
    """Globals of its module."""
    file: str
    defined_in: type | None
    parent: Frame | None = None
    """Of a function inside a function."""
    loops: int = 0

    def fork(self) -> Frame:
        """Return a frame with its own variables."""
        return Frame(dict(self.variables), self.names, self.file, self.defined_in, self.parent, self.loops)


@dataclass
class Returned:
    """The outcome of a block that has reached `return`."""

    value: Value


@dataclass
class Interpreter:
    """Calls upstream functions; see `call_function`."""

    machine: Machine
    simulation: Simulation
    calls: list[str] = field(default_factory=list)
    """Functions that are being executed, outermost first."""

    def __post_init__(self) -> None:
        self.algebra = self.machine.algebra
        self.builtins = BuiltinCalls(self.algebra)
        self.expressions = Expressions(
            self.machine,
            self.simulation,
            self.builtins,
            NumpyCalls(self.algebra),
            self.call_function,
            self.call_closure,
        )

    def method(self, name: str, *args: Value) -> Value:
        """Call a method of the environment."""
        environment = Environment(self.simulation.env)
        return self.expressions.call(self.expressions.attribute(environment, name), args, {})

    def call_function(self, bound: BoundFunction, args: Sequence[Value], kwargs: dict[str, Value]) -> Value:
        """Call an upstream function with symbolic or concrete arguments."""
        function: FunctionType = undecorated(bound.function)
        tree = syntax_tree(function)
        first = [] if bound.owner is None else [bound.owner]
        try:
            arguments = inspect.signature(function).bind(*first, *args, **kwargs)
        except TypeError as error:
            raise UpstreamRaisesError(f"TypeError: {error}") from error
        arguments.apply_defaults()
        variables = {k: self.algebra.wrap(v) for k, v in arguments.arguments.items()}
        owner: Any = type(self.simulation.env) if bound.owner is not None else None
        cls = defining_class(function, owner) if owner is not None else None
        frame = Frame(variables, function.__globals__, Path(function.__code__.co_filename).name, cls)
        return self._run(tree, frame)

    def call_closure(self, closure: Closure, args: Sequence[Value], kwargs: dict[str, Value]) -> Value:
        """Call a function that was defined inside an upstream function."""
        tree, parent = closure.tree, closure.frame
        names = [a.arg for a in tree.args.args]
        plain = not (tree.args.defaults or tree.args.kwonlyargs or tree.args.vararg or tree.args.kwarg)
        if not plain or len(args) + len(kwargs) != len(names):
            raise NotUnderstoodError("a nested function with other than plain parameters")
        variables = dict(zip(names, args, strict=False)) | kwargs
        return self._run(tree, Frame(variables, parent.names, parent.file, parent.defined_in, parent))

    def _run(self, tree: ast.FunctionDef | ast.Lambda, frame: Frame) -> Value:
        if len(self.calls) > _MOST_CALLS:
            raise NotUnderstoodError("a recursion")
        name = tree.name if isinstance(tree, ast.FunctionDef) else "<lambda>"
        source = self.algebra.build.source
        self.calls.append(name)
        try:
            if isinstance(tree, ast.Lambda):
                return self.expressions.evaluate(tree.body, frame)
            outcome = self.block(tree.body, frame)
            return outcome.value if isinstance(outcome, Returned) else None
        finally:
            self.calls.pop()
            self.algebra.build.source = source

    # ------------------------------------------------------------ statements

    def block(self, statements: Sequence[ast.stmt], frame: Frame) -> Returned | None:
        """Execute statements; return the value of a `return` among them, None if there was none."""
        for i, statement in enumerate(statements):
            self.algebra.build.source = f"{frame.file}:{statement.lineno}"
            try:
                outcome, finished = self._statement(statement, frame, statements[i + 1 :])
            except UpstreamRaisesError as error:
                error.where = error.where or f"{frame.file}:{statement.lineno}"
                raise
            except NotUnderstoodError as error:
                line = ast.unparse(statement).splitlines()[0]
                raise ConfigError(
                    f"cannot derive a program from {frame.file}:{statement.lineno} `{line[:120]}`: {error} is not "
                    "understood; extend envs/metaworld/derive or use the upstream engine"
                ) from error
            if finished:
                return outcome
        return None

    def _statement(  # noqa: C901 - a case per kind of node
        self, statement: ast.stmt, frame: Frame, rest: Sequence[ast.stmt]
    ) -> tuple[Returned | None, bool]:
        """Execute one statement; the flag says that the block, `rest` included, is done."""
        evaluate = self.expressions.evaluate
        match statement:
            case ast.Return(value=value):
                return Returned(evaluate(value, frame) if value else None), True
            case ast.If():
                return self._if(statement, frame, rest)
            case ast.For():
                outcome = self._for(statement, frame)
                return outcome, outcome is not None
            case ast.Assign(targets=targets, value=expression):
                value = evaluate(expression, frame)
                for target in targets:
                    self._assign(target, value, frame)
            case ast.AnnAssign(target=target, value=expression):
                if expression is not None:
                    self._assign(target, evaluate(expression, frame), frame)
            case ast.AugAssign():
                self._augmented(statement, frame)
            case ast.Expr(value=expression):
                evaluate(expression, frame)
            case ast.Assert(test=test):
                self._assert(test, frame)
            case ast.Raise():
                raise UpstreamRaisesError(f"raise in {frame.file}:{statement.lineno}")
            case ast.Delete(targets=targets) if all(isinstance(t, ast.Name) for t in targets):
                for target in targets:
                    del frame.variables[target.id]  # type: ignore[attr-defined]
            case ast.FunctionDef() if not statement.decorator_list:
                frame.variables[statement.name] = Closure(statement, frame)
            case ast.Pass():
                pass
            case _:
                raise NotUnderstoodError(f"statement {type(statement).__name__}")
        return None, False

    def _if(self, statement: ast.If, frame: Frame, rest: Sequence[ast.stmt]) -> tuple[Returned | None, bool]:
        """Execute an `if`, both sides if the condition is symbolic.

        Where a side can return, each side is followed by the rest of the block, so that both end alike.
        """
        condition = self.algebra.truth(self.expressions.evaluate(statement.test, frame))
        known = self.algebra.build.value_of(condition)
        if known is not None:
            outcome = self.block(statement.body if known else statement.orelse, frame)
            return outcome, outcome is not None
        returns = any(_returns(s) for s in [*statement.body, *statement.orelse])
        if returns and frame.loops:
            raise NotUnderstoodError("a return inside a loop that depends on the state")
        after = list(rest) if returns else []

        def side(body: list[ast.stmt]) -> tuple[Frame, Returned | None]:
            fork = frame.fork()
            return fork, self.block([*body, *after], fork)

        def join(condition: int, yes: Value, no: Value) -> Value:
            names = dict.fromkeys([*yes[0].variables, *no[0].variables])
            variables = {
                n: self.algebra.join(condition, yes[0].variables.get(n, UNBOUND), no[0].variables.get(n, UNBOUND))
                for n in names
                if not returns  # otherwise the block is done and nobody looks at them
            }
            return Frame(variables, frame.names, frame.file, None), self._joined_outcome(condition, yes[1], no[1])

        result, outcome = self.machine.branch(
            condition, lambda: side(statement.body), lambda: side(statement.orelse), join
        )
        frame.variables = result.variables
        return outcome, returns

    def _joined_outcome(self, condition: int, yes: Returned | None, no: Returned | None) -> Returned | None:
        if yes is None and no is None:
            return None
        values = [outcome.value if outcome else None for outcome in (yes, no)]
        return Returned(self.algebra.join(condition, *values))

    def _for(self, statement: ast.For, frame: Frame) -> Returned | None:
        if statement.orelse or any(isinstance(n, ast.Break | ast.Continue) for n in ast.walk(statement)):
            raise NotUnderstoodError("a loop with else, break or continue")
        for item in self.builtins.iterate(self.expressions.evaluate(statement.iter, frame)):
            self._assign(statement.target, item, frame)
            frame.loops += 1
            outcome = self.block(statement.body, frame)
            frame.loops -= 1
            if outcome is not None:
                return outcome
        return None

    def _assign(self, target: ast.expr, value: Value, frame: Frame) -> None:
        match target:
            case ast.Name(id=name):
                frame.variables[name] = value
                self._label(name, value)
            case ast.Attribute(value=owner, attr=name):
                if not isinstance(self.expressions.evaluate(owner, frame), Environment):
                    raise NotUnderstoodError("an attribute of something other than self")
                self.machine.attributes.values[name] = value
                self._label(name, value)
            case ast.Subscript(value=owner, slice=index):
                vector = self.expressions.evaluate(owner, frame)
                if not isinstance(vector, Vector):
                    raise NotUnderstoodError(f"item assignment to {type(vector).__name__}")
                self.machine.write(vector, self.expressions.index(index, frame), value)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                values = self.builtins.iterate(value)
                if any(isinstance(p, ast.Starred) for p in parts):
                    raise NotUnderstoodError("starred assignment")
                if len(values) != len(parts):
                    raise UpstreamRaisesError("ValueError: wrong number of values to unpack")
                for part, item in zip(parts, values, strict=True):
                    self._assign(part, item, frame)
            case _:
                raise NotUnderstoodError(f"assignment to {type(target).__name__}")

    def _augmented(self, statement: ast.AugAssign, frame: Frame) -> None:
        """Execute `x += y`, in place if `x` is an array."""
        readable = ast.parse(ast.unparse(statement.target), mode="eval").body
        old = self.expressions.evaluate(readable, frame)
        operand = self.expressions.evaluate(statement.value, frame)
        new = self.algebra.binary(type(statement.op).__name__, old, operand)
        if isinstance(old, Vector):
            self.machine.write(old, ..., new)
        else:
            self._assign(statement.target, new, frame)

    def _assert(self, test: ast.expr, frame: Frame) -> None:
        """Take an assertion for granted, unless it is certain to fail."""
        with self.expressions.inside_assertion():
            known = self.algebra.build.value_of(self.algebra.truth(self.expressions.evaluate(test, frame)))
        if known is not None and not known:
            raise UpstreamRaisesError(f"AssertionError in {frame.file}:{test.lineno}")

    def _label(self, name: str, value: Value) -> None:
        if isinstance(value, Scalar):
            self.algebra.build.name(value.node, name)
        elif isinstance(value, Vector):
            for i, item in enumerate(each(value)):
                self.algebra.build.name(item.node, f"{name}[{i}]" if value.items.ndim else name)


def _returns(statement: ast.stmt) -> bool:
    """Tell whether a statement contains a `return` of its own function."""
    if isinstance(statement, ast.FunctionDef):
        return False
    return isinstance(statement, ast.Return) or any(
        _returns(child) for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt)
    )
