"""Files that commands write: asked for before the work that would be lost, and replaced in one step."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from metarl.checkpoint import check_replaceable, replace_file
from metarl.errors import ConfigError
from metarl.results import plain


def write_json(path: Path, found: Any, indent: int | None = 1) -> None:
    """Put `found` at `path` as JSON; arrays, tuples and numbers of NumPy become what JSON has, other NaN than null."""
    replace_file(path, (json.dumps(plain(found), indent=indent, allow_nan=False) + "\n").encode())


def check_writable(path: Path, what: str) -> None:
    """Raise ConfigError unless a file can be written at `path`: asked before the work that would be lost."""
    if path.is_dir():
        raise ConfigError(f"{what} {path} is a folder; name a file in it")
    if not check_replaceable(path):
        check_folder(path.parent, what)


def check_folder(folder: Path, what: str) -> None:
    """Raise ConfigError unless files can be made in `folder`, which must exist; leaves nothing behind."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise ConfigError(f"{what}: cannot write into {folder} ({reason}); choose another place") from error


def check_future_folder(folder: Path, what: str) -> None:
    """Raise ConfigError unless files can be made in `folder`, or in the nearest above it that exists."""
    check_folder(next(known for known in (folder, *folder.parents) if known.exists()), what)
