"""Scripted agents that write down everything they are shown. They learn nothing, so what they do is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metarl.agent import ActOutput, State, TimeStep, WorldSpec
from metarl.rollout import Rollout, Trial


class Recorder:
    """Counts its own steps in its state and hands what it saw back as aux; a subclass says how to act."""

    name = "recorder"
    train_phases: tuple[int, ...] = (1, 1)

    def __init__(self, spec: WorldSpec, *, parallel: bool) -> None:
        self.spec, self.parallel_episodes = spec, parallel
        self.calls: list[Any] = []

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        return (n_episodes,)

    def init(self, n_tasks: int) -> State:
        self.calls.append(("init", n_tasks))
        return {"steps": torch.zeros(n_tasks), "adaptations": torch.zeros(n_tasks)}

    def choose(self, state: State, step: TimeStep, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        if not self.calls or self.calls[-1] != ("act", greedy):
            self.calls.append(("act", greedy))
        action, copies = self.choose(state, step, generator), len(step.obs) // len(state["steps"])
        aux = {
            "steps": state["steps"].repeat_interleave(copies),
            "adaptations": state["adaptations"].repeat_interleave(copies),
            "prev_action": step.prev_action,
            "prev_reward": step.prev_reward,
            "prev_done": step.prev_done,
        }
        if not self.parallel_episodes:
            state = state | {"steps": state["steps"] + 1}
        return state, ActOutput(action, torch.zeros(len(action)), aux)

    def adapt(self, state: State, rollout: Rollout) -> State:
        self.calls.append(("adapt", rollout))
        return state | {"adaptations": state["adaptations"] + 1}

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Walker(Recorder):
    """Knows each task's goal (float32 [N, 2]) and walks there, `speed` per axis and step."""

    def __init__(self, spec: WorldSpec, goal: Tensor, *, parallel: bool, speed: float = 0.1) -> None:
        super().__init__(spec, parallel=parallel)
        self.goal, self.speed = goal, speed

    def choose(self, state: State, step: TimeStep, generator: torch.Generator) -> Tensor:
        goal = self.goal.repeat_interleave(len(step.obs) // len(self.goal), 0)
        return (goal - step.obs).clamp(-self.speed, self.speed)


class Uniform(Recorder):
    """Draws Discrete actions uniformly from the generator it is given."""

    def choose(self, state: State, step: TimeStep, generator: torch.Generator) -> Tensor:
        return torch.randint(self.spec.action_dim, (len(step.obs),), generator=generator)
