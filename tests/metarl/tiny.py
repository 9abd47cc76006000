"""A small real agent: REINFORCE with a per-task learnt shift of the logits. It learns, adapts and has an optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agent import ActOutput, State, TimeStep, WorldSpec
from metarl.errors import ConfigError
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator as stream


@dataclass(frozen=True)
class TinyConfig:
    """Settings of the tiny agent."""

    algorithm: ClassVar[str] = "tiny"

    lr: float = 0.05
    """Adam's step size, > 0."""
    episodes: int = 2
    """Episodes per phase, >= 1."""
    hidden: tuple[int, ...] = (8,)
    """Units per hidden layer."""
    nan_at_update: int | None = None
    """Update (from 1) whose result is spoilt by a NaN, for tests of the guard; None: never."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ConfigError(f"tiny: lr must be > 0, got {self.lr}; take e.g. 0.05")

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> Tiny:
        return Tiny(self, spec, seed, device)


class Tiny:
    """A policy over Discrete actions, two phases per trial."""

    name = "tiny"
    parallel_episodes = True

    def __init__(self, config: TinyConfig, spec: WorldSpec, seed: int, device: torch.device | str) -> None:
        if not isinstance(spec.action_space, spaces.Discrete):
            raise ConfigError(f"agent 'tiny' needs Discrete actions, got {spec.action_space}; use another agent")
        self.config, self.spec, self.n_updates = config, spec, 0
        self.train_phases: tuple[int, ...] = (config.episodes, config.episodes)
        noise = stream(seed, "init")
        sizes = (spec.obs_dim, *config.hidden, spec.action_dim)
        self.weights = [
            torch.nn.Parameter((torch.randn(a, b, generator=noise) / a**0.5).to(device)) for a, b in pairwise(sizes)
        ]
        self.optimiser = torch.optim.Adam(self.weights, lr=config.lr)

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        return (n_episodes,)

    def init(self, n_tasks: int) -> State:
        return {"shift": torch.zeros(n_tasks, self.spec.action_dim, device=self.weights[0].device)}

    def logits(self, obs: Tensor) -> Tensor:
        for weight in self.weights[:-1]:
            obs = torch.tanh(obs @ weight)
        return obs @ self.weights[-1]

    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        shift = state["shift"].repeat_interleave(len(step.obs) // len(state["shift"]), 0)
        log_p = torch.log_softmax(self.logits(step.obs) + shift, -1)
        action = log_p.argmax(-1) if greedy else torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]
        return state, ActOutput(action, log_p.gather(1, action[:, None])[:, 0], {})

    def adapt(self, state: State, rollout: Rollout) -> State:
        centred = (rollout.reward - rollout.reward.mean()) * rollout.valid
        one_hot = torch.nn.functional.one_hot(rollout.action, self.spec.action_dim) * centred[..., None]
        per_task = one_hot.sum(0).reshape(rollout.n_tasks, -1, self.spec.action_dim).sum(1)
        return {"shift": state["shift"] + 0.1 * per_task / rollout.obs.shape[0]}

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        rollout = trial.supports[0]
        keep = torch.rand(rollout.reward.shape, generator=generator, device=rollout.reward.device) < 0.8
        advantage = rollout.reward - rollout.reward.mean()
        log_p = torch.log_softmax(self.logits(rollout.obs), -1).gather(2, rollout.action[..., None])[..., 0]
        loss = -(log_p * advantage * keep * rollout.valid).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.n_updates += 1
        if self.n_updates == self.config.nan_at_update:
            with torch.no_grad():
                self.weights[-1][0, 0] = float("nan")
        return {"loss": float(loss.detach())}

    def state_dict(self) -> dict[str, Any]:
        return {
            "weights": [w.detach() for w in self.weights],
            "optimiser": self.optimiser.state_dict(),
            "n_updates": self.n_updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for weight, stored in zip(self.weights, state["weights"], strict=True):
                weight.copy_(stored)
        self.optimiser.load_state_dict(state["optimiser"])
        self.n_updates = state["n_updates"]
