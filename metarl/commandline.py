"""This project's command as a line of the shell: what hints and usage lines tell a user, and what records keep."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "metarl"
"""The console command that an installation brings."""
MODULE = "experiments"
"""What `python -m` runs instead."""


def command(*words: str | Path) -> str:
    """Return a line that can be pasted into the shell this process came from: the program that runs, `words` quoted.

    The program is the console command if that was called, else the interpreter with `-m experiments`; each by its bare
    name only where the shell finds this very file by it.
    """
    called = Path(sys.argv[0])
    program = [_as_typed(called)] if called.name == NAME else [*_interpreter(), "-m", MODULE]
    return shlex.join([*program, *map(_word, words)])


def module_command(module: str, *words: str | Path) -> str:
    """Return such a line for a module that is no subcommand."""
    return shlex.join([*_interpreter(), "-m", module, *map(_word, words)])


def pip_command(*words: str) -> str:
    """Return the line that installs packages where this process looks for them, which a bare `pip` need not do."""
    return module_command("pip", "install", *words)


def recorded(*words: str | Path) -> str:
    """Return the line as results keep it: the same on every machine, and with whichever program it was called."""
    return shlex.join([NAME, *map(_word, words)])


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


def _word(word: str | Path) -> str:
    text = str(word)
    return os.path.join(".", text) if isinstance(word, Path) and text.startswith("-") else text
