"""Check a program and bring it into the form that both emitters expect.

That form: no constant expressions, no operation twice, no condition twice or on either side of itself, nothing that no
output needs, and leaves in the type in which
they are stored (reads and slots float64, actions float32; another type is a `cast` node).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from metarl.envs.metaworld.program import ARITY, INFO, OBS_SIZE, DType, Node, Program
from metarl.errors import ConfigError

from .semantics import FLOAT_ONLY, constant
from .truth import FALSE, TRUE, Truth

_LEAF_DTYPE: dict[str, DType] = {"read": "f64", "slot": "f64", "action": "f32"}
_LOGIC = ("and", "or", "not")
_COMPARISON = ("lt", "le", "eq", "ne")

_MOST_FUNCTIONS = 100_000
"""Beyond it truth values are no longer compared; derived programs stay far below."""


def simplify(program: Program) -> Program:
    """Return an equivalent program: the same bits for every input.

    Raises:
        ConfigError: if the program breaks a rule of `program.py` (operands, types, indices).
    """
    check(program)
    builder = _Builder()
    for node in program.nodes:
        builder.add(node)
    new = builder.new
    return _prune(
        replace(
            program,
            nodes=tuple(builder.nodes),
            obs=tuple(new[i] for i in program.obs),
            reward=new[program.reward],
            info=tuple(new[i] for i in program.info),
            updates=tuple((slot, new[i]) for slot, i in program.updates),
        )
    )


class _Builder:
    """Copies nodes one by one, folding and sharing."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.new: list[int] = []
        """Where each old node is now."""
        self._known: dict[tuple[Any, ...], int] = {}

        self._truth = Truth()
        self._function: dict[int, int] = {}
        """What each new truth value is as a function of comparisons and the like."""
        self._with_function: dict[int, int] = {}
        """Function -> the first node that has it."""

    def add(self, node: Node) -> None:
        """Append an equivalent of the program's next node."""
        node = replace(node, args=tuple(self.new[i] for i in node.args))
        args = [self.nodes[i] for i in node.args]
        if args and all(arg.op == "const" for arg in args):
            value = constant(node.op, node.dtype, [(arg.dtype, arg.value) for arg in args])
            node = replace(node, op="const", args=(), value=value)
        stored = _LEAF_DTYPE.get(node.op, node.dtype)
        if stored != node.dtype:
            leaf = self._insert(replace(node, dtype=stored))
            node = replace(node, op="cast", args=(leaf,), index=0)
        if node.dtype == "bool":
            self.new.append(self._insert_truth(node))
        else:
            self.new.append(self._choice(node) if node.op == "select" else self._insert(node))

    def _insert(self, node: Node) -> int:
        # repr, because 0.0 and -0.0 are equal and NaN is not equal to itself
        key = (node.op, node.dtype, node.args, repr(node.value), node.index)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return found

    def _insert_truth(self, node: Node) -> int:
        """Insert a truth value unless an equal one is there."""
        function = self._function_of(node)
        if function is None:
            i = self._insert(node)
            function = self._function[i] if i in self._function else self._truth.atom()
        elif function in (FALSE, TRUE):
            i = self._insert(replace(node, op="const", args=(), value=function == TRUE))
        else:
            i = self._with_function[function] if function in self._with_function else self._insert(node)
        self._function[i] = function
        self._with_function.setdefault(function, i)
        return i

    def _function_of(self, node: Node) -> int | None:
        """Return a truth value as a function of others, or None if it is of its own kind."""
        if node.op == "const":
            return TRUE if node.value else FALSE
        if node.op not in (*_LOGIC, "select") or len(self._truth) > _MOST_FUNCTIONS:
            return None
        f = [self._function[i] for i in node.args]
        if node.op == "and":
            return self._truth.choose(f[0], f[1], FALSE)
        if node.op == "or":
            return self._truth.choose(f[0], TRUE, f[1])
        return self._truth.negate(f[0]) if node.op == "not" else self._truth.choose(f[0], f[1], f[2])

    def _choice(self, node: Node) -> int:
        """Insert a select, less what its condition decides."""
        condition, yes, no = node.args
        if self.nodes[condition].op == "not":
            condition, yes, no = self.nodes[condition].args[0], no, yes
        function = self._function[condition]
        yes = self._given(function, yes)
        no = self._given(self._truth.negate(function), no)
        if function in (FALSE, TRUE) or yes == no:
            return yes if function == TRUE else no
        return self._insert(replace(node, args=(condition, yes, no)))

    def _given(self, function: int, i: int) -> int:
        """Return the node that `i` equals wherever a condition holds."""
        while self.nodes[i].op == "select":
            condition, yes, no = self.nodes[i].args
            inner = self._function[condition]
            if self._truth.implies(function, inner):
                i = yes
            elif self._truth.implies(function, self._truth.negate(inner)):
                i = no
            else:
                break
        return i


def _prune(program: Program) -> Program:
    needed = {*program.obs, program.reward, *program.info, *(i for _, i in program.updates)}
    for i in reversed(range(len(program.nodes))):
        if i in needed:
            needed.update(program.nodes[i].args)
    kept = sorted(needed)
    new = {old: i for i, old in enumerate(kept)}
    nodes = (program.nodes[i] for i in kept)
    return replace(
        program,
        nodes=tuple(replace(node, args=tuple(new[i] for i in node.args)) for node in nodes),
        obs=tuple(new[i] for i in program.obs),
        reward=new[program.reward],
        info=tuple(new[i] for i in program.info),
        updates=tuple((slot, new[i]) for slot, i in program.updates),
    )


def check(program: Program) -> None:
    """Check a program against the rules of `program.py`.

    Raises:
        ConfigError: naming the first node or output that breaks one.
    """
    for i, node in enumerate(program.nodes):
        problem = _problem(program, i, node)
        if problem:
            raise ConfigError(
                f"Program '{program.key}': node {i} ({node.op} {node.label!r}) {problem}; fix its derivation."
            )
    sizes = (len(program.obs), len(program.info))
    if sizes != (OBS_SIZE, len(INFO)):
        raise ConfigError(
            f"Program '{program.key}' has {sizes[0]} observation and {sizes[1]} info entries; "
            f"expected {OBS_SIZE} and {len(INFO)}."
        )
    updates = [i for _, i in program.updates]
    for i in (*program.obs, program.reward, *program.info, *updates):
        if not 0 <= i < len(program.nodes) or program.nodes[i].dtype != "f64":
            raise ConfigError(f"Program '{program.key}': output node {i} is missing or not f64; cast it to f64.")
    slots = [slot for slot, _ in program.updates]
    if len(set(slots)) != len(slots) or any(not 0 <= slot < program.n_slots for slot in slots):
        raise ConfigError(
            f"Program '{program.key}' updates slots {sorted(slots)}; "
            f"expected each at most once and below {program.n_slots}."
        )


def _problem(program: Program, i: int, node: Node) -> str:
    """Return what is wrong with a node, or an empty string."""
    if node.op not in ARITY:
        return f"is no known operation; known: {', '.join(ARITY)}"
    arity, n_args = ARITY[node.op], len(node.args)
    if n_args != arity if arity is not None else n_args == 0 or n_args % 2:
        return f"has {n_args} operands; expected {'an even number' if arity is None else arity}"
    if any(not 0 <= arg < i for arg in node.args):
        return f"has operands {node.args}; expected earlier nodes"
    if n_args == 0:
        return _leaf_problem(program, node)
    return _type_problem(node, [program.nodes[arg].dtype for arg in node.args])


def _leaf_problem(program: Program, node: Node) -> str:
    if node.op == "const":
        return "has no value" if node.value is None else ""
    limit = {"read": len(program.reads), "slot": program.n_slots, "action": 4}[node.op]
    return "" if 0 <= node.index < limit else f"has index {node.index}; expected below {limit}"


def _type_problem(node: Node, args: list[DType]) -> str:
    if node.op == "cast":
        return ""
    if node.op == "select":
        return "" if args == ["bool", node.dtype, node.dtype] else f"has operands {args} for {node.dtype}"
    if node.op in _LOGIC:
        return "" if {node.dtype, *args} == {"bool"} else f"has operands {args}; expected truth values"
    if node.op in _COMPARISON:
        return "" if node.dtype == "bool" and args[0] == args[1] else f"compares {args} into {node.dtype}"
    allowed = ("f64", "f32") if node.op in FLOAT_ONLY else ("f64", "f32", "i64")
    if node.dtype not in allowed or {*args} != {node.dtype}:
        return f"has operands {args} and result {node.dtype}; expected one type of {', '.join(allowed)}"
    return ""
