"""metrics.jsonl: one JSON object per iteration, the only history that a resumed run believes.

Its lines are the iterations 1, 2, 3, ... without a gap. A checkpoint holds the sha256 of the lines up to its iteration
(`head -n N metrics.jsonl | sha256sum`), so that no other history can stand in for the one it was written with.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .commandline import spoken
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

    A file that does not exist has no records. Raises: CheckpointError naming the first line that does not hold the
    record of its iteration.
    """
    lines = _whole_lines(path)
    return _parse(path, lines, last_may_be_torn=True)


def _whole_lines(path: Path) -> list[bytes]:
    """Return the lines that end with a line feed: what follows the last one was never completed."""
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return []
    return [line + b"\n" for line in content.split(b"\n")[:-1]]


def _parse(path: Path, lines: Sequence[bytes], *, last_may_be_torn: bool = False) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = strict_json(line)
            if not isinstance(record, dict) or type(record.get("iteration")) is not int:
                raise ValueError("not an object with an integer 'iteration'")
        except (ValueError, RecursionError) as error:
            if last_may_be_torn and number == len(lines):
                break
            raise CheckpointError(
                f"{path} line {number} is damaged ({error}); it should be the record of iteration {number}: restore "
                f"the file from a copy"
            ) from error
        if record["iteration"] != number:
            raise CheckpointError(
                f"{path} line {number} is the record of iteration {record['iteration']}, not of iteration {number}: "
                f"records are missing, doubled, out of order or another run's; restore the file from a copy"
            )
        records.append(record)
    return records


class MetricsLog:
    """Appends records to a metrics.jsonl: each is handed to the system at once, and to the disk at checkpoints.

    Only one process writes it, and a record is there as a whole or not at all.
    """

    def __init__(self, path: Path, iteration: int = 0, digest: str | None = None) -> None:
        """Go on after the first `iteration` records, whose lines must have the sha256 `digest` if that is known.

        They are kept to the bit in `kept`; everything after them is cut off. Raises: CheckpointError, before anything
        is changed, naming the first iteration that is missing or wrong.
        """
        self.path = path
        lines = _whole_lines(path)[:iteration]
        self.kept = _parse(path, lines)
        if len(lines) < iteration:
            raise CheckpointError(
                f"{path} ends after iteration {len(lines)}, but the run goes on from the checkpoint of iteration "
                f"{iteration}: iteration {len(lines) + 1} is missing; restore the file from a copy"
            )
        self._sha256 = hashlib.sha256(b"".join(lines))
        if digest is not None and digest != self.digest:
            raise CheckpointError(
                f"{path} is not the history that the checkpoint of iteration {iteration} was written with: a record of "
                f"iterations 1 to {iteration} was changed; restore the file from a copy"
            )
        self.size = sum(map(len, lines))
        self.handle = open_plain(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        if os.fstat(self.handle).st_size != self.size:
            os.ftruncate(self.handle, self.size)

    @property
    def digest(self) -> str:
        """The sha256 of all lines so far."""
        return self._sha256.hexdigest()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record; it survives a kill of this process from here on.

        Raises: NumericalError for NaN; CheckpointError if another process changed the file; OSError if the disk
        refuses, and then the file ends with the record before.
        """
        line = encode_record(record)
        found = os.fstat(self.handle).st_size
        if found != self.size:
            raise CheckpointError(
                f"{self.path} has {found} bytes instead of the {self.size} that this run wrote: another process "
                f"changes it; stop that one, then {spoken('go on with --resume', 'call metarl.train again')}"
            )
        rest = memoryview(line)
        try:
            while rest:  # a disk that is nearly full takes a part
                taken = os.write(self.handle, rest)
                if not taken:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                rest = rest[taken:]
        except OSError:
            os.ftruncate(self.handle, self.size)
            raise
        self.size += len(line)
        self._sha256.update(line)

    def sync(self) -> None:
        """Make everything appended so far survive a power cut."""
        os.fsync(self.handle)

    def close(self) -> None:
        """Flush and close the file."""
        if self.handle >= 0:
            try:
                self.sync()
            finally:
                self._shut()

    def _shut(self) -> None:
        os.close(self.handle)
        self.handle = -1

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()
