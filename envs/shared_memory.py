"""Memory that several processes see alike, without a file and without /dev/shm."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any


class SharedBlock:
    """`size` bytes, zero at first, shared with the processes that are spawned with it; gone when the last one is.

    Not multiprocessing's RawArray, which wants a /dev/shm that exists, can be written and is large enough: containers
    often have none, or one of 64 MB.
    """

    def __init__(self, size: int, descriptor: int | None = None) -> None:
        """Make a block, or open the one behind `descriptor`, which belongs to it from then on."""
        self.size = size
        self.descriptor = _anonymous_file(size) if descriptor is None else descriptor
        weakref.finalize(self, os.close, self.descriptor)
        self.memory = mmap.mmap(self.descriptor, size)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Travel to a process that is being spawned: the only way to another one."""
        return _open, (self.size, DupFd(self.descriptor))


def _open(size: int, duplicate: Any) -> SharedBlock:
    return SharedBlock(size, duplicate.detach())


def _anonymous_file(size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("metarl")
    else:  # not Linux
        descriptor, name = tempfile.mkstemp()
        os.unlink(name)
    os.ftruncate(descriptor, size)
    return descriptor
