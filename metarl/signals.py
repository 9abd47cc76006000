"""SIGTERM and SIGINT as a polite request. Imports nothing heavy, so that handlers stand before torch is loaded."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EXIT_STOPPED = 75
"""EX_TEMPFAIL: stopped on request with a checkpoint; running the same command with --resume goes on."""


class StopSignals:
    """Remembers the first SIGTERM or SIGINT; the second one ends the process at once."""

    def __init__(self) -> None:
        """Start without a request."""
        self.requested = False
        self.quiet = False
        """Whether somebody else tells the user, as the first of several processes does for all."""
        self._before: dict[int, Any] = {}
        self._saving = True

    def install(self) -> StopSignals:
        """Take over both signals and return self. Call it first thing in main, from the main thread; twice is once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if number not in self._before:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def uninstall(self) -> None:
        """Give both signals back to their former handlers and forget any request."""
        while self._before:
            signal.signal(*self._before.popitem())
        self.requested = False

    @contextmanager
    def installed(self, *, saving: bool = True) -> Iterator[None]:
        """Take over both signals for the length of a `with` block; outside the main thread nobody can, and none is.

        `saving` is whether a checkpoint follows a request, for the message.
        """
        if self._before or threading.current_thread() is not threading.main_thread():
            yield  # whoever has them keeps them
            return
        self.install()
        self._saving = saving
        try:
            yield
        finally:
            self.uninstall()
            self._saving = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(128 + number)
        self.requested = True
        if self.quiet:
            return
        name = signal.Signals(number).name
        # sys.stderr may be in the middle of a write when the signal comes; os.write is not.
        then = "saving a checkpoint" if self._saving else "returning; nothing is written without run_dir"
        text = f"\n{name}: finishing this iteration, then {then} (once more: exit at once)\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())


STOP = StopSignals()
"""The one of this process, for signal handlers belong to a process: the command line installs it."""
