"""The end of the interpreter: cores are shut, and threads that were using them get a moment to notice."""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import Protocol

_NOTICE_S = 1.0
"""Longest wait, in seconds, for a thread that was stepping. It is over sooner if the thread ends."""


class Leaver(Protocol):
    """Something that threads make calls on."""

    def shut(self) -> int:
        """Let nobody in any more, once nobody is inside; returns the thread that made the last call."""
        ...


_leavers: weakref.WeakSet[Leaver] = weakref.WeakSet()


def shut_at_exit(leaver: Leaver) -> None:
    """Have `leaver` shut when the interpreter ends, if it still exists."""
    _leavers.add(leaver)


@atexit.register
def _leave() -> None:
    users = {leaver.shut() for leaver in list(_leavers)}
    for thread in threading.enumerate():
        # C++ code (MuJoCo, torch) aborts the process if the interpreter ends while a daemon thread is inside.
        # Refused, the thread comes out of whatever it was doing.
        if thread.ident in users and thread is not threading.current_thread():
            thread.join(_NOTICE_S)
