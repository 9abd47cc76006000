"""Group the scalar operations of a program into operations on whole vectors.

Array code pays per call, not per number. Upstream's vectors arrive here as separate components that undergo the same
operations, so most of them can be put back together: a pack is one operation on rows that lie next to each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from metarl.envs.metaworld.program import Node, Program

LEAVES = ("read", "slot", "action")
_UNPACKABLE = ("const", "dot", *LEAVES)


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of one stored array."""

    store: str
    """"read", "slot", "action", or the number of the pack."""
    start: int
    size: int


@dataclass(frozen=True)
class Pack:
    """Nodes that one statement computes, as the rows of one array [size, N]; a single node is an array [N]."""

    name: str
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Packing:
    """A program as packs in an order in which they can be computed."""

    packs: tuple[Pack, ...]
    place: dict[int, Rows]
    """Where each node but the constants is kept."""


def pack(program: Program) -> Packing:
    """Group the nodes: those of one depth, operation and type whose operands are rows next to each other."""
    nodes = program.nodes
    place = {i: Rows(node.op, node.index, 1) for i, node in enumerate(nodes) if node.op in LEAVES}
    packs: list[Pack] = []
    for members in _by_depth(nodes):
        for run in _runs(nodes, members, place):
            name = f"p{len(packs)}"
            packs.append(Pack(name, tuple(run)))
            place.update({i: Rows(name, k, 1) for k, i in enumerate(run)})
    return Packing(tuple(packs), place)


def rows_of(nodes: Sequence[int], place: dict[int, Rows]) -> Rows | None:
    """Return where nodes are kept if they are consecutive rows of one array."""
    if any(i not in place for i in nodes):
        return None
    first = place[nodes[0]]
    if all(place[i].store == first.store and place[i].start == first.start + k for k, i in enumerate(nodes)):
        return Rows(first.store, first.start, len(nodes))
    return None


def _by_depth(nodes: Sequence[Node]) -> list[list[int]]:
    """Return lists of nodes of one depth, operation and type, shallow ones first."""
    depth: list[int] = []
    groups: defaultdict[tuple[int, str, str], list[int]] = defaultdict(list)
    for i, node in enumerate(nodes):
        if node.op == "const" or node.op in LEAVES:
            depth.append(0)
            continue
        depth.append(1 + max(depth[arg] for arg in node.args))
        operand = nodes[node.args[0]].dtype
        groups[depth[i], node.op, f"{operand} {node.dtype}"].append(i)
    return [groups[key] for key in sorted(groups, key=lambda key: key[0])]


def _runs(nodes: Sequence[Node], members: Sequence[int], place: dict[int, Rows]) -> list[list[int]]:
    """Split `members` into runs that one operation on rows computes."""
    runs: list[list[int]] = []
    for i in members:
        if runs and nodes[i].op not in _UNPACKABLE and _extends(nodes, runs[-1], i, place):
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _extends(nodes: Sequence[Node], run: Sequence[int], i: int, place: dict[int, Rows]) -> bool:
    """Return whether node `i` can be the next row: each operand is constant, the same row, or the next row."""
    for position in range(len(nodes[i].args)):
        column = [nodes[j].args[position] for j in (*run, i)]
        if len(set(column)) == 1:
            continue
        if all(nodes[arg].op == "const" for arg in column):
            continue
        if rows_of(column, place) is None:
            return False
    return True
