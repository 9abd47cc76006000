"""This project's command as a line of the shell: what hints and usage lines tell a user, and what records keep."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

NAME = "metarl"
"""The console command that an installation brings."""
MODULE = "metarl"
"""What `python -m` runs instead."""

_in_python = ContextVar("in_python", default=False)


@contextmanager
def from_python() -> Iterator[None]:
    """Have hints speak of Python's keywords, not of the shell's options, for the length of a `with` block."""
    token = _in_python.set(True)
    try:
        yield
    finally:
        _in_python.reset(token)


def spoken(shell: str, python: str) -> str:
    """Return the hint for whoever called: of the command line, or of `import metarl`."""
    return python if _in_python.get() else shell


def command(*words: str | Path) -> str:
    """Return a line that can be pasted into the shell this process came from: the program that runs, `words` quoted.

    The program is the console command if that was called, else the interpreter with `-m metarl`; each by its bare
    name only where the shell finds this very file by it.
    """
    called = Path(sys.argv[0])
    program = [_as_typed(called)] if called.name == NAME else [*_interpreter(), "-m", MODULE]
    return _line(*program, *words)


def module_command(module: str, *words: str | Path) -> str:
    """Return such a line for a module that is no subcommand."""
    return _line(*_interpreter(), "-m", module, *words)


def pip_command(*words: str) -> str:
    """Return the line that installs packages where this process looks for them, which a bare `pip` need not do."""
    return module_command("pip", "install", *words)


def recorded(*words: str | Path) -> str:
    """Return the line as results keep it: the same on every machine, and with whichever program it was called."""
    return _line(NAME, *words)


def _interpreter() -> list[str]:
    return [_as_typed(Path(sys.executable)) if sys.executable else "python"]


def _as_typed(program: Path) -> str:
    # Not resolved: a virtual environment's python is a link, and what it leads to is another environment.
    whole, here = os.path.abspath(program), os.getcwd()
    found = shutil.which(program.name)
    if found is not None and os.path.abspath(found) == whole:
        return program.name
    if os.path.dirname(whole) == here:
        return os.path.join(".", program.name)
    return os.path.relpath(whole, here) if Path(whole).is_relative_to(here) else whole


def _line(*words: str | Path) -> str:
    return " ".join(path_word(word) if isinstance(word, Path) else _quoted(word) for word in words)


def path_word(path: object) -> str:
    """Return a path as a word that can be pasted into a shell: quoted, and never an option."""
    text = str(path)
    return _quoted(os.path.join(".", text) if text.startswith("-") else text)


def _quoted(text: str) -> str:
    if text.isprintable():
        return shlex.quote(text)
    safe = (chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(text))
    return f"$'{''.join(safe)}'"  # of bash, zsh, ksh and POSIX 2024: a line break would end the line
