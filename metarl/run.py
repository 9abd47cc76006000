"""The run directory: who may write it, what it is, where it stands. `metrics.jsonl` and `checkpoints/` are the truth.

config.json     every setting of the run, with a schema version
run.json        run id, commit, package versions, task fingerprint
metrics.jsonl   one record per iteration
checkpoints/    the last few, and best.json
lock            held (flock) by the one process that trains here
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint import MANIFEST, CheckpointStore, flush_folder, replace_file
from .commandline import spoken
from .errors import CheckpointError, ConfigError
from .log import read_records
from .reading import is_folder, read_object
from .run_lock import RunLock, clean_creations, creation_name, disk

CONFIG, FACTS, METRICS, CHECKPOINTS = "config.json", "run.json", "metrics.jsonl", "checkpoints"
NO_HISTORY = hashlib.sha256().hexdigest()
"""What binds a checkpoint to a history of no records."""
_FACTS = {
    "run_id": str, "task_fingerprint": str, "provenance": dict, "warm_start": dict, "device_changes": list,
    "processes": int, "process_changes": list,
}  # fmt: skip
"""Types of what is read of run.json."""


CHANGEABLE = ("train.n_iterations", "log", "device")
"""Settings that may differ when a run goes on; anything else would make it another run. Another device costs bits, not
sense."""


def identity(folder: Path) -> dict[str, str]:
    """Return what ties a checkpoint to its run: the run's id, and the sha256 of all settings that may not change.

    Raises: CheckpointError if the directory's files cannot be read.
    """
    return _identity(read_json(folder, CONFIG), read_json(folder, FACTS))


def _identity(config: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    kept = json.dumps(_without(config, CHANGEABLE), sort_keys=True)
    return {"id": str(facts.get("run_id")), "config": hashlib.sha256(kept.encode()).hexdigest()}


def _without(config: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return nested settings without those of `keys`, dotted paths."""
    here = {key.partition(".")[0]: key.partition(".")[2] for key in keys}
    kept = {k: v for k, v in config.items() if here.get(k) != ""}
    return {k: _without(v, [here[k]]) if k in here and isinstance(v, Mapping) else v for k, v in kept.items()}


def is_run(folder: Path) -> bool:
    """Return whether `folder` is a run directory."""
    return (folder / CONFIG).is_file()


def another_folder() -> str:
    """Return the remedy where a run directory cannot be had."""
    return spoken("choose another --run-dir", "choose another run_dir")


def check_free(folder: Path) -> None:
    """Raise ConfigError unless a new run may be created at `folder`: nothing there, or an empty folder."""
    try:
        if folder.is_dir() and not any(folder.iterdir()):
            return
    except OSError as error:
        raise ConfigError(f"cannot look into {folder} ({error}); {another_folder()}") from error
    if is_run(folder):
        raise ConfigError(f"run directory {folder} exists already; add --resume to go on, or {another_folder()}")
    if folder.exists():
        raise ConfigError(f"{folder} exists and is not an empty folder; {another_folder()}")


def create_run(folder: Path, config: Mapping[str, Any], facts: Mapping[str, Any], agent_state: Any = None) -> RunLock:
    """Create a run directory in one step, complete or not at all, and return its lock, taken.

    `agent_state` becomes the checkpoint of iteration 0: a run that did not begin with fresh parameters holds what it
    began with. Raises: ConfigError if there is something else at `folder` or it cannot be written.
    """
    check_free(folder)
    beside, lock = folder.absolute().with_name(creation_name(folder)), None
    facts = {**facts, "bound_checkpoints": True}
    try:
        clean_creations(folder)
        beside.mkdir(parents=True)
        lock = RunLock(beside)
        (beside / METRICS).touch()
        write_json(beside / FACTS, facts)
        write_json(beside / CONFIG, config)
        if agent_state is not None:
            state = {"iteration": 0, "env_steps": 0, "agent": agent_state}
            binding = {**_identity(config, facts), "history": NO_HISTORY}
            CheckpointStore(beside / CHECKPOINTS).save(0, state, binding)
        beside.rename(folder)
        flush_folder(folder.absolute().parent)
    except BaseException as error:
        if lock is not None:
            lock.release()
        shutil.rmtree(beside, ignore_errors=True)
        if not isinstance(error, OSError | CheckpointError):
            raise
        raise ConfigError(f"cannot create run directory {folder}: {error}; {another_folder()}") from error
    return lock


def update_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Take over the settings of `config` that may change when a run goes on; the others stay as they are stored."""
    stored = read_json(folder, CONFIG)
    updated = json.loads(json.dumps(stored))
    for key in CHANGEABLE:
        *path, last = key.split(".")
        source, target = config, updated
        for name in path:
            source, target = source[name], target[name]
        target[last] = source[last]
    if updated != stored:
        write_json(folder / CONFIG, updated)


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
    history: str | None = None
    """The sha256 of the records up to there; None if nothing is bound to it: no checkpoint yet, or an old one."""


def newest_point(folder: Path) -> ResumePoint:
    """Return the newest good checkpoint of a run, iteration 0 if it has none yet.

    Damaged ones are passed over with a warning. Raises: CheckpointError if all are damaged, or if it is another run's.
    """
    with disk(folder):
        return _point(folder, CheckpointStore(folder / CHECKPOINTS).load_newest())


def point_at(folder: Path, iteration: int) -> ResumePoint:
    """Return the checkpoint after `iteration` iterations; raises CheckpointError if missing, damaged or another's."""
    with disk(folder):
        return _point(folder, (iteration, CheckpointStore(folder / CHECKPOINTS).load(iteration)))


def _point(folder: Path, found: tuple[int, Any] | None) -> ResumePoint:
    if found is None:
        return ResumePoint(0, 0, None)
    iteration, state = found
    where = CheckpointStore(folder / CHECKPOINTS).path(iteration)
    if not isinstance(state, dict) or not {"iteration", "env_steps", "agent"} <= state.keys():
        raise CheckpointError(f"checkpoint of iteration {iteration} is not one of a training run ({where})")
    if state["iteration"] != iteration or type(state["env_steps"]) is not int or state["env_steps"] < 0:
        raise CheckpointError(
            f"{where} holds iteration {state['iteration']!r} with {state['env_steps']!r} environment steps, not "
            f"iteration {iteration}; delete it, then the one before is used"
        )
    if state["agent"] is None:
        raise CheckpointError(f"{where} is a checkpoint without an agent; delete it, then the one before is used")
    return ResumePoint(iteration, state["env_steps"], state["agent"], _bound(folder, where, read_json(where, MANIFEST)))


def check_config(folder: Path) -> None:
    """Raise CheckpointError if config.json is not what the newest checkpoint was trained with.

    For who is about to call code that it names. A damaged checkpoint says nothing; the one before it does.
    """
    with disk(folder):
        store = CheckpointStore(folder / CHECKPOINTS)
        for where in map(store.path, reversed(store.iterations())):
            try:
                manifest = read_json(where, MANIFEST)
            except CheckpointError:
                continue
            _bound(folder, where, manifest)
            return


def _bound(folder: Path, where: Path, manifest: Mapping[str, Any]) -> str | None:
    """Return the history to which a checkpoint is bound, None for one of an earlier version, which is not.

    Raises: CheckpointError if it is not bound to this run and its settings.
    """
    facts, binding = read_json(folder, FACTS), manifest.get("run")
    if binding is None and not facts.get("bound_checkpoints"):
        return None
    binding = binding if isinstance(binding, dict) else {}
    here, history = identity(folder), binding.get("history")
    if binding.get("id") != here["id"] or not isinstance(history, str):
        raise CheckpointError(
            f"{where} is a checkpoint of run {binding.get('id', 'unknown')}, and {folder} holds run {here['id']}; "
            f"delete it, then the one before is used, or restore the directory from a copy"
        )
    if binding.get("config") != here["config"]:
        raise CheckpointError(
            f"{folder / CONFIG} is not what {where.name} was trained with: a setting other than "
            f"{', '.join(CHANGEABLE)} was changed; restore it from a copy, or "
            f"{spoken('start a new run with --from', 'train in another run_dir')}"
        )
    return history


def history(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run directory; a torn last line is dropped."""
    return read_records(folder / METRICS)
