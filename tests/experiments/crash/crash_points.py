"""Every operation on files below one folder, counted; at a chosen one the process is killed or the disk fails.

Runs are forked from a process that has imported everything: a run of a few iterations then takes some hundredths of a
second, so that all of its operations can be tried, one run for each.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Fault = Literal["none", "kill", "torn", "ENOSPC", "EIO", "short"]
"""kill: SIGKILL right before the operation; torn: after half of a write; ENOSPC: no space at the operation and for all
that follow it; EIO: this operation fails; short: half of a write is taken, then there is no space."""

ASIDE = "(TensorBoard failed at |warning: damaged checkpoint passed over)"
"""What else may be said, in lines of their own: that a sink was dropped, or that an earlier checkpoint is used."""

NEEDS_SPACE = ("write", "create", "mkdir")
_REAL = {
    name: getattr(os, name)
    for name in (
        "open", "write", "replace", "rename", "mkdir", "rmdir", "unlink", "fsync", "truncate", "ftruncate", "listdir",
        "scandir",
    )
}  # fmt: skip
_OPEN = io.open


@dataclass
class Operations:
    """Stands in for what Python does to files below `root`, until the process ends."""

    root: Path
    fault: Fault = "none"
    at: int = -1
    seen: list[str] = field(default_factory=list)
    """Every operation so far, e.g. "write metrics.jsonl"."""
    _full: bool = False

    def install(self) -> None:
        """Take the place of the functions of `os`, and of `open`."""
        for name in _REAL:
            setattr(os, name, self._stand_in(name))
        os.remove = os.unlink
        builtins.open = io.open = self._open_file  # type: ignore[assignment]

    def _stand_in(self, name: str) -> Callable[..., Any]:
        real = _REAL[name]

        def called(first: Any = ".", *rest: Any, dir_fd: int | None = None, **options: Any) -> Any:
            target = self._place(first, dir_fd)
            if dir_fd is not None:
                options["dir_fd"] = dir_fd
            if target is None:
                return real(first, *rest, **options)
            kind = name
            if name == "open" and (rest[0] if rest else options.get("flags", 0)) & os.O_CREAT:
                kind = "create"
            return self._operate(kind, target, first, rest, lambda: real(first, *rest, **options))

        return called

    def _place(self, what: Any, dir_fd: int | None) -> str | None:
        """Return where an operation takes place, relative to the root, or None if that is elsewhere."""
        try:
            if isinstance(what, int):
                path = os.readlink(f"/proc/self/fd/{what}")
            elif dir_fd is not None and not os.path.isabs(os.fspath(what)):
                path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), os.fspath(what))
            else:
                path = os.path.abspath(os.fspath(what))
        except OSError:
            return None
        root = f"{self.root}/"
        return path.removeprefix(root) if path.startswith(root) else None

    def _operate(self, kind: str, target: str, first: Any, rest: tuple[Any, ...], real: Callable[[], Any]) -> Any:
        here = len(self.seen) == self.at
        self.seen.append(f"{kind} {re.sub(r'[0-9a-f]{8,16}|creating-[0-9]+', '*', target)}")
        if self._full and kind in NEEDS_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)
        if kind == "fsync" and not here:
            return None  # what is written outlives the process without it, only not the machine
        if not here or self.fault == "none" or (self.fault in ("torn", "short") and kind != "write"):
            return real()
        if self.fault in ("torn", "short"):
            content = bytes(rest[0])
            taken = _REAL["write"](first, content[: len(content) // 2])
            if self.fault == "torn":
                os.kill(os.getpid(), signal.SIGKILL)
            self._full = True
            return taken
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self._full = self.fault == "ENOSPC"
        code = errno.ENOSPC if self._full else errno.EIO
        raise OSError(code, os.strerror(code), target)

    def _open_file(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        """Open a file whose writes go through `os.write`, for those of the built-in kind cannot be seen."""
        if self._place(file, None) is None:
            return _OPEN(file, mode, buffering, *rest, **options)
        if not isinstance(file, int):
            new = os.O_WRONLY | os.O_CREAT
            flags = {"r": os.O_RDONLY, "w": new | os.O_TRUNC, "a": new | os.O_APPEND, "x": new | os.O_EXCL}[mode[0]]
            file = os.open(file, flags | os.O_CLOEXEC, 0o666)
        if mode[0] == "r":
            return _OPEN(file, mode, buffering, *rest, **options)
        binary = _Raw(file) if buffering == 0 else io.BufferedWriter(_Raw(file))
        return binary if "b" in mode else io.TextIOWrapper(binary, **options)  # type: ignore[type-var]


class _Raw(io.RawIOBase):
    def __init__(self, handle: int) -> None:
        self.handle = handle

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        return int(os.write(self.handle, content))

    def fileno(self) -> int:
        return self.handle

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self.handle)


@dataclass(frozen=True)
class Ended:
    """How a forked process ended."""

    code: int
    """Exit code, or minus the signal."""
    said: str
    """What it wrote to standard error."""


def fork(work: Callable[[], int], errors: Path) -> Ended:
    """Do `work` in a forked process; what it writes to standard error goes through the file `errors`."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.dup2(_REAL["open"](os.devnull, os.O_WRONLY), 1)
            os.dup2(_REAL["open"](errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            warnings.simplefilter("always")  # told, as they are outside of a test, not raised
            code = work()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(status), errors.read_text())


@dataclass
class Trial:
    """A command that works in `place`, tried with a fault at each of its operations."""

    place: Path
    """An empty folder of its own; below it everything is counted."""
    command: Callable[[], int]
    """Begins the work, or goes on with what is there; returns the exit code."""
    outcome: Callable[[], Any]
    """What shall be equal however often the command was interrupted."""
    before: Path | None = None
    """What `place` holds at the beginning, if not nothing."""

    def reset(self) -> None:
        """Make `place` what it was at the beginning."""
        shutil.rmtree(self.place, ignore_errors=True)
        if self.before is None:
            self.place.mkdir()
        else:
            shutil.copytree(self.before, self.place, symlinks=True)

    def run(self, fault: Fault = "none", at: int = -1) -> Ended:
        """Run the command once in a process of its own."""

        def work() -> int:
            Operations(self.place, fault, at).install()
            return self.command()

        return fork(work, self.place.with_name("errors.txt"))

    def operations(self) -> list[str]:
        """Return all operations of an undisturbed command."""
        seen, into = list[str](), self.place.with_name("operations.txt")

        def work() -> int:
            operations = Operations(self.place)
            operations.install()
            code = self.command()
            _OPEN(into, "w").write("\n".join(operations.seen))
            return code

        self.reset()
        ended = fork(work, self.place.with_name("errors.txt"))
        assert ended.code == 0, ended.said
        seen = into.read_text().split("\n")
        return seen

    def tried(self, expected: Any, points: Iterable[tuple[int, str, Fault]]) -> Iterator[tuple[str, str]]:
        """Try faults at operations; yield name and complaint, an empty one for what went as it should."""
        for at, operation, fault in points:
            self.reset()
            ended = self.run(fault, at)
            yield f"{fault} at {at} ({operation})", self._complaint(fault, ended, expected)

    def _complaint(self, fault: Fault, ended: Ended, expected: Any) -> str:
        if fault in ("kill", "torn"):
            if ended.code != -signal.SIGKILL:
                return f"was not killed but ended with {ended.code}: {ended.said}"
        elif ended.code == 2 and not re.fullmatch(rf"({ASIDE}.*\n)*error: .*\n", ended.said):
            return f"is not told in one line: {ended.said}"
        elif ended.code not in (0, 2):
            return f"ended with {ended.code}: {ended.said}"
        again = self.run()
        if again.code:
            return f"cannot go on: {again.code} {again.said}"
        found = self.outcome()
        return "" if found == expected else f"differs: {_difference(expected, found)} (first: {ended.said!r})"


def all_points(operations: list[str], faults: Sequence[Fault]) -> Iterator[tuple[int, str, Fault]]:
    """Return every fault at every operation where there can be one: only a write has a middle."""
    for at, operation in enumerate(operations):
        for fault in faults:
            if operation.startswith("write ") or fault not in ("torn", "short"):
                yield at, operation, fault


def distinct_kills(operations: list[str]) -> Iterator[tuple[int, str, Fault]]:
    """Return the kills that leave different disks: after an operation that changed nothing, one was tried already."""
    changes = [True, *(o.partition(" ")[0] not in ("open", "fsync", "listdir", "scandir") for o in operations)]
    for at, operation, fault in all_points(operations, ("kill", "torn")):
        if fault == "torn" or changes[at]:
            yield at, operation, fault


def one_failure_each(operations: list[str]) -> Iterator[tuple[int, str, Fault]]:
    """Return one fault of the disk at every operation: no space, an error, and half a write take turns."""
    for at, operation in enumerate(operations):
        faults: tuple[Fault, ...] = ("ENOSPC", "EIO", "short") if operation.startswith("write ") else ("ENOSPC", "EIO")
        yield at, operation, faults[at % len(faults)]


def first_and_last(points: Iterable[tuple[int, str, Fault]]) -> list[tuple[int, str, Fault]]:
    """Return, of the points at each kind of operation, the first and the last: those between are the same code again.

    For the suite, which has minutes; `kill_every_agent` tries them all.
    """
    by_kind: dict[str, list[tuple[int, str, Fault]]] = {}
    for point in points:
        by_kind.setdefault(re.sub(r"[0-9a-f]{16}|[0-9]+", "#", point[1]), []).append(point)
    return sorted({point for group in by_kind.values() for point in (group[0], group[-1])})


def _difference(expected: Any, found: Any) -> str:
    if isinstance(expected, dict) and isinstance(found, dict):
        return ", ".join(str(k) for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
    return f"{found!r}"[:200]


@contextmanager
def patched(target: Any, **changes: Any) -> Iterator[None]:
    """Set attributes for a while."""
    before = {name: getattr(target, name) for name in changes}
    for name, value in changes.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)
