"""Code of others: what its packages announce, whether that can be imported, and importing it without harm."""

from __future__ import annotations

import functools
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import Distribution, distributions
from pathlib import Path
from types import ModuleType
from typing import Any

from .containment import TooLong, contained
from .errors import ConfigError, nearest
from .stranger_probe import plain, told

LIMIT = "METARL_IMPORT_S"
"""Variable with the longest time, in seconds, that importing somebody else's module may take."""
LIMIT_S = 30.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,99}")


class Fault(Exception):
    """Why something of a stranger's cannot be had, in one line."""


class ImportFault(Fault):
    """Why a module cannot be imported."""


@dataclass(frozen=True)
class Entry:
    """One name of a registry: where its factory is, and why it cannot be used, if so."""

    name: str
    target: str
    """`module:attribute` of the factory."""
    summary: str = ""
    origin: str = "metarl"
    """Distribution the entry comes from."""
    error: str = ""


def load(module_name: str, attribute: str) -> Any:
    """Import an attribute, "a" or "a.b", of a stranger's module. Raises: Fault, however the import ends."""
    limit = limit_s()
    with contained(limit) as interrupted:
        try:
            module = import_module(module_name)
        except BaseException as error:
            if interrupted and isinstance(error, KeyboardInterrupt):
                raise
            raise ImportFault(_late(limit) if isinstance(error, TooLong) else told(error)) from error
        try:
            return functools.reduce(getattr, attribute.split("."), module)
        except AttributeError as error:
            known = vars(module) if isinstance(module, ModuleType) else ()
            raise Fault(f"module {module_name!r} has no {attribute!r}; {nearest(attribute, known)}") from error
        except BaseException as error:
            if interrupted and isinstance(error, KeyboardInterrupt):
                raise
            raise Fault(f"module {module_name!r} does not give {attribute!r}: {told(error)}") from error


def _late(limit: float) -> str:
    return f"its import was not over after {limit:g} s; {LIMIT} sets the limit"


def limit_s() -> float:
    """Return how long an import may take; raises ConfigError if the variable is no such time."""
    text = os.environ.get(LIMIT, "")
    try:
        value = float(text or LIMIT_S)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise ConfigError(f"{LIMIT} must be a number of seconds above 0, got {text!r}; unset it for {LIMIT_S:g}")
    return value


def announced(group: str) -> list[Entry]:
    """Return what installed distributions announce, by name, from their metadata alone: nothing is imported.

    What cannot be used for a reason that shows there has its error.
    """
    by_name: dict[str, list[Entry]] = defaultdict(list)
    seen: set[str] = set()
    for distribution in distributions():
        for entry in _announced_by(distribution, group, seen):
            by_name[entry.name].append(entry)
    found = []
    for _, entries in sorted(by_name.items()):
        first = entries[0]
        if len(entries) > 1:
            origins = ", ".join(dict.fromkeys(e.origin for e in entries))
            error = f"announced {len(entries)} times, by {origins}: only one can have the name"
            first = replace(first, origin=origins, error=first.error or error)
        found.append(first)
    return found


def _announced_by(distribution: Distribution, group: str, seen: set[str]) -> list[Entry]:
    origin = "unknown"
    try:
        text = distribution.read_text("entry_points.txt")
        if not text or group not in text:
            return []
        origin = _name_of(distribution)
        key = re.sub(r"[-_.]+", "-", origin).lower()
        if key in seen:  # the same package again, further down the path: Python imports the first
            return []
        points = [point for point in distribution.entry_points if point.group == group]
    except Exception as error:  # anything can stand in these files
        return [Entry(origin, "entry_points.txt", origin=origin, error=f"its metadata cannot be read: {told(error)}")]
    if origin != "unknown":
        seen.add(key)
    return [_entry(point.name, point.value, origin) for point in points]


def _name_of(distribution: Distribution) -> str:
    try:
        return plain(distribution.name)
    except Exception:  # its METADATA is missing or no text
        return "unknown"


_VALUE = re.compile(r"([\w.]+)\s*:\s*([\w.]+)\s*(\[.*\])?\s*")


def _entry(name: str, value: str, origin: str) -> Entry:
    if not _NAME.fullmatch(name):
        error = "a name has letters, digits and . _ + - / and begins with one of the first two"
        return Entry(plain(name) or "(empty)", plain(value), origin=origin, error=error)
    parts = _VALUE.fullmatch(value)
    if not parts:
        return Entry(
            name, plain(value), origin=origin, error="its target is not of the form 'package.module:attribute'"
        )
    return Entry(name, f"{parts[1]}:{parts[2]}", origin=origin)


def tried(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries, each that cannot be imported with its error. Raises: ConfigError for a bad limit.

    Each is imported in a process of its own, a few at a time: one may exit, crash, hang or change what it likes.
    """
    limit_s()
    if not entries:
        return []
    with ThreadPoolExecutor(min(len(entries), len(os.sched_getaffinity(0)))) as pool:
        return list(pool.map(lambda entry: entry if entry.error else replace(entry, error=_try(entry)), entries))


def _try(entry: Entry) -> str:
    """Return why an entry's factory cannot be imported, or ""."""
    try:
        return probe(entry.target)
    except Fault as fault:
        return str(fault)


def probe(target: str) -> str:
    """Import `target` in a process of its own and return why that fails, or "".

    Raises: Fault if the process does not live to tell; ConfigError for a bad limit.
    """
    limit = limit_s()
    # -P: the folder of the program, which is that of our modules, stays out of the path.
    command = [sys.executable, "-P", str(Path(__file__).with_name("stranger_probe.py"))]
    asked = json.dumps({"path": [str(place) for place in sys.path], "target": target}).encode()
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        return f"cannot be tried: {told(error)}"
    try:
        said, _ = process.communicate(asked, limit)
        return plain(str(json.loads(said)))
    except subprocess.TimeoutExpired as late:
        raise Fault(_late(limit)) from late
    except ValueError as silence:
        code = process.wait()
        how = f"signal {-code}" if code < 0 else f"code {code}"
        raise Fault(f"its import ended the process with {how}") from silence
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
