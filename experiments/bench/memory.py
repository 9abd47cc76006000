"""`python -m metarl.experiments.bench.memory CORE TASK`: resident memory per extra env, in a process of its own.

Fresh, because an allocator that has seen other work would hand out what it kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from metarl.errors import ConfigError

from .contenders import Serial
from .engine import engine_world
from .fresh_process import measured_in_a_process
from .raw import Raw
from .trajectories import SCENARIOS, Recording, Windows, record

FEW, MANY = 32, 160
"""Envs of the two engine worlds that are compared; upstream's environments are fewer, they are large."""

UPSTREAM_FEW, UPSTREAM_MANY = 2, 8

SCENARIO = "pick-place expert"
"""Contacts take memory too."""


KINDS = ("compiled", "python", "mjdata", "upstream")
"""What envs are: of one of the engine's cores, nothing but a `mujoco.MjData`, or upstream's environments."""


def resident_bytes() -> int:
    """Return this process's resident memory; raises ConfigError where the system does not say (other than Linux).

    What was freed goes back to the system first, or the next batch would use it and seem to take less.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError as error:
        raise ConfigError(f"resident memory is read from /proc, which is not there ({error}); leave it out") from error


def memory_per_env(what: str) -> dict[str, Any]:
    """Return bytes per extra env of one of `KINDS`, measured in a process of its own.

    Raises: ConfigError if that process fails, with the last line it printed.
    """
    return measured_in_a_process(__name__, what, what=f"measuring the memory of {what!r}")


def measure(what: str) -> dict[str, Any]:
    """Return memory per extra env; call it in a fresh process.

    A first batch loads libraries and the class. Then one of few envs and one of many are made and stepped; what the
    second took beyond the first, divided by the envs it has more, is the price of an env.
    """
    if what not in KINDS:
        raise ConfigError(f"memory is measured of {', '.join(KINDS)}, got {what!r}")
    torch.set_num_threads(1)
    recording = record(SCENARIOS[SCENARIO], 4, Windows(1, 120, 120), seed=0)
    make = {"upstream": _make_upstream, "mjdata": _make_mjdata}.get(what) or _make_engine(what)
    few, many = (UPSTREAM_FEW, UPSTREAM_MANY) if what == "upstream" else (FEW, MANY)
    kept, sizes = [make(recording, 2)], [resident_bytes()]
    for n in (few, many):
        kept.append(make(recording, n))
        sizes.append(resident_bytes())
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    return {
        "scenario": SCENARIO,
        "copies": [few, many],
        "resident_mb": [round(first / 1e6, 3), round(second / 1e6, 3)],
        "mb_per_extra_copy": round((second - first) / (many - few) / 1e6, 4),
    }


def _make_engine(core: str) -> Callable[[Recording, int], Any]:
    def make(recording: Recording, n: int) -> Any:
        world = engine_world(core)(recording, n, 1)
        rows = recording.rows(n, 0)
        world.set_tasks(recording.tasks[rows])
        world.reset(seed=0)
        for actions in recording.steps(recording.actions, n, 0, 0):
            world.step(torch.from_numpy(actions))
        return world

    return make


def _make_mjdata(recording: Recording, n: int) -> Any:
    raw = Raw(recording, n)
    raw.measure(0, 0)
    return raw


def _make_upstream(recording: Recording, n: int) -> Any:
    serial = Serial(recording, n)
    serial.measure(0, 0)
    return serial


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
