"""Wall and CPU seconds of a piece of work, child processes included, fine enough for a few milliseconds."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from metarl.cputime import worker_cpu_seconds
from metarl.torch_settings import usable_cpus


class Sample(NamedTuple):
    """What a piece of work cost."""

    wall_s: float
    cpu_s: float
    """User and system seconds of this process, its threads and its living `multiprocessing` children."""

    def __add__(self, other: object) -> Sample:
        """Return the cost of both."""
        if not isinstance(other, Sample):
            return NotImplemented
        return Sample(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)

    def minus(self, other: Sample) -> Sample:
        """Return the cost of what this has beyond `other`."""
        return Sample(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)


def children_cpu_seconds() -> float:
    """Return the CPU seconds of all living `multiprocessing` children.

    Linux keeps a clock per process with a resolution of nanoseconds; /proc, which serves where that clock is not to be
    had, counts in hundredths of a second.
    """
    children = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    try:
        # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of <linux/posix-timers.h>, what clock_getcpuclockid(3) returns.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in children)
    except (OSError, AttributeError):
        return worker_cpu_seconds()


def timed(work: Callable[[], object], *, children: bool = False) -> Sample:
    """Run `work` once and return its cost; `children` counts child processes too."""
    before = children_cpu_seconds() if children else 0.0
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Sample(wall, cpu + (children_cpu_seconds() - before if children else 0.0))


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep Python's cyclic collector out of what is timed, for its cost grows with what else lives in the process."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def machine() -> dict[str, Any]:
    """Return what kind of machine this is."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = "unknown"
    return {"cpus": usable_cpus(), "cpu": model}
