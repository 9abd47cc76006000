"""Processes that step environments beside the main one: anonymous shared memory, one small message per step."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.envs.shared_memory import SharedBlock
from metarl.errors import ConfigError, MetarlError, WorldError, shortened

from .serial import Chunk, EnvFailure, Hooks, Layout

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_STEP = b""
"""The message "step once", and the answer "done, nothing to add": the only ones in the hot loop."""
_PARENT_CHECK_S = 2.0
"""Seconds between two looks at whether the main process still lives, while a worker has nothing to do."""


def split_rows(num_envs: int, n_workers: int) -> list[range]:
    """Return the rows of each worker: every `n_workers`-th one, as evenly as possible.

    Neighbouring envs often run the same kind of environment; dealt out like this, slow kinds are shared by all
    workers, and none waits for one that got them all.
    """
    return [range(w, num_envs, n_workers) for w in range(n_workers)]


class WorkerPool:
    """`n_workers` processes, each with a `Chunk` of the envs.

    Workers are spawned, ignore Ctrl-C and SIGTERM (the main process decides what those mean), use one thread each, and
    leave when the main process closes them or is gone. A worker that raises, dies or falls silent for `timeout_s` ends
    the whole pool with a WorldError.
    """

    def __init__(self, name: str, hooks: Hooks, layout: Layout, n_workers: int, timeout_s: float) -> None:
        """Share memory; the first call starts the processes; raises ConfigError for a hook that is not picklable."""
        check_picklable(name, hooks)
        self.name, self.timeout_s = name, timeout_s
        self.rows = split_rows(layout.num_envs, n_workers)
        self._context = multiprocessing.get_context("spawn")
        self._hooks, self._layout = hooks, layout
        specs = layout.arrays()
        self._blocks = {k: SharedBlock(max(1, _n_bytes(*spec))) for k, spec in specs.items()}
        self.arrays = view_arrays(self._blocks, layout)
        self.task_names: list[str] = ["none"] * layout.num_envs
        self.links: list[Connection] = []
        self.processes: list[Any] = []
        self.started, self.closed = False, False
        self._ready: list[select.poll] = []
        self._finalizer = Finalize(self, _shut_down, args=(self.links, self.processes), exitpriority=20)

    def start(self) -> None:
        """Start the processes, once; a world that is only asked for its spaces never needs them."""
        if self.started:
            return
        self.started = True
        resource_tracker.ensure_running()  # or the first start would launch it, which lets the held signals through
        for rows in self.rows:
            here, there = self._context.Pipe()
            process = self._context.Process(
                target=_main,
                args=(there, os.getpid(), self._hooks, self._layout, self._blocks, rows),
                name=f"{self.name}-{rows}",
                daemon=True,
            )
            with _quiet_start():
                process.start()
            there.close()
            self.links.append(here)
            self.processes.append(process)
            # Connection.poll builds a selector for each call, which takes longer than the wait is worth.
            ready = select.poll()
            ready.register(here.fileno(), select.POLLIN)
            self._ready.append(ready)

    def call(
        self, verb: str, per_worker: Callable[[range], tuple[Any, ...]] = lambda rows: (), *, only_first: bool = False
    ) -> list[Any]:
        """Run a method of `Chunk` in every worker at once (or the first alone); return the answers worker by worker."""
        if self.closed:
            raise WorldError(f"world {self.name!r} is closed (or one of its processes failed); build it again")
        self.start()
        links = self.links[:1] if only_first else self.links
        for worker, link in enumerate(links):
            message = _STEP if verb == "step" else pickle.dumps((verb, per_worker(self.rows[worker])))
            try:
                link.send_bytes(message)
            except (BrokenPipeError, ConnectionResetError):
                self._died(worker)
        answers: list[Any] = []
        deadline = time.monotonic() + self.timeout_s
        for worker, link in enumerate(links):
            try:
                if not self._wait(worker, deadline):
                    self._silent(worker, verb)
                answer = link.recv_bytes()
            except (EOFError, ConnectionResetError):
                self._died(worker)
            answers.append(None if answer == _STEP else pickle.loads(answer))
        for answer in answers:
            if isinstance(answer, EnvFailure):
                self.close()
                raise world_error(self.name, answer)
            if isinstance(answer, MetarlError):  # a mistake of the caller, which the processes survive
                raise answer
        return answers

    def close(self) -> None:
        """End all processes and wait for them; may be called twice."""
        self.closed = True
        self._finalizer()

    def _wait(self, worker: int, deadline: float) -> bool:
        """Return True once a worker has answered or is gone, False if the deadline passes first."""
        return bool(self._ready[worker].poll(1000.0 * max(0.0, deadline - time.monotonic())))

    def _died(self, worker: int) -> NoReturn:
        process = self.processes[worker]
        process.join(timeout=5.0)
        where, code = self._where(worker), process.exitcode
        self.close()
        hint = "" if code is None or code < 0 else ' (a script needs `if __name__ == "__main__":`)'
        raise WorldError(
            f"world {self.name!r}: the process of {where} died with exit code {code}{hint}; look for a crash or lack "
            f"of memory above, or build the world with n_workers=0 to see it happen"
        )

    def _silent(self, worker: int, verb: str) -> NoReturn:
        where = self._where(worker)
        self.processes[worker].kill()  # it would not notice that its pipe closes
        self.close()
        raise WorldError(
            f"world {self.name!r}: the process of {where} did not answer {verb!r} within {self.timeout_s:g} s; "
            f"raise timeout_s if the environment is that slow"
        )

    def _where(self, worker: int) -> str:
        """Return env, task and step a worker was busy with, or all its envs."""
        rows = self.rows[worker]
        for row in rows:
            if self.arrays["busy"][row]:
                return f"env {row} (task {self.task_names[row]!r}, step {int(self.arrays['age'][row])})"
        names = [self.task_names[row] for row in rows]
        return f"envs {', '.join(map(str, rows))} (tasks {', '.join(names)})"


def world_error(name: str, failure: EnvFailure) -> WorldError:
    """Return the error a user sees for `failure`; the environment's own traceback is attached as a note."""
    error = WorldError(
        f"world {name!r}: env {failure.env} (task {failure.task!r}) failed at step {failure.age} of its episode: "
        f"{failure.error}"
    )
    if failure.trace:
        error.add_note(f"In the environment:\n{failure.trace}")
    return error


def check_picklable(name: str, hooks: Hooks) -> None:
    """Raise ConfigError naming the hook that cannot travel to another process."""
    for field, hook in vars(hooks).items():
        try:
            pickle.dumps(hook)
        except Exception as error:  # pickle raises whatever an object's own code raises
            raise ConfigError(
                f"world {name!r}: {field} cannot be sent to another process ({error}); make it a module-level function "
                f"or functools.partial of one, or use n_workers=0"
            ) from error


def view_arrays(blocks: dict[str, SharedBlock], layout: Layout) -> dict[str, NDArray[Any]]:
    """Return numpy views of the shared blocks."""
    out = {}
    for key, (shape, dtype) in layout.arrays().items():
        flat = np.frombuffer(blocks[key].memory, dtype=dtype, count=int(np.prod(shape)))
        out[key] = flat.reshape(shape)
    return out


def _n_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape)) * dtype.itemsize


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Let a child begin with signals held back, and its array libraries single-threaded."""
    kept = {k: os.environ.get(k) for k in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        for key, value in kept.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _shut_down(links: list[Connection], processes: list[Any]) -> None:
    """Close the pipes, which workers take as the end; kill those that do not leave."""
    for link in links:
        link.close()
    for process in processes:
        process.join(timeout=5.0)
        if process.is_alive():
            process.kill()
            process.join()
    links.clear()
    processes.clear()


def _main(
    link: Connection, parent: int, hooks: Hooks, layout: Layout, blocks: dict[str, SharedBlock], rows: range
) -> None:
    """Serve one chunk until the pipe closes or the parent is gone."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    chunk = Chunk(hooks, layout, view_arrays(blocks, layout), rows)
    try:
        while True:
            message = link.recv_bytes()
            link.send_bytes(_serve(chunk, message))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        chunk.close()


def _serve(chunk: Chunk, message: bytes) -> bytes:
    try:
        if message == _STEP:
            chunk.step()
            return _STEP
        verb, args = pickle.loads(message)
        return pickle.dumps(getattr(chunk, verb)(*args))
    except (EnvFailure, MetarlError) as error:
        return pickle.dumps(error)
    except (Exception, SystemExit) as error:  # the main process must hear of it, whatever it is
        text = f"{type(error).__name__}: {shortened(error)}"
        return pickle.dumps(EnvFailure(chunk.rows.start, "unknown", 0, text, traceback.format_exc()))


def _leave_with(parent: int) -> None:
    """End this process when its parent has ended, even in the middle of a step."""
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)
