"""The loop's recorder that writes a run directory: history, checkpoints, the best one, and sinks that look on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from .checkpoint import CheckpointStore, clean_temporaries, flush_folder
from .log import MetricsLog
from .run import CHECKPOINTS, METRICS, ResumePoint, identity
from .run_lock import RunLock, check_held, clean_creations, disk
from .signals import StopSignals


class SinkLike(Protocol):
    """Somewhere else that records go to (W&B, TensorBoard, the terminal)."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Show or send one record; must not raise."""
        ...

    def close(self, exit_code: int = 0) -> None:
        """Finish."""
        ...


class RunRecorder:
    """Writes a run directory and passes records on to the sinks.

    What the disk refuses is a CheckpointError, and so is a directory, history or lock that is no longer what was
    opened: a run that went on all the same would write where nobody looks, or into another one.
    """

    def __init__(self, folder: Path, lock: RunLock, signals: StopSignals, point: ResumePoint) -> None:
        """Make the directory what it was at `point`: later records and checkpoints go, and so do leftovers of kills.

        `lock` is the run's, held by the caller. Sinks are added to `sinks` afterwards: they may read the history.
        Raises: CheckpointError, before anything is changed, if the history is not the one that `point` ends.
        """
        self.folder, self.signals, self.sinks = folder, signals, list[SinkLike]()
        self.store = CheckpointStore(folder / CHECKPOINTS)
        self._last_save = perf_counter()
        self._best: tuple[float, int] | None = None
        self._last: dict[str, Any] = {}
        with disk(folder):
            check_held(lock.held(folder))
            self._identity = identity(folder)
            self._metrics = MetricsLog(folder / METRICS, point.iteration, point.history)
            kept = self._metrics.kept
            self._wall_before_s = float(kept[-1].get("wall_s", 0.0)) if kept else 0.0
            try:
                self._repair(point.iteration)
                self._checkpoints = os.open(self.store.folder, os.O_RDONLY | os.O_DIRECTORY)
                self._held = [
                    *lock.held(folder),
                    (self._metrics.handle, str(folder / METRICS)),
                    (self._checkpoints, str(self.store.folder)),
                ]
            except BaseException:
                self._metrics.close()
                raise

    def _repair(self, iteration: int) -> None:
        """Do again what a killed process may not have come to."""
        clean_creations(self.folder)
        clean_temporaries(self.folder)
        if not self.store.folder.is_dir():
            self.store.folder.mkdir()
            flush_folder(self.folder)
        self.store.clean()
        self.store.discard_after(iteration)
        saved = set(self.store.iterations())
        for record in self._metrics.kept:
            if record["iteration"] in saved:
                self._note_best(record)
        if saved:
            self._write_best()
            self.store.prune()

    @property
    def stop_requested(self) -> bool:
        """True once SIGTERM or SIGINT came."""
        return self.signals.requested

    def check(self) -> None:
        """Raise CheckpointError if directory, lock, history or checkpoints are no longer those that were opened."""
        with disk(self.folder):
            check_held(self._held)

    def log(self, record: dict[str, Any]) -> None:
        """Append to metrics.jsonl, then to every sink. `wall_s` goes on counting across resumes."""
        full = record | {
            "wall_s": self._wall_before_s + record["wall_s"],
            "checkpoint_age_s": perf_counter() - self._last_save,
        }
        self.check()
        with disk(self.folder):
            self._metrics.append(full)
        self._last = full
        for sink in self.sinks:
            sink.log(full)

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        """Flush the history to the disk, write a checkpoint, and point at it if it is the best on validation tasks."""
        self.check()
        self._note_best(self._last)
        binding = self._identity | {"history": self._metrics.digest}
        with disk(self.folder):
            self._metrics.sync()
            self.store.write(iteration, state, binding)
            self._write_best()
            self.store.prune()
        self._last_save = perf_counter()

    def close(self, exit_code: int = 0) -> None:
        """Close metrics.jsonl and the sinks."""
        try:
            with disk(self.folder):
                self._metrics.close()
        except BaseException:
            exit_code = exit_code or 1
            raise
        finally:
            os.close(self._checkpoints)
            for sink in self.sinks:
                sink.close(exit_code)

    def _note_best(self, record: Mapping[str, Any]) -> None:
        score = record.get("validation/post_return")
        if score is not None and (self._best is None or score > self._best[0]):
            self._best = (score, record["iteration"])

    def _write_best(self) -> None:
        score, iteration = self._best if self._best is not None else (None, None)
        self.store.set_best(iteration, score)
