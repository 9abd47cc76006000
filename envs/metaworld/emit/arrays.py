"""Write programs as functions on arrays, N envs at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metarl.envs.metaworld.program import DType, Node, Program

from .packs import LEAVES, Pack, Packing, Rows, pack, rows_of
from .semantics import TRANSCENDENTAL
from .simplify import simplify

_INFIX: Mapping[str, str] = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "eq": "==", "ne": "!=",
    "and": "&", "or": "|",
}  # fmt: skip

_PREFIX: Mapping[str, str] = {"neg": "-", "not": "~", "abs": "abs"}

_CALL = frozenset((*TRANSCENDENTAL, "sqrt", "pow", "minimum", "maximum", "select", "dot", "cast"))
"""Operations that the runtime has; besides it has `stack`, `constant`, `column`, `empty` and `copy`."""

_STORE: Mapping[str, str] = dict(zip(LEAVES, ("reads", "slots", "action"), strict=True))


def emit_arrays(program: Program) -> str:
    """Return Python source of a function KEY(xp) that returns the program as a function on arrays.

    `xp` is the runtime (`runtime.NumpyRuntime`, `runtime.TorchRuntime`). The function takes reads [F, N] and slots
    [n_slots, N] in float64 and action [4, N] in float32, and returns obs [39, N], reward [N], info [7, N] and the new
    slots [n_slots, N]; it changes none of its arguments.

    Raises:
        ConfigError: if the program breaks a rule of `program.py`.
    """
    return _Writer(simplify(program)).text()


class _Writer:
    """Turns one simplified program into lines of Python."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.packing: Packing = pack(program)
        self.sizes = {p.name: len(p.nodes) for p in self.packing.packs}
        self.constants: dict[str, str] = {}
        """Expression -> name of the constants that the function keeps."""

    def text(self) -> str:
        body = [f"{p.name} = {self._expression(p)}{self._comment(p)}" for p in self.packing.packs]
        body += self._outputs()
        used = sorted(_CALL & {node.op for node in self.program.nodes})
        setup = [f"{op} = xp.{op}" for op in used]
        setup += [f"{name} = {expression}" for expression, name in self.constants.items()]
        lines = [
            f"def {self.program.key}(xp):",
            f'    """{self.program.task}, reward {self.program.reward_version}."""',
            *(f"    {line}" for line in setup),
            "",
            "    def run(reads, slots, action):",
            *(f"        {line}" for line in body),
            "",
            "    return run",
        ]
        return "\n".join(lines) + "\n"

    def _comment(self, p: Pack) -> str:
        """Say which upstream variables the statement computes, and where upstream does."""
        nodes = [self.program.nodes[i] for i in p.nodes]
        labels = ", ".join(dict.fromkeys(node.label for node in nodes if node.label))
        text = f"{labels} ({nodes[0].source})" if labels and nodes[0].source else labels or nodes[0].source
        return f"  # {text}" if text else ""

    def _expression(self, p: Pack) -> str:
        nodes = [self.program.nodes[i] for i in p.nodes]
        op = nodes[0].op
        if op == "dot":
            half = len(nodes[0].args) // 2
            x, y = nodes[0].args[:half], nodes[0].args[half:]
            return f"dot(v := {self._vector(x)}, v)" if x == y else f"dot({self._vector(x)}, {self._vector(y)})"
        columns = [[node.args[k] for node in nodes] for k in range(len(nodes[0].args))]
        if op == "cast":
            return f'cast({self._operand(columns[0], True)}, "{nodes[0].dtype}")'
        args = [self._operand(column, op not in _INFIX) for column in columns]
        if op in _INFIX:
            return f"{args[0]} {_INFIX[op]} {args[1]}"
        if op in _PREFIX:
            return f"{_PREFIX[op]}({args[0]})"
        return f"{op}({', '.join(args)})"

    def _operand(self, column: Sequence[int], typed: bool) -> str:
        """Return an operand of an operation on len(column) rows; `typed` where a bare Python number will not do."""
        nodes = [self.program.nodes[i] for i in column]
        if all(node.op == "const" for node in nodes):
            return self._constant(nodes, typed)
        if len(set(column)) == 1:
            return self._rows(self.packing.place[column[0]])
        rows = rows_of(column, self.packing.place)
        assert rows is not None, "packs only join operands that lie next to each other"
        return self._rows(rows)

    def _constant(self, nodes: Sequence[Node], typed: bool) -> str:
        values = [_literal(node.value, node.dtype) for node in nodes]
        if len(set(values)) > 1:
            return self._keep(f'xp.column([{", ".join(values)}], "{nodes[0].dtype}")')
        if typed or not values[0].lstrip("-")[0].isdigit():
            return self._keep(f'xp.constant({values[0]}, "{nodes[0].dtype}")')
        return f"({values[0]})" if values[0].startswith("-") else values[0]

    def _keep(self, expression: str) -> str:
        return self.constants.setdefault(expression, f"k{len(self.constants)}")

    def _rows(self, rows: Rows) -> str:
        """Return an array [N] for one row, [size, N] for several."""
        store = _STORE.get(rows.store, rows.store)
        n_stored = self.sizes.get(rows.store, 0)
        if rows.size == n_stored:
            return store
        if rows.size == 1:
            return f"{store}[{rows.start}]"
        return f"{store}[{rows.start}:{rows.start + rows.size}]"

    def _vector(self, nodes: Sequence[int]) -> str:
        """Return an array [k, N] of the operands of an inner product."""
        rows = rows_of(nodes, self.packing.place)
        if rows is not None and rows.size > 1:
            return self._rows(rows)
        return f"xp.stack(({', '.join(self._operand([i], True) for i in nodes)},), action)"

    def _outputs(self) -> list[str]:
        info = self._assign("info", list(enumerate(self.program.info)))
        return [
            "obs = xp.empty(39, action)",
            *self._assign("obs", list(enumerate(self.program.obs))),
            "reward = xp.empty(1, action)[0]",
            f"reward[:] = {self._operand([self.program.reward], False)}",
            "info = xp.empty(7, action)",
            *info,
            "new_slots = xp.copy(slots)",
            *self._assign("new_slots", sorted(self.program.updates)),
            "return obs, reward, info, new_slots",
        ]

    def _assign(self, target: str, pairs: Sequence[tuple[int, int]]) -> list[str]:
        """Return statements that write nodes to rows, as many rows at once as lie next to each other."""
        lines = []
        start = 0
        while start < len(pairs):
            end = start + 1
            while end < len(pairs) and self._joins(pairs[start : end + 1]):
                end += 1
            first, nodes = pairs[start][0], [node for _, node in pairs[start:end]]
            where = f"{first}" if end == start + 1 else f"{first}:{first + len(nodes)}"
            lines.append(f"{target}[{where}] = {self._operand(nodes, False)}")
            start = end
        return lines

    def _joins(self, pairs: Sequence[tuple[int, int]]) -> bool:
        targets, nodes = [target for target, _ in pairs], [node for _, node in pairs]
        if targets[-1] != targets[0] + len(targets) - 1:
            return False
        constant = all(self.program.nodes[i].op == "const" for i in nodes)
        return constant or rows_of(nodes, self.packing.place) is not None


def _literal(value: Any, dtype: DType) -> str:
    """Return a Python expression of exactly this value."""
    if dtype == "bool":
        return str(bool(value))
    if dtype == "i64":
        return str(int(value))
    text = repr(float(value))
    return text if "n" not in text else f'float("{text}")'
