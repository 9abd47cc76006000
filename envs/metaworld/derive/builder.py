"""Scalar operations under construction: equal ones are shared, constants are folded where that is exact."""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from metarl.envs.metaworld.program import ARITY, DType, Node, Read

NUMPY_TYPE: dict[DType, Any] = {"f64": np.float64, "f32": np.float32, "i64": np.int64, "bool": np.bool_}

_BOOLEAN = {"lt", "le", "eq", "ne", "and", "or", "not"}

# Correctly rounded operations only: a folded result has the bits that the operation has anywhere.
_FOLDED: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "abs": abs,
    "sqrt": np.sqrt,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
}


class Builder:
    """Appends nodes; a node is known by its number. `source` is noted on each new node."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.reads: list[Read] = []
        self.source = ""
        self._known: dict[tuple[Any, ...], int] = {}
        self._known_reads: dict[Read, int] = {}

    def const(self, value: Any, dtype: DType) -> int:
        """Return the node of a constant, rounded to `dtype`."""
        plain = NUMPY_TYPE[dtype](value).item()
        key = struct.pack("d", plain) if isinstance(plain, float) else plain  # tells -0.0 from 0.0, and knows NaN
        return self._node(("const", dtype, key), Node("const", dtype, value=plain))

    def read(self, read: Read, dtype: DType = "f64") -> int:
        """Return the node that reads one number of the simulation."""
        if read not in self._known_reads:
            self._known_reads[read] = len(self.reads)
            self.reads.append(read)
        index = self._known_reads[read]
        return self._node(("read", index), Node("read", dtype, index=index, label=read.name))

    def leaf(self, op: str, dtype: DType, index: int, label: str) -> int:
        """Return the node of a slot or of an entry of the action."""
        return self._node((op, index), Node(op, dtype, index=index, label=label))

    def value_of(self, node: int) -> Any:
        """Return the value of a constant node as a NumPy scalar, or None if the node is no constant."""
        found = self.nodes[node]
        return NUMPY_TYPE[found.dtype](found.value) if found.op == "const" else None

    def dtype_of(self, node: int) -> DType:
        """Return the type of a node's result."""
        return self.nodes[node].dtype

    def cast(self, node: int, dtype: DType) -> int:
        """Return `node` converted to `dtype`; to "bool" by comparing with zero, as Python does."""
        if self.dtype_of(node) == dtype:
            return node
        value = self.value_of(node)
        if value is not None:
            return self.const(value, dtype)
        if dtype == "bool":
            return self.op("ne", node, self.const(0, self.dtype_of(node)))
        return self._node(("cast", dtype, node), Node("cast", dtype, (node,), source=self.source))

    def op(self, name: str, *args: int) -> int:
        """Return the node of an operation on nodes of one dtype (`select`: its condition is a bool)."""
        folded = self._simplified(name, args)
        if folded is not None:
            return folded
        arity = ARITY[name]
        assert arity is None or arity == len(args), name
        dtype: DType = "bool" if name in _BOOLEAN else self.dtype_of(args[1] if name == "select" else args[0])
        operands = {self.dtype_of(a) for a in (args[1:] if name == "select" else args)}
        assert len(operands) == 1, (name, operands)
        return self._node((name, *args), Node(name, dtype, args, source=self.source))

    def name(self, node: int, label: str) -> None:
        """Note which upstream variable holds the result of `node`, unless it has a name or is a constant."""
        found = self.nodes[node]
        if not found.label and found.op != "const":
            self.nodes[node] = replace(found, label=label)

    def _node(self, key: tuple[Any, ...], node: Node) -> int:
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return self._known[key]

    def _simplified(self, name: str, args: tuple[int, ...]) -> int | None:
        if name == "select":
            return self._simple_select(*args)
        if name in ("and", "or"):
            return self._simple_and_or(name, *args)
        if name == "not":
            return self._simple_not(*args)
        values = [self.value_of(a) for a in args]
        if name in _FOLDED and all(v is not None for v in values):
            with np.errstate(all="ignore"):
                result = _FOLDED[name](*values)
            return self.const(result, "bool" if name in _BOOLEAN else self.dtype_of(args[0]))
        # Exact for every operand, the sign of zero included; `x + 0.0` is not (-0.0 becomes 0.0).
        if (name in ("mul", "div") and values[1] == 1) or (name == "sub" and _is_plain_zero(values[1])):
            return args[0]
        if name == "mul" and values[0] is not None and values[0] == 1:
            return args[1]
        return None

    def _simple_select(self, condition: int, yes: int, no: int) -> int | None:
        value = self.value_of(condition)
        if value is not None:
            return yes if value else no
        if yes == no:
            return yes
        if self.nodes[condition].op == "not":
            return self.op("select", self.nodes[condition].args[0], no, yes)
        if self.dtype_of(yes) == "bool":
            for branch, outcome, op, first in (
                (yes, True, "or", condition),
                (no, False, "and", condition),
                (yes, False, "and", self.op("not", condition)),
                (no, True, "or", self.op("not", condition)),
            ):
                if self.value_of(branch) == outcome or (branch == condition and first == condition):
                    return self.op(op, first, no if branch == yes else yes)
        return None

    def _simple_and_or(self, name: str, a: int, b: int) -> int | None:
        for x, y in ((a, b), (b, a)):
            value = self.value_of(x)
            if value is not None:  # True is neutral for "and", False for "or"; the other one wins
                return y if bool(value) == (name == "and") else x
        if a == b:
            return a
        if self.op("not", a) == b:
            return self.const(name == "or", "bool")
        return None

    def _simple_not(self, a: int) -> int | None:
        value = self.value_of(a)
        if value is not None:
            return self.const(not value, "bool")
        return self.nodes[a].args[0] if self.nodes[a].op == "not" else None


def live_nodes(nodes: list[Node], roots: Iterable[int]) -> list[int]:
    """Return the numbers, ascending, of all nodes that `roots` need."""
    live: set[int] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node not in live:
            live.add(node)
            waiting.extend(nodes[node].args)
    return sorted(live)


def _is_plain_zero(value: Any) -> bool:
    return value is not None and value == 0 and not np.signbit(value)
