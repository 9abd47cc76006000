"""The World contract: B copies of an environment that step together, arrays as tensors on one device."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

import gymnasium as gym
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from .action_check import ActionCheck
from .errors import ConfigError, WorldError
from .spaces import check_spaces
from .tasks import Tasks

Obs = Tensor | dict[str, Tensor]
StepResult = tuple[Obs, Tensor, Tensor, Tensor, dict[str, Any]]


class World(VectorEnv[Any, Any, Any]):
    """A gymnasium VectorEnv whose arrays are torch tensors on `device`.

    Life: `set_tasks` (one task per copy), `reset`, then `step` for ever. A copy whose episode ended is reset in the
    same step (SAME_STEP): `obs` is then the first observation of the next episode, and

    * `info["final_obs"]` is, for *every* copy, the observation reached by this step before any reset,
    * `info["success"]` (bool [B], only if `has_success`) belongs to this step, before any reset,
    * `info["dense_reward"]` (float32 [B], only if `has_dense_reward`) is a shaped reward of this step for learners that
      train on it. Returns, scores and what an agent adapts on are those of `reward`,
    * `info["cost"]` (float32 [B], >= 0, only if `has_cost`) is what this step cost in safety, told beside the return,
    * `info["action_mask"]` (bool [B, n], only for Discrete actions that are sometimes illegal) belongs to `obs`.

    Reward, `terminated` (the task ended: do not bootstrap) and `truncated` (time ran out: bootstrap) belong to this
    step too. New tasks take effect at the next reset. Task parameters never appear in the observation. Copy i's results
    depend on the seed, i, its task and its actions only: not on B, nor on threads or processes. Returned tensors are
    never written to again.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (the base class declares it so)
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": [],
    }

    name: str
    device: torch.device
    horizon: int
    """Longest possible episode, in env steps."""
    fixed_horizon: bool
    """True if every episode lasts exactly `horizon` steps, so that unmasked copies stay in step."""
    has_success: bool
    """True if `info` carries "success"."""
    has_dense_reward: bool = False
    """True if `info` carries "dense_reward"."""
    has_cost: bool = False
    """True if `info` carries "cost"."""
    shows_reward: bool = True
    """False if an agent that acts is not told the reward (say, a visitor's satisfaction, which only reactions show):
    agents learn from it, but `Step.prev_reward` is 0, and so is what a memory or a belief takes in."""
    carries: bool = False
    """True if something outlives an episode: the first observation after its end also shows something of it (say, the
    last reaction, which agents with memory would not see otherwise), or the number of an episode matters. A plain reset
    shows nothing of the kind, so a trial is never reset halfway; `hold` keeps copies in step instead."""
    n_hidden: int = 0
    """Numbers per copy that `hidden` gives; 0: this world does not say what is hidden."""
    tasks: Tasks | None

    def __init__(
        self,
        name: str,
        n_copies: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        horizon: int,
        fixed_horizon: bool = True,
        has_success: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Record the contract's constants; raises ConfigError for a size or horizon below 1, or an unusable space."""
        check_spaces(name, observation_space, action_space)
        if n_copies < 1 or horizon < 1:
            raise ConfigError(f"world {name!r} needs n_copies >= 1 and horizon >= 1, got {n_copies} and {horizon}")
        self.name, self.num_envs, self.horizon = name, n_copies, horizon
        self.fixed_horizon, self.has_success = fixed_horizon, has_success
        self.device = torch.device(device)
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, n_copies)
        self.action_space = batch_space(action_space, n_copies)
        self.tasks = None

    @property
    def n_copies(self) -> int:
        """Return B."""
        return self.num_envs

    @abstractmethod
    def set_tasks(self, tasks: Tasks) -> None:
        """Give copy i task i from its next reset on; raises ConfigError unless there are exactly B tasks."""

    @abstractmethod
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start new episodes, in all copies or in those of `options["mask"]` (bool [B]).

        With a seed the copies' random streams start afresh; without, they go on. The returned observation holds all
        copies; those outside the mask are where they were.
        """

    def hidden(self) -> Tensor:
        """Return what is hidden of each copy's present task and episode, float32 [B, n_hidden], of about unit size.

        For lessons in training only (`Agent.needs_hidden`); never part of an observation.
        """
        raise WorldError(f"world {self.name!r} does not say what is hidden: its n_hidden is {self.n_hidden}")

    def hold(self, idle: Tensor | None) -> None:
        """Let the copies of `idle` (bool [B]) stand still in all further steps, until `hold(None)` lets them go on.

        For worlds that carry: such a copy has finished a phase before the others and waits. Its rewards are 0, nothing
        ends, and nothing random is drawn.
        """
        raise WorldError(
            f"world {self.name!r} says that it carries, so trials of several phases need its copies to wait for each "
            f"other; write hold(idle), or leave carries at False"
        )

    @abstractmethod
    def step(self, actions: Any) -> StepResult:
        """Advance all copies by one step.

        Actions outside a Box are clipped. NaN, a wrong shape and choices outside a Discrete or MultiDiscrete space
        raise WorldError; worlds of tensors on a GPU, which would have to be waited for, do not look at the numbers.
        `check_actions` does all that.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what comes next, mid-episode included, as tensors and plain values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was taken, bit for bit."""

    def render(self) -> Any:
        """Return one RGB image (uint8 [H, W, 3]) of copy 0, where the world can draw itself."""
        raise ConfigError(f"world {self.name!r} has no picture; its render modes are {self.metadata['render_modes']}")

    @cached_property
    def check_actions(self) -> ActionCheck:
        """A function that holds actions to the action space, see `step`: `actions = self.check_actions(actions)`."""
        return ActionCheck(self.name, self.single_action_space, self.num_envs, self.device)

    def check_tasks(self, tasks: Tasks) -> None:
        """Raise ConfigError unless there is one task per copy."""
        if len(tasks) != self.num_envs:
            raise ConfigError(
                f"world {self.name!r} has {self.num_envs} copies but set_tasks got {len(tasks)} tasks; "
                f"pass tasks.repeat(k) or build it with n_copies={len(tasks)}"
            )
