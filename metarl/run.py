"""The run directory: who may write it, what it is, where it stands. `metrics.jsonl` and `checkpoints/` are the truth.

config.json     every setting of the run, with a schema version
run.json        run id, commit, package versions, task fingerprint
metrics.jsonl   one record per iteration
checkpoints/    the last few, and best.json
lock            held (flock) by the one process that trains here
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from .checkpoint import CheckpointStore, flush_folder, replace_file
from .errors import CheckpointError, ConfigError
from .log import MetricsLog, cut, read_records
from .reading import is_folder, open_plain, read_object
from .signals import StopSignals

CONFIG, FACTS, METRICS, CHECKPOINTS, LOCK = "config.json", "run.json", "metrics.jsonl", "checkpoints", "lock"
_FACTS = {
    "run_id": str, "task_fingerprint": str, "provenance": dict, "warm_start": dict, "device_changes": list,
}  # fmt: skip
"""Types of what is read of run.json."""


class SinkLike(Protocol):
    """Somewhere else that records go to (W&B, TensorBoard, the terminal)."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Show or send one record; must not raise."""
        ...

    def close(self, exit_code: int = 0) -> None:
        """Finish."""
        ...


class RunLock:
    """The right to write a run directory, held until `release` or the end of the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock of `folder`; raises ConfigError if another process has it."""
        try:
            self._handle = open_plain(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigError(f"cannot write into {folder} ({error}); mend its permissions or use a copy") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._handle, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._handle)
            raise ConfigError(
                f"another process (pid {holder}) is training in {folder}; wait for it, stop it, or choose another "
                f"--run-dir"
            ) from error
        os.ftruncate(self._handle, 0)
        os.write(self._handle, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Give the lock back."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def is_run(folder: Path) -> bool:
    """Return whether `folder` is a run directory."""
    return (folder / CONFIG).is_file()


def check_free(folder: Path) -> None:
    """Raise ConfigError unless a new run may be created at `folder`: nothing there, or an empty folder."""
    try:
        if folder.is_dir() and not any(folder.iterdir()):
            return
    except OSError as error:
        raise ConfigError(f"cannot look into {folder} ({error}); choose another --run-dir") from error
    if is_run(folder):
        raise ConfigError(f"run directory {folder} exists already; add --resume to go on, or choose another --run-dir")
    if folder.exists():
        raise ConfigError(f"{folder} exists and is not an empty folder; choose another --run-dir")


def create_run(folder: Path, config: Mapping[str, Any], facts: Mapping[str, Any], agent_state: Any = None) -> RunLock:
    """Create a run directory in one step, complete or not at all, and return its lock, taken.

    `agent_state` becomes the checkpoint of iteration 0: a run that did not begin with fresh parameters holds what it
    began with. Raises: ConfigError if there is something else at `folder` or it cannot be written.
    """
    check_free(folder)
    beside = folder.absolute().with_name(f".{folder.absolute().name}.creating-{os.getpid()}")
    try:
        beside.mkdir(parents=True)
        lock = RunLock(beside)
        write_json(beside / FACTS, facts)
        write_json(beside / CONFIG, config)
        (beside / METRICS).touch()
        if agent_state is not None:
            CheckpointStore(beside / CHECKPOINTS).save(0, {"iteration": 0, "env_steps": 0, "agent": agent_state})
        beside.rename(folder)
        flush_folder(folder.absolute().parent)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise ConfigError(f"cannot create run directory {folder}: {error}; choose another --run-dir") from error
    return lock


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a small JSON file in one step."""
    replace_file(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return one of a run directory's JSON files; raises CheckpointError if it is missing or damaged."""
    if not is_folder(folder):
        raise CheckpointError(f"there is no run directory {folder}; check the path (runs are in runs/ by default)")
    try:
        content = read_object(folder / name, _FACTS if name == FACTS else None)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not a run directory: it has no {name}") from error
    if name == FACTS and "run_id" not in content:
        raise CheckpointError(f"{folder / name} is damaged (it lacks 'run_id'); restore it from a copy")
    return content


@dataclass(frozen=True)
class ResumePoint:
    """Where a run goes on."""

    iteration: int
    """Completed iterations."""
    env_steps: int
    agent_state: Any
    """What `Agent.load_state_dict` takes, or None at iteration 0."""


def newest_point(folder: Path) -> ResumePoint:
    """Return the newest good checkpoint of a run, iteration 0 if it has none yet.

    Damaged ones are passed over with a warning. Raises: CheckpointError if all are damaged.
    """
    return _point(CheckpointStore(folder / CHECKPOINTS).load_newest())


def point_at(folder: Path, iteration: int) -> ResumePoint:
    """Return the checkpoint after `iteration` iterations; raises CheckpointError if missing or damaged."""
    return _point((iteration, CheckpointStore(folder / CHECKPOINTS).load(iteration)))


def _point(found: tuple[int, Any] | None) -> ResumePoint:
    if found is None:
        return ResumePoint(0, 0, None)
    iteration, state = found
    if not isinstance(state, dict) or not {"iteration", "env_steps", "agent"} <= state.keys():
        raise CheckpointError(f"checkpoint of iteration {iteration} is not one of a training run")
    for key in ("iteration", "env_steps"):
        if type(state[key]) is not int or state[key] < 0:
            raise CheckpointError(f"checkpoint of iteration {iteration} is damaged ({key} is {state[key]!r})")
    if state["iteration"] != iteration or state["agent"] is None:
        what = "without an agent" if state["agent"] is None else f"of iteration {state['iteration']}"
        raise CheckpointError(f"checkpoint of iteration {iteration} is one {what}; delete it, or use another")
    return ResumePoint(state["iteration"], state["env_steps"], state["agent"])


class RunRecorder:
    """The loop's recorder that writes a run directory and passes records on to the sinks."""

    def __init__(self, folder: Path, signals: StopSignals, *, start_iteration: int) -> None:
        """Go on after `start_iteration` iterations: later records are cut off and the best checkpoint is found again.

        Only the holder of the run's lock may do this. Sinks are added to `sinks` afterwards: they may read the history.
        """
        self.folder, self.signals, self.sinks = folder, signals, list[SinkLike]()
        self.store = CheckpointStore(folder / CHECKPOINTS)
        self.store.clean()
        self.store.discard_after(start_iteration)
        kept = cut(folder / METRICS, start_iteration)
        self.n_records = len(kept)
        self._wall_before_s = float(kept[-1].get("wall_s", 0.0)) if kept else 0.0
        self._last_save = perf_counter()
        self._best: tuple[float, int] | None = None
        self._last: dict[str, Any] = {}
        saved = set(self.store.iterations())
        for record in kept:
            if record["iteration"] in saved:
                self._note_best(record)
        if saved:
            self._write_best()
        self._metrics = MetricsLog(folder / METRICS)

    @property
    def stop_requested(self) -> bool:
        """True once SIGTERM or SIGINT came."""
        return self.signals.requested

    def log(self, record: dict[str, Any]) -> None:
        """Append to metrics.jsonl, then to every sink. `wall_s` goes on counting across resumes."""
        full = record | {
            "wall_s": self._wall_before_s + record["wall_s"],
            "checkpoint_age_s": perf_counter() - self._last_save,
        }
        self._metrics.append(full)
        self._last = full
        self.n_records += 1
        for sink in self.sinks:
            sink.log(full)

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        """Flush the history to the disk, write a checkpoint, and point at it if it is the best on validation tasks."""
        self._metrics.sync()
        before = self._best
        self._note_best(self._last)
        self.store.save(iteration, state)
        if self._best != before:
            self._write_best()
        self._last_save = perf_counter()

    def close(self, exit_code: int = 0) -> None:
        """Close metrics.jsonl and the sinks."""
        self._metrics.close()
        for sink in self.sinks:
            sink.close(exit_code)

    def _note_best(self, record: Mapping[str, Any]) -> None:
        score = record.get("validation/post_return")
        if score is not None and (self._best is None or score > self._best[0]):
            self._best = (score, record["iteration"])

    def _write_best(self) -> None:
        score, iteration = self._best if self._best is not None else (None, None)
        self.store.set_best(iteration, score)


def history(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run directory; a torn last line is dropped."""
    return read_records(folder / METRICS)
