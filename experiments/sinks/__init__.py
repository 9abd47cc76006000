"""Where the records of a run go besides metrics.jsonl: W&B, TensorBoard, the terminal.

metrics.jsonl is the truth, a sink is a view of it: one that fails is dropped with one warning and never stops a run.
Nothing here writes outside the run directory, and no argument list, environment variable or key goes into it.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from metarl.checkpoint import clean_temporaries, replace_file
from metarl.commandline import pip_command
from metarl.errors import ConfigError
from metarl.log import read_records

from .terminal import make_progress
from .weights_and_biases import WandbSink, wandb_reached

if TYPE_CHECKING:
    from metarl.experiments.config import LogConfig

_LOG = logging.getLogger("metarl.sinks")

_METRICS, _TENSORBOARD = "metrics.jsonl", "tensorboard"
_COMPLETE = "complete.json"
"""Says how far TensorBoard files go that were closed in order; not there while they are open."""


class Sink(Protocol):
    """Takes the log records of a run, one per iteration, in order."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Take one flat record of JSON values."""
        ...

    def close(self, exit_code: int = 0) -> None:
        """Write out what is pending; `exit_code` 0 means that the run ended well."""
        ...


def check(settings: LogConfig) -> None:
    """Raise ConfigError for a sink that cannot work here; called before anything is created or computed."""
    if settings.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "log.tensorboard is on, but the package tensorboard is not installed; "
            f"run `{pip_command('metarl-worlds[tensorboard]')}` or pass --log.no-tensorboard"
        )
    if settings.wandb == "disabled":
        return
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            f"W&B is asked for, but wandb is not installed; `{pip_command('wandb')}` or pass --log.wandb disabled"
        )
    if settings.wandb == "online" and not _has_credentials():
        raise ConfigError(
            "log.wandb is 'online', but there are no W&B credentials; run `wandb login`, set WANDB_API_KEY, or pass "
            "--log.wandb offline and upload later with `wandb sync`"
        )


def make_sinks(settings: LogConfig, run_dir: Path, config_json: Mapping[str, Any], run_id: str) -> list[Sink]:
    """Open the sinks of one run, or go on with those of an earlier process of the same run.

    `config_json` is the stored configuration; entries named like keys or passwords are left out of W&B. `run_id` is
    what makes W&B see one run across resumes. Raises: ConfigError if W&B cannot start although it is asked for.
    """
    notices: list[str] = []
    sinks: list[Sink] = []
    where = "W&B disabled"
    if settings.wandb != "disabled":
        sink = WandbSink(settings, run_dir, config_json, run_id, notices)
        sinks.append(Guarded("W&B", sink, notices))
        where = sink.where
    if settings.tensorboard:
        sinks.append(Guarded("TensorBoard", TensorboardSink(run_dir), notices))
    shown = make_progress(settings.progress, config_json, run_dir, where, notices)
    if shown is not None:
        sinks.append(Guarded("progress", shown, notices))
    return sinks


def complete(settings: LogConfig, run_dir: Path, config_json: Mapping[str, Any], run_id: str) -> list[str]:
    """Hand a finished run's sinks what they miss of its records; return what went wrong, one line each.

    A process that was killed did not write what it had pending. Sinks that miss nothing are not opened.
    """
    notices: list[str] = []
    n_records, missing = len(read_records(run_dir / _METRICS)), dict[str, Callable[[], Sink]]()
    if settings.wandb != "disabled" and wandb_reached(run_dir, run_id, notices) < n_records:
        missing["W&B"] = lambda: WandbSink(settings, run_dir, config_json, run_id, notices)
    if settings.tensorboard and tensorboard_reached(run_dir / _TENSORBOARD) < n_records:
        missing["TensorBoard"] = lambda: TensorboardSink(run_dir)
    for what, opened in missing.items():
        try:
            check(settings)
            opened().close()  # each begins with what it misses
        except Exception as error:  # the run is finished, whatever a service says
            notices.append(f"{what} still misses records of this run: {' '.join(str(error).split())}")
    return notices


class Guarded:
    """A sink that cannot hurt: the first exception is told once, then the sink is dropped."""

    def __init__(self, what: str, sink: Sink, notices: list[str]) -> None:
        self.what, self.sink, self.notices = what, sink, notices
        self.broken = False

    def log(self, record: Mapping[str, Any]) -> None:
        """Pass the record on, if the sink still works."""
        if not self.broken:
            self._try(lambda: self.sink.log(record), f"iteration {record.get('iteration')}")

    def close(self, exit_code: int = 0) -> None:
        """Close the sink, also a broken one: it may hold a terminal or a process."""
        self._try(lambda: self.sink.close(exit_code), "close")

    def _try(self, call: Any, when: str) -> None:
        try:
            call()
        except Exception as error:  # whatever a service does, the run goes on
            if not self.broken:
                text = (
                    f"{self.what} failed at {when} ({type(error).__name__}: {error}); metrics.jsonl goes on without it"
                )
                self.notices.append(text)
                _LOG.warning("%s", text)
            self.broken = True


def _has_credentials() -> bool:
    """Return whether W&B finds credentials (environment, netrc, settings file); asks nobody and sends nothing."""
    import wandb
    from wandb.sdk.lib import wbauth

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = wandb.setup().settings.base_url
    try:
        found = wbauth.authenticate_session(host=host, source="metarl", prompt=False, update_session=False)
    except Exception as error:
        raise ConfigError(f"W&B credentials cannot be read: {error}; run `wandb login` again") from error
    return found is not None


class TensorboardSink:
    """Scalars in TensorBoard files, over `env_steps`; begins with the records that earlier processes left out.

    The first record opens the files: a resume hides what it repeats. A killed process loses what was pending, and the
    files do not say how much; after one they are made again from metrics.jsonl.
    """

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / _TENSORBOARD
        clean_temporaries(self.folder)
        self._writer: Any = None
        self._last = tensorboard_reached(self.folder)
        if not self._last:
            for old in self.folder.glob("events.out.tfevents.*"):
                old.unlink()
        for record in read_records(run_dir / _METRICS)[self._last :]:
            self.log(record)

    def log(self, record: Mapping[str, Any]) -> None:
        """Write every number of the record."""
        step = int(record["env_steps"])
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            (self.folder / _COMPLETE).unlink(missing_ok=True)
            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        for key, value in record.items():
            if key != "env_steps" and isinstance(value, int | float):
                self._writer.add_scalar(key, value, step)
        self._last = int(record["iteration"])

    def close(self, exit_code: int = 0) -> None:
        """Flush and close the files, then say how far they go."""
        if self._writer is not None:
            self._writer.close()
            replace_file(self.folder / _COMPLETE, json.dumps({"iteration": self._last}).encode())


def tensorboard_reached(folder: Path) -> int:
    """Return the last iteration in TensorBoard files that were closed in order, 0 if they were not."""
    try:
        found = json.loads((folder / _COMPLETE).read_bytes())["iteration"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return found if type(found) is int and found > 0 else 0
