"""Where the records of a run go besides metrics.jsonl: W&B, TensorBoard, the terminal.

metrics.jsonl is the truth, a sink is a view of it: one that fails is dropped with one warning and never stops a run.
Nothing here writes outside the run directory, and no argument list, environment variable or key goes into it.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from metarl.checkpoint import clean_temporaries, replace_file
from metarl.commandline import pip_command
from metarl.errors import ConfigError
from metarl.experiments.cli.safe_text import one_line
from metarl.log import read_records

from .terminal import make_progress

if TYPE_CHECKING:
    from metarl.experiments.config import LogConfig

_LOG = logging.getLogger("metarl.sinks")

_SECRET = re.compile(
    r"(^|[_\-.])(api[_\-]?key|(access|private|secret)[_\-]?key|secrets?|token|passw(or)?d|credentials?)$", re.IGNORECASE
)

_METRICS, _TENSORBOARD = "metrics.jsonl", "tensorboard"
_COMPLETE = "complete.json"
"""Says how far TensorBoard files go that were closed in order; not there while they are open."""

_INIT_TIMEOUT_S = 30.0
_LONGEST_NAME = 128
"""Characters of a run's name that W&B takes."""


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


def scrub(config: Any) -> Any:
    """Return a JSON value without the entries whose names look like keys, tokens or passwords."""
    if isinstance(config, Mapping):
        return {k: scrub(v) for k, v in config.items() if not _SECRET.search(str(k))}
    if isinstance(config, list | tuple):
        return [scrub(v) for v in config]
    return config


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


class WandbSink:
    """One W&B run, the same across resumes, with `env_steps` as the axis of every metric.

    A killed process loses the last records it handed to W&B (they are written in blocks), and a resumed one repeats
    the iterations after its checkpoint. So at the start the records that earlier processes really left are read back
    from the run directory; what metrics.jsonl holds beyond them is handed over first, and what is there already is not
    handed over again. The history then holds each iteration once.
    """

    def __init__(
        self, settings: LogConfig, run_dir: Path, config_json: Mapping[str, Any], run_id: str, notices: list[str]
    ) -> None:
        folder = run_dir.absolute()
        self.where = f"W&B {settings.wandb}: {run_dir / 'wandb'}"
        self._last = wandb_reached(folder, run_id, notices)
        self._run = self._open(settings, folder, config_json, run_id)
        if settings.wandb == "online":
            self._last = max(self._last, int(self._run.step) - 1)
            self.where = f"W&B online: {self._run.url}"
        for record in read_records(folder / _METRICS):
            self.log(record)

    def _open(self, settings: LogConfig, folder: Path, config: Mapping[str, Any], run_id: str) -> Any:
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        places = {
            "WANDB_DIR": folder,
            "WANDB_DATA_DIR": folder / "wandb/data",
            "WANDB_CACHE_DIR": folder / "wandb/cache",
        }
        if settings.wandb == "offline":  # online, the user's own settings name the server
            places["WANDB_CONFIG_DIR"] = folder / "wandb/config"
        variables = {k: str(v) for k, v in places.items()} | {
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_DISABLE_WEAVE": "true",  # it takes the package `agents` for a chat library and advertises
        }
        self._environ = {k: os.environ.get(k) for k in variables}
        os.environ.update(variables)
        import wandb

        name = one_line(config.get("name", run_id))[:_LONGEST_NAME]
        quiet = wandb.Settings(
            silent=True, console="off", disable_code=True, disable_git=True, save_code=False, host="", program="",
            x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True, x_save_requirements=False,
            init_timeout=_INIT_TIMEOUT_S, x_transaction_log_flush_interval=2.0,
        )  # fmt: skip
        try:
            str(folder).encode()  # W&B's own threads would fail later, and loudly
            run = wandb.init(
                mode=settings.wandb, dir=str(folder), id=run_id, resume="allow", name=name,
                project=settings.wandb_project, entity=settings.wandb_entity, group=settings.wandb_group,
                config=scrub(dict(config)), settings=quiet,
            )  # fmt: skip
        except Exception as error:
            wandb.teardown(exit_code=1)  # or the run id stays "in use" in this process
            self._leave()
            reason = (str(error) or repr(error)).splitlines()[0]
            others = "disabled" if settings.wandb == "offline" else "offline, or disabled"
            raise ConfigError(
                f"W&B does not start in mode {settings.wandb!r} ({reason}); pass --log.wandb {others}"
            ) from error
        run.define_metric("env_steps")
        run.define_metric("*", step_metric="env_steps")
        return run

    def log(self, record: Mapping[str, Any]) -> None:
        """Hand over a record, unless W&B has this iteration already."""
        iteration = int(record["iteration"])
        if iteration > self._last:
            self._run.log(dict(record), step=iteration)
            self._last = iteration

    def close(self, exit_code: int = 0) -> None:
        """Finish the run: wait until everything is written (or, online, sent)."""
        try:
            self._run.finish(exit_code=exit_code)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Put the environment variables back."""
        for key, value in self._environ.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def wandb_reached(run_dir: Path, run_id: str, notices: list[str]) -> int:
    """Return the last iteration that earlier processes really left in W&B's files, 0 if none.

    Only the holder of the run's lock may ask: nobody writes the fragments any more, and what each one holds is kept
    beside them, because it takes half a second to read one.
    """
    folder, reached = run_dir / "wandb", 0
    memory = folder / f"reached-{run_id}.json"
    try:
        known = dict(json.loads(memory.read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    for fragment in sorted(folder.glob(f"*run-*-{run_id}")):
        key = f"{fragment.name} {sum(p.stat().st_size for p in fragment.glob('*.wandb'))}"
        try:
            if type(known.get(key)) is not int:
                known[key] = max((int(r["iteration"]) for r in read_fragment(fragment)), default=0)
                replace_file(memory, json.dumps(known).encode())
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            notices.append(f"{fragment.name} cannot be read back ({error}); W&B may show iterations twice")
        reached = max(reached, known.get(key, 0))
    return reached


def read_fragment(folder: Path) -> list[dict[str, Any]]:
    """Return the history records in one `wandb/*run-*` folder, as W&B itself reads them back.

    A file that a kill tore off gives what is whole. Raises: subprocess.SubprocessError if W&B cannot read it.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=120, text=True)
    found = (json.loads(line) for line in answer.stdout.splitlines())
    return [entry["history"]["item"] for entry in found if entry.get("type") == "history"]


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
