"""A user of the cache of compiled code: `python -m tests.hostile.cache_user` reads cases' surroundings, tries each one.

A line of input is a JSON list of objects with the fields of `Surroundings`, to be tried at once; a line of output says
what came of them. Each one has a process of its own, forked, so that a hundred of them take seconds.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from typing import Any

import numpy as np

from envs.metaworld.native import build
from envs.metaworld.native.programs import cached_program, prepare, program_function, upstream_digest
from envs.metaworld.program import INFO, OBS_SIZE, Node, Program
from metarl.errors import ConfigError

LIMIT_S = 60


def program(factor: float = 2.5, task: str = "toy-v3") -> Program:
    """Return a program that multiplies its slot by a number."""
    nodes = (Node("slot", "f64"), Node("const", "f64", value=factor), Node("mul", "f64", (0, 1)))
    return Program(
        task, "v2", nodes, reads=(), attributes=(), n_slots=1, obs=(0,) * OBS_SIZE, reward=2, info=(0,) * len(INFO),
        updates=(),
    )  # fmt: skip


def use() -> float:
    """Return the reward of the toy program for 4.0 by compiled code, or by the program itself where there is none."""
    found = cached_program("toy-v3", "v2", program)
    try:
        function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 6)(program_function(found))
        if os.environ.get("HOSTILE_FILL"):
            prepare([found, cached_program("other-v3", "v2", lambda: program(3.0, "other-v3"))])
    except ConfigError as problem:
        print("refused:", " ".join(str(problem).split()), file=sys.stderr)
        return 4.0 * float(found.nodes[1].value or 0)
    slots, obs, out, action = np.array([4.0]), np.zeros(OBS_SIZE), np.zeros(8), np.zeros(4, np.float32)
    function(None, None, *(a.ctypes.data for a in (action, slots, obs, out)))
    return float(out[0])


def tried(surroundings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what processes in these surroundings, all at once, said and how they ended."""
    return [process.outcome() for process in [_Process(each) for each in surroundings]]


class _Process:
    def __init__(self, surroundings: dict[str, Any]) -> None:
        self.start = time.monotonic()
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `outcome`
        self.killed_at = surroundings["killed_at"]
        self.child = os.fork()
        if not self.child:
            _become(surroundings, self.said.fileno())

    def outcome(self) -> dict[str, Any]:
        code = None
        while code is None:
            ended, status = os.waitpid(self.child, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if ended else None
            seconds = time.monotonic() - self.start
            if code is None and (seconds > LIMIT_S or (self.killed_at and os.path.exists(self.killed_at))):
                os.kill(self.child, signal.SIGKILL)
            time.sleep(0.005)
        with self.said:
            self.said.seek(0)
            lines = self.said.read().decode(errors="replace").splitlines()
        return {"code": code, "seconds": seconds, "lines": lines}


def _become(surroundings: dict[str, Any], output: int) -> None:
    code = 70
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        for name, value in surroundings["environment"].items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        if surroundings["patience_s"] is not None:
            build.ANSWER_S = build.TIMEOUT_S = surroundings["patience_s"]
        os.chdir(surroundings["folder"] or "/")
        if surroundings["user"] is not None:
            os.setgroups([])
            os.setgid(surroundings["user"])
            os.setuid(surroundings["user"])
        print(f"answer: {use()}", file=sys.stderr)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    upstream_digest()  # with all that it imports and reads, once for all
    for line in sys.stdin:
        print(json.dumps(tried(json.loads(line))), flush=True)
