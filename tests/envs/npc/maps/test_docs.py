"""docs/maps.md lists every message that a drawn world can cause."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
REPORTING = ("add", "fatal", "BadFileError")


def text_of(node: ast.AST) -> str:
    """Return a message with … for what is filled in; "" if it is no literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)  # type: ignore[misc]
    return ""


def messages() -> Iterator[tuple[str, str]]:
    """Yield (where, message) of everything that is reported as a fault, or put into `what` to be reported."""
    for path in sorted((ROOT / "envs/npc/maps").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            found: ast.AST | None = None
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                found = node.args[0] if name in REPORTING and len(node.args) > 1 else None
            elif isinstance(node, ast.Assign | ast.AugAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                found = node.value if getattr(target, "id", "") in ("what", "problem") else None
            if found is not None and text_of(found):
                yield f"{path.name}:{node.lineno}", text_of(found)


def test_every_message_is_in_the_table_of_messages() -> None:
    page = " ".join((ROOT / "docs/maps.md").read_text().split())
    found = list(messages())
    assert len(found) > 90
    pieces = {where: [p.strip(" ,:;()'") for p in re.split("…", message)] for where, message in found}
    longest = {where: max(parts, key=len) for where, parts in pieces.items()}
    assert {where: part for where, part in longest.items() if len(part) > 5 and part not in page} == {}
