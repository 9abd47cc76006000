"""Names that users choose (runs, worlds, tasks, folders) as each medium needs them: text, never markup.

`one_line` is for the terminal, `figure` for matplotlib, `grid` for Markdown tables. HTML is escaped by Jinja;
`make_console` makes terminals of rich that read no markup; `set_up_streams` lets every text through to any terminal.
"""

from __future__ import annotations

import codecs
import io
import shutil
import sys
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100
"""Columns where there is no terminal."""
_LONGEST = 60
"""Characters of a name in a figure."""
_ASCII = {
    "\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"', "\N{RIGHT DOUBLE QUOTATION MARK}": '"', "\N{MULTIPLICATION SIGN}": "x",
    "\N{LEFT SINGLE QUOTATION MARK}": "'", "\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{MIDDLE DOT}": "-",
    "\N{RIGHTWARDS ARROW}": "->", "\N{GREATER-THAN OR EQUAL TO}": ">=", "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{SUPERSCRIPT TWO}": "2", "\N{PLUS-MINUS SIGN}": "+-", "\N{NO-BREAK SPACE}": " ", "\N{BULLET}": "*",
}  # fmt: skip
_BOXES = dict.fromkeys("─━═╌", "-") | dict.fromkeys("│┃║", "|") | dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼╞╡", "+")
_NARROW = {ord(k): v for k, v in (_ASCII | _BOXES).items()}


def _fall_back(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII for characters that a stream cannot encode: the nearest, or an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_NARROW)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


def set_up_streams() -> None:
    """Make standard output and error take any text, whatever the terminal's encoding.

    The narrow terminals of `LC_ALL=C` see ASCII in place of signs and boxes.
    """
    codecs.register_error("metarl", _fall_back)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="metarl")


def columns() -> int:
    """Return how wide a table may be: the terminal's width, or `WIDTH` where there is none."""
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH


def make_console(**options: Any) -> Console:
    """Return a rich console for standard output that prints text as it is: no markup, no emoji codes.

    It is as wide as the terminal, or `WIDTH` where there is none.
    """
    from rich.console import Console  # not for commands that print nothing with it

    plain_text: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
    width = {} if sys.stdout.isatty() else {"width": WIDTH}
    return Console(**plain_text | width | options)


def one_line(name: object) -> str:
    """Return a name on one line, with escapes in place of characters that would move the cursor or cannot be shown."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(name))


def note(text: object) -> None:
    """Print a remark below results, folded to the width of tables."""
    print(textwrap.fill(f"note: {one_line(text)}", columns(), subsequent_indent="      ", break_long_words=False,
                        break_on_hyphens=False), flush=True)  # fmt: skip


def figure(name: object) -> str:
    """Return a name as matplotlib draws it letter by letter: no formulas, no hidden labels, no missing glyphs."""
    text = one_line(name)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2 - 1]}\N{HORIZONTAL ELLIPSIS}{text[-_LONGEST // 2 :]}"
    drawn = "".join(c if ord(c) in _glyphs() else "\N{WHITE SQUARE}" for c in text).replace("$", r"\$")
    return f" {drawn}" if drawn.startswith("_") else drawn  # a leading underscore would hide the line from legends


@cache
def _glyphs() -> frozenset[int]:
    """Return the characters that the figures' font has."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    font = FT2Font(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"))
    return frozenset(font.get_charmap())


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose cells keep to their columns."""
    cells = [[one_line(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines = [cells[0], ["---"] * len(header), *cells[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
