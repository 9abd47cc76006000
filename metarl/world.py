"""The World contract: B environments that step together, arrays as tensors on one device."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from .action_check import ActionCheck
from .deprecated import OldName, bridge
from .errors import ConfigError, WorldError
from .spaces import check_spaces
from .spec import FromSpec, WorldSpec, takes_old_form, with_class_entries
from .tasks import Tasks

Obs = Tensor | dict[str, Tensor]
_OLD_METHODS = {"hidden": "privileged_info", "hold": "freeze"}
StepResult = tuple[Obs, Tensor, Tensor, Tensor, dict[str, Any]]


class World(VectorEnv[Any, Any, Any]):
    """A gymnasium VectorEnv whose arrays are torch tensors on `device`. Its `spec` says what it is; see `WorldSpec`.

    Life: `set_tasks` (one task per env), `reset`, then `step` for ever. An env whose episode ended is reset in the
    same step (SAME_STEP): `obs` is then the first observation of the next episode, and

    * `info["final_obs"]` is, for *every* env, the observation reached by this step before any reset,
    * `info["success"]` (bool [B], only if `has_success`) belongs to this step, before any reset,
    * `info["dense_reward"]` (float32 [B], only if `has_dense_reward`) is a shaped reward of this step for learners that
      train on it. Returns, scores and what an agent adapts on are those of `reward`,
    * `info["cost"]` (float32 [B], >= 0, only if `has_cost`) is what this step cost in safety, told beside the return,
    * `info["action_mask"]` (bool [B, n], only for Discrete actions that are sometimes illegal) belongs to `obs`.

    Reward, `terminated` (the task ended: do not bootstrap) and `truncated` (time ran out: bootstrap) belong to this
    step too. New tasks take effect at the next reset. Task parameters never appear in the observation. Env i's results
    depend on the seed, i, its task and its actions only: not on B, nor on threads or processes. Returned tensors are
    never written to again.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (the base class declares it so)
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": [],
    }

    spec: WorldSpec  # type: ignore[assignment] # gymnasium keeps there what its registry knows
    device: torch.device
    name = FromSpec[str]()
    horizon = FromSpec[int]()
    fixed_horizon = FromSpec[bool]()
    has_success = FromSpec[bool]()
    has_dense_reward = FromSpec[bool]()
    has_cost = FromSpec[bool]()
    reward_observable = FromSpec[bool]()
    persists_across_episodes = FromSpec[bool]()
    n_privileged = FromSpec[int]()
    tasks: Tasks | None
    n_copies = OldName("num_envs")
    shows_reward = OldName("reward_observable")
    n_hidden = OldName("n_privileged")
    carries = OldName("persists_across_episodes")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        bridge(cls, _OLD_METHODS)

    @takes_old_form
    def __init__(self, spec: WorldSpec, num_envs: int, device: torch.device | str = "cpu") -> None:
        """Build B = `num_envs` environments; raises ConfigError for a size or horizon below 1, or an unusable space."""
        self.spec = with_class_entries(spec, type(self))
        check_spaces(self.name, spec.observation_space, spec.action_space)
        if num_envs < 1 or self.horizon < 1:
            raise ConfigError(
                f"world {self.name!r} needs num_envs >= 1 and horizon >= 1, got {num_envs} and {self.horizon}"
            )
        self.num_envs, self.device, self.tasks = num_envs, torch.device(device), None
        self.single_observation_space, self.single_action_space = spec.observation_space, spec.action_space
        self.observation_space = batch_space(spec.observation_space, num_envs)
        self.action_space = batch_space(spec.action_space, num_envs)

    @abstractmethod
    def set_tasks(self, tasks: Tasks) -> None:
        """Give env i task i from its next reset on; raises ConfigError unless there are exactly B tasks."""

    @abstractmethod
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start new episodes, in all envs or in those of `options["mask"]` (bool [B]).

        With a seed the envs' random streams start afresh; without, they go on. The returned observation holds all
        envs; those outside the mask are where they were.
        """

    def privileged_info(self) -> Tensor:
        """Return what is hidden of each env's present task and episode, float32 [B, n_privileged], of about unit size.

        For auxiliary losses in training only (`Agent.needs_privileged_info`); never part of an observation.
        """
        raise WorldError(f"world {self.name!r} does not say what is hidden: its n_privileged is {self.n_privileged}")

    def freeze(self, idle: Tensor | None) -> None:
        """Let the envs of `idle` (bool [B]) stand still in all further steps, until `freeze(None)` lets them go on.

        For worlds where something persists across episodes: such an env has finished a phase before the others and
        waits. Its rewards are 0, nothing ends, and nothing random is drawn.
        """
        raise WorldError(
            f"world {self.name!r} persists across episodes, so trials of several phases need its envs to wait for each "
            f"other; write freeze(idle), or leave persists_across_episodes at False"
        )

    def number_from(self, first: int) -> None:
        """Let the envs be number `first` and on among the envs of several processes, from the next seeded reset on.

        Env i of this world then does what env `first` + i of a larger one does; `metarl.spread` makes one of many.
        """
        raise ConfigError(
            f"world {self.name!r} cannot be spread over processes: it does not say how its envs are numbered; write "
            f"number_from(first), which adds `first` to an env's number wherever its random streams follow from it, or "
            f"train it in one process"
        )

    @abstractmethod
    def step(self, actions: Any) -> StepResult:
        """Advance all envs by one step.

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
        """Return one RGB image (uint8 [H, W, 3]) of env 0, where the world can draw itself."""
        raise ConfigError(f"world {self.name!r} has no picture; its render modes are {self.metadata['render_modes']}")

    @cached_property
    def check_actions(self) -> ActionCheck:
        """A function that holds actions to the action space, see `step`: `actions = self.check_actions(actions)`."""
        return ActionCheck(self.name, self.single_action_space, self.num_envs, self.device)

    def check_tasks(self, tasks: Tasks) -> None:
        """Raise ConfigError unless there is one task per env."""
        if len(tasks) != self.num_envs:
            raise ConfigError(
                f"world {self.name!r} has {self.num_envs} envs but set_tasks got {len(tasks)} tasks; "
                f"pass tasks.repeat(k) or build it with num_envs={len(tasks)}"
            )


bridge(World, _OLD_METHODS)
