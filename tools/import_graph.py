"""`make graph`: write who imports whom in each room into docs/architecture.md, as graphs that GitHub draws.

Boxes are the files and folders at the door of a room. An arrow is left out where a longer way through other boxes says
the same (transitive reduction), so what is drawn is what one must know to reach everything below.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- imports: written by `make graph` -->", "<!-- /imports -->"
ROOMS = {
    "metarl": "the kernel",
    "metarl.agents": "`agents/`",
    "metarl.envs": "`envs/`",
    "metarl.experiments": "`experiments/`",
}


def arrows(graph: grimp.ImportGraph, room: str) -> tuple[set[str], set[tuple[str, str]]]:
    """Return boxes and arrows (importer, imported) between the children of `room`; other rooms are no part of it."""
    children = graph.find_children(room) - (set(ROOMS) - {room})
    found = {(a, b) for a in children for b in children if a != b and graph.direct_import_exists(
        importer=a, imported=b, as_packages=True)}  # fmt: skip
    return children, found


def below(edges: set[tuple[str, str]], box: str) -> set[str]:
    """Return everything that `box` reaches by one arrow or more."""
    reached: set[str] = set()
    ahead = [b for a, b in edges if a == box]
    while ahead:
        one = ahead.pop()
        if one not in reached:
            reached.add(one)
            ahead += [b for a, b in edges if a == one]
    return reached


def circles(edges: set[tuple[str, str]]) -> set[str]:
    """Return the boxes that reach themselves."""
    return {box for box, _ in edges if box in below(edges, box)}


def reduced(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the arrows that no longer way replaces; for graphs without circles."""
    reach = {a: below(edges, a) for a, _ in edges}
    return {(a, b) for a, b in edges if not any(b in reach.get(c, ()) for x, c in edges if x == a and c != b)}


def section(graph: grimp.ImportGraph, room: str, title: str) -> list[str]:
    """Return the lines of one room."""
    boxes, edges = arrows(graph, room)
    if circle := circles(edges):
        raise SystemExit(
            f"{room} has circles through {', '.join(sorted(circle))}; cut them first (make arch says where)"
        )
    kept = sorted(reduced(edges))
    name = {box: box.rpartition(".")[2] for box in boxes}
    alone = sorted(name[b] for b in boxes if not any(b in edge for edge in edges))
    lines = [
        f"**{title}**: {len(boxes)} boxes, {len(edges)} imports between them, no circle.",
        "",
        "```mermaid",
        "graph TD",
    ]
    lines += [f"  {name[a]} --> {name[b]}" for a, b in kept] + ["```", ""]
    return lines + ([f"On their own: {', '.join(f'`{box}`' for box in alone)}.", ""] if alone else [])


def text() -> str:
    """Return what stands between the marks in the page."""
    graph = grimp.build_graph("metarl", cache_dir=None)
    return "\n".join(line for room, title in ROOMS.items() for line in section(graph, room, title)).rstrip()


def written(page: str, inner: str) -> str:
    """Return `page` with `inner` between the marks."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{inner}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(written(PAGE.read_text(), text()))
