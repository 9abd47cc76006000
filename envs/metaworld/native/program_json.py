"""Programs as JSON: what deriving gave, kept so that the next process need not derive again."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from metarl.envs.metaworld.program import ARITY, Attribute, Node, Program, Read

SCHEMA = 1


def dumps(program: Program) -> str:
    """Return the text of a program; equal programs have equal texts."""
    record = {f.name: getattr(program, f.name) for f in fields(Program)}
    record["nodes"] = [_row(node) for node in program.nodes]
    record["reads"] = [asdict(read) for read in program.reads]
    record["attributes"] = [asdict(attribute) for attribute in program.attributes]
    return json.dumps({"schema": SCHEMA, **record}, separators=(",", ":"))


def loads(text: str) -> Program:
    """Return the program of `text`; raises ValueError if it is none of this schema."""
    try:
        record = json.loads(text)
        if record.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        record["nodes"] = tuple(_node(row) for row in record["nodes"])
        record["reads"] = tuple(Read(**r | {"pads": tuple(r["pads"])}) for r in record["reads"])
        record["attributes"] = tuple(Attribute(**a | {"shape": tuple(a["shape"])}) for a in record["attributes"])
        record["obs"], record["info"] = tuple(record["obs"]), tuple(record["info"])
        record["updates"] = tuple((slot, node) for slot, node in record["updates"])
        return Program(**record)
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"not a program: {problem!r}") from problem


def _row(node: Node) -> list[Any]:
    """Return a node as a list without its trailing defaults."""
    value: Any = node.value
    if value is not None:  # NumPy's scalars, too
        value = {"bool": bool, "i64": int}.get(node.dtype, float)(value)
    row = [node.op, node.dtype, list(node.args), value, node.index, node.label, node.source]
    while row[-1] in (0, "") and len(row) > 4:
        row.pop()
    return row


def _node(row: list[Any]) -> Node:
    op, dtype, args, *rest = row
    if op not in ARITY:
        raise ValueError(f"unknown operation {op!r}")
    return Node(op, dtype, tuple(args), *rest)
