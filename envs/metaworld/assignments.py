"""Which task each env plays, and which one waits for its next reset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from metarl.tasks import Tasks, concatenate

from .catalogue import GoalKey, goal_keys


class Assignments:
    """Tasks of B envs, looked up by env without touching tensors."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.tasks: Tasks | None = None
        """What the envs play; None before the first reset."""
        self.keys: list[GoalKey] = []
        """The same as class and goal."""
        self._pending: Tasks | None = None
        self._pending_keys: list[GoalKey] = []
        self._waiting = np.zeros(num_envs, np.bool_)

    @property
    def empty(self) -> bool:
        """True as long as no tasks were given."""
        return self.tasks is None and self._pending is None

    def put(self, tasks: Tasks) -> None:
        """Let env i play task i of `tasks` from its next reset on."""
        self._pending = tasks.to("cpu")
        self._pending_keys = goal_keys(self._pending)
        self._waiting[:] = True

    def coming(self, env: int) -> tuple[GoalKey, str]:
        """Return goal and task name of an env's next episode."""
        if self._waiting[env]:
            assert self._pending is not None
            return self._pending_keys[env], self._pending.names[env]
        assert self.tasks is not None
        return self.keys[env], self.tasks.names[env]

    def name(self, env: int) -> str:
        """Return the name of the task that an env plays."""
        return "none" if self.tasks is None else self.tasks.names[env]

    def begin(self, envs: Sequence[int]) -> None:
        """Record that the next episode of `envs` has begun."""
        if self._pending is None:
            return
        taken = np.zeros(self.num_envs, np.bool_)
        taken[envs] = True
        taken &= self._waiting
        if self.tasks is None or taken.all():
            self.tasks, self.keys = self._pending, list(self._pending_keys)
        elif taken.any():
            both = concatenate([self.tasks, self._pending])
            self.tasks = both[[i + self.num_envs * int(new) for i, new in enumerate(taken)]]
            for i in np.flatnonzero(taken).tolist():
                self.keys[i] = self._pending_keys[i]
        self._waiting &= ~taken
        if not self._waiting.any():
            self._pending, self._pending_keys = None, []

    def state_dict(self) -> dict[str, Any]:
        """Return tasks, waiting tasks and who waits, as plain values."""
        assert self.tasks is not None
        return {
            "tasks": self.tasks.to_json(),
            "pending": None if self._pending is None else self._pending.to_json(),
            "waiting": torch.from_numpy(self._waiting.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a snapshot."""
        self.tasks = Tasks.from_json(state["tasks"])
        self.keys = goal_keys(self.tasks)
        self._pending = None if state["pending"] is None else Tasks.from_json(state["pending"])
        self._pending_keys = [] if self._pending is None else goal_keys(self._pending)
        self._waiting[:] = state["waiting"].numpy()
