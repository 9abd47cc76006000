"""What code a run directory may call: built-in and installed names, and what the user names beside them.

A config may point at `package.module:attribute`, and importing that runs it. One that comes out of a run directory,
which a stranger may have made, counts for nothing until whoever starts the command says the same name: `--trust NAME`,
or in METARL_TRUST for all commands.
"""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, get_type_hints

from metarl.commandline import path_word, spoken
from metarl.errors import ConfigError
from metarl.registry import load_target
from metarl.task_distribution import lacks

VARIABLE = "METARL_TRUST"
"""Environment variable with names that are trusted, between commas."""
HELP = f"code of your own that the run's config may call (repeatable; or {VARIABLE})"
_METHODS = ("sample", "all", "fingerprint", "make_world", "references")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust` to a command that loads a run."""
    parser.add_argument("--trust", action="append", default=[], metavar="MODULE:ATTRIBUTE", help=HELP)


def flags(stored: Mapping[str, Any]) -> list[str]:
    """Return the words that make other commands call what a config names."""
    return [word for name in named(stored) for word in ("--trust", name)]


def named(stored: Mapping[str, Any]) -> list[str]:
    """Return every name in a stored config that would be imported: agent, world, and worlds among a world's options."""
    agent, world = stored.get("agent"), stored.get("world")
    found = [agent.get("type")] if isinstance(agent, Mapping) else []
    return list(dict.fromkeys(text for text in (*found, *_texts(world)) if isinstance(text, str) and _is_target(text)))


def check(stored: Mapping[str, Any], trust: Iterable[str] = ()) -> None:
    """Raise ConfigError, before anything is imported, if a stored config names code that nobody trusts."""
    trusted = {*trust, *(name.strip() for name in os.environ.get(VARIABLE, "").split(","))}
    unknown = [name for name in named(stored) if name not in trusted]
    if unknown:
        words = spoken(" ".join(f"--trust {path_word(name)}" for name in unknown), f"trust={unknown}")
        raise ConfigError(
            f"config.json names code that is neither built in nor installed: {', '.join(map(repr, unknown))}; if it is "
            f"yours, add {words}"
        )


def check_world(name: str) -> None:
    """Raise ConfigError, before it is called, unless a trusted target looks like what builds a task distribution."""
    if ":" not in name:
        return
    found = load_target(name)
    if not lacks(found):
        return
    what = ""
    if isinstance(found, type):
        missing = [m for m in _METHODS if not hasattr(found, m)]
        what = f"a class without {', '.join(missing)}" if missing else ""
    elif not inspect.isroutine(found) and not isinstance(found, partial):
        what = f"a {type(found).__name__}"
    elif inspect.isbuiltin(found):
        what = "a function of the interpreter"
    elif isinstance(answer := _answer(found), type) and any(not hasattr(answer, m) for m in _METHODS):
        what = f"a function that returns {answer.__name__}"
    if what:
        raise ConfigError(f"world {name!r} is {what}; point at what builds a metarl.tasks.TaskDistribution")


def _answer(function: Any) -> Any:
    """Return what a function says it returns; None if it does not say, or says that it may be anything."""
    try:
        answer = get_type_hints(function).get("return")
    except Exception:  # annotations of whoever wrote it
        return None
    return None if answer is Any else answer


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def _is_target(text: str) -> bool:
    head, colon, _ = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in head.split("."))
