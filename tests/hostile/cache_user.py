"""A user of the cache of compiled code, as a `user.User`."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import numpy as np

from metarl.envs.metaworld.native import build
from metarl.envs.metaworld.native.programs import cached_program, prepare, program_function, upstream_digest
from metarl.envs.metaworld.program import INFO, OBS_SIZE, Node, Program
from metarl.errors import ConfigError
from tests.hostile.user import serve


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


def act(surroundings: dict[str, Any]) -> int:
    """Use the cache."""
    if surroundings["patience_s"] is not None:
        build.ANSWER_S = build.TIMEOUT_S = surroundings["patience_s"]
    print(f"answer: {use()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    upstream_digest()  # with all that it imports and reads, once for all
    serve(act)
