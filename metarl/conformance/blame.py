"""Whose code raised: the method of a world or task distribution that an error came out of, and the line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FrameType

from metarl.errors import shortened
from metarl.task_distribution import lacks
from metarl.world import World


def blame(error: BaseException, examined: Callable[[type], bool] = lambda kind: True) -> tuple[object, str] | None:
    """Return the world or task distribution in one of whose methods `error` was raised, and one line about it.

    `examined` says which classes count. None if no method of one is on the way to where the error was raised.
    """
    frames = list(_frames(error))
    for frame, _ in frames:
        owner = frame.f_locals.get("self")
        if (isinstance(owner, World) or not lacks(owner)) and examined(type(owner)):
            return owner, f"{frame.f_code.co_name}() raised {_told(error, frames, type(owner).__module__)}"
    return None


def raised(error: BaseException) -> str:
    """Return one line about an error: the method it came out of if it is known, the kind, the place and the words."""
    found = blame(error)
    return found[1] if found is not None else f"raised {_told(error, list(_frames(error)), '')}"


def _told(error: BaseException, frames: list[tuple[FrameType, int]], module: str) -> str:
    """Return kind, place (in `module`, if the error passed through it) and words of an error."""
    inside = [f for f in frames if f[0].f_globals.get("__name__") == module] or frames
    place = f" at {inside[-1][0].f_code.co_filename}:{inside[-1][1]}" if inside else ""
    return f"{type(error).__name__}{place}: " + (shortened(error) or "no message")


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Yield frame and line from where the error was caught to where it was raised."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next
