"""The envs of an engine world: which class each is, where its episodes start, and the core that steps them."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from metarl.envs.gym.serial import EnvFailure
from metarl.errors import ConfigError

from .catalogue import GoalKey, Start, start_of, task_class
from .core_protocol import STATE_PARTS, EnvState, TaskClass
from .core_selection import fall_back, make_core


class EnvBatch:
    """B envs in one core. They keep their memory as long as their class stays the same."""

    def __init__(self, num_envs: int, *, n_threads: int, core: str, reward_version: str) -> None:
        """Build the core; envs come to life when they first begin an episode. Raises ConfigError like `make_core`."""
        self.num_envs, self.reward_version = num_envs, reward_version
        self.core = make_core(core, num_envs, min(n_threads, num_envs))
        self.classes: list[TaskClass | None] = [None] * num_envs
        self._may_fall_back = core == "auto"
        self._alive = False

    def begin(self, rows: Sequence[int], coming: Sequence[tuple[GoalKey, str]]) -> list[Start]:
        """Put `rows` where episodes of the `coming` goals (with the names of their tasks) start; all or none.

        Raises: EnvFailure for a goal that its class cannot have, or a class that is not understood.
        """
        starts = [self._start_of(i, *goal) for i, goal in zip(rows, coming, strict=True)]
        self._place(rows, [task_class(key.name, self.reward_version) for key, _ in coming])
        self.core.load(rows, [start.state for start in starts])
        self._alive = True
        return starts

    def save(self) -> list[dict[str, torch.Tensor]]:
        """Return the state of every env as tensors."""
        states = (self.core.save(i) for i in range(self.num_envs))
        return [{part: torch.from_numpy(np.array(getattr(state, part))) for part in STATE_PARTS} for state in states]

    def load(self, stored: Sequence[dict[str, torch.Tensor]], keys: Sequence[GoalKey]) -> None:
        """Put all envs into states that `save` returned; `keys` are their goals.

        Raises: ConfigError for a state that does not fit its class, before anything has changed.
        """
        classes = [task_class(key.name, self.reward_version) for key in keys]
        states = [EnvState(*(parts[part].numpy() for part in STATE_PARTS)) for parts in stored]
        for state, kind in zip(states, classes, strict=True):
            _check_fits(state, kind)
        self._place(range(self.num_envs), classes)
        self.core.load(range(self.num_envs), states)
        self._alive = True

    def simulation(self, env: int) -> tuple[str, Any, Any]:
        """Return class name, MjModel and MjData that show an env as it is now; read only."""
        kind = self.classes[env]
        assert kind is not None
        return (kind.name, *self.core.simulation(env))

    def close(self) -> None:
        """End the threads and free memory."""
        self.core.close()

    def _start_of(self, env: int, key: GoalKey, task: str) -> Start:
        try:
            return start_of(key, self.reward_version)
        except ConfigError as error:
            text = f"{type(error).__name__}: {error}"
            raise EnvFailure(env, task, 0, text, traceback.format_exc()) from error

    def _place(self, rows: Sequence[int], classes: Sequence[TaskClass]) -> None:
        """Make each of `rows` an env of its class."""
        for i, kind in zip(rows, classes, strict=True):
            if self.classes[i] is not kind:
                try:
                    self.core.place(i, kind)
                except ConfigError as problem:
                    if not self._may_fall_back or self.core.kind == "python":
                        raise
                    self._fall_back(problem)
                    self.core.place(i, kind)
                self.classes[i] = kind

    def _fall_back(self, problem: ConfigError) -> None:
        """Go on in Python where a class cannot be compiled; envs that live already move over as they are."""
        old = self.core
        states = [old.save(i) for i in range(self.num_envs)] if self._alive else []
        self.core = fall_back(problem, self.num_envs, old.n_threads)
        for i, kind in enumerate(self.classes):
            if kind is not None:
                self.core.place(i, kind)
        if states:
            self.core.load(range(self.num_envs), states)
        old.close()


def _check_fits(state: EnvState, kind: TaskClass) -> None:
    """Raise ConfigError for a state whose parts have other lengths than those of a class."""
    stored = (state.physics.size, state.model.size, state.slots.size)
    expected = (kind.n_state, sum(e.size for e in kind.entries), kind.program.n_slots)
    if stored != expected:
        raise ConfigError(
            f"the snapshot of a {kind.name} holds {stored} numbers of physics, model and slots, this version keeps "
            f"{expected}; start the episode anew"
        )
