"""`python -m metarl.experiments.launch.job GRID_DIR NAME`: carry out one run of a grid, however far it has come.

The one command that every backend runs, and that is safe to repeat at any time, anywhere: it holds the run's lock, so a
second one ends at once; it goes on from the newest checkpoint; and it leaves alone what is done. SIGTERM goes on to the
training process, which saves a checkpoint.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from metarl.errors import ConfigError, MetarlError, nearest
from metarl.run_lock import RunLock
from metarl.signals import EXIT_STOPPED

from .attempts import is_held, read_attempts, tell
from .folder import CONFIG, GridFolder, n_saved, open_grid
from .grid import Job

EXIT_HELD = 73
"""Another process carries the run out."""
_LOCK_PATIENCE_S = 2.0
"""`status` looks at a lock by taking it for a moment."""
_PR_SET_PDEATHSIG = 1
_REASON_BYTES = 4096


class _Child:
    """The process that is at work, and the word that it shall stop."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def run(self, words: Sequence[str], log: Any) -> int:
        """Run one of our commands and return its exit code, -N for signal N; 75 if it should stop before."""
        if self.stopping:
            return EXIT_STOPPED
        self.process = subprocess.Popen(
            [sys.executable, "-m", "metarl", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            preexec_fn=_die_with_parent,
        )  # fmt: skip
        if self.stopping:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


def _die_with_parent() -> None:
    """Let the kernel stop this process, with a checkpoint, when the one that started it is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the run and return its exit code: 0 done, 75 stopped, 73 another process is at it, else failed."""
    words = sys.argv[1:] if argv is None else list(argv)
    child = _Child()
    try:
        if len(words) != 2:
            raise ConfigError(f"expected GRID_DIR and the name of a run, got {words}")
        grid, name = open_grid(Path(words[0])), words[1].removeprefix("--run=")  # as agents of sweeps spell it
        job = next((job for job in grid.jobs if job.name == name), None)
        if job is None:
            raise ConfigError(f"{words[0]} has no run {name!r}; {nearest(name, [job.name for job in grid.jobs])}")
        return carry_out(grid, job, child)
    except MetarlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def carry_out(grid: GridFolder, job: Job, child: _Child) -> int:
    """Take the run's lock, do what is left of it, and tell how that ended."""
    folder, run_dir = grid.job_dir(job), grid.run_dir(job)
    folder.mkdir(parents=True, exist_ok=True)
    lock = _take(folder)
    if lock is None:
        return EXIT_HELD
    try:
        if read_attempts(folder).done and (run_dir / CONFIG).is_file():
            return 0
        tell(folder, "start", iteration=n_saved(run_dir))
        began, code, reason = time.perf_counter(), 1, ""
        with (folder / "output.log").open("ab") as log:
            start = log.tell()
            code = _work(job, folder, run_dir, child, log)
            reason = "" if code in (0, EXIT_STOPPED) else _reason(folder / "output.log", start, code)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        tell(
            folder, "end", exit_code=code, reason=reason, iteration=n_saved(run_dir),
            wall_s=time.perf_counter() - began, cpu_s=used.ru_utime + used.ru_stime,
            peak_memory_bytes=used.ru_maxrss * 1024,
        )  # fmt: skip
        return code
    finally:
        lock.release()


def _take(folder: Path) -> RunLock | None:
    patience = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            return RunLock(folder)
        except ConfigError:
            if time.monotonic() > patience:
                return None
            time.sleep(0.05)


def _work(job: Job, folder: Path, run_dir: Path, child: _Child, log: Any) -> int:
    """Train, then evaluate what was not evaluated at the end of training."""
    while is_held(run_dir) and not child.stopping:  # what an attempt that was killed had begun still saves
        time.sleep(0.1)
    code = child.run(job.train_words(run_dir), log)
    if code:
        return code
    trusted = _trust(job, run_dir)
    for i, flags in enumerate(job.evaluate):
        what = {"number": i, "flags": list(flags), "iteration": n_saved(run_dir)}
        if any(event.items() >= what.items() for event in read_attempts(folder).events):
            continue
        code = child.run(["evaluate", str(run_dir), *flags, *trusted], log)
        if code:
            return EXIT_STOPPED if child.stopping else code
        tell(folder, "evaluated", **what)
    return 0


def _trust(job: Job, run_dir: Path) -> list[str]:
    """Return the flags by which `evaluate` calls what the grid's own words named."""
    if ":" not in " ".join([job.preset, *(word for _, words in job.settings for word in words)]):
        return []  # nothing but our own, and torch need not be loaded to see what
    from metarl import run
    from metarl.experiments.cli import trust

    return trust.flags(run.read_json(run_dir, CONFIG))


def _reason(log: Path, start: int, code: int) -> str:
    """Return the last line of what an attempt said, which is where our commands tell an error."""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    with log.open("rb") as file:
        file.seek(max(start, os.fstat(file.fileno()).st_size - _REASON_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return (lines[-1][:500] if lines else "") or f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main())
