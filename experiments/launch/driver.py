"""Carries out a grid's runs on a backend until each is done, has failed for good or was asked to stop.

Nothing that matters is held here. What says how a run stands is its directory, so a driver that is killed loses
nothing, and a second one sees what the first one started.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from .attempts import Attempts, read_attempts, tell
from .folder import GridFolder
from .grid import Job

_PAUSE_S = 0.5


class Backend(Protocol):
    """Where runs are carried out: each by `python -m metarl.experiments.launch.job GRID_DIR NAME`."""

    def start(self, job: Job) -> None:
        """Have a run carried out, now or when there is room."""
        ...

    def in_flight(self) -> Collection[str]:
        """Return the names of the runs that were started and are not over."""
        ...

    def has_room(self, n_elsewhere: int) -> bool:
        """Return whether to start one more; `n_elsewhere` runs are carried out by processes of other drivers."""
        ...

    def stop(self) -> None:
        """Ask everything in flight to save and stop, without waiting for it."""
        ...


def go_on(grid: GridFolder, jobs: Sequence[Job], *, also_failed: bool = False) -> None:
    """Note that runs which were stopped, with `also_failed` those that failed too, shall be carried out again."""
    for job in jobs:
        attempts = read_attempts(grid.job_dir(job))
        if attempts.stopped or (also_failed and attempts.failure):
            tell(grid.job_dir(job), "retry")


def drive(
    grid: GridFolder,
    jobs: Sequence[Job],
    backend: Backend,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> bool:
    """Carry out `jobs` and return whether all of them are done.

    Once `stop_requested` what runs is asked to save, and waited for. What another driver's processes carry out is
    waited for as well, and taken over if they die.
    """
    known: dict[str, str] = {}
    begun: dict[str, int] = {}
    open_jobs, stopping = list(jobs), False
    while True:
        if stop_requested() and not stopping:
            stopping = True
            say("stopping: each run saves a checkpoint")
            backend.stop()
        mine = set(backend.in_flight())
        attempts = {job.name: read_attempts(grid.job_dir(job)) for job in open_jobs}
        for job in open_jobs:
            if job.name not in mine and begun.pop(job.name, -1) == len(attempts[job.name].events):
                attempts[job.name] = _note_stillborn(grid, job)
            _tell_change(job, attempts[job.name], known, say)
        open_jobs = [job for job in open_jobs if job.name in mine or not _is_over(attempts[job.name])]
        if not open_jobs or (stopping and not mine):
            break
        elsewhere = sum(attempts[job.name].held for job in open_jobs if job.name not in mine)
        for job in open_jobs:
            found = attempts[job.name]
            if job.name in mine or found.held or found.wait_s() or stopping:
                continue
            if not backend.has_room(elsewhere):
                break
            begun[job.name] = len(found.events)
            backend.start(job)
        time.sleep(_PAUSE_S)
    return all(read_attempts(grid.job_dir(job)).done for job in jobs)


def _note_stillborn(grid: GridFolder, job: Job) -> Attempts:
    """Note an attempt whose process ended before it could say anything, so that such attempts are counted, too."""
    folder = grid.job_dir(job)
    if not (found := read_attempts(folder)).held:
        tell(folder, "start")
        tell(folder, "end", exit_code=1, reason=f"its process ended before it began; see {folder / 'output.log'}")
        found = read_attempts(folder)
    return found


def _is_over(found: Attempts) -> bool:
    return not found.held and (found.done or found.stopped or bool(found.failure))


def _tell_change(job: Job, found: Attempts, known: dict[str, str], say: Callable[[str], None]) -> None:
    """Say in one line what became of a run since the last look."""
    last = found.last
    now = f"{last['event']} {last.get('time')}" if last else ""
    if known.get(job.name, "") == now or last is None:
        return
    first_look, known[job.name] = job.name not in known, now
    if found.done:
        say(f"done     {job.name}")
    elif found.failure:
        say(f"failed   {job.name}: {found.failure}")
    elif last["event"] == "start" and (found.held or not first_look):
        say(f"started  {job.name}")
    elif last["event"] == "end":
        say(f"{'stopped ' if found.stopped else 'again   '} {job.name}{': ' * bool(last['reason'])}{last['reason']}")
