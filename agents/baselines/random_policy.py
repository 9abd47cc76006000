"""The policy that draws every action uniformly: the floor that any meta-RL number is read against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agent import ActOutput, Savable, State, TimeStep, WorldSpec
from metarl.errors import CheckpointError, ConfigError
from metarl.rollout import Rollout, Trial


@dataclass(frozen=True)
class RandomConfig:
    """The uniform policy has nothing to set."""

    algorithm: ClassVar[str] = "random"

    def build(self, spec: WorldSpec, *, seed: int, device: torch.device | str = "cpu") -> RandomPolicy:
        """Return the policy; `seed` is not needed, for all noise comes from the trial's generator.

        Raises: ConfigError for an action space without a uniform distribution.
        """
        return RandomPolicy(spec, device=device)


class RandomPolicy(Savable):
    """Uniform over the action space: Box with finite bounds, Discrete (legal actions only) or MultiDiscrete.

    It neither adapts nor learns, and a uniform distribution has no mode, so `greedy` samples too.
    """

    name = "random"
    parallel_episodes = True
    train_phases: tuple[int, ...] = (1, 1)

    def __init__(self, spec: WorldSpec, *, device: torch.device | str = "cpu") -> None:
        """Raises ConfigError for an action space without a uniform distribution."""
        self.config, self.spec, space = RandomConfig(), spec, spec.action_space
        self.device = torch.device(device)
        if isinstance(space, spaces.Box):
            low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
            if len(space.shape) != 1 or not bool(low.isfinite().all() and high.isfinite().all()):
                raise ConfigError(
                    f"a uniform policy needs a one-axis Box with finite bounds, got {space}; bound the action space"
                )
            self._low = low.to(device, torch.float32)
            self._range = (high - low).to(device, torch.float32)
        elif isinstance(space, spaces.MultiDiscrete):
            self._sizes = torch.as_tensor(space.nvec, dtype=torch.float64, device=device)
            self._starts = torch.as_tensor(space.start, dtype=torch.int64, device=device)
        elif not isinstance(space, spaces.Discrete):
            raise ConfigError(
                f"a uniform policy needs Box, Discrete or MultiDiscrete actions, got {space}; use one of these"
            )

    def phases(self, n_episodes: int) -> tuple[int, ...]:
        """Return one phase, or none: nothing is learned from it, but it is played all the same."""
        return (n_episodes,) if n_episodes else ()

    def init(self, n_tasks: int) -> State:
        """Return the empty state."""
        return {}

    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Draw B actions; `log_prob` is that of the uniform density (0 if greedy, by contract)."""
        action, log_prob = self._draw(step, generator)
        return state, ActOutput(action, torch.zeros_like(log_prob) if greedy else log_prob, {})

    def _draw(self, step: TimeStep, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        space, n_rows, device = self.spec.action_space, len(step.obs), step.obs.device
        if isinstance(space, spaces.Box):
            u = torch.rand(n_rows, len(self._low), generator=generator, device=device)
            return self._low + u * self._range, -self._range.log().sum().expand(n_rows)
        if isinstance(space, spaces.MultiDiscrete):
            u = torch.rand(n_rows, len(self._sizes), generator=generator, device=device, dtype=torch.float64)
            return (u * self._sizes).long() + self._starts, -self._sizes.log().sum().float().expand(n_rows)
        assert isinstance(space, spaces.Discrete)  # __init__ let nothing else in
        legal = step.action_mask
        if legal is None:
            legal = torch.ones(n_rows, int(space.n), dtype=torch.bool, device=device)
        drawn = torch.multinomial(legal.float(), 1, generator=generator).squeeze(1)
        return drawn + int(space.start), -legal.sum(dim=1).float().log()

    def adapt(self, state: State, rollout: Rollout) -> State:
        """Return the state as it is."""
        return state

    def update(self, trial: Trial, *, generator: torch.Generator) -> dict[str, float]:
        """Learn nothing and report nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return an empty dict: there are no parameters."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Accept the empty dict; raises CheckpointError for anything else."""
        if state:
            raise CheckpointError(
                f"the random policy has no parameters but its checkpoint holds {sorted(state)}; "
                f"this is the checkpoint of another agent"
            )
