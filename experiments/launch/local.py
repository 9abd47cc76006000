"""Runs on this machine: a pool of processes that minds cores, memory and whoever else works here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from .attempts import read_attempts
from .folder import GridFolder
from .grid import Job

_FIRST_GUESS_BYTES = 1.5 * 2**30
"""Memory that a run is taken to need before one has ended."""
_GROWING_S = 60.0
"""For so long after its start a run may not have taken yet what it needs."""


def job_command(grid: GridFolder, job: Job) -> list[str]:
    """Return the words that carry out a run."""
    return [sys.executable, "-m", "metarl.experiments.launch.job", str(grid.path), job.name]


def available_bytes() -> float:
    """Return how much memory processes can still take here without swapping, as the kernel counts it."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024.0
    return float("inf")


@dataclass
class LocalPool:
    """At most `n_jobs` runs side by side, each a process of its own session: it outlives the driver."""

    grid: GridFolder
    n_jobs: int
    nice: int = 0
    """Added to the processes' niceness, 0 to 19."""
    memory_bytes: float | None = None
    """What all runs together may take (None: what is free on this machine)."""
    _at_work: dict[str, tuple[subprocess.Popen[bytes], float]] = field(default_factory=dict)

    def start(self, job: Job) -> None:
        """Start the process of a run."""
        folder = self.grid.job_dir(job)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "output.log").open("ab") as log:
            process = subprocess.Popen(
                job_command(self.grid, job), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=(lambda: os.nice(self.nice) and None) if self.nice else None,
            )  # fmt: skip
        self._at_work[job.name] = process, time.monotonic()

    def in_flight(self) -> Collection[str]:
        """Return the runs whose processes live."""
        self._at_work = {name: entry for name, entry in self._at_work.items() if entry[0].poll() is None}
        return self._at_work.keys()

    def has_room(self, n_elsewhere: int) -> bool:
        """Return whether a core and memory are left for one more run; one may always work."""
        n = len(self._at_work) + n_elsewhere
        if n == 0 or n >= self.n_jobs:
            return n == 0
        each = self._needed_bytes()
        if self.memory_bytes is not None and (n + 1) * each > self.memory_bytes:
            return False
        growing = sum(time.monotonic() - began < _GROWING_S for _, began in self._at_work.values())
        return available_bytes() >= each * (1 + growing)

    def _needed_bytes(self) -> float:
        """Return the most memory that a run of this grid has taken so far."""
        taken = (read_attempts(self.grid.job_dir(job)).cost()["peak_memory_bytes"] for job in self.grid.jobs)
        return max(taken, default=0.0) or _FIRST_GUESS_BYTES

    def stop(self) -> None:
        """Ask every process to save and stop."""
        for process, _ in self._at_work.values():
            if process.poll() is None:
                process.terminate()
