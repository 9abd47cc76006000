"""Exit handlers: at the end of the interpreter cores are shut down, and threads in them are given time to leave."""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import Protocol

_NOTICE_S = 1.0
"""Longest wait, in seconds, for a thread that was stepping. It is over sooner if the thread ends."""


class ExitHandler(Protocol):
    """What the end of the interpreter must shut down: something that threads make calls on."""

    def shut(self) -> int:
        """Let nobody in any more, once nobody is inside; returns the thread that made the last call."""
        ...


_handlers: weakref.WeakSet[ExitHandler] = weakref.WeakSet()


def shut_at_exit(handler: ExitHandler) -> None:
    """Have `handler` shut down when the interpreter ends, if it still exists."""
    _handlers.add(handler)


@atexit.register
def _run_handlers() -> None:
    users = {handler.shut() for handler in list(_handlers)}
    for thread in threading.enumerate():
        # C++ code (MuJoCo, torch) aborts the process if the interpreter ends while a daemon thread is inside.
        # Refused, the thread comes out of whatever it was doing.
        if thread.ident in users and thread is not threading.current_thread():
            thread.join(_NOTICE_S)
