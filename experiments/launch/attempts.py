"""What was tried for one run, and how it ended: lines that only ever get more, each written in one step."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl.reading import open_plain, read_bytes, strict_json
from metarl.run_lock import LOCK, locked
from metarl.signals import EXIT_STOPPED

_FILE = "attempts.jsonl"
MOST_TRIES = 3
"""Attempts in a row that get no further before a run counts as failed."""
_BACK_OFF_S = 5.0
"""Pause before the second attempt; each further one waits twice as long."""
EXIT_REFUSED = 2
"""What our commands exit with when the user has to mend something: trying again would not help."""


@dataclass(frozen=True)
class Attempts:
    """The attempts at one run, as its directory tells them."""

    events: tuple[dict[str, Any], ...]
    held: bool
    """Whether somebody carries the run out at this moment."""

    @property
    def last(self) -> dict[str, Any] | None:
        """What was said last: a start, an end, or a request of the user's."""
        return self.events[-1] if self.events else None

    @property
    def done(self) -> bool:
        """Whether training and every evaluation ended well."""
        return any(e["event"] == "end" and e.get("exit_code") == 0 for e in self.events)

    @property
    def stopped(self) -> bool:
        """Whether somebody asked it to stop, and nobody asked it to go on."""
        return self.last is not None and (self.last["event"] == "stop" or self.last.get("exit_code") == EXIT_STOPPED)

    @property
    def failure(self) -> str:
        """Why the run is not tried again by itself, "" if it is, or nothing is wrong."""
        tries = self._tries()
        if not tries or self.held or self.done or self.stopped:
            return ""
        reason = str(tries[-1].get("reason") or "its process is gone")
        if tries[-1].get("exit_code") == EXIT_REFUSED:
            return reason
        return f"{reason} ({len(tries)} attempts that got no further)" if len(tries) >= MOST_TRIES else ""

    def wait_s(self) -> float:
        """Return for how long not to try again yet, in seconds."""
        tries = self._tries()
        if not tries or self.stopped:
            return 0.0
        pause = _BACK_OFF_S * 2.0 ** (len(tries) - 1)
        return max(0.0, float(tries[-1].get("time", 0.0)) + pause - time.time())

    def _tries(self) -> list[dict[str, Any]]:
        """Return the latest attempts, ended badly or not at all, that got no further than the one before them."""
        found: list[dict[str, Any]] = []
        for event in self.events:
            if event["event"] == "start":
                if found and event.get("iteration", 0) > found[-1].get("iteration", 0):
                    found = []
                found.append(event)
            elif event["event"] == "end" and found:
                found[-1] = {**found[-1], **event, "iteration": found[-1].get("iteration", 0)}
                if event.get("exit_code") in (0, EXIT_STOPPED):
                    found = []
            elif event["event"] in ("retry", "stop"):
                found = []
        return found

    def cost(self) -> dict[str, float]:
        """Return what all attempts took that said so at their end: CPU and wall-clock seconds, and the most memory."""
        ends = [e for e in self.events if e["event"] == "end"]
        return {
            "cpu_s": sum(float(e.get("cpu_s", 0.0)) for e in ends),
            "wall_s": sum(float(e.get("wall_s", 0.0)) for e in ends),
            "peak_memory_bytes": max((float(e.get("peak_memory_bytes", 0.0)) for e in ends), default=0.0),
        }


def read_attempts(job_dir: Path) -> Attempts:
    """Return what `job_dir` tells; a line that a kill tore off is passed over."""
    try:
        lines = read_bytes(job_dir / _FILE).split(b"\n")
    except FileNotFoundError:
        return Attempts((), is_held(job_dir))
    events = []
    for line in lines:
        try:
            event = strict_json(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            events.append(event)
    return Attempts(tuple(events), is_held(job_dir))


def tell(job_dir: Path, event: str, **facts: Any) -> None:
    """Append an event."""
    job_dir.mkdir(parents=True, exist_ok=True)
    line = {"event": event, "time": time.time(), "host": socket.gethostname(), "pid": os.getpid(), **facts}
    handle = open_plain(job_dir / _FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:  # begins with a line feed, so that what a kill tore off stays a line of its own
        os.write(handle, b"\n" + json.dumps(line).encode() + b"\n")
    finally:
        os.close(handle)


def is_held(job_dir: Path) -> bool:
    """Return whether a process carries the run out."""
    try:
        return locked(open_plain(job_dir / LOCK))
    except OSError:
        return False


def holder(attempts: Attempts) -> tuple[str, int]:
    """Return host and pid of the process that carries a held run out."""
    starts: Sequence[dict[str, Any]] = [e for e in attempts.events if e["event"] == "start"]
    return (str(starts[-1].get("host")), int(starts[-1].get("pid", 0))) if starts else ("", 0)
