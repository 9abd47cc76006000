"""Text of files that strangers wrote: bounded in size and depth, without entities, and never from outside a folder."""

from __future__ import annotations

import json
import math
import re
import stat
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NoReturn

from .faults import Faults

MOST_BYTES = 4 * 2**20
"""Largest map or tileset file."""
MOST_ELEMENTS = 100_000
"""Most XML elements or JSON values in one file."""
DEEPEST = 40
"""Deepest nesting of either."""
_LONGEST_SHOWN = 60
_PLAIN_DOCTYPE = re.compile(r"<!DOCTYPE\s[^\[<>]*>")
"""A document type that only names a file, as older Tiled versions write it; nothing opens that file."""


class BadFileError(Exception):
    """Why one part of a file cannot be read: what, remedy and layer of the fault to note."""

    def __init__(self, what: str, remedy: str, layer: str = "") -> None:
        super().__init__(what)
        self.what, self.remedy, self.layer = what, remedy, layer


def short(value: object) -> str:
    """Return a printable, short form of anything that a file may hold."""
    text = repr(value[:_LONGEST_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _LONGEST_SHOWN + 2 else text[:_LONGEST_SHOWN] + "..."


def read_bytes(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of a plain file of bounded size; raises BadFileError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would block, a device may never end
            raise BadFileError("it is no plain file", "name a file")
        if status.st_size > most_bytes:
            raise BadFileError(f"it has {status.st_size} bytes, at most {most_bytes} are read", "make it smaller")
        with path.open("rb") as file:
            return file.read(most_bytes)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadFileError(f"it cannot be read ({reason})", "check the name and its permissions") from error


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Return the content of a plain UTF-8 file of bounded size; raises BadFileError."""
    try:
        return read_bytes(path, most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"it is not UTF-8 text (byte {error.start})"
        raise BadFileError(what, "save it again from the editor") from error


def is_xml(text: str) -> bool:
    """Return whether a file is XML: by its first character."""
    first = text.lstrip()[:1]
    if not first:
        raise BadFileError("there is nothing in it", "begin with '<' (XML) or '{' (JSON)")
    return first == "<"


def inside(folder: Path, reference: str, what: str) -> Path:
    """Return the file in `folder`, or below it, that `reference` names; raises BadFileError for any other place."""
    shown, remedy = short(reference), "put the file beside the map, or below that folder, and refer to it there"
    if "\\" in reference or "\0" in reference or ":" in reference or reference.startswith(("/", "~")):
        raise BadFileError(f"{what} {shown} is no relative path", remedy)
    try:
        path = (folder / reference).resolve()
        within = path.is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        within = False
    if not reference or not within:
        raise BadFileError(f"{what} {shown} lies outside the folder of the map", remedy)
    return path


def parse_xml(text: str) -> ElementTree.Element:
    """Return the root element; raises BadFileError for bad XML, entities (they could be bombs) or too much of it."""
    if "<!ENTITY" in text or "<!DOCTYPE" in _PLAIN_DOCTYPE.sub("", text, count=1):
        raise BadFileError(
            "it declares a document type of its own or entities, which maps do not need", "remove <!DOCTYPE ...>"
        )
    parser = ElementTree.XMLParser(target=_BoundedTree())
    try:
        parser.feed(text)
        root = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadFileError(f"it is no well-formed XML ({error})", "save it again from the editor") from error
    if not isinstance(root, ElementTree.Element):
        raise BadFileError("it has no root element", "save it again from the editor")
    return root


class _BoundedTree(ElementTree.TreeBuilder):
    def __init__(self) -> None:
        super().__init__()
        self.count = self.depth = 0

    def start(self, tag: Any, attrs: Any) -> Any:
        self.count, self.depth = self.count + 1, self.depth + 1
        if self.count > MOST_ELEMENTS or self.depth > DEEPEST:
            raise BadFileError(f"more than {MOST_ELEMENTS} elements, or nested deeper than {DEEPEST}", "simplify it")
        return super().start(tag, attrs)

    def end(self, tag: Any) -> Any:
        self.depth -= 1
        return super().end(tag)


def parse_json(text: str) -> Any:
    """Return what a JSON text holds; raises BadFileError for bad JSON, doubled keys, NaN, huge numbers or depth."""
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
            object_pairs_hook=_each_key_once,
        )
    except RecursionError as error:
        raise BadFileError(f"nested deeper than {DEEPEST}", "simplify it") from error
    except ValueError as error:
        raise BadFileError(f"it is no valid JSON ({error})", "save it again from the editor") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [v for parent in level for v in _children(parent)]
        if not level:
            return value
    raise BadFileError(f"nested deeper than {DEEPEST}", "simplify it")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [v for v in value.values() if isinstance(v, dict | list)]
    return [v for v in value if isinstance(v, dict | list)] if isinstance(value, list) else []


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for k, (key, _) in enumerate(pairs) if key in (earlier for earlier, _ in pairs[:k]))
        raise ValueError(f"the key {short(twice)} is there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _bounded_int(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


def note(faults: Faults, bad: BadFileError) -> None:
    """Note a BadFileError as a fault."""
    faults.add(bad.what, bad.remedy, layer=bad.layer)
