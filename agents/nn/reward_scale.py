"""Rewards of task classes with very different units: for the memory that sees them, for the loss that sums them.

Meta-World's v1 rewards reach about 1200, its v2 rewards 10, and a class that is not solved yet pays a small part of
either. The two uses of a reward need two answers, because the class of a task is known in training only.

**What a memory sees** must mean the same for a class that training never met. A scale per class, learnt in training,
does not exist there; one scale over all classes is set by the loudest, so that the rewards of a quiet class, held out
or not, vanish (scaled by 1/1000) or, the other way round, saturate. `TrialScale` therefore measures within the trial: a
reward is divided by the root mean square of the trial's rewards up to and including itself. That is causal, is the same
computation in training and at test, has nothing to learn, store or leak, and lives in the trial's state beside the
memory. Multiplying all of a task's rewards by any factor changes no input at all. What it gives up: the absolute size
of rewards, which across classes was no information to begin with; and a reward that comes after long silence arrives
as the square root of that silence's length, which the clip bounds.

**What the loss sums** is needed in training only, where the class is known, and must not change what is best in any
task. `ClassScale` divides by the running root mean square of the class. A positive factor per class keeps every task's
order of policies and only sets how much each class weighs in the common objective. Hence no centring (a constant per
step would reward ending an episode early or late) and no clip (it would make two outcomes equal). Reported returns are
never scaled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from metarl.agent import State, WorldSpec
from metarl.errors import CheckpointError, ConfigError
from metarl.rollout import Rollout

RewardInput = Literal["running", "trial"]
RewardObjective = Literal["raw", "class"]

_TINY = 1e-30
"""Stands in for a root mean square of 0: then the reward is 0 too."""


def check_dense_reward(wanted: bool, spec: WorldSpec, agent: str) -> None:
    """Raise ConfigError if an agent is to be trained on a dense reward that the world does not give."""
    if wanted and not spec.has_dense_reward:
        raise ConfigError(
            f"{agent}.dense_reward is set, but the world gives no dense reward (info['dense_reward']); set it to False"
        )


def objective_reward(rollout: Rollout, *, dense: bool) -> Tensor:
    """Return the reward to train on, [T, B]: the world's dense one, or its own."""
    if not dense:
        return rollout.reward
    assert rollout.dense_reward is not None  # `check_dense_reward` has asked the world
    return rollout.dense_reward


class TrialScale:
    """The running root mean square of a trial's own rewards, as part of its state; float64, so that nothing is lost."""

    KEYS = ("reward_squares", "reward_count")

    def __init__(self, device: torch.device | str) -> None:
        self.device = device

    def start(self, n_trials: int) -> State:
        """Return the state before the first reward."""
        return {key: torch.zeros(n_trials, dtype=torch.float64, device=self.device) for key in self.KEYS}

    def step(self, prev_reward: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the rewards [B] in the trial's own units, and the state that has seen them.

        To be called once per step with the step's `prev_reward`, from the trial's opening (where it is 0 and stands for
        no reward) on.
        """
        squares = state["reward_squares"] + prev_reward.to(torch.float64).square()
        scaled = _in_units_of(prev_reward, squares, state["reward_count"])
        return scaled, {"reward_squares": squares, "reward_count": state["reward_count"] + 1.0}

    def sequence(self, prev_reward: Tensor) -> Tensor:
        """Return the same for whole trials at once, [T, B], from their opening on."""
        total, squares = torch.zeros_like(prev_reward[0], dtype=torch.float64), []
        for row in prev_reward.to(torch.float64).square().unbind(0):  # in `step`'s order, so that the bits agree
            total = total + row
            squares.append(total)
        count = torch.arange(len(prev_reward), dtype=torch.float64, device=prev_reward.device)
        return _in_units_of(prev_reward, torch.stack(squares), count[:, None])


def _in_units_of(reward: Tensor, squares: Tensor, count: Tensor) -> Tensor:
    rms = (squares / count.clamp(min=1.0)).sqrt().clamp(min=_TINY)
    return (reward.to(torch.float64) / rms).to(reward.dtype)


class ClassScale:
    """The root mean square of every class's rewards over all of training, by the class's name."""

    def __init__(self, device: torch.device | str) -> None:
        """Start without classes."""
        self.names: list[str] = []
        self.count = torch.zeros(0, dtype=torch.float64, device=device)
        self.mean_square = torch.zeros(0, dtype=torch.float64, device=device)

    @property
    def rms(self) -> Tensor:
        """The scale of each class in `names`, float64 [G]; 1 for one that has paid nothing yet."""
        return torch.where(self.mean_square > 0, self.mean_square.sqrt(), 1.0)

    @torch.no_grad()
    def update(self, reward: Tensor, valid: Tensor, groups: Sequence[str]) -> None:
        """Take in the valid rewards of a batch, [T, B]; env i belongs to class `groups[i]`."""
        for name in dict.fromkeys(groups):
            if name not in self.names:
                self.names.append(name)
        grown = len(self.names) - len(self.count)
        self.count, self.mean_square = (torch.cat([x, x.new_zeros(grown)]) for x in (self.count, self.mean_square))
        at = self._index(groups)
        squares = torch.where(valid, reward.to(torch.float64).square(), 0.0).sum(0)
        member = (torch.arange(len(self.names), device=at.device)[:, None] == at).to(torch.float64)  # [G, B]
        fresh, total = (member * valid.sum(0)).sum(1), (member * squares).sum(1)
        self.count = self.count + fresh
        self.mean_square = self.mean_square + (total - fresh * self.mean_square) / self.count.clamp(min=1.0)

    def __call__(self, reward: Tensor, groups: Sequence[str]) -> Tensor:
        """Return rewards [T, B] divided by their class's scale, in `reward`'s dtype; the classes must be known."""
        return (reward.to(torch.float64) / self.rms[self._index(groups)]).to(reward.dtype)

    def _index(self, groups: Sequence[str]) -> Tensor:
        position = {name: i for i, name in enumerate(self.names)}
        return torch.tensor([position[name] for name in groups], device=self.count.device)

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, copied."""
        return {"names": list(self.names), "count": self.count.clone(), "mean_square": self.mean_square.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError if it is no such state."""
        try:
            names, count, mean_square = list(state["names"]), state["count"], state["mean_square"]
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                "the checkpoint has no reward scale per class; load it with the configuration it was written with"
            ) from error
        self.names = names
        self.count, self.mean_square = (x.to(self.count.device, copy=True) for x in (count, mean_square))
