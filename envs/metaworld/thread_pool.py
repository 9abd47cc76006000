"""A pool of persistent Python threads for calls into MuJoCo, which releases the interpreter lock."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

from metarl.errors import WorldError

from .shutdown import shut_at_exit

Call = tuple[Callable[[Any, Any], None], Any, Any]
"""A function and its two arguments (model and data)."""

_Outcome = BaseException | None


class _Job:
    """A list of calls, and which threads are making them."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.left: Iterator[Call] = iter(calls)  # taking the next element of a list's iterator is one bytecode's work
        self.entered: list[None] = []
        self.exited: list[_Outcome] = []
        """What the calls of each thread raised, in the order in which the threads ended."""
        self.notified: SimpleQueue[None] = SimpleQueue()
        """Wakes the caller after each entry in `exited`."""


_Inbox = SimpleQueue[_Job | None]


class _Gate:
    """A lock held while calls are made; closed before the interpreter unloads MuJoCo under a running thread."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.shut = False
        self.user = threading.get_ident()
        """The thread that made the last calls."""

    def close(self) -> None:
        """Wait until nobody makes calls, and let nobody in any more."""
        with self.lock:
            self.shut = True


class ThreadPool:
    """`n_threads` threads, the caller among them, that work through lists of calls; each takes the next one left.

    They end with `close`, with the last reference, or with the interpreter. A forked child starts its own.
    """

    def __init__(self, n_threads: int) -> None:
        """Start all but the first thread."""
        self.n_threads = n_threads
        self._start()
        shut_at_exit(self)

    def run(self, calls: Sequence[Call]) -> None:
        """Make all calls and return when the last is done.

        Raises: what the first failing call raised; WorldError once closed, by `close` or by the interpreter's end.
        """
        if self._pid != os.getpid():
            self._start()
        with self._gate.lock:
            if self._gate.shut:
                raise WorldError("engine: this core is closed")
            self._gate.user = threading.get_ident()
            if self.n_threads == 1 or len(calls) == 1:
                for function, model, data in calls:
                    function(model, data)
            else:
                self._distribute(calls)

    def _distribute(self, calls: Sequence[Call]) -> None:
        job = _Job(calls)
        interrupt: _Outcome = None
        try:
            for inbox in self._inboxes[: len(calls) - 1]:
                inbox.put(job)
            for function, model, data in job.left:
                function(model, data)
        finally:
            # Whatever went wrong, nobody may be inside an env once this returns. An interrupt can come at any moment,
            # also while waiting, and again; so what is waited for is a state, not a number of messages.
            while True:
                try:
                    deque(job.left, maxlen=0)
                    while len(job.exited) < len(job.entered):
                        job.notified.get()
                    break
                except BaseException as problem:
                    interrupt = problem
        for outcome in (interrupt, *job.exited):
            if outcome is not None:
                raise outcome

    def close(self) -> None:
        """End the threads; harmless when called twice."""
        self._end()

    def shut(self) -> int:
        """Let nobody in any more, once nobody is inside; returns the thread that made the last calls."""
        if self._pid == os.getpid():
            self._gate.close()
        return self._gate.user

    def _start(self) -> None:
        self._pid, self._gate = os.getpid(), _Gate()
        self._inboxes: list[_Inbox] = [SimpleQueue() for _ in range(self.n_threads - 1)]
        threads = [
            threading.Thread(target=_work, args=(inbox,), name="metarl-python-core", daemon=True)
            for inbox in self._inboxes
        ]
        for thread in threads:
            thread.start()
        self._end = weakref.finalize(self, _shut_down, self._gate, self._inboxes, threads, self._pid)


def _work(inbox: _Inbox) -> None:
    while (job := inbox.get()) is not None:
        job.entered.append(None)  # before the first call is taken
        try:
            for function, model, data in job.left:
                function(model, data)
        except BaseException as problem:
            job.exited.append(problem)
        else:
            job.exited.append(None)
        job.notified.put(None)
        del job  # an idle thread keeps no env alive


def _shut_down(gate: _Gate, inboxes: list[_Inbox], threads: list[threading.Thread], pid: int) -> None:
    if pid != os.getpid():
        return  # a fork's threads are its parent's
    gate.close()
    for inbox in inboxes:
        inbox.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()
