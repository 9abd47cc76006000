"""Rollouts as values: what an agent saw and what happened, step by step, in each phase of N trials."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .deprecated import OldName
from .moved import moved
from .tasks import Tasks

__getattr__ = moved(__name__, "metarl.collect", ("collect", "first_step"))


@dataclass(frozen=True)
class TimeStep:
    """What an agent sees before it acts: B rows.

    At the first step of a trial the previous action and reward are zero and `prev_done` is False. At the first step of
    a later episode they are those of the step that *ended* the previous one, with `prev_done` True (Duan et al. 2016,
    arXiv:1611.02779, section 2.2).
    """

    obs: Tensor
    """float32 [B, obs_dim], flat."""
    prev_action: Tensor
    """float32 [B, action_dim], flat (one-hot for discrete spaces)."""
    prev_reward: Tensor
    """float32 [B]; 0 in a world that does not show it (`World.reward_observable`)."""
    prev_done: Tensor
    """bool [B]: the previous step ended an episode."""
    action_mask: Tensor | None = None
    """bool [B, n]: legal actions, for Discrete spaces that need it."""


@dataclass(frozen=True)
class Rollout:
    """T steps of B = N * M envs: N tasks, M neighbouring envs each. All tensors are [T, B, ...] on one device.

    A row is meaningful only where `valid`: an env that has finished its episodes before the others idles.
    """

    obs: Tensor
    """float32 [T, B, obs_dim], flat."""
    action: Tensor
    """In the world's action space: [T, B], or [T, B, a]."""
    log_prob: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    next_obs: Tensor
    """float32 [T, B, obs_dim]: the observation reached, before any reset (for bootstrapping)."""
    episode: Tensor
    """int64 [T, B]: which episode of its env a step belongs to, from 0."""
    valid: Tensor
    """bool [T, B]."""
    success: Tensor | None
    """bool [T, B], or None if the world has no such notion."""
    action_mask: Tensor | None
    aux: dict[str, Tensor]
    start: TimeStep
    """The step before the first action: carries previous action, reward and done into the phase."""
    n_tasks: int
    n_episodes: int
    """Episodes per task (over all its envs)."""
    dense_reward: Tensor | None = None
    """float32 [T, B], or None if the world has none: for training only, never part of a return."""
    cost: Tensor | None = None
    """float32 [T, B], or None if the world has none: what a step cost in safety, counted beside the return."""
    reward_observable: bool = True
    """False if the agent was not told the rewards while it acted, see `World.reward_observable`."""
    privileged_info: Tensor | None = None
    """float32 [T, B, n_privileged]: what was hidden before each step, for agents that need it in training."""

    @property
    def envs_per_task(self) -> int:
        """Envs per task, M."""
        return self.obs.shape[1] // self.n_tasks

    n_copies = OldName("envs_per_task")
    shows_reward = OldName("reward_observable")
    hidden = OldName("privileged_info")

    @property
    def shown_reward(self) -> Tensor:
        """float32 [T, B]: the reward where the agent was told it, else 0; what a memory or a belief may take in."""
        return self.reward if self.reward_observable else torch.zeros_like(self.reward)

    @property
    def last(self) -> Tensor:
        """bool [T, B]: the step ended an episode, for whatever reason."""
        return self.terminated | self.truncated

    @property
    def n_steps(self) -> int:
        """Environment steps that count, over all envs."""
        return int(self.valid.sum())


@dataclass(frozen=True)
class Trial:
    """All phases of N trials on `tasks`. The last phase is the query, those before it are the support."""

    tasks: Tasks
    rollouts: tuple[Rollout, ...]

    @property
    def supports(self) -> tuple[Rollout, ...]:
        """Phases that were followed by `adapt`."""
        return self.rollouts[:-1]

    @property
    def query(self) -> Rollout:
        """The last phase."""
        return self.rollouts[-1]

    @property
    def n_steps(self) -> int:
        """Environment steps over all phases and envs."""
        return sum(r.n_steps for r in self.rollouts)
