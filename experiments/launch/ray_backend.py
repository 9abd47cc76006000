"""Runs on a Ray cluster, an existing one or one of this machine's own: one task per run, started anew on loss."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from metarl.commandline import pip_command
from metarl.errors import ConfigError

from .folder import GridFolder
from .grid import Job
from .local import job_command

_RETRIES = 5
"""Times that Ray starts a task anew whose worker or node was lost."""


def check_installed() -> None:
    """Raise ConfigError with the line that installs Ray, if it is not there."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"the backend ray is not installed; run `{pip_command('ray')}`")


def _check_answers(address: str) -> None:
    """Raise ConfigError if nobody listens at HOST:PORT: Ray itself would go on asking for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # "auto" and the like
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}); start one with `ray start --head`, or leave --ray-address "
            f"out"
        ) from error


def _carry_out(command: list[str], folder: str, environ: dict[str, str], log: str) -> int:
    """Run the run's command on the node where Ray put this task; cancelled, let it save first."""
    with Path(log).open("ab") as out:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environ}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,  # it outlives a worker that is killed, and saves; the next task waits its turn
        )  # fmt: skip
        try:
            while process.poll() is None:  # a system call that waits would not hear of the cancellation
                time.sleep(0.2)
            return process.returncode
        except KeyboardInterrupt:
            process.terminate()
            return process.wait()


class RayTasks:
    """A backend whose queue and whose restarts are Ray's."""

    def __init__(
        self, grid: GridFolder, address: str | None = None, memory_bytes: float | None = None, n_jobs: int | None = None
    ) -> None:
        """Connect; `memory_bytes` is what Ray sets aside per run. Raises: ConfigError if no cluster answers."""
        import ray

        self._ray, self._grid, self._memory, self._n_jobs = ray, grid, memory_bytes, n_jobs
        self._refs: dict[str, Any] = {}
        if address is not None:
            _check_answers(address)
        own = {"num_cpus": n_jobs, "include_dashboard": False} if address is None else {}
        try:
            ray.init(address=address or "local", log_to_driver=False, configure_logging=False, **own)
        except Exception as error:  # whatever a cluster answers
            told = (str(error).strip() or repr(error)).splitlines()[0]
            raise ConfigError(
                f"no Ray cluster answers at {address or 'this machine'} ({told}); start one with `ray start --head`, "
                f"or leave --ray-address out"
            ) from error
        self._task = ray.remote(max_retries=_RETRIES, retry_exceptions=False)(_carry_out)

    def start(self, job: Job) -> None:
        """Hand a run to Ray, with a core, and a GPU if its settings name one."""
        folder = self._grid.job_dir(job).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        device = dict(job.settings).get("device", ("cpu",))
        options: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(device[0].startswith("cuda")), "name": job.name}
        if self._memory is not None:
            options["memory"] = int(self._memory)
        grid = GridFolder(self._grid.path.resolve(), self._grid.name, self._grid.jobs)
        environ = {key: os.environ[key] for key in ("PYTHONPATH", "METARL_TRUST") if key in os.environ}
        command = [*job_command(grid, job)]
        self._refs[job.name] = self._task.options(**options).remote(
            command, os.getcwd(), environ, str(folder / "output.log")
        )

    def in_flight(self) -> Collection[str]:
        """Return the runs that Ray has queued or running."""
        refs = list(self._refs.values())
        over = self._ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else []
        for name in [name for name, ref in self._refs.items() if ref in over]:
            ref = self._refs.pop(name)
            try:
                self._ray.get(ref)
            except Exception:  # the run's directory says what became of it
                continue
        return self._refs.keys()

    def has_room(self, n_elsewhere: int) -> bool:
        """Return whether to hand over one more: Ray has a queue of its own, unless a number of jobs was given."""
        return self._n_jobs is None or len(self._refs) + n_elsewhere < self._n_jobs

    def stop(self) -> None:
        """Cancel every task: those at work save first."""
        for ref in self._refs.values():
            self._ray.cancel(ref, force=False)

    def __enter__(self) -> Self:
        """Return the backend."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the cluster; one of this machine's own ends."""
        self._ray.shutdown()
