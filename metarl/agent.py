"""The Agent contract: four verbs that carry gradient-based, recurrent and inference-based meta-RL alike."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .deprecated import deprecated
from .moved import moved
from .registry import load_target
from .rollout import Rollout, TimeStep, Trial
from .spec import WorldSpec
from .state import State

__all__ = [
    "ActOutput",
    "Agent",
    "Savable",
    "SavableAgent",
    "State",
    "TimeStep",
    "WorldSpec",
    "adapts_within_episode",
    "learning_state",
    "needs_privileged_info",
]

__getattr__ = moved(__name__, __name__, {"Decision": "ActOutput", "Step": "TimeStep"})


class ActOutput(NamedTuple):
    """What an agent answers to a `TimeStep`."""

    action: Tensor
    """In the world's own action space: float32 [B, a], int64 [B] or int64 [B, k]."""
    log_prob: Tensor
    """float32 [B], of the action under the policy that chose it; 0 when greedy."""
    aux: dict[str, Tensor]
    """Anything `update` wants back, [B, ...] per key, the same keys at each step (e.g. "value")."""


class Agent(Protocol):
    """An adaptation algorithm. It holds parameters and an optimiser; never a world, a logger, a path or a generator."""

    name: str
    spec: WorldSpec
    parallel_episodes: bool
    """True if the episodes between two adaptations are independent given the state: `act` returns the state unchanged
    and a trial may run on several envs at once. False for agents with memory: one env per trial.

    Three more attributes may be left out; the functions of these names in this file say what holds then.

    An agent with memory is taken to learn about the task while an episode goes on. One whose memory does not, because
    only `adapt` learns, says `adapts_within_episode = False`: its first episode is then one before any adaptation.

    An agent may also have `needs_privileged_info = True`: its training rollouts then say what was hidden, see
    `World.privileged_info`; and `learning_state`, the entries ("name" or "outer/inner") of its `state_dict` that a run
    started from another one does not take over: optimiser moments, counters of schedules, stored experience
    (`metarl.warm_start`)."""
    train_phases: tuple[int, ...]
    """Episodes per phase of a training trial; `adapt` runs between phases. The last phase is the query."""

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        """Split `n_episodes` of adaptation into phases of at least 1 episode, each followed by `adapt`; () for 0.

        Raises: ConfigError for a number that cannot be split.
        """
        ...

    def init(self, n_tasks: int) -> State:
        """Return the state before anything is known of `n_tasks` tasks."""
        ...

    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Choose actions for B = N * M rows (M envs per task, neighbours); greedy takes the mode."""
        ...

    def adapt(self, state: State, rollout: Rollout) -> State:
        """Return the state after learning from one phase; a new state, `state` itself is left alone."""
        ...

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        """Improve the meta-parameters from one batch of training trials; return metrics."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return parameters, optimiser state, counters: tensors and plain values in nested dicts and lists."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit."""
        ...


class SavableAgent(Agent, Protocol):
    """An agent that goes into a file of its own, as all built-in ones do."""

    def save(self, path: str | PathLike[str]) -> None:
        """See `Savable.save`."""
        ...


class Savable:
    """Gives an agent with a `config` and a `spec` the method `save`."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write the agent to one file, in one step: config, spec and the whole of `state_dict`, weights only.

        `metarl.load_agent(path)` builds an equal one. Raises: ConfigError if something that is no file lies there.
        """
        load_target("metarl.experiments.runs.exported:save_agent", "function", ours=True)(self, Path(path))


def adapts_within_episode(agent: Agent) -> bool:
    """Return whether the agent adapts while an episode goes on, so that its very first score has adaptation in it."""
    return bool(getattr(agent, "adapts_within_episode", not agent.parallel_episodes))


def needs_privileged_info(agent: Agent) -> bool:
    """Return whether training rollouts for the agent say what was hidden, see `World.privileged_info`."""
    if getattr(agent, "needs_hidden", False):
        deprecated(f"agent {agent.name!r} has needs_hidden; that is now needs_privileged_info")
        return True
    return bool(getattr(agent, "needs_privileged_info", False))


def learning_state(agent: Agent) -> frozenset[str]:
    """Return what a run started from another one does not take over from the agent's `state_dict`."""
    return frozenset(getattr(agent, "learning_state", ()))
