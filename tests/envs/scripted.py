"""Agents written by hand, whose outcome is known before they play."""

from dataclasses import dataclass, field

import torch

from metarl.agent import ActOutput, WorldSpec


@dataclass
class Recorder:
    """Remembers every step it is shown; its memory counts steps; acts at random, or "0" when greedy."""

    spec: WorldSpec
    name: str = "recorder"
    parallel_episodes: bool = False
    train_phases: tuple[int, ...] = (2,)
    steps: list = field(default_factory=list)
    counts: list = field(default_factory=list)
    rollouts: list = field(default_factory=list)

    def phases(self, n_episodes):
        return (n_episodes,)

    def init(self, n_tasks):
        return {"count": torch.zeros(n_tasks, dtype=torch.int64)}

    def act(self, state, step, *, generator, greedy=False):
        self.steps.append(step)
        self.counts.append(state["count"])
        b = len(step.obs)
        action = torch.rand(b, self.spec.action_dim, generator=generator) * 2 - 1
        action = torch.zeros_like(action) if greedy else action
        return {"count": state["count"] + 1}, ActOutput(action, torch.zeros(b), {"value": step.obs[:, 0]})

    def adapt(self, state, rollout):
        self.rollouts.append(rollout)
        return state

    def state_dict(self):
        return {}


@dataclass
class Reacher:
    """Moves the hand of Meta-World's reach to `targets` [N, 3]: one row per task, in the order of the tasks.

    With `then_leave` it goes away again after it has arrived, so that success holds in mid-episode only.
    """

    spec: WorldSpec
    targets: torch.Tensor
    then_leave: bool = False
    name: str = "reacher"
    parallel_episodes: bool = False
    train_phases: tuple[int, ...] = (1,)

    def phases(self, n_episodes):
        return (n_episodes,)

    def init(self, n_tasks):
        return {"arrived": torch.zeros(n_tasks, dtype=torch.bool)}

    def act(self, state, step, *, generator, greedy=False):
        arrived = state["arrived"] & ~step.prev_done
        gap = self.targets - step.obs[:, :3]
        arrived = arrived | (gap.norm(dim=1) < 0.02)
        move = (10 * gap).clamp(-1, 1)
        if self.then_leave:
            move = torch.where(arrived[:, None], torch.tensor([0.0, 0.0, 1.0]), move)
        action = torch.cat([move, -torch.ones(len(move), 1)], dim=1)
        return {"arrived": arrived}, ActOutput(action, torch.zeros(len(move)), {})

    def adapt(self, state, rollout):
        return state
