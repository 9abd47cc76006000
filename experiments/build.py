"""From a config to its parts: torch as configured, tasks, agent; and back from a run directory."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from metarl import envs, run
from metarl.agent import Agent
from metarl.checkpoint import CheckpointStore
from metarl.collect import first_step
from metarl.commandline import path_word
from metarl.conformance import try_out
from metarl.distributed import claim_device
from metarl.errors import CheckpointError, ConfigError, MetarlError, shortened
from metarl.loop import not_finite
from metarl.reading import check_kind
from metarl.seeding import generator
from metarl.size import bounded
from metarl.task_distribution import TaskDistribution, spec_of
from metarl.tasks import check_split
from metarl.torch_settings import fast_defaults
from metarl.world import World

from . import codec
from .cli.trust import check, named
from .config import AnyConfig, ExperimentConfig, check_device


def configure_torch(config: AnyConfig) -> torch.device:
    """Set this process up as the config wants it and return the device; raises ConfigError if it is not there."""
    device = claim_device(check_device(config.device))
    fast_defaults(config.threads, device)
    return device


def tried_tasks(name: str, options: Mapping[str, Any], device: torch.device) -> TaskDistribution:
    """Build the task distribution `name` and try its world out.

    Meta-World is spared: building four of its environments takes seconds, and the test suite examines them all.

    Raises: ConfigError for an unknown name or option, and with `doctor`'s own words for a world that does not keep the
    contract.
    """
    if name.startswith("metaworld/"):
        return envs.make(name, **options)
    return try_out(envs.source(name, **options), device=device, name=name, options=options)


def build_tasks(config: AnyConfig, device: torch.device | None = None) -> TaskDistribution:
    """Build the task distribution and, with a device, try its world out there; see `tried_tasks`.

    Raises: ConfigError also for an unknown evaluation split.
    """
    name, options = config.world.name, config.world.options
    tasks = envs.make(name, **options) if device is None else tried_tasks(name, options, device)
    check_split(tasks.name, config.evaluation.split, tasks.splits)
    return tasks


def build_agent(config: AnyConfig, tasks: TaskDistribution, device: torch.device) -> Agent:
    """Build the agent for the worlds of `tasks`; raises ConfigError if it cannot see, act or adapt there."""
    agent = agent_for(config.agent, tasks, config.seed, device)
    if config.evaluation.adapt_episodes:
        agent.phases(config.evaluation.adapt_episodes)
    return agent


def agent_for(config: Any, tasks: TaskDistribution, seed: int, device: torch.device) -> Agent:
    """Build an agent config's agent for the worlds of `tasks`; raises ConfigError if it cannot see or act there."""
    with bounded("this agent"):
        agent: Agent = config.build(spec_of(tasks), seed=seed, device=device)
    return agent


def try_together(agent: Agent, tasks: TaskDistribution, world: World, n_tasks: int) -> None:
    """Take one step with all three together, so that a pair that does not fit fails before anything is written.

    It leaves no trace in a later trial, which starts with fresh tasks and seeds. Raises: MetarlError saying what does
    not fit.
    """
    batch = tasks.sample("train", n_tasks, generator(0, "try-out"))
    world.set_tasks(batch.repeat(world.num_envs // n_tasks).to(world.device))
    obs, info = world.reset(seed=0)
    step = first_step(world, obs, info.get("action_mask"))
    with torch.no_grad():
        _, decision = agent.act(agent.init(n_tasks), step, generator=generator(0, "try-out", device=world.device))
    world.step(decision.action)


@dataclass(frozen=True)
class LoadedRun:
    """A run directory's agent, as far as it was trained."""

    config: AnyConfig
    """The run's config; `device` is where the agent is now."""
    agent: Agent
    tasks: TaskDistribution
    iteration: int
    """Completed training iterations of the loaded checkpoint."""
    env_steps: int
    """Environment steps of training up to there."""


def stored_config(run_dir: Path) -> dict[str, Any]:
    """Return what config.json of a run directory holds, by today's names of settings.

    Raises: CheckpointError if it is damaged, as far as its outline tells; nothing else of it is examined.
    """
    stored = run.read_json(run_dir, run.CONFIG)
    where, sections = run_dir / run.CONFIG, ("world", "agent", "train", "evaluation", "log")
    for field in fields(ExperimentConfig):
        if field.name not in stored:
            raise CheckpointError(f"{where} is damaged (it lacks {field.name!r}); restore it from a copy")
        check_kind(where, stored, field.name, dict if field.name in sections else object)
    check_kind(f"{where}, evaluation,", {"split": None, **stored["evaluation"]}, "split", str)
    return codec.upgraded(stored)


def read_config(run_dir: Path, trust: Collection[str] = ()) -> AnyConfig:
    """Return the config of a run directory, which may name code that is built in, installed or in `trust`.

    Raises: CheckpointError if it is missing, damaged, of another schema version, or names code that the checkpoints
    were not trained with; ConfigError for a wrong entry.
    """
    stored = stored_config(run_dir)
    codec.check_version(stored)
    try:
        check(stored, trust)
        if named(stored):
            run.check_config(run_dir)
        return codec.from_json(stored, trust)
    except ConfigError as error:
        raise ConfigError(f"{run_dir}: {error}") from error


def restore(agent: Agent, state: Any, run_dir: Path) -> None:
    """Give `agent` the state of a checkpoint; raises CheckpointError if it is none of this agent, or not finite.

    Training saves none that is not: such a policy still acts, and an evaluation would be of nobody.
    """
    if path := not_finite(state):
        raise CheckpointError(f"the checkpoint in {run_dir} holds NaN or Inf in {path!r}; use an earlier checkpoint")
    try:
        agent.load_state_dict(state)
    except MetarlError:
        raise
    except Exception as error:  # each agent meets the wrong keys, shapes and types in its own way
        raise CheckpointError(
            f"the checkpoint in {run_dir} is none of this {agent.name!r} agent ({type(error).__name__}: "
            f"{shortened(error)}); restore config.json and checkpoints/ from one copy"
        ) from error


def check_fingerprint(run_dir: Path, tasks: TaskDistribution) -> dict[str, Any]:
    """Return run.json; raises CheckpointError if the tasks are no longer those the run was started on."""
    facts = run.read_json(run_dir, run.FACTS)
    before, now = facts.get("task_fingerprint"), tasks.fingerprint()
    if before != now:
        raise CheckpointError(
            f"{run_dir} was trained on tasks with fingerprint {before}, but {tasks.name!r} now gives {now}: the tasks "
            f"changed (another version of the world or of its data); use the version named in run.json"
        )
    return facts


def run_device(config: AnyConfig, wanted: str | None = None) -> str:
    """Return where to play a run: `wanted`, or else where it was trained; a GPU that is not here becomes the CPU.

    The change is told in one line on stderr. Raises: ConfigError if `wanted` is not there.
    """
    if wanted is not None:
        check_device(wanted)
        return wanted
    try:
        check_device(config.device)
    except ConfigError:
        if not config.device.startswith("cuda"):
            raise
        print(f"note: this run was trained on {config.device}, which is not here; using cpu", file=sys.stderr)
        return "cpu"
    return config.device


def open_run(
    run_dir: Path, checkpoint: str | int = "last", *, device: str | None = None, trust: Collection[str] = ()
) -> LoadedRun:
    """Set up torch as the run wants it, then load the run: on `device`, or where `run_device` says."""
    config = read_config(run_dir, trust)
    where = run_device(config, device)
    configure_torch(replace(config, device=where))
    return load_run(run_dir, checkpoint, device=where, trust=trust)


def load_run(
    run_dir: Path, checkpoint: str | int = "last", *, device: str | None = None, trust: Collection[str] = ()
) -> LoadedRun:
    """Rebuild the agent of a run directory from its newest good checkpoint, the "best" one, or a given iteration.

    The best one is the one with the highest validation return. `device` overrides the config's. The run directory is
    only read, so this also works while the run is training. `trust` names code of your own that its config may call.

    Raises: CheckpointError if there is no such checkpoint, it is damaged, or the tasks changed since.
    """
    config = read_config(run_dir, trust)
    config = replace(config, device=run_device(config, device))
    tasks = build_tasks(config, torch.device(config.device))
    check_fingerprint(run_dir, tasks)
    point = find_point(run_dir, checkpoint)
    agent = build_agent(config, tasks, torch.device(config.device))
    restore(agent, point.agent_state, run_dir)
    return LoadedRun(config, agent, tasks, point.iteration, point.env_steps)


def find_point(run_dir: Path, checkpoint: str | int) -> run.ResumePoint:
    """Return the checkpoint that "last", "best" or an iteration stands for; raises MetarlError if there is none."""
    text = str(checkpoint)
    if text == "last":
        point = run.newest_point(run_dir)
        if point.agent_state is None:
            raise CheckpointError(
                f"{run_dir} has no checkpoint yet; train it with --run-dir {path_word(run_dir)} --resume"
            )
        return point
    if text == "best":
        best = CheckpointStore(run_dir / run.CHECKPOINTS).best()
        if best is None:
            raise CheckpointError(f"{run_dir} has validated nothing yet, so no checkpoint is best; use last")
        return run.point_at(run_dir, best)
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise ConfigError(f"checkpoint {text!r} is none of last, best or an iteration number")
    return run.point_at(run_dir, int(text))
