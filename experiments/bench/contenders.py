"""Upstream, serially and in worker processes, and envpool: what a batched engine competes with."""

from __future__ import annotations

import importlib
import importlib.util
from functools import partial
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv
from numpy.typing import NDArray

from metarl.envs.metaworld.upstream import apply_task, make_env
from metarl.envs.metaworld.upstream_state import restore

from .clock import Sample, timed
from .trajectories import REWARD_VERSION, Recording, Scenario


class Contender(Protocol):
    """Something that steps envs of a task."""

    label: str
    """What it is, without sizes: "upstream serial"."""
    num_envs: int
    n_threads: int
    """Threads or worker processes that step envs."""
    n_repeats: int
    """How often it replays each window."""

    def measure(self, window: int, repeat: int) -> Sample:
        """Go to the start of `window`, untimed, then replay it and return the cost of that."""
        ...

    def reached(self) -> NDArray[Any] | None:
        """Return the observations [B, 39] after the last replay; None where they cannot equal upstream's."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class Replaying(gym.Wrapper[Any, Any, Any, Any]):
    """An upstream environment that can go to the start of a window of any recorded episode."""

    def __init__(self, recording: Recording, index: int, num_envs: int) -> None:
        super().__init__(make_env(recording.tasks[0], reward_version=REWARD_VERSION))
        self.recording, self.index, self.num_envs = recording, index, num_envs
        apply_task(self.env, recording.tasks[0])
        self.env.reset(seed=0)

    def rewind(self, window: int, repeat: int) -> None:
        """Go to the start of `window`."""
        row = self.recording.rows(self.num_envs, repeat)[self.index]
        restore(self.env, self.recording.states[row][window])


class Serial:
    """Upstream's environments, `env.step` one after the other in this process."""

    label = "upstream serial"
    n_threads = 1

    def __init__(self, recording: Recording, num_envs: int = 1) -> None:
        self.recording, self.num_envs, self.n_repeats = recording, num_envs, recording.repeats(num_envs)
        self._envs = [Replaying(recording, i, num_envs) for i in range(num_envs)]
        self._obs: list[Any] = [None] * num_envs

    def measure(self, window: int, repeat: int) -> Sample:
        """See `Contender.measure`."""
        for env in self._envs:
            env.rewind(window, repeat)
        steps = [env.unwrapped.step for env in self._envs]  # without the wrappers: what upstream itself costs
        actions = [list(row) for row in self.recording.steps(self.recording.actions, self.num_envs, window, repeat)]

        def replay() -> None:
            for row in actions:
                for i, (step, action) in enumerate(zip(steps, row, strict=True)):
                    self._obs[i] = step(action)[0]

        return timed(replay)

    def reached(self) -> NDArray[Any] | None:
        """See `Contender.reached`."""
        return np.stack(self._obs)

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()


class Async:
    """Gymnasium's AsyncVectorEnv over upstream's environments, one worker process per env.

    Make it before any contender that starts threads: its processes are forked.
    """

    label = "AsyncVectorEnv"

    def __init__(self, recording: Recording, num_envs: int) -> None:
        self.recording, self.num_envs, self.n_threads = recording, num_envs, num_envs
        self.n_repeats = recording.repeats(num_envs)
        makers = [partial(Replaying, recording, i, num_envs) for i in range(num_envs)]
        self._envs = AsyncVectorEnv(makers)
        self._envs.reset(seed=0)
        self._obs: Any = None

    def measure(self, window: int, repeat: int) -> Sample:
        """See `Contender.measure`."""
        self._envs.call("rewind", window, repeat)
        actions = list(self.recording.steps(self.recording.actions, self.num_envs, window, repeat))

        def replay() -> None:
            for row in actions:
                self._obs = self._envs.step(row)[0]

        return timed(replay, children=True)

    def reached(self) -> NDArray[Any] | None:
        """See `Contender.reached`."""
        return np.asarray(self._obs)

    def close(self) -> None:
        """End the processes."""
        self._envs.close()


def has_envpool() -> bool:
    """Return whether envpool can be imported and has Meta-World."""
    if importlib.util.find_spec("envpool") is None:
        return False
    try:
        envpool = importlib.import_module("envpool")
        return any(name.startswith("MetaWorld/") for name in envpool.list_all_envs())
    except Exception:  # an installed envpool may lack its assets or a library and fail in any way
        return False


def envpool_name(scenario: Scenario) -> str:
    """Return envpool's name for a scenario's task, "MetaWorld/PickPlace-v3"."""
    words = scenario.task.removesuffix("-v3").split("-")
    return f"MetaWorld/{''.join(word.capitalize() for word in words)}-v3"


class Envpool:
    """envpool's C++ environments.

    They draw goals of their own and cannot be put into a state, so this contender plays random actions on through its
    episodes, resets (which cost 50 control steps) left out, and has no expert.
    """

    label = "envpool"

    def __init__(self, recording: Recording, num_envs: int, n_threads: int) -> None:
        self.recording, self.num_envs, self.n_threads = recording, num_envs, n_threads
        self.n_repeats = recording.repeats(num_envs)
        self._envs = importlib.import_module("envpool").make(
            envpool_name(recording.scenario), env_type="gymnasium", num_envs=num_envs, num_threads=n_threads
        )
        self._elapsed = 500

    def measure(self, window: int, repeat: int) -> Sample:
        """See `Contender.measure`; the window decides the actions, the state is where the last replay ended."""
        if self._elapsed + self.recording.windows.length >= 500:
            self._envs.reset()
            self._elapsed = 0
        actions = list(self.recording.steps(self.recording.actions, self.num_envs, window, repeat))

        def replay() -> None:
            for row in actions:
                self._envs.step(row)

        self._elapsed += len(actions)
        return timed(replay)

    def reached(self) -> NDArray[Any] | None:
        """Return None: the goals are others."""
        return None

    def close(self) -> None:
        """End the threads."""
        self._envs.close()
