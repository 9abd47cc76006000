"""The one way in for what lies on a disk: plain files of bounded size, and JSON that means one thing only.

A file may have been cut short, edited, swapped for a link or a pipe, or made by a stranger. What is read here is either
what it should be or a CheckpointError in one line; nothing waits, follows a link or fills the memory.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import CheckpointError

MOST_BYTES = 256 * 2**20
"""Largest JSON file that is read."""
MOST_TENSOR_BYTES = 64 * 2**30
"""Largest file of tensors that is read."""
MOST_DEPTH = 100
"""Deepest nesting of lists and objects that is read; none that we write is half as deep."""
_RESTORE = "restore it from a copy"
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


def kind_of(mode: int) -> str:
    """Return in words what a file of this mode is: "a file", "a symbolic link", "a pipe" ..."""
    return next((words for matches, words in _KINDS if matches(mode)), "a file")


def open_plain(path: Path, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """Open a plain file and return its descriptor; links are not followed, and a pipe is not waited for.

    Raises: OSError as `os.open` does; CheckpointError if it is anything but a plain file.
    """
    safe = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, safe, mode)
    except FileNotFoundError:
        raise
    except OSError as error:
        found = _mode(path)
        if found is None or stat.S_ISREG(found):
            raise
        raise _no_file(path, found) from error
    found = os.fstat(handle).st_mode
    if not stat.S_ISREG(found):
        os.close(handle)
        raise _no_file(path, found)
    return handle


def is_folder(path: Path) -> bool:
    """Return whether `path` leads to a folder; what is no path at all, such as one that is too long, does not."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def check_real_folder(path: Path) -> None:
    """Raise CheckpointError if `path` is there and not a folder itself: links would lead what is written elsewhere."""
    found = _mode(path)
    if found is not None and not stat.S_ISDIR(found):
        raise CheckpointError(f"{path} is {kind_of(found)}, expected a folder; put the folder itself there")


def _mode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return None


def _no_file(path: Path, mode: int) -> CheckpointError:
    return CheckpointError(f"{path} is {kind_of(mode)}, expected a plain file; {_RESTORE}")


def read_bytes(path: Path, *, most: int = MOST_BYTES, remedy: str = _RESTORE) -> bytes:
    """Return the content of a plain file.

    Raises: FileNotFoundError if there is none; CheckpointError if it is no plain file, too large or unreadable.
    """
    try:
        handle = open_plain(path)
        with open(handle, "rb") as file:
            size = os.fstat(handle).st_size
            content = file.read(size + 1) if size <= most else b""  # of a file that grows, no more
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{path} cannot be read ({reason}); mend its permissions") from error
    if size > most or len(content) > most:
        raise CheckpointError(f"{path} has {max(size, len(content))} bytes, expected at most {most}; {remedy}")
    return content


def strict_json(content: bytes, most_depth: int = MOST_DEPTH) -> Any:
    """Return the JSON value in `content`: UTF-8, each key once, finite numbers, no deep nesting; else ValueError."""
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_each_once,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no UTF-8") from error
    if _depth(value, most_depth) > most_depth:
        raise ValueError(f"nested deeper than {most_depth}")
    return value


def parse_json(content: bytes, what: object, *, remedy: str = _RESTORE, most_depth: int = MOST_DEPTH) -> Any:
    """Return the JSON value in `content`; raises CheckpointError that begins with `what`, see `strict_json`."""
    try:
        return strict_json(content, most_depth)
    except ValueError as error:
        raise CheckpointError(f"{what} is damaged ({error}); {remedy}") from error


def read_json(path: Path, *, most: int = MOST_BYTES, remedy: str = _RESTORE) -> Any:
    """Return the JSON value in a plain file; raises as `read_bytes` and `parse_json` do."""
    return parse_json(read_bytes(path, most=most, remedy=remedy), path, remedy=remedy)


def read_object(path: Path, kinds: Mapping[str, Any] | None = None, *, remedy: str = _RESTORE) -> dict[str, Any]:
    """Return the JSON object in a plain file, whose keys `kinds`, as far as they are there, have those types.

    Raises: FileNotFoundError if there is none; CheckpointError if it is anything else.
    """
    value = read_json(path, remedy=remedy)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is damaged (a {type(value).__name__}, expected an object); {remedy}")
    for key, kind in (kinds or {}).items():
        check_kind(path, value, key, kind, remedy)
    return value


def check_kind(path: object, value: Mapping[str, Any], key: str, kind: Any, remedy: str = _RESTORE) -> None:
    """Raise CheckpointError if `value[key]` is there and not of type `kind`; truth values are no numbers."""
    found = value.get(key)
    if key in value and not (isinstance(found, kind) and (kind is bool or not isinstance(found, bool))):
        expected = getattr(kind, "__name__", str(kind))
        raise CheckpointError(f"{path} is damaged ({key} is {str(found)[:40]!r}, expected {expected}); {remedy}")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)[:60]!r} stands there twice")
    return found


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _depth(value: Any, most: int) -> int:
    """Return how deep lists and objects are nested, or a number above `most`; level by level, not by recursion."""
    level, depth = [value], 0
    while level := [v for v in level if isinstance(v, list | dict)]:
        depth += 1
        if depth > most:
            break
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
    return depth
