"""Somebody who acts in surroundings: a program that tries them, each in a process of its own, and how to ask it.

Processes are forked, so that what they need is imported once and a hundred of them take seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tests.hostile import Surroundings

LIMIT_S = 60


class User:
    """A running program of module `tests.hostile.NAME` that calls `serve`."""

    def __init__(self, name: str) -> None:
        command = [sys.executable, "-m", f"tests.hostile.{name}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def at_once(self, surroundings: list[Surroundings]) -> list[dict[str, Any]]:
        """Return exit code, seconds and lines, {"code", "seconds", "out", "lines" of stderr}, of each."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([asdict(each) for each in surroundings], default=str) + "\n")
        self.process.stdin.flush()
        answers: list[dict[str, Any]] = json.loads(self.process.stdout.readline())
        return answers

    def __call__(self, surroundings: Surroundings) -> dict[str, Any]:
        """Return the same of one."""
        return self.at_once([surroundings])[0]

    def close(self) -> None:
        """End the program."""
        self.process.communicate()


def serve(act: Callable[[dict[str, Any]], int]) -> None:
    """Answer lines of surroundings until there are no more; `act` returns an exit code."""
    for line in sys.stdin:
        processes = [_Process(each, act) for each in json.loads(line)]
        print(json.dumps([process.outcome() for process in processes]), flush=True)


class _Process:
    def __init__(self, surroundings: dict[str, Any], act: Callable[[dict[str, Any]], int]) -> None:
        self.start, self.killed_at = time.monotonic(), surroundings["killed_at"]
        self.files = [tempfile.TemporaryFile() for _ in "12"]  # noqa: SIM115  # closed by `outcome`
        self.child = os.fork()
        if not self.child:
            _become(surroundings, act, [file.fileno() for file in self.files])

    def outcome(self) -> dict[str, Any]:
        code = None
        while code is None:
            ended, status = os.waitpid(self.child, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if ended else None
            seconds = time.monotonic() - self.start
            if code is None and (seconds > LIMIT_S or (self.killed_at and os.path.exists(self.killed_at))):
                os.kill(self.child, signal.SIGKILL)
            time.sleep(0.005)
        said = []
        for file in self.files:
            with file:
                file.seek(0)
                said.append(file.read().decode(errors="replace"))
        return {"code": code, "seconds": seconds, "out": said[0], "lines": said[1].splitlines()}


def _become(surroundings: dict[str, Any], act: Callable[[dict[str, Any]], int], outputs: list[int]) -> None:
    code, end = 70, os._exit
    try:
        for stream, output in zip((1, 2), outputs, strict=True):
            os.dup2(output, stream)
        for name, value in surroundings["environment"].items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        sys.path[:0] = surroundings["environment"].get("PYTHONPATH", "").split(os.pathsep)
        os.chdir(surroundings["folder"] or "/")
        if surroundings["user"] is not None:
            os.setgroups([])
            os.setgid(surroundings["user"])
            os.setuid(surroundings["user"])
        code = act(surroundings)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        end(code)
