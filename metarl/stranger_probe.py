"""Run as a program: import what JSON on stdin names, and say on stdout, as JSON, why that failed, or ""."""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys

_MOST_CHARACTERS = 300


def told(error: BaseException) -> str:
    """Return kind and message of a stranger's exception as one short line of printable characters."""
    try:
        words = " ".join(str(error).split()) or "no message"
    except BaseException:  # the message is a stranger's code as well
        words = "no message"
    return plain(f"{type(error).__name__}: {words}")


def plain(text: str) -> str:
    """Return `text` without characters that a terminal obeys or cannot show, at most a few lines of it."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:_MOST_CHARACTERS])
    return shown + ("..." if len(text) > _MOST_CHARACTERS else "")


def main() -> None:
    """Answer and end, whatever threads, handlers at exit or replaced functions the import left behind."""
    end, report = os._exit, os.dup(1)
    os.dup2(2, 1)
    asked = json.loads(sys.stdin.read())
    sys.path[:] = asked["path"]
    module, _, attribute = asked["target"].partition(":")
    try:
        found = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
        error = "" if callable(found) else f"is a {type(found).__name__}, not a function that builds something"
    except BaseException as problem:
        error = told(problem)
    os.write(report, json.dumps(error).encode())
    end(0)


if __name__ == "__main__":
    main()
