"""What stands behind `import metarl`: the command line's own parts, called from Python; see `metarl/__init__.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from metarl import agents, run
from metarl.agent import Agent
from metarl.errors import ConfigError, nearest
from metarl.evaluation import evaluate as play
from metarl.facade import Result, TrainingRun
from metarl.loop import LoopSettings, meta_train
from metarl.protocol import Protocol
from metarl.provenance import provenance
from metarl.signals import STOP
from metarl.task_distribution import TaskDistribution
from metarl.torch_settings import fast_defaults

from . import codec
from .build import agent_for, read_config, tried_tasks
from .cli import trust
from .config import AnyConfig, ExperimentConfig, LogConfig, WorldConfig, check_device
from .overrides import check_changes
from .runs import exported
from .train import train_in

_ORIGIN, _SEED = "_metarl_origin", "_metarl_seed"
"""Where a task distribution keeps how it was made, and an agent its seed: a run directory must say both."""

_applied = False


def make_tasks(name: str, options: Mapping[str, Any]) -> TaskDistribution:
    """See `metarl.make_tasks`."""
    _fast_once()
    tasks = tried_tasks(name, options, torch.device("cpu"))
    object.__setattr__(tasks, _ORIGIN, WorldConfig(name, dict(options)))
    return tasks


def make_agent(agent: Any, tasks: TaskDistribution, seed: int, device: Any, settings: Mapping[str, Any]) -> Agent:
    """See `metarl.make_agent`."""
    _fast_once()
    if type(seed) is not int or seed < 0:
        raise ConfigError(f"seed is {seed!r}; it must be a whole number >= 0")
    config = _agent_config(agent, settings)
    built = agent_for(config, tasks, seed, check_device(str(device)))
    setattr(built, _SEED, seed)
    return built


def _agent_config(agent: Any, settings: Mapping[str, Any]) -> Any:
    if isinstance(agent, str):
        kind = agents.AGENTS.factory(agent)
        known = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        for name in settings:
            if name not in known:
                raise ConfigError(f"agent {agent!r} has no setting {name!r}; {nearest(name, known)}")
        return kind(**settings)
    if not hasattr(agent, "build") or not dataclasses.is_dataclass(agent):
        raise ConfigError(
            f"{agent!r} is neither the name of an agent nor a config; {nearest('', agents.AGENTS.entries())}"
        )
    return dataclasses.replace(agent, **settings)  # type: ignore[type-var]


def train(
    agent: Agent,
    tasks: TaskDistribution,
    iterations: int,
    run_dir: str | PathLike[str] | None,
    seed: int | None,
    progress: str,
    wandb: str,
    settings: Mapping[str, Any],
) -> TrainingRun:
    """See `metarl.train`."""
    known = [field.name for field in dataclasses.fields(LoopSettings) if field.name != "n_iterations"]
    for name in settings:
        if name not in known:
            raise ConfigError(f"training has no setting {name!r}; {nearest(name, known)}")
    loop = LoopSettings(n_iterations=iterations, **settings)
    seed = getattr(agent, _SEED, 0) if seed is None else seed
    with fast_defaults(torch.get_num_threads(), _device_of(agent)), STOP.installed():
        if run_dir is None:
            return _train_in_memory(agent, tasks, loop, seed)
        config = _config_of(agent, tasks, loop, seed, LogConfig(wandb=wandb, progress=progress))  # type: ignore[arg-type]
        folder = Path(run_dir)
        if run.is_run(folder):
            config = check_changes(read_config(folder, trust.named(codec.to_json(config))), config)
        outcome = train_in(folder, config, tasks, agent, STOP)
        done = outcome.iteration, outcome.env_steps, outcome.finished
        return TrainingRun(run.history(folder), *done, run_dir=folder)


class _InMemory:
    """A recorder that keeps the history and nothing else."""

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []

    @property
    def stop_requested(self) -> bool:
        return STOP.requested

    def log(self, record: dict[str, Any]) -> None:
        self.history.append(record)

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        pass


def _train_in_memory(agent: Agent, tasks: TaskDistribution, loop: LoopSettings, seed: int) -> TrainingRun:
    kept = _InMemory()
    outcome = meta_train(agent, tasks, loop, kept, seed=seed, device=_device_of(agent))
    return TrainingRun(kept.history, outcome["iteration"], outcome["env_steps"], outcome["finished"])


def _config_of(agent: Agent, tasks: TaskDistribution, loop: LoopSettings, seed: int, log: LogConfig) -> AnyConfig:
    """Return the config with which `metarl train` would train the same; raises ConfigError if it cannot be told."""
    world, config = getattr(tasks, _ORIGIN, None), getattr(agent, "config", None)
    if world is None:
        raise ConfigError(
            f"tasks {tasks.name!r} do not say how they were made, which a run directory must; make them with "
            f"metarl.make_tasks('package.module:function'), or leave run_dir out"
        )
    if config is None or not hasattr(config, "algorithm"):
        raise ConfigError(
            f"agent {agent.name!r} has no config, which a run directory must hold; build it with metarl.make_agent, or "
            f"leave run_dir out"
        )
    where, threads = str(_device_of(agent)), torch.get_num_threads()
    name = f"{config.algorithm}-{tasks.name}".replace("/", "-")
    return ExperimentConfig(name, world, config, loop, log=log, seed=seed, device=where, threads=threads)


def evaluate(agent: Agent, tasks: TaskDistribution, settings: Mapping[str, Any]) -> Result:
    """See `metarl.evaluate`."""
    known = [field.name for field in dataclasses.fields(Protocol)]
    for name in settings:
        if name not in known:
            raise ConfigError(f"an evaluation has no setting {name!r}; {nearest(name, known)}")
    protocol = Protocol(**settings)
    if protocol.split == "train":
        raise ConfigError('split is "train", which measures no generalisation; use "test" or "validation"')
    device = _device_of(agent)
    with fast_defaults(torch.get_num_threads(), device):
        about = {"config": codec.agent_to_json(agent.config)} if hasattr(agent, "config") else {}
        return Result(play(agent, tasks, protocol, device=device, about_agent=about, provenance=provenance()))


def load_agent(path: str | PathLike[str], device: Any, trusted: Collection[str]) -> Agent:
    """See `metarl.load_agent`."""
    _fast_once()
    return exported.load_agent(Path(path), check_device(str(device)), trusted)


def plot(results: Sequence[tuple[str, Result]], path: str | PathLike[str] | None) -> Any:
    """See `metarl.facade.Result.plot`."""
    from .figures.plots import Shown, adaptation_figure, save_png

    figure = adaptation_figure([Shown(label, result.evaluation, []) for label, result in results])
    if path is not None:
        save_png(figure, Path(path))
    return figure


def _device_of(agent: Agent) -> torch.device:
    return torch.device(getattr(agent, "device", "cpu"))


def _fast_once() -> None:
    """Apply the settings at the first use from Python, unless somebody has made this process's own before."""
    global _applied
    if not _applied:
        _applied = True
        fast_defaults()
