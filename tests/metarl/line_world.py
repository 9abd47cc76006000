"""A small real family with known outcomes: reach cell g of a line, g = 1 ... n, and scripted agents that walk right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agent import ActOutput, State, TimeStep, WorldSpec
from metarl.envs.tensor_world import TensorWorld
from metarl.rollout import Rollout, Trial
from metarl.seeding import EnvStreams
from metarl.task_distribution import spec_of
from metarl.tasks import Tasks, check_split

HORIZON = 12


class LineWorld(TensorWorld):
    """Start at 0, step right (1) or stay (0). Success while on the goal; reward -1 per step elsewhere."""

    def __init__(self, num_envs: int, *, ends: bool, device: torch.device | str = "cpu") -> None:
        line = spaces.Box(0.0, float(HORIZON), (1,), np.float32)
        spec = WorldSpec(line, spaces.Discrete(2), HORIZON, name="line", fixed_horizon=not ends, has_success=True)
        super().__init__(spec, num_envs, device)
        self.ends = ends

    def initial(self, streams: EnvStreams, episode: Tensor) -> dict[str, Tensor]:
        return {"x": torch.zeros(self.num_envs, device=self.device)}

    def transition(
        self, state: dict[str, Tensor], actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor | None, Tensor | None]:
        x = state["x"] + actions
        success = x == self.params["goal"]
        return {"x": x}, success.float() - 1.0, success if self.ends else None, success

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        return state["x"][:, None]


class Line:
    """Goals 1 ... n; with `ends`, reaching one ends the episode. Splits hold the same goals under their own names."""

    name = "line"
    exhaustive = True
    splits = ("train", "validation", "test")

    def __init__(self, n: int = 8, *, ends: bool = True, n_classes: int = 1) -> None:
        self.n, self.ends, self.n_classes = n, ends, n_classes
        self.asked: list[str] = []
        self.worlds: list[LineWorld] = []

    def all(self, split: str) -> Tasks | None:
        self.asked.append(split)
        names = tuple(f"{split}/{g}" for g in range(1, self.n + 1))
        groups = tuple(f"class-{g % self.n_classes}" for g in range(1, self.n + 1))
        return Tasks({"goal": torch.arange(1.0, self.n + 1)}, names, groups)

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        check_split(self.name, split, self.splits)
        tasks = self.all(split)
        assert tasks is not None
        return tasks[torch.randint(self.n, (n,), generator=generator)]

    def fingerprint(self) -> str:
        tasks = self.all("train")
        assert tasks is not None
        return tasks.fingerprint()

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> LineWorld:
        self.worlds.append(LineWorld(num_envs, ends=self.ends, device=device))
        return self.worlds[-1]

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        return {"oracle": [-(self.n - 1) / 2] * n_episodes}  # a goal at g costs g - 1


class Endless(Line):
    """The same family with splits that cannot be listed."""

    exhaustive = False

    def all(self, split: str) -> Tasks | None:
        return None

    def fingerprint(self) -> str:
        return f"endless-{self.n}"

    def sample(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        self.asked.append(split)
        return Tasks.of("line", goal=torch.randint(1, self.n + 1, (n,), generator=generator).float())


class Walker:
    """Walks right until cell `reach`, then stays: solves goals 1 ... reach, always, and nothing else."""

    name = "walker"
    train_phases = (1, 1)

    def __init__(self, spec: WorldSpec, reach: int, *, memory: bool = False) -> None:
        self.spec, self.reach, self.parallel_episodes = spec, reach, not memory
        self.weight = torch.arange(3.0)

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        return (n_episodes,)

    def init(self, n_tasks: int) -> State:
        return {}

    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        action = (step.obs[:, 0] < self.reach).long()
        return state, ActOutput(action, torch.zeros(len(action)), {})

    def adapt(self, state: State, rollout: Rollout) -> State:
        return state

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "count": 3}

    def load_state_dict(self, state: Any) -> None:
        self.weight = state["weight"]


class Learner(Walker):
    """Walks one cell further with each `adapt` (parallel) or each finished episode (memory), from `reach` on."""

    name = "learner"

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        halves = (n_episodes // 2, n_episodes - n_episodes // 2)
        return tuple(n for n in halves if n) if self.parallel_episodes else (n_episodes,)

    def init(self, n_tasks: int) -> State:
        return {"reach": torch.full((n_tasks,), float(self.reach))}

    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        reach = state["reach"]
        if not self.parallel_episodes:
            reach = reach + step.prev_done.float()
            state = {"reach": reach}
        rows = reach.repeat_interleave(len(step.obs) // len(reach))
        action = (step.obs[:, 0] < rows).long()
        return state, ActOutput(action, torch.zeros(len(action)), {})

    def adapt(self, state: State, rollout: Rollout) -> State:
        return state if not self.parallel_episodes else {"reach": state["reach"] + 1}


class Flipper(Walker):
    """Walks right or stays by the toss of a coin: the one that needs the noise streams."""

    name = "flipper"

    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        action = torch.randint(2, (len(step.obs),), generator=generator)
        return state, ActOutput(torch.ones_like(action) if greedy else action, torch.zeros(len(action)), {})


@dataclass(frozen=True)
class LearnerConfig:
    """Builds a Learner; the seed changes nothing."""

    algorithm: ClassVar[str] = "line-learner"
    reach: int = 1
    memory: bool = True

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> Learner:
        return Learner(spec, self.reach, memory=self.memory)


def spec(tasks: Line) -> WorldSpec:
    return spec_of(tasks)
