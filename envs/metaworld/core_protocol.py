"""The contract between the world and whatever steps the physics of its envs: compiled threads, or Python ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metarl.errors import ConfigError

from .program import INFO, OBS_SIZE, Program

Floats = NDArray[np.float64]
MOST_THREADS = 1024
STATE_PARTS = ("physics", "model", "slots")
"""Fields of a `EnvState`."""


@dataclass(frozen=True)
class ModelEntry:
    """A run of numbers in an array of mjModel that resets write, so that every env has its own."""

    field: str
    """"body_pos", "site_pos", ..."""
    start: int
    """Flat position of the first."""
    size: int


@dataclass(frozen=True, eq=False)
class TaskClass:
    """Everything that envs of one class share."""

    name: str
    program: Program
    model: Any
    """mujoco.MjModel; nobody writes to it while envs step."""
    action_scale: float
    """Metres of hand movement per unit of action; upstream multiplies in float32."""
    mocap_low: Floats
    """[3], metres."""
    mocap_high: Floats
    frame_skip: int
    """Physics steps per environment step, 5."""
    entries: tuple[ModelEntry, ...]
    """What resets write into the model."""
    n_state: int
    """Length of mjSTATE_INTEGRATION."""

    @property
    def state_sizes(self) -> tuple[int, int, int]:
        """Lengths of the three `STATE_PARTS` of an env's state."""
        return self.n_state, sum(entry.size for entry in self.entries), self.program.n_slots


@dataclass(frozen=True, eq=False)
class EnvState:
    """All that decides what an env of a given class does next. Plain arrays; never written to."""

    physics: Floats
    """[n_state], mjSTATE_INTEGRATION."""
    model: Floats
    """Values of the class's model entries, one after the other."""
    slots: Floats
    """[n_slots] of the program."""


class Core(Protocol):
    """B envs, each of some task class, that step together. Arrays are written in place by `step`.

    The result for an env depends on its state and its actions only: not on B, its position, nor the thread count.
    """

    kind: str
    """"compiled" or "python"."""
    n_threads: int
    obs: Floats
    """[B, 39] after the last step; clipped, goal hidden."""
    reward: Floats
    """[B]."""
    info: Floats
    """[B, 7], see `program.INFO`."""
    unstable: NDArray[np.uint8]
    """[B]: 1 where MuJoCo found the last step unstable (NaN or huge values; it then resets its own state)."""

    def place(self, env: int, task_class: TaskClass) -> None:
        """Make `env` one of `task_class`, reusing what it has if it is one already. `load` must follow."""

    def load(self, envs: Sequence[int], states: Sequence[EnvState]) -> None:
        """Put envs into states of their class, exactly.

        Derived quantities (positions, contacts) are up to date afterwards, and the next step goes as it would have gone
        where the state was saved.
        """

    def save(self, env: int) -> EnvState:
        """Return the state of an env."""

    def step(self, actions: NDArray[np.float32]) -> None:
        """Advance all envs by one environment step; `actions` is [B, 4], C-contiguous, finite, not clipped."""

    def simulation(self, env: int) -> tuple[Any, Any]:
        """Return (mujoco.MjModel, mujoco.MjData) that show the env as it is now, for pictures; read only."""

    def close(self) -> None:
        """End the threads and free memory; harmless when called twice."""


class CoreArrays:
    """What both cores have: the arrays of the contract `Core`, and checks of what a core is given."""

    def __init__(self, num_envs: int, n_threads: int) -> None:
        """Allocate the arrays; raises ConfigError for a size out of range."""
        if num_envs < 1 or not 1 <= n_threads <= MOST_THREADS:
            raise ConfigError(
                f"engine: needs num_envs >= 1 and n_threads in 1..{MOST_THREADS}, got {num_envs} and {n_threads}"
            )
        self.num_envs, self.n_threads = num_envs, min(n_threads, num_envs)
        self.obs = np.zeros((num_envs, OBS_SIZE))
        self.reward = np.zeros(num_envs)
        self.info = np.zeros((num_envs, len(INFO)))
        self.unstable = np.zeros(num_envs, np.uint8)

    def _index(self, env: int) -> int:
        """Return `env`; raises ConfigError unless there is one of that number."""
        if not 0 <= env < self.num_envs:
            raise ConfigError(f"engine: env {env} does not exist; there are {self.num_envs}")
        return env


def check_load(envs: Sequence[int], states: Sequence[EnvState]) -> None:
    """Raise ConfigError unless there is one state for each of different envs."""
    if len(envs) != len(states) or len(set(envs)) != len(envs):
        raise ConfigError(f"engine: load needs one state for each of different envs, got {list(envs)}")


def check_state(env: int, task_class: TaskClass, state: EnvState) -> None:
    """Raise ConfigError unless `state` is one of `task_class`."""
    for name, size in zip(STATE_PARTS, task_class.state_sizes, strict=True):
        part = getattr(state, name)
        if part.dtype != np.float64 or part.shape != (size,) or not part.flags.c_contiguous:
            raise ConfigError(
                f"engine: env {env} needs {name} as {size} contiguous float64, got {part.dtype} {part.shape}"
            )
