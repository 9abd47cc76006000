"""The right to write a run directory, and whether what is open there is still what its names stand for."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .commandline import spoken
from .errors import CheckpointError, ConfigError

LOCK = "lock"
_CREATING = ".{name}.creating-"


class RunLock:
    """The right to write a run directory, held until `release` or the end of the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock of `folder`; raises ConfigError if another process has it or nothing can be written there."""
        self._handle = self._folder = -1
        path = folder / LOCK
        try:
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
            if not stat.S_ISREG(os.fstat(self._handle).st_mode):
                raise ConfigError(f"{path} is no plain file; delete it")
            self._take(folder)
            os.ftruncate(self._handle, 0)
            os.write(self._handle, f"{os.getpid()}\n".encode())
        except OSError as error:
            self.release()
            raise ConfigError(f"cannot write into {folder} ({error}); mend its permissions or use a copy") from error
        except ConfigError:
            self.release()
            raise

    def _take(self, folder: Path) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._handle, 32).decode(errors="replace").strip() or "unknown"
            raise ConfigError(
                f"another process (pid {holder}) is training in {folder}; wait for it, stop it, or choose another "
                f"{spoken('--run-dir', 'run_dir')}"
            ) from error
        if lost(self._handle, folder / LOCK):
            raise ConfigError(f"{folder / LOCK} was replaced while it was taken; try again")

    def held(self, folder: Path) -> list[tuple[int, str]]:
        """Return what is open for the lock, directory and file, with the names by which they are now."""
        return [(self._folder, str(folder)), (self._handle, str(folder / LOCK))]

    def release(self) -> None:
        """Give the lock back."""
        for handle in (self._handle, self._folder):
            if handle >= 0:
                os.close(handle)
        self._handle = self._folder = -1


def lost(handle: int, path: str | Path) -> str:
    """Return what happened to `path` if it no longer names what is open as `handle`, or ""."""
    try:
        found, held = os.stat(path), os.fstat(handle)
    except (FileNotFoundError, NotADirectoryError):
        return "was moved or deleted"
    return "" if (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino) else "was replaced"


def check_held(held: Iterable[tuple[int, str]]) -> None:
    """Raise CheckpointError naming the first path that no longer names what is open; microseconds each."""
    for handle, path in held:
        what = lost(handle, path)
        if what:
            raise CheckpointError(
                f"{path} {what} while this run trained, so it stopped: another process may be at work there; put it "
                f"back or name its new place, then {spoken('go on with --resume', 'call metarl.train again')}"
            )


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses inside a run directory into a CheckpointError of one line."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CheckpointError(
            f"the disk refuses in run directory {folder} ({where}{error.strerror or error}); what was saved before is "
            f"untouched: free or repair the disk, then {spoken('go on with --resume', 'call metarl.train again')}"
        ) from error


def creation_name(folder: Path) -> str:
    """Return a name beside `folder` under which it can be made: one that nobody else takes, and that is recognised."""
    return f"{_CREATING.format(name=folder.absolute().name)}{os.getpid()}-{os.urandom(4).hex()}"


def clean_creations(folder: Path) -> None:
    """Delete what killed processes left that were about to create `folder`; those of living ones stay."""
    parent, prefix = folder.absolute().parent, _CREATING.format(name=folder.absolute().name)
    if not parent.is_dir():
        return
    for leftover in [p for p in parent.iterdir() if p.name.startswith(prefix)]:
        if not leftover.is_symlink() and _abandoned(leftover, leftover.name.removeprefix(prefix).partition("-")[0]):
            shutil.rmtree(leftover, ignore_errors=True)


def _abandoned(leftover: Path, pid: str) -> bool:
    """Return whether nobody holds the lock in `leftover`, or, before it has one, whether its process is gone."""
    try:
        handle = os.open(leftover / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return not (pid.isdecimal() and Path("/proc", pid).exists()) or int(pid) == os.getpid()
    return not locked(handle)


def locked(handle: int) -> bool:
    """Return whether another process holds the lock in what is open as `handle`, which is closed."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
