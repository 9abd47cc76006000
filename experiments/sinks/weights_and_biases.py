"""Weights & Biases: a run of its own for training and for each evaluation, that speaks only of what it is given.

Nothing is written outside the run directory, and no argument list, environment variable or key goes into it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.checkpoint import replace_file
from metarl.errors import ConfigError
from metarl.experiments.cli.safe_text import one_line
from metarl.log import read_records

if TYPE_CHECKING:
    from metarl.experiments.config import LogConfig

_METRICS, _CHECKPOINTS = "metrics.jsonl", "checkpoints"
_INIT_TIMEOUT_S = 30.0
_LONGEST_NAME = 128
"""Characters of a run's name that W&B takes."""
_LONGEST_TAG = 64

_SECRET = re.compile(
    r"(^|[_\-.])(api[_\-]?key|(access|private|secret)[_\-]?key|secrets?|token|passw(or)?d|credentials?)$", re.IGNORECASE
)


def scrub(config: Any) -> Any:
    """Return a JSON value without the entries whose names look like keys, tokens or passwords."""
    if isinstance(config, Mapping):
        return {k: scrub(v) for k, v in config.items() if not _SECRET.search(str(k))}
    if isinstance(config, list | tuple):
        return [scrub(v) for v in config]
    return config


@contextmanager
def places(mode: str, folder: Path) -> Iterator[None]:
    """Have W&B write below `folder` and nowhere else, for the length of a `with` block."""
    folders = {"WANDB_DIR": folder, "WANDB_DATA_DIR": folder / "wandb/data", "WANDB_CACHE_DIR": folder / "wandb/cache"}
    if mode == "offline":  # online, the user's own settings name the server
        folders["WANDB_CONFIG_DIR"] = folder / "wandb/config"
    variables = {k: str(v) for k, v in folders.items()} | {
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_DISABLE_WEAVE": "true",  # it takes the package `agents` for a chat library and advertises
    }
    before = {k: os.environ.get(k) for k in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def tags_of(config: Mapping[str, Any], settings: LogConfig) -> list[str]:
    """Return what W&B's filters find a run by: algorithm, world, its options, and the user's own words."""
    world = config.get("world", {})
    options = (f"{key}={value}" for key, value in world.get("options", {}).items() if isinstance(value, str | int))
    found = [config.get("agent", {}).get("type"), world.get("name"), *options, *settings.wandb_tags]
    return list(dict.fromkeys(one_line(tag)[:_LONGEST_TAG] for tag in found if tag))


def begin(settings: LogConfig, folder: Path, config: Mapping[str, Any], run_id: str, name: str, job_type: str) -> Any:
    """Begin a W&B run, or go on with the one of `run_id`, in a block of `places`; raises ConfigError if W&B fails."""
    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    import wandb

    quiet = wandb.Settings(
        silent=True, console="off", disable_code=True, disable_git=True, save_code=False, host="", program="",
        x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=not settings.wandb_system_metrics,
        x_save_requirements=False, init_timeout=_INIT_TIMEOUT_S, x_transaction_log_flush_interval=2.0,
    )  # fmt: skip
    try:
        str(folder).encode()  # W&B's own threads would fail later, and loudly
        return wandb.init(
            mode=settings.wandb, dir=str(folder), id=run_id, resume="allow", name=one_line(name)[:_LONGEST_NAME],
            project=settings.wandb_project, entity=settings.wandb_entity, group=settings.wandb_group,
            job_type=job_type, tags=tags_of(config, settings), config=scrub(dict(config)), settings=quiet,
        )  # fmt: skip
    except Exception as error:
        wandb.teardown(exit_code=1)  # or the run id stays "in use" in this process
        reason = (str(error) or repr(error)).splitlines()[0]
        others = "disabled" if settings.wandb == "offline" else "offline, or disabled"
        raise ConfigError(
            f"W&B does not start in mode {settings.wandb!r} ({reason}); pass --log.wandb {others}"
        ) from error


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
        self._folder, self._artifacts = folder, settings.wandb_artifacts
        with contextlib.ExitStack() as stack:
            stack.enter_context(places(settings.wandb, folder))
            name = str(config_json.get("name", run_id))
            self._run = begin(settings, folder, config_json, run_id, name, "train")
            self._run.define_metric("env_steps")
            self._run.define_metric("*", step_metric="env_steps")
            self._leave = stack.pop_all().close
        if settings.wandb == "online":
            self._last = max(self._last, int(self._run.step) - 1)
            self.where = f"W&B online: {self._run.url}"
        for record in read_records(folder / _METRICS):
            self.log(record)

    def log(self, record: Mapping[str, Any]) -> None:
        """Hand over a record, unless W&B has this iteration already."""
        iteration = int(record["iteration"])
        if iteration > self._last:
            self._run.log(dict(record), step=iteration)
            self._last = iteration

    def close(self, exit_code: int = 0) -> None:
        """Finish the run: wait until everything is written (or, online, sent)."""
        try:
            if self._artifacts:
                self._run.log_artifact(_checkpoint_artifact(self._run.id, self._folder / _CHECKPOINTS))
            self._run.finish(exit_code=exit_code)
        finally:
            self._leave()


def _checkpoint_artifact(run_id: str, store: Path) -> Any:
    """Return the newest and the best checkpoint as one artifact, whose files are those of the run directory."""
    import wandb

    artifact = wandb.Artifact(f"checkpoints-{run_id}", type="model")
    kept = sorted(path for path in store.glob("iteration-*") if path.is_dir())
    best = store / "best.json"
    number = json.loads(best.read_bytes()).get("iteration") if best.is_file() else None
    chosen = [path for path in kept if path == kept[-1] or (number is not None and path.name.endswith(f"{number:09d}"))]
    for file in (file for path in chosen for file in sorted(path.iterdir())):
        artifact.add_file(str(file), name=f"{file.parent.name}/{file.name}")
    if best.is_file():
        artifact.add_file(str(best), name=best.name)
    return artifact


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
