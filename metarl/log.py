"""metrics.jsonl: one JSON object per iteration, the only history that a resumed run believes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .checkpoint import replace_file
from .errors import CheckpointError, NumericalError
from .reading import open_plain, read_bytes, strict_json

WALL_CLOCK_KEYS = frozenset({"wall_s", "steps_per_s", "time/collect_s", "time/update_s", "checkpoint_age_s"})
"""Keys that a repeated run may answer differently; all others are equal, bit for bit."""


def encode_record(record: Mapping[str, Any]) -> bytes:
    """Return a record as one line; raises NumericalError naming a key whose number is NaN or infinite."""
    try:
        return (json.dumps(dict(record), allow_nan=False) + "\n").encode()
    except ValueError as error:
        bad = [k for k, v in record.items() if isinstance(v, float) and (v != v or v in (float("inf"), -float("inf")))]
        raise NumericalError(
            f"iteration {record.get('iteration')}: {', '.join(map(repr, bad)) or 'a value'} of the log record is not "
            f"finite; the last good checkpoint is untouched, start a new run from it with smaller steps"
        ) from error


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a metrics.jsonl; a last line that a kill tore off is dropped.

    A file that does not exist has no records. Raises: CheckpointError naming a line in the middle that is not a record.
    """
    try:
        lines = read_bytes(path).split(b"\n")
    except FileNotFoundError:
        return []
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line feed was never completed
        try:
            record = strict_json(line)
            if not isinstance(record, dict) or not isinstance(record.get("iteration"), int):
                raise ValueError("not an object with an integer 'iteration'")
        except ValueError as error:
            if number == len(lines) - 1:
                break
            raise CheckpointError(f"{path} line {number} is damaged ({error}); repair or delete that line") from error
        records.append(record)
    return records


def cut(path: Path, iteration: int) -> list[dict[str, Any]]:
    """Drop every record after `iteration`, atomically, and return the kept ones."""
    kept = [r for r in read_records(path) if r["iteration"] <= iteration]
    replace_file(path, b"".join(map(encode_record, kept)))
    return kept


class MetricsLog:
    """Appends records to a metrics.jsonl: each is handed to the system at once, and to the disk at checkpoints."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending."""
        self._file = open(open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab", buffering=0)  # noqa: SIM115

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record; it survives a kill of this process from here on. Raises NumericalError for NaN."""
        self._file.write(encode_record(record))

    def sync(self) -> None:
        """Make everything appended so far survive a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close the file."""
        if not self._file.closed:
            self.sync()
            self._file.close()

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()
