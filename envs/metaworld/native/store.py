"""Products kept from one process to the next, used only if they are what was written and nobody else could write them.

Each product is one file that ends with a digest of its name and content. It is written beside its place, flushed to the
disk and moved there in one step, by one process at a time. Accidents show in the digest. Malice is kept out by who owns
the folders and files, and by nothing else: whoever may write to them could write a fitting digest, too.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from metarl.errors import ConfigError

FORMAT = "1"
"""Version of how products are stored; part of their names."""
LOCK_S = 330
"""Longest wait, in seconds, for another process that makes the same product; compiling may take 300."""
MOST_BYTES = 2**26
"""Larger than any product by far."""

_LOG = logging.getLogger("metarl.metaworld")
_SEAL = b"\nsha256 "
_SEAL_SIZE = len(_SEAL) + 64
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_BUILD = ".build-"


class BuildError(ConfigError):
    """No compiler, or one that fails, or no safe place: the compiled core cannot be had on this machine."""


def cache_folder() -> Path:
    """Return where products are kept: $METARL_CACHE, else metarl/engine in the user's cache directory.

    Raises: BuildError if a home directory is needed and there is none.
    """
    chosen = os.environ.get("METARL_CACHE")
    if chosen and not chosen.startswith("~"):
        with disk(Path(chosen)):  # a relative one, where the current folder was removed
            return Path(os.path.abspath(chosen))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not chosen and os.path.isabs(base):  # the standard for that variable says to ignore a relative path
        return Path(base) / "metarl" / "engine"
    try:
        folder = Path(chosen or "~/.cache/metarl/engine").expanduser()
    except RuntimeError:
        folder = Path("~")
    if not folder.is_absolute() or os.environ.get("HOME") == "":
        raise BuildError(
            "no home directory to keep compiled code in; name a folder of your own in METARL_CACHE, got "
            f"{chosen!r}, and HOME is {os.environ.get('HOME')!r}"
        )
    return folder


def keep_or_make(product: Path, make: Callable[[Path], bytes]) -> bytes:
    """Return the content kept as `product`; failing that, of `make(a folder to work in)`, which is then kept.

    Any number of processes may ask at once; one makes it. Raises: BuildError if there is no safe place to keep it.
    """
    product = _safe_folder(product.parent) / product.name
    content, _ = _read(product)
    if content is not None:
        return content
    with _locked(product) as folder:
        content, fault = _read(product)
        if content is None:
            content = make(folder)
            with disk(product.parent):
                _write(product, folder, content)
            if fault:
                _LOG.warning("Meta-World: %r %s, so it was made anew", str(product), fault)
    return content


def is_kept(product: Path) -> bool:
    """Return whether `product` is there and whole. Raises: BuildError if its folder is not a safe place."""
    return _read(_safe_folder(product.parent) / product.name)[0] is not None


def load_library(name: str, content: bytes) -> Any:
    """Load a shared library of these very bytes: a copy that no change of a file reaches, now or while it is used.

    Raises: BuildError if the system does not take it for a library.
    """
    # glibc knows a library by the path it was loaded from: the descriptor stays open, and the process is named, or the
    # path could come to mean another library, here or in a fork that closes what it inherits.
    with suppress(OSError, AttributeError):  # AttributeError: a system without such files in memory
        handle = os.memfd_create(name)
        try:
            _write_all(handle, content)
            return ctypes.CDLL(f"/proc/{os.getpid()}/fd/{handle}")
        except OSError:
            os.close(handle)
            raise
    try:
        with tempfile.TemporaryDirectory(prefix="metarl-") as folder:
            copy = Path(folder) / f"{name}.so"
            copy.write_bytes(content)
            return ctypes.CDLL(str(copy))
    except OSError as problem:
        raise BuildError(f"{name} cannot be loaded ({problem}); empty {cache_folder()}") from problem


def symbol(library: Any, name: str) -> Any:
    """Return a function of a library. Raises: BuildError if it has none of that name."""
    try:
        return getattr(library, name)
    except AttributeError:
        raise BuildError(f"a compiled library lacks {name}; unset CXX and empty {cache_folder()}") from None


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Say in one line what the disk did not allow."""
    try:
        yield
    except OSError as problem:
        raise BuildError(
            f"cannot write {str(folder)!r} ({problem.strerror or problem}); name a folder that can be written in "
            "METARL_CACHE"
        ) from problem


def _safe_folder(folder: Path) -> Path:
    """Make `folder` for us alone if it is missing; return it free of links if nobody else can write on its path."""
    with disk(folder):
        for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
        folder = folder.resolve(strict=True)
        for place in (folder, *folder.parents):
            found = place.lstat()
            if not stat.S_ISDIR(found.st_mode):
                raise NotADirectoryError(f"{str(place)!r} is not a folder")
            if found.st_uid not in (0, os.geteuid()):
                raise BuildError(
                    f"{str(place)!r} belongs to user {found.st_uid}, who could put any code into the cache; name a "
                    "folder of your own in METARL_CACHE"
                )
            if found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX:
                raise BuildError(
                    f"others can write to {str(place)!r} and put any code into the cache; `chmod go-w` it, or name a "
                    "folder of your own in METARL_CACHE"
                )
    return folder


def _read(product: Path) -> tuple[bytes | None, str]:
    """Return the content of a sealed file or None, and what is wrong with a file that is there."""
    try:
        # Opening a pipe without O_NONBLOCK waits for its other end.
        handle = os.open(product, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fault = _not_ours(handle)
            if fault:
                return None, fault
            with open(handle, "rb", closefd=False) as file:
                sealed = file.read()
        finally:
            os.close(handle)
    except FileNotFoundError:
        return None, ""
    except OSError as problem:
        return None, f"cannot be read ({problem.strerror})"
    content = sealed[:-_SEAL_SIZE]
    return (content, "") if sealed == content + _seal(product.name, content) else (None, "does not fit its digest")


def _not_ours(handle: int) -> str:
    """Return why an open file may be somebody else's work, or ""."""
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        return "is not a plain file"
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to user {found.st_uid}"
    if found.st_size > MOST_BYTES:
        return "is far too large"
    return "can be written by others" if found.st_mode & _OTHERS_WRITE else ""


def _seal(name: str, content: bytes) -> bytes:
    return _SEAL + hashlib.sha256(os.fsencode(name) + b"\0" + content).hexdigest().encode()


def _write(product: Path, folder: Path, content: bytes) -> None:
    sealed = folder / "sealed"
    handle = os.open(sealed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(handle, 0o644)  # whatever the umask: what others could write is never read again
        _write_all(handle, content + _seal(product.name, content))
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(sealed, product)
    parent = os.open(product.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _write_all(handle: int, content: bytes) -> None:
    with open(handle, "wb", closefd=False) as file:
        file.write(content)


@contextmanager
def _locked(product: Path) -> Iterator[Path]:
    """Hold the right to make `product`; give a folder to work in, on the same disk, that vanishes afterwards."""
    with disk(product.parent):
        handle = _open_lock(product.with_suffix(".lock"))
    try:
        with disk(product.parent):
            _wait_for(handle, product)
            _sweep(product.parent, product.stem)
            folder = tempfile.mkdtemp(prefix=f"{_BUILD}{product.stem}-", dir=product.parent)
        try:
            yield Path(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough if a fork has inherited it
    finally:
        os.close(handle)


def _open_lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    fault = _not_ours(handle)
    if fault:
        os.close(handle)
        raise BuildError(f"{str(path)!r} {fault}; remove it")
    return handle


def _wait_for(handle: int, product: Path) -> None:
    over = time.monotonic() + LOCK_S
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > over:
                raise BuildError(f"another process has been making {str(product)!r} for {LOCK_S} s; end it") from None
            time.sleep(0.02)


def _sweep(parent: Path, ours: str) -> None:
    """Remove the folders of those who were killed while they made something: their locks are free."""
    for folder in parent.glob(f"{_BUILD}*"):
        stem = folder.name.removeprefix(_BUILD).rpartition("-")[0]
        if stem == ours:
            shutil.rmtree(folder, ignore_errors=True)
        elif stem:
            with suppress(OSError, BuildError):
                handle = _open_lock(parent / f"{stem}.lock")
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(handle)
