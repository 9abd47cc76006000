"""`metarl train`: start a run, or go on with one, bit for bit."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from metarl import run
from metarl.agent import Agent
from metarl.checkpoint import CheckpointStore, state_fingerprint
from metarl.commandline import command
from metarl.distributed import group, joined, processes_here
from metarl.errors import CheckpointError, ConfigError, NumericalError
from metarl.loop import NullRecorder, Plan, Worlds, meta_train
from metarl.provenance import kernels, package_versions, provenance
from metarl.recorder import RunRecorder
from metarl.run_lock import RunLock, disk
from metarl.signals import EXIT_STOPPED, STOP, StopSignals
from metarl.task_distribution import TaskDistribution, about
from metarl.torch_settings import usable_cpus

from . import codec, sinks
from .build import (
    LoadedRun,
    build_agent,
    build_tasks,
    check_fingerprint,
    configure_torch,
    load_run,
    read_config,
    restore,
    try_together,
)
from .cli import trust
from .cli.safe_text import note, one_line
from .config import AnyConfig, check_device
from .overrides import Request, parse
from .runs.warm_start import advice, find_start, split_source

__all__ = ["LoadedRun", "load_run", "main", "start"]


def main(argv: list[str]) -> int:
    """Run the command; returns 0 when finished, 75 when a signal stopped it after a checkpoint."""
    signals = STOP.install()
    try:
        with joined() as team:
            asked = parse(argv) if team.leads else None
            return start(cast(Request, team.from_first(lambda: asked)), signals)
    finally:
        signals.uninstall()


def start(request: Request, signals: StopSignals) -> int:
    """Carry out a request. Everything that can be wrong is checked before the run directory is created.

    Of several processes only the first one touches the run directory; the others hear from it where to start.

    Raises: MetarlError with one line that says what to do; a new run that failed to start leaves nothing behind.
    """
    threads = request.config.threads or max(1, usable_cpus() // processes_here())
    config = dataclasses.replace(request.config, threads=threads)
    if not group().leads:
        return _follow(config, signals)
    folder = request.run_dir or default_run_dir(config)
    if not request.going_on:
        run.check_free(folder)
    elif _finish(folder, config):
        group().from_first(lambda: None)
        return 0
    else:
        _check_device_of(folder, config)
    device = configure_torch(config)
    sinks.check(config.log)
    tasks = build_tasks(config, device)
    for text in about(tasks).notes:
        note(text)
    agent = build_agent(config, tasks, device)
    job = _Job(config, folder, tasks, agent, signals)
    if request.going_on:
        outcome = _go_on(job)
    else:
        begin = find_start(request.start_from, config, agent, request.trust) if request.start_from is not None else None
        if begin is not None:
            agent.load_state_dict(begin.state)
        outcome = _begin(job, {"warm_start": begin.facts} if begin else {})
    return _conclude(config, folder, outcome)


def train_in(
    folder: Path, config: AnyConfig, tasks: TaskDistribution, agent: Agent, signals: StopSignals, *, learnt: bool
) -> Outcome:
    """Do the same from Python, with tasks and an agent that are there, and without a word.

    A run that is in `folder` goes on, and `agent` takes over what it had learnt; else a new one begins with `agent` as
    it is: what that is goes into run.json if it has `learnt` already.
    """
    sinks.check(config.log)
    job = _Job(config, folder, tasks, agent, signals, say=_nothing)
    if not run.is_run(folder):
        run.check_free(folder)
        return _begin(job, {"given_parameters": state_fingerprint(agent.state_dict())} if learnt else {})
    point = _finish(folder, config, say=_nothing)
    if point is None:
        _check_device_of(folder, config)
        return _go_on(job)
    check_fingerprint(folder, tasks)
    restore(agent, point.agent_state, folder)
    return Outcome(point.iteration, point.env_steps, finished=True)


@dataclass(frozen=True)
class Outcome:
    """How far training has come."""

    iteration: int
    env_steps: int
    finished: bool
    """False: a signal stopped it after a checkpoint, or, at iteration 0, before anything was written."""


@dataclass(frozen=True)
class _Job:
    """What is to be trained, where, and whom to tell."""

    config: AnyConfig
    folder: Path
    tasks: TaskDistribution
    agent: Agent
    signals: StopSignals
    say: Callable[[str], None] = print

    def worlds(self, point: run.ResumePoint | None = None) -> Worlds:
        """Build the loop's worlds, once the other processes of the run know where it starts."""
        if group().size > 1:
            group().from_first(lambda: (point, self.agent.state_dict()))
        return Worlds.build(self.agent, self.tasks, self.config.train, torch.device(self.config.device))


def _nothing(text: str) -> None:
    pass


def _follow(config: AnyConfig, signals: StopSignals) -> int:
    """Train beside the first process, from where it says; return the exit code."""
    device = configure_torch(config)
    tasks = build_tasks(config, device)
    agent = build_agent(config, tasks, device)
    told: tuple[run.ResumePoint | None, Any] | None = group().from_first(lambda: None)
    if told is None:
        return 0
    point, state = told
    agent.load_state_dict(state)
    worlds = Worlds.build(agent, tasks, config.train, device)
    if point is None:
        try_together(agent, tasks, worlds.train, config.train.n_tasks)
    outcome = meta_train(
        agent, tasks, config.train, _Listener(signals), seed=config.seed, device=device, worlds=worlds,
        start_iteration=point.iteration if point else 0, env_steps=point.env_steps if point else 0,
    )  # fmt: skip
    return 0 if outcome["finished"] else EXIT_STOPPED


class _Listener(NullRecorder):
    """Writes nothing, and passes on that this process was asked to stop."""

    def __init__(self, signals: StopSignals) -> None:
        self._signals = signals

    @property
    def stop_requested(self) -> bool:  # type: ignore[override]
        return self._signals.requested


def _begin(job: _Job, origin: dict[str, Any]) -> Outcome:
    """Create the run directory and train; `origin` goes into run.json if the agent's parameters are not fresh."""
    config, folder, tasks, agent = job.config, job.folder, job.tasks, job.agent
    Plan.of(agent, config.train)
    worlds = job.worlds()
    try:
        try_together(agent, tasks, worlds.train, config.train.n_tasks)
        if job.signals.requested:
            worlds.close()
            return Outcome(0, 0, finished=False)
        about = facts(config, tasks) | origin
        lock = run.create_run(folder, codec.to_json(config), about, agent.state_dict() if origin else None)
    except BaseException:
        worlds.close()
        raise
    try:
        source = origin.get("warm_start")
        if source is not None:
            job.say(f"starting from iteration {source['iteration']} of {one_line(split_source(source['from'])[0])}")
        point = run.ResumePoint(0, 0, None)
        return _train(job, RunRecorder(folder, lock, job.signals, point), worlds, point)
    except ConfigError:
        if not run.history(folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lock.release()


def _conclude(config: AnyConfig, folder: Path, outcome: Outcome) -> int:
    """Say how training ended and what comes next; return the exit code."""
    if not outcome.iteration:
        print("stopped before the first iteration; nothing was written", file=sys.stderr)
        return EXIT_STOPPED
    trusting = trust.flags(codec.to_json(config))
    go_on = command("train", "--run-dir", folder, "--resume", *trusting)
    word, follow_up = ("finished", command("evaluate", folder, *trusting)) if outcome.finished else ("stopped", go_on)
    with contextlib.suppress(BrokenPipeError):  # nobody may be listening any more; the run is complete all the same
        print(f"{word} after iteration {outcome.iteration} ({outcome.env_steps} environment steps): {one_line(folder)}")
        print(f"next: {follow_up}", flush=True)
    return 0 if outcome.finished else EXIT_STOPPED


def _finish(folder: Path, config: AnyConfig, say: Callable[[str], None] = print) -> run.ResumePoint | None:
    """Return the last point of the run in `folder` and say so if it has nothing left to train, else None.

    The process that trained it may have been killed after its last checkpoint: what it had not come to is done first,
    and the sinks are handed what they miss.
    """
    with disk(folder):
        newest = max(CheckpointStore(folder / run.CHECKPOINTS).iterations(), default=0)
    if newest < config.train.n_iterations:
        return None
    lock = RunLock(folder)
    try:
        point = run.newest_point(folder)  # reads it: a damaged last checkpoint means that the run is not finished
        if point.iteration < config.train.n_iterations:
            return None
        RunRecorder(folder, lock, StopSignals(), point).close()
        for text in sinks.complete(config.log, folder, codec.to_json(config), _run_id(folder)):
            note(text)
    finally:
        lock.release()
    say(f"{one_line(folder)} is finished: {point.iteration} iterations, {point.env_steps} environment steps")
    return point


def _run_id(folder: Path) -> str:
    return str(run.read_json(folder, run.FACTS)["run_id"])


def _go_on(job: _Job) -> Outcome:
    """Resume the run from its newest good checkpoint."""
    config, folder, agent = job.config, job.folder, job.agent
    Plan.of(agent, config.train)
    before = check_fingerprint(folder, job.tasks)
    lock = RunLock(folder)
    try:
        point = run.newest_point(folder)
        _warn_of_versions(before)
        if point.agent_state is not None:
            restore(agent, point.agent_state, folder)
        elif "warm_start" in before or before.get("given_parameters"):
            source = before.get("warm_start", {}).get("from")
            raise CheckpointError(
                f"{folder} has lost the parameters that it started with (checkpoints/ is empty); start a new run"
                f"{f' with --from {source}' if source else ''}"
            )
        recorder = RunRecorder(folder, lock, job.signals, point)  # tells a wrong history before it changes anything
        if point.history is None and point.agent_state is not None:
            note("this run's checkpoints are of an earlier version and not bound to its history; the next ones will be")
        with disk(folder):
            _note_changes(folder, before, config, point.iteration)
            run.update_config(folder, codec.to_json(config))
        job.say(f"{one_line(folder)}: going on after iteration {point.iteration} of {config.train.n_iterations}")
        told = dataclasses.replace(point, agent_state=None, history=None)
        return _train(job, recorder, job.worlds(told), point)
    finally:
        lock.release()


def _check_device_of(folder: Path, config: AnyConfig) -> None:
    """Raise ConfigError if a run that goes on needs a GPU which is not here: to go elsewhere is for the user."""
    try:
        check_device(config.device)
    except ConfigError as error:
        if read_config(folder, _names(config)).device != config.device:
            raise
        raise ConfigError(
            f"{folder} was trained on {config.device}, which is not here, and elsewhere it cannot go on bit for bit; "
            f"go on all the same with --device cpu (run.json will say so), or where there is a GPU"
        ) from error


def _note_changes(folder: Path, facts: dict[str, Any], config: AnyConfig, iteration: int) -> None:
    """Write into run.json that a run goes on on another device or in another number of processes.

    From there on its bits are not those of one device or number.
    """
    now, size = facts, group().size
    device, processes = read_config(folder, _names(config)).device, facts.get("processes", 1)
    if device != config.device:
        note(f"going on on {config.device} instead of {device}: not bit for bit what it would have been there")
        now = _with_change(now, "device_changes", iteration, device, config.device)
    if processes != size:
        several = "process" if size == 1 else "processes"
        note(f"going on in {size} {several} instead of {processes}: not bit for bit what it would have been there")
        now = {**_with_change(now, "process_changes", iteration, processes, size), "processes": size}
    if now is not facts:
        run.write_json(folder / run.FACTS, now)


def _with_change(facts: dict[str, Any], key: str, iteration: int, before: Any, after: Any) -> dict[str, Any]:
    """Return `facts` with one more change in the list `key`; one that a kill has let happen twice is there once."""
    change = {"after_iteration": iteration, "from": before, "to": after}
    return {**facts, key: [*(c for c in facts.get(key, []) if c != change), change]}


def _train(job: _Job, recorder: RunRecorder, worlds: Worlds, point: run.ResumePoint) -> Outcome:
    """Run the loop into the run directory, whose lock the caller holds, and close everything."""
    config, folder, code = job.config, job.folder, 1
    try:
        with disk(folder):
            recorder.sinks.extend(sinks.make_sinks(config.log, folder, codec.to_json(config), _run_id(folder)))
    except BaseException:
        recorder.close(1)
        worlds.close()
        raise
    try:
        outcome = meta_train(
            job.agent, job.tasks, config.train, recorder, seed=config.seed, device=config.device,
            start_iteration=point.iteration, env_steps=point.env_steps, worlds=worlds,
        )  # fmt: skip
        recorder.check()
        code = 0 if outcome["finished"] else EXIT_STOPPED
    except NumericalError as error:
        raise NumericalError(f"{error}: {advice(folder, config)}") from error
    finally:
        recorder.close(code)
    return Outcome(**outcome)


def _names(config: AnyConfig) -> list[str]:
    return trust.named(codec.to_json(config))


def default_run_dir(config: AnyConfig) -> Path:
    """Return runs/NAME-SEED-TIME, local time to the second."""
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in config.name)
    return Path("runs") / f"{safe}-{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"


def facts(config: AnyConfig, tasks: TaskDistribution) -> dict[str, Any]:
    """Return the content of run.json: what the run is, beyond its settings."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    salt = f"{config.name}:{config.seed}:{created}:{time.time_ns()}"
    return {
        "schema_version": codec.SCHEMA_VERSION,
        "run_id": hashlib.sha256(salt.encode()).hexdigest()[:12],
        "created": created,
        "task_fingerprint": tasks.fingerprint(),
        "processes": group().size,
        "provenance": provenance(),
    }


def _warn_of_versions(before: dict[str, Any]) -> None:
    """Warn if what computes is no longer what it was when the run started: the bits may, then, differ."""
    stored: dict[str, dict[str, str]] = before.get("provenance", {})
    for part, here in {"packages": package_versions(("torch", "numpy", "mujoco")), "kernels": kernels()}.items():
        then = stored.get(part, here)
        for name in sorted(here.keys() | (then.keys() if part == "kernels" else set())):
            was, now = then.get(name, "not set"), here.get(name, "not set")
            if was != now:
                warnings.warn(
                    f"this run was started with {name} {was}, now it is {now}: results may differ in the last bits",
                    stacklevel=3,
                )
