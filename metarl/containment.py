"""While code of others is imported: it cannot end the process, and what belongs to the whole process is put back."""

from __future__ import annotations

import os
import random  # noqa: TID251  # the state of others is kept, none is drawn
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType, ModuleType
from typing import Any


class TooLong(BaseException):
    """The time is over; no Exception, so that a stranger's `except Exception` does not stop it."""


@contextmanager
def contained(limit_s: float) -> Iterator[list[int]]:
    """Contain code of others for at most `limit_s` seconds, then raise TooLong in it.

    Gives a list that is not empty once the user has pressed Ctrl-C. Folders added to `sys.path` and variables of the
    environment stay, because the code may need them later. Time and Ctrl-C are for the main thread only.
    """
    interrupted: list[int] = []
    with ExitStack() as back:
        for put_back in (_folder(), _import_path(), _streams(), _numbers()):
            back.callback(put_back)
        back.enter_context(going_on())
        back.enter_context(warnings.catch_warnings())
        if threading.current_thread() is threading.main_thread():
            back.callback(_signals(limit_s, interrupted))
        yield interrupted


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the global generators of `random`, NumPy and torch (CPU) back to where they were, at the end of the block."""
    import numpy as np
    import torch

    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


def _folder() -> Callable[[], None]:
    mask = os.umask(0o077)
    os.umask(mask)
    try:
        here: str | None = os.getcwd()
    except OSError:  # it was removed
        here = None

    def put_back() -> None:
        os.umask(mask)
        if here is not None:
            with suppress(OSError):
                os.chdir(here)

    return put_back


def _import_path() -> Callable[[], None]:
    path, before = sys.path, list(sys.path)

    def put_back() -> None:
        path[:] = before + [place for place in sys.path if place not in before]
        sys.path = path

    return put_back


def _streams() -> Callable[[], None]:
    """Have what is printed go to stderr: stdout is for what the user asked for."""
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdout = sys.stderr

    def put_back() -> None:
        sys.stdin, sys.stdout, sys.stderr = before

    return put_back


def _numbers() -> Callable[[], None]:
    import numpy as np
    import torch

    errors, dtype, device = np.geterr(), torch.get_default_dtype(), torch.get_default_device()
    grad, threads = torch.is_grad_enabled(), torch.get_num_threads()

    def put_back() -> None:
        np.seterr(**errors)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)

    return put_back


_ENDS = (
    (os, "_exit"), (os, "abort"), (os, "execv"), (os, "execve"), (os, "kill"), (os, "killpg"), (signal, "raise_signal"),
)  # fmt: skip
"""Functions that end the process, or make it another program: those of Python; native code cannot be stopped."""


@contextmanager
def going_on() -> Iterator[None]:
    """Have functions that end this process raise SystemExit, which names them; its forks may end as they like."""
    process, before = os.getpid(), [(module, name, getattr(module, name)) for module, name in _ENDS]

    def guarded(module: ModuleType, name: str, end: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(*arguments: Any, **named: Any) -> Any:
            harmless = name in ("kill", "killpg") and not _fatal(process, *arguments)
            harmless |= name == "raise_signal" and not _fatal(process, process, *arguments)
            if harmless or os.getpid() != process:
                return end(*arguments, **named)
            told = ", ".join(repr(value)[:40] for value in (*arguments, *named.values())[:2])
            raise SystemExit(f"{module.__name__}.{name}({told})")

        return refuse

    for module, name, end in before:
        setattr(module, name, guarded(module, name, end))
    try:
        yield
    finally:
        for module, name, end in before:
            setattr(module, name, end)


def _fatal(process: int, target: int = 0, number: int = 0, *_: Any) -> bool:
    """Return whether a signal to `target`, a process or a group of them, ends `process`; number 0 only asks."""
    reaches = target in (process, 0, -1, os.getpgrp(), -os.getpgrp())
    return reaches and number != 0 and signal.getsignal(number) == signal.SIG_DFL


def _signals(limit_s: float, interrupted: list[int]) -> Callable[[], None]:
    before: dict[int, Any] = {number: signal.getsignal(number) for number in signal.valid_signals()}
    on_interrupt = before[signal.SIGINT]

    def note(number: int, frame: FrameType | None) -> None:
        interrupted.append(number)
        on_interrupt(number, frame)

    def late(number: int, frame: FrameType | None) -> None:
        raise TooLong

    if callable(on_interrupt):
        signal.signal(signal.SIGINT, note)
    signal.signal(signal.SIGALRM, late)
    timer = signal.setitimer(signal.ITIMER_REAL, limit_s, 1.0)  # again each second, should it be caught

    def put_back() -> None:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:  # None: set by no Python code
                signal.signal(number, handler)

    return put_back
