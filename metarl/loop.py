"""Meta-training: the one outer loop that every agent and every task distribution goes through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor

from .agent import Agent
from .checks import check_ranges
from .deprecated import OldName, renamed_fields
from .distributed import group
from .episodes import pre_post
from .errors import ConfigError, NumericalError, WorldError
from .moved import moved
from .rollout import Trial
from .seeding import derive, generator
from .spread import spread
from .task_distribution import TaskDistribution
from .trial import envs_per_task, run_trial
from .world import World

__getattr__ = moved(__name__, __name__, {"Silent": "NullRecorder"})

_REMEDY = "the last good checkpoint is untouched, start a new run from it with smaller steps"


@renamed_fields(copies_per_task="envs_per_task")
@dataclass(frozen=True)
class LoopSettings:
    """How long to meta-train, on how many tasks at once, and how often to look and to save."""

    n_iterations: int = 100
    """Meta-updates in all, >= 1."""
    n_tasks: int = 20
    """Meta-batch: training tasks per update, >= 1."""
    envs_per_task: int | None = None
    """Envs that share one trial's episodes (None: as many as divide them evenly; 1 for agents with memory)."""
    validate_every_iters: int = 10
    """Iterations between two looks at validation tasks (0: never); the last iteration always looks."""
    n_validation_tasks: int = 20
    """Validation tasks per look, the same ones each time, >= 1."""
    validation_adapt_episodes: int = 1
    """Episodes of adaptation per validation task, >= 0."""
    validation_eval_episodes: int = 1
    """Episodes after adaptation per validation task, >= 1."""
    checkpoint_every_iters: int = 10
    """Iterations between two checkpoints, >= 1; one is also saved after each validation and at the end."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        least_0 = "validate_every_iters validation_adapt_episodes"
        least_1 = "n_iterations n_tasks n_validation_tasks validation_eval_episodes checkpoint_every_iters"
        check_ranges(self, "train.", {">= 0": least_0, ">= 1": least_1, ">= 1, or None": "envs_per_task"})


class Recorder(Protocol):
    """Where the loop leaves its results; a run directory is one, a list in a test is another."""

    @property
    def stop_requested(self) -> bool:
        """True once someone asked to stop; the loop then ends after the iteration it is in."""
        ...

    def log(self, record: dict[str, Any]) -> None:
        """Take the record of one iteration: flat, JSON numbers only."""
        ...

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        """Keep what resuming after `iteration` iterations needs; called after that iteration's `log`."""
        ...


class NullRecorder:
    """A recorder that keeps nothing: for scripts that only want the trained agent."""

    stop_requested = False

    def log(self, record: dict[str, Any]) -> None:
        """Forget the record."""

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        """Forget the state."""


@dataclass(frozen=True)
class Plan:
    """The two kinds of trial of a run, worked out before anything is built."""

    train_phases: tuple[int, ...]
    train_envs: int
    """Envs per training task."""
    validation_phases: tuple[int, ...]
    validation_envs: int
    """Envs per validation task."""
    train_copies = OldName("train_envs")
    validation_copies = OldName("validation_envs")

    @classmethod
    def of(cls, agent: Agent, settings: LoopSettings) -> Plan:
        """Fit `settings` to `agent`; raises ConfigError for envs or phases that do not go together."""
        wanted, phases = settings.envs_per_task, tuple(agent.train_phases)
        if wanted is not None and wanted > 1 and not agent.parallel_episodes:
            raise ConfigError(
                f"train.envs_per_task={wanted}, but agent {agent.name!r} carries memory from episode to episode and "
                f"needs exactly one env per task; leave it at None and raise train.n_tasks instead"
            )
        if wanted is not None and any(n % wanted for n in phases):
            raise ConfigError(
                f"train.envs_per_task={wanted} does not divide the phases {phases} (episodes) of agent "
                f"{agent.name!r}; choose a common divisor"
            )
        adapting = settings.validation_adapt_episodes
        later = (*(agent.phases(adapting) if adapting else ()), settings.validation_eval_episodes)
        return cls(
            train_phases=phases,
            train_envs=wanted or envs_per_task(agent, phases),
            validation_phases=later,
            validation_envs=envs_per_task(agent, later, limit=wanted or 1_000_000),
        )


@dataclass(frozen=True)
class Worlds:
    """The worlds of a run: one for training trials, one for validation (the same one if the sizes agree)."""

    train: World
    validation: World | None

    @classmethod
    def build(
        cls, agent: Agent, tasks: TaskDistribution, settings: LoopSettings, device: torch.device | str = "cpu"
    ) -> Worlds:
        """Build both, spread over the run's processes; raises ConfigError if agent, settings and worlds do not fit."""
        plan = Plan.of(agent, settings)
        n_train, n_validation = (
            settings.n_tasks * plan.train_envs,
            settings.n_validation_tasks * plan.validation_envs,
        )

        def make(n: int) -> World:
            return spread(lambda share: tasks.make_world(share, device=device), n)

        train = make(n_train)
        if not settings.validate_every_iters:
            return cls(train, None)
        return cls(train, train if n_validation == n_train else make(n_validation))

    def close(self) -> None:
        """End both worlds' processes, if they have any."""
        self.train.close()
        if self.validation is not None and self.validation is not self.train:
            self.validation.close()


def meta_train(
    agent: Agent,
    tasks: TaskDistribution,
    settings: LoopSettings,
    recorder: Recorder,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    start_iteration: int = 0,
    env_steps: int = 0,
    worlds: Worlds | None = None,
) -> dict[str, Any]:
    """Meta-train `agent` on the "train" split; return `{"iteration", "env_steps", "finished"}`.

    All randomness is keyed by (seed, stream, iteration): a run that goes on from `start_iteration` completed iterations
    with that agent's `state_dict` draws the very numbers of a run that never stopped. Iterations are counted from 1 in
    records and checkpoints. `env_steps` counts every training step, those spent on adaptation included, and no
    validation step. Validation uses streams and tasks of its own, never training or test ones. `worlds` are built here
    unless they are passed in, and closed here in either case.

    Raises: NumericalError naming iteration and tensor (and task, for a rollout) of a number that is not finite, before
    that iteration is logged or saved; WorldError naming the iteration; ConfigError if the parts do not fit.
    """
    worlds = worlds or Worlds.build(agent, tasks, settings, device)
    iteration, began = start_iteration, perf_counter()
    try:
        plan = Plan.of(agent, settings)
        stop = group().any(recorder.stop_requested)
        while iteration < settings.n_iterations and not stop:
            record, steps = _iterate(agent, tasks, settings, plan, worlds.train, seed, iteration)
            iteration, env_steps = iteration + 1, env_steps + steps
            due = settings.validate_every_iters
            validated = bool(due) and (iteration % due == 0 or iteration == settings.n_iterations)
            if validated and worlds.validation is not None:
                record |= validate(agent, tasks, settings, worlds.validation, seed=seed, plan=plan)
            head = {"iteration": iteration, "env_steps": env_steps, "wall_s": perf_counter() - began}
            recorder.log(head | record)
            # Read once: a signal that comes later waits for the next iteration's end.
            stop = group().any(recorder.stop_requested)
            last = stop or iteration == settings.n_iterations
            if last or validated or iteration % settings.checkpoint_every_iters == 0:
                recorder.save(iteration, {"iteration": iteration, "env_steps": env_steps, "agent": agent.state_dict()})
    finally:
        worlds.close()
    return {"iteration": iteration, "env_steps": env_steps, "finished": iteration >= settings.n_iterations}


def _iterate(
    agent: Agent, tasks: TaskDistribution, settings: LoopSettings, plan: Plan, world: World, seed: int, i: int
) -> tuple[dict[str, Any], int]:
    """Collect one meta-batch and learn from it; return the record and the env steps it took."""
    began = perf_counter()
    batch = tasks.sample("train", settings.n_tasks, generator(seed, "tasks", i)).to(world.device)
    try:
        trial = run_trial(world, agent, batch, plan.train_phases, seed=derive(seed, "trial", i), training=True)
    except WorldError as error:
        raise WorldError(f"iteration {i + 1}: {error}") from error
    check_log_probs(trial, i + 1)
    collected = perf_counter()
    metrics = agent.update(trial, generator=generator(seed, "update", i, device=world.device))
    check_metrics(metrics, i + 1)
    state = agent.state_dict()
    check_state(state, i + 1)
    if group().size > 1:
        group().check_same([(path, tensor) for path, tensor in _tensors(state, "")], i + 1)
    updated = perf_counter()
    steps = trial.n_steps
    record = {
        "steps_per_s": steps / (updated - began),
        "time/collect_s": collected - began,
        "time/update_s": updated - collected,
    }
    record |= {f"train/{k}": v for k, v in pre_post(trial, agent).items()}
    return record | {f"update/{k}": float(v) for k, v in metrics.items()}, steps


def validate(
    agent: Agent, tasks: TaskDistribution, settings: LoopSettings, world: World, *, seed: int, plan: Plan | None = None
) -> dict[str, float]:
    """Return the scores before and after adaptation on validation tasks, the same tasks and noise at each call.

    `plan` is that of `agent` and `settings`, if it has been made already.
    """
    chosen = tasks.sample("validation", settings.n_validation_tasks, generator(seed, "validation-tasks"))
    phases = (plan or Plan.of(agent, settings)).validation_phases
    trial = run_trial(world, agent, chosen.to(world.device), phases, seed=derive(seed, "validation-trial"))
    return {f"validation/{k}": v for k, v in pre_post(trial, agent).items()}


def check_log_probs(trial: Trial, iteration: int) -> None:
    """Raise NumericalError if the policy assigned a probability that is not a number; names the task."""
    for phase, rollout in enumerate(trial.rollouts):
        bad = (~rollout.log_prob.isfinite() & rollout.valid).nonzero()
        if len(bad):
            t, b = bad[0].tolist()
            raise NumericalError(
                f"iteration {iteration}: log_prob is {float(rollout.log_prob[t, b])} for task "
                f"{trial.tasks.names[b // rollout.envs_per_task]!r}, phase {phase}, step {t}; {_REMEDY}"
            )


def check_metrics(metrics: Mapping[str, float], iteration: int) -> None:
    """Raise NumericalError naming a metric of `update` that is not finite."""
    bad = {k: float(v) for k, v in metrics.items() if not abs(float(v)) < float("inf")}
    if bad:
        raise NumericalError(
            f"iteration {iteration}: update metric {', '.join(f'{k}={v}' for k, v in bad.items())} is not finite; "
            f"{_REMEDY}"
        )


def check_state(state: Any, iteration: int) -> None:
    """Raise NumericalError naming a float tensor of an agent's state dict that holds NaN or Inf."""
    path = not_finite(state)
    if path:
        raise NumericalError(
            f"iteration {iteration}: tensor {path!r} of the agent is not finite after the update; {_REMEDY}"
        )


def not_finite(state: Any) -> str:
    """Return the path of the first float tensor in nested dicts and lists that holds NaN or Inf, "" if none does."""
    named = [(path, t) for path, t in _tensors(state, "") if t.is_floating_point() and t.numel()]
    if not named or bool(torch.stack([t.isfinite().all().to(named[0][1].device) for _, t in named]).all()):
        return ""  # one wait for the device, however many tensors
    return next(path for path, t in named if not bool(t.isfinite().all()))


def _tensors(state: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of nested dicts, lists and tuples with its path."""
    if isinstance(state, Tensor):
        yield path, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(value, f"{path}/{key}" if path else str(key))
    elif isinstance(state, list | tuple):
        for index, value in enumerate(state):
            yield from _tensors(value, f"{path}/{index}")
