"""What stands behind `import metarl`: the command line's own parts, called from Python; see `metarl/__init__.py`."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import MethodType
from typing import Any

import gymnasium as gym
import torch

from metarl import agents, envs, run
from metarl.agent import Agent, Savable
from metarl.checkpoint import state_fingerprint, writing
from metarl.containment import generators_kept
from metarl.errors import MOST_SEED, ConfigError, nearest, shortened
from metarl.evaluation import evaluate as play
from metarl.facade import Result, TrainingRun
from metarl.loop import LoopSettings, meta_train
from metarl.protocol import Protocol
from metarl.provenance import provenance
from metarl.signals import STOP
from metarl.task_distribution import TaskDistribution, check_distribution, spec_of
from metarl.torch_settings import fast_defaults

from . import codec
from .build import agent_for, read_config, tried_tasks
from .cli import trust
from .config import AnyConfig, ExperimentConfig, LogConfig, WorldConfig, check_device
from .overrides import check_changes
from .runs import exported
from .train import train_in

_ORIGIN = "_metarl_origin"
"""Where a task distribution keeps how it was made: a run directory must say so."""

_SETTING = re.compile(r"(?<![\w.])train\.(\w+)")

_applied = False


def make_tasks(name: str, options: Mapping[str, Any]) -> TaskDistribution:
    """See `metarl.make_tasks`."""
    _check_world_name(name)
    _fast_once()
    with generators_kept():
        tasks = tried_tasks(name, options, torch.device("cpu"))
    object.__setattr__(tasks, _ORIGIN, WorldConfig(name, dict(options)))
    return tasks


def _check_world_name(name: Any) -> None:
    """Raise ConfigError for what is no name of a world; environments of Gymnasium are shown the way in."""
    way = "metarl.envs.gym.world.GymWorld makes worlds of it; docs/worlds.md shows how"
    if isinstance(name, gym.Env) or (isinstance(name, type) and issubclass(name, gym.Env)):
        raise ConfigError(f"{shortened(name, 60)} is one Gymnasium environment, not a distribution of tasks; {way}")
    if not isinstance(name, str):
        raise ConfigError(f"world is {shortened(repr(name), 60)}, expected a name; `metarl worlds list` lists them")
    if name in gym.registry and ":" not in name and envs.WORLDS.entry(name) is None:
        raise ConfigError(f"{name!r} is one Gymnasium environment, not a distribution of tasks; {way}")


def make_agent(agent: Any, tasks: TaskDistribution, seed: int, device: Any, settings: Mapping[str, Any]) -> Agent:
    """See `metarl.make_agent`."""
    _fast_once()
    check_distribution(tasks)
    _check_seed(seed)
    with generators_kept():  # what names import
        config = _agent_config(agent, settings)
    built = agent_for(config, tasks, seed, check_device(str(device)))
    if not hasattr(built, "config"):
        built.config = config  # type: ignore[attr-defined]  # a stranger's agent need not keep its own
    if not hasattr(built, "save"):
        built.save = MethodType(Savable.save, built)  # type: ignore[attr-defined]
    setattr(built, exported.SEED, seed)
    return built


def _check_seed(seed: Any) -> None:
    if type(seed) is not int or not 0 <= seed <= MOST_SEED:
        raise ConfigError(f"seed is {seed!r}; it must be a whole number from 0 to {MOST_SEED}")


def _check_fits(agent: Any, tasks: Any) -> None:
    """Raise ConfigError unless `agent` is one, `tasks` are some, and it was built for worlds like theirs."""
    check_distribution(tasks)
    missing = [verb for verb in ("init", "act", "adapt", "update", "phases", "spec") if not hasattr(agent, verb)]
    if missing:
        raise ConfigError(f"{agent!r} is no agent: it lacks {', '.join(missing)}; build one with metarl.make_agent")
    theirs, own = spec_of(tasks), agent.spec
    for what in ("observation_space", "action_space"):
        if getattr(theirs, what) != getattr(own, what):
            raise ConfigError(
                f"agent {agent.name!r} was built for worlds with {what} {getattr(own, what)}, and {tasks.name!r} has "
                f"{getattr(theirs, what)}; build one with metarl.make_agent(..., tasks)"
            )
    if theirs.horizon > own.horizon:
        raise ConfigError(
            f"agent {agent.name!r} was built for episodes of at most {own.horizon} steps, and those of {tasks.name!r} "
            f"last {theirs.horizon}; build one with metarl.make_agent(..., tasks)"
        )


def _agent_config(agent: Any, settings: Mapping[str, Any]) -> Any:
    if isinstance(agent, str):
        kind = agents.AGENTS.factory(agent)
        settings = codec.by_new_names(kind, settings)
        known = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        _check_names(f"agent {agent!r}", settings, known)
        return codec.typed(kind, settings, "") if known else kind(**settings)
    if not hasattr(agent, "build") or not dataclasses.is_dataclass(agent) or isinstance(agent, type):
        raise ConfigError(
            f"{agent!r} is neither the name of an agent nor a config; {nearest('', agents.AGENTS.entries())}"
        )
    fields = {field.name: getattr(agent, field.name) for field in dataclasses.fields(agent)}
    settings = codec.by_new_names(type(agent), settings)
    _check_names(f"{type(agent).__name__}", settings, fields)
    return codec.typed(type(agent), fields | dict(settings), "")


def _check_names(what: str, settings: Collection[str], known: Collection[str]) -> None:
    for name in settings:
        if name not in known:
            raise ConfigError(f"{what} has no setting {name!r}; {nearest(name, known)}")


@contextlib.contextmanager
def _by_keyword() -> Iterator[None]:
    """Let what is wrong with a setting of the loop name the keyword of `metarl.train`, not the setting of a config."""
    try:
        yield
    except ConfigError as error:
        text = _SETTING.sub(lambda found: "iterations" if found[1] == "n_iterations" else found[1], str(error))
        raise ConfigError(text) from error


@_by_keyword()
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
    _check_fits(agent, tasks)
    known = [field.name for field in dataclasses.fields(LoopSettings) if field.name != "n_iterations"]
    settings = codec.by_new_names(LoopSettings, settings)
    _check_names("training", settings, ["iterations", *known])
    loop = codec.typed(LoopSettings, {"n_iterations": iterations, **settings}, "train")
    log = codec.typed(LogConfig, {"wandb": wandb, "progress": progress}, "log")
    if seed is None and run_dir is not None and run.is_run(Path(run_dir)):
        seed = run.read_json(Path(run_dir), run.CONFIG).get("seed")
    seed = getattr(agent, exported.SEED, 0) if seed is None else seed
    _check_seed(seed)
    with fast_defaults(torch.get_num_threads(), _device_of(agent)), STOP.installed(saving=run_dir is not None):
        if run_dir is None:
            return _train_in_memory(agent, tasks, loop, seed)
        config = _config_of(agent, tasks, loop, seed, log)
        folder = Path(run_dir)
        fresh = agent_for(config.agent, tasks, seed, _device_of(agent))
        learnt = state_fingerprint(agent.state_dict()) != state_fingerprint(fresh.state_dict())
        if run.is_run(folder):
            config = check_changes(read_config(folder, trust.named(codec.to_json(config))), config)
            if learnt:
                _check_is_of(agent, folder)
        outcome = train_in(folder, config, tasks, agent, STOP, learnt=learnt)
        done = outcome.iteration, outcome.env_steps, outcome.finished
        return TrainingRun(run.history(folder), *done, run_dir=folder)


def _check_is_of(agent: Agent, folder: Path) -> None:
    """Raise ConfigError if `agent` has learnt something that the run in `folder` does not know and would take away."""
    point = run.newest_point(folder)
    if state_fingerprint(point.agent_state) != state_fingerprint(agent.state_dict()):
        raise ConfigError(
            f"this agent is neither fresh nor what {folder} has come to (iteration {point.iteration}), and going on "
            f"there would lose what it has learnt; pass metarl.make_agent(...), or another run_dir"
        )


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
    _check_fits(agent, tasks)
    settings = codec.by_new_names(Protocol, settings)
    _check_names("an evaluation", settings, [field.name for field in dataclasses.fields(Protocol)])
    protocol = codec.typed(Protocol, settings, "evaluation")
    if protocol.split == "train":
        raise ConfigError('split is "train", which measures no generalisation; use "test" or "validation"')
    device = _device_of(agent)
    with fast_defaults(torch.get_num_threads(), device):
        about = {"config": codec.agent_to_json(agent.config)} if hasattr(agent, "config") else {}
        return Result(play(agent, tasks, protocol, device=device, about_agent=about, provenance=provenance()))


def load_agent(path: str | PathLike[str], device: Any, trusted: Collection[str]) -> Agent:
    """See `metarl.load_agent`."""
    _fast_once()
    if isinstance(trusted, str) or not isinstance(trusted, Collection):
        raise ConfigError(f"trust is {trusted!r}; give a list of names, such as ['my_agents:Config']")
    with generators_kept():
        return exported.load_agent(Path(path), check_device(str(device)), trusted)


def plot(results: Sequence[tuple[str, Result]], path: str | PathLike[str] | None) -> Any:
    """See `metarl.facade.Result.plot`."""
    from .figures.plots import Shown, adaptation_figure, save_png

    figure = adaptation_figure([Shown(label, result.evaluation, []) for label, result in results])
    if path is not None:
        if Path(path).suffix.lower() != ".png":
            raise ConfigError(f"{path} is to hold a PNG; let its name end in .png, or use the Figure's own savefig")
        with writing(path):
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
