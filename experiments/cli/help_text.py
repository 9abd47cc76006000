"""Help in whole sentences: paragraphs are filled to the terminal's width, or to 100 columns where there is none."""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import Any

from .safe_text import columns

_SAID = 8
"""Columns by which tyro indents what it says about an option; what it says about a group stands at 2."""


_LONG_NAME = 30
"""Columns of a program's name beside which its options fit."""


def help_width() -> int:
    """Return how wide help may be: the terminal's width, from 40 to 100 columns."""
    return max(40, min(columns(), 100))


def fill(text: str, width: int) -> str:
    """Return paragraphs filled to `width`; a paragraph with indented lines is a list, each item folded on its own."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        lines = paragraph.splitlines()
        if any(line.startswith(" ") for line in lines):
            parts.append("\n".join(_item(line, width) for line in lines))
        else:
            parts.append(textwrap.fill(" ".join(paragraph.split()), width, break_on_hyphens=False))
    return "\n\n".join(parts)


def _item(line: str, width: int) -> str:
    """Return "  name   what it is", folded under "what it is"."""
    named = re.match(r" *\S+ {2,}", line)
    hang = " " * (named.end() if named else len(line) - len(line.lstrip()))
    return "\n".join(textwrap.wrap(line, width, subsequent_indent=hang, break_on_hyphens=False, break_long_words=False))


class HelpFormatter(argparse.HelpFormatter):
    """Argparse's formatter with paragraphs, at most 100 columns wide."""

    def __init__(self, prog: str, indent_increment: int = 2, max_help_position: int = 28) -> None:
        super().__init__(prog, indent_increment, max_help_position, width=help_width())

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.indent(fill(text, width - len(indent)), indent)

    def _format_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None) -> str:
        # Beside a long name, such as an interpreter's path, options would have no room: it gets a line of its own.
        name = self._prog
        if usage is not None or len(name) <= _LONG_NAME:
            return super()._format_usage(usage, actions, groups, prefix)
        self._prog = ""
        text = super()._format_usage(usage, actions, groups, prefix)
        self._prog = name
        return text.replace("\n        ", "\n    ").replace("usage: ", f"usage: {name}\n   ", 1)


def reflow(text: str) -> str:
    """Return tyro's help with its sentences filled: it keeps the line breaks of the source code."""
    lines: list[str] = []
    paragraph: list[str] = []
    indent = 0  # of the paragraph

    def flush() -> None:
        filled = textwrap.wrap(" ".join(paragraph), help_width() - indent, break_on_hyphens=False)
        lines.extend(" " * indent + part for part in filled)
        paragraph.clear()

    for line in text.splitlines():
        words = line.strip()
        at = len(line) - len(line.lstrip()) if words else 0
        prose = at == _SAID or (at == 2 and not words.startswith("-"))
        if paragraph and (not prose or at != indent):
            flush()
        if prose:
            indent = at
            paragraph.append(words)
        else:
            lines.append(line.rstrip())
    if paragraph:
        flush()
    return "\n".join(lines)
