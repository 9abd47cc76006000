"""Runs through Slurm: an array of jobs by submitit; one that is preempted or out of time saves and is queued again."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from metarl.commandline import command, pip_command
from metarl.errors import ConfigError
from metarl.experiments.cli.safe_text import one_line

from .attempts import read_attempts
from .folder import GridFolder
from .grid import Job
from .local import job_command

_DEFAULTS: dict[str, Any] = {"timeout_min": 24 * 60, "cpus_per_task": 1, "tasks_per_node": 1, "nodes": 1}


def check_installed() -> None:
    """Raise ConfigError with the line that installs submitit, if it is not there."""
    if importlib.util.find_spec("submitit") is None:
        raise ConfigError(f"the backend slurm is not installed; run `{pip_command('submitit')}`")


def _is_over(pid: int) -> bool:
    """Return whether our child has ended; asked in a signal handler, where `Popen` may hold a lock that it needs."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


class CarryOut:
    """What a Slurm job does; submitit asks for `checkpoint` when it is about to be taken away."""

    def __init__(self, command: list[str], folder: str) -> None:
        """Take the run's command and the folder it is called in."""
        self.command, self.folder = command, folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Carry the run out and return the exit code."""
        self._process = subprocess.Popen(self.command, cwd=self.folder, stdin=subprocess.DEVNULL)
        while self._process.poll() is None:
            time.sleep(0.2)
        return int(self._process.returncode)

    def checkpoint(self) -> Any:
        """Let the run save, then have the same command queued again."""
        import submitit

        if self._process is not None and not _is_over(self._process.pid):
            os.kill(self._process.pid, signal.SIGTERM)
            while not _is_over(self._process.pid):
                time.sleep(0.1)
        return submitit.helpers.DelayedSubmission(CarryOut(self.command, self.folder))


def parameters(words: Sequence[str]) -> dict[str, Any]:
    """Return `KEY=VALUE` words as submitit's parameters; raises ConfigError for a word of another form."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier() or not value:
            raise ConfigError(f"--slurm {word!r} is not of the form KEY=VALUE; write e.g. slurm_partition=cpu")
        found[key] = int(value) if value.isdecimal() else value
    return found


def executor(folder: GridFolder, words: Sequence[str], memory_bytes: float | None, n_jobs: int | None) -> Any:
    """Return submitit's executor for the grid. Raises: ConfigError if there is no Slurm, or a parameter is unknown."""
    import submitit

    given = parameters(words)
    cluster = given.pop("cluster", "slurm")
    try:
        found = submitit.AutoExecutor(folder.path.resolve() / "slurm", cluster=cluster)
        settings = {**_DEFAULTS, "name": folder.name, **given}
        if cluster == "slurm" and n_jobs is not None:
            settings["slurm_array_parallelism"] = n_jobs
        if memory_bytes is not None:
            settings["mem_gb"] = memory_bytes / 2**30
        found.update_parameters(**settings)
    except (RuntimeError, ValueError, TypeError, NameError, AssertionError) as error:
        told = " ".join(str(error).split())[:300]
        raise ConfigError(f"Slurm takes no jobs here ({told}); mend --slurm, or use --backend local") from error
    return found


def submit(
    folder: GridFolder, jobs: Sequence[Job], words: Sequence[str], memory_bytes: float | None, n_jobs: int | None
) -> int:
    """Queue what is left of `jobs` as one array, say under which numbers, and return 0; Slurm does the rest."""
    left = []
    for job in jobs:
        found = read_attempts(folder.job_dir(job))
        if not (found.done or found.held or found.failure):
            left.append(job)
    if not left:
        print(f"nothing to queue: see {command('status', folder.path)}")
        return 0
    absolute = GridFolder(folder.path.resolve(), folder.name, folder.jobs)
    tasks = [CarryOut([*job_command(absolute, job)], os.getcwd()) for job in left]
    queued = executor(folder, words, memory_bytes, n_jobs).submit_array(tasks)
    for job, entry in zip(left, queued, strict=True):
        print(one_line(f"queued   {job.name} as {entry.job_id}"))
    print(f"next: {command('status', folder.path)}", flush=True)
    return 0
