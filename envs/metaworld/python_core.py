"""The core without a compiler: MuJoCo's Python bindings step each env, NumPy computes whole batches.

Physics runs env by env, on several threads because the bindings let go of the interpreter lock; mocap, observation,
reward and info are computed for all envs of a class at once. The numbers are upstream's to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy as duplicate
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from metarl.errors import ConfigError, WorldError

from .core_protocol import CoreArrays, EnvState, TaskClass, check_load, check_state
from .emit import compile_arrays
from .program import ACTION_SIZE, Program
from .python_batch import Batch, Evaluate, SimulatedEnv
from .thread_pool import ThreadPool

_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


class PythonCore(CoreArrays):
    """B envs stepped by `n_threads` Python threads, the caller among them; see the contract `core.Core`."""

    kind = "python"

    def __init__(
        self, num_envs: int, n_threads: int = 1, *, function: Callable[[Program], Evaluate] = compile_arrays
    ) -> None:
        """Allocate the arrays and start the threads; `function` turns a program into array code.

        Raises: ConfigError for a size out of range.
        """
        super().__init__(num_envs, n_threads)
        self._envs: list[SimulatedEnv | None] = [None] * num_envs
        self._stale: set[int] = set()  # envs whose next step computes all, not only what a new action changes
        self._function = function
        self._functions: dict[TaskClass, Evaluate] = {}
        self._pictured: dict[TaskClass, Any] = {}
        self._batch: Batch | None = None  # None: to be gathered before the next step
        self._ready = False
        self._closed = False
        self._pool = ThreadPool(self.n_threads)

    def place(self, env: int, task_class: TaskClass) -> None:
        """Make `env` one of `task_class`; raises ConfigError if its model has no mocap hand with two fingers."""
        present = self._envs[self._index(env)]
        self._ready = False
        if present is not None and present.task_class is task_class:
            present.loaded = False
            return
        model = task_class.model
        if model.nmocap != 1 or model.nu != 2:
            raise ConfigError(
                f"engine: {task_class.name} has {model.nmocap} mocap bodies and {model.nu} controls; expected a hand "
                "on a mocap body with two fingers"
            )
        if task_class not in self._functions:
            self._functions[task_class] = self._function(task_class.program)
        self._batch = None  # it looks into the memory of the env that goes
        self._envs[env] = SimulatedEnv(task_class)

    def load(self, envs: Sequence[int], states: Sequence[EnvState]) -> None:
        """Put different envs into states of their class, exactly."""
        check_load(envs, states)
        chosen = [self._placed(env) for env in envs]
        for env, target, state in zip(envs, chosen, states, strict=True):
            check_state(env, target.task_class, state)
        for env, target, state in zip(envs, chosen, states, strict=True):
            model, data, physics = target.model.model, target.data, state.physics.copy()  # mujoco wants it writable
            target.model.write(target.task_class.entries, state.model)
            mujoco.mj_setState(model, data, physics, _STATE)
            mujoco.mj_forward(model, data)
            mujoco.mj_setState(model, data, physics, _STATE)  # the forward has overwritten the warm start
            target.slots[:] = state.slots
            target.loaded = True
            self._stale.add(env)
            self.unstable[env] = 0

    def save(self, env: int) -> EnvState:
        """Return the state of an env; raises WorldError before its first `load`."""
        chosen = self._loaded(env)
        physics = np.empty(chosen.task_class.n_state)
        mujoco.mj_getState(chosen.model.model, chosen.data, physics, _STATE)
        return EnvState(physics, chosen.model.read(chosen.task_class.entries), chosen.slots.copy())

    def step(self, actions: NDArray[np.float32]) -> None:
        """Advance all envs by one environment step; `actions` is float32 [B, 4].

        Raises: WorldError if MuJoCo cannot go on with an env; all must then be loaded again.
        """
        if actions.shape != (self.num_envs, ACTION_SIZE) or actions.dtype != np.float32:
            raise ConfigError(
                f"engine: actions must be float32 {(self.num_envs, ACTION_SIZE)}, got {actions.dtype} {actions.shape}"
            )
        batch = self._batch if self._ready and self._batch is not None else self._gather()
        batch.drive(actions)
        self._run(batch)
        unstable, bad = batch.watch()
        self.unstable.fill(0)
        self.unstable[unstable] = 1
        self._stale = {*unstable, *bad}
        for rows in batch.rows:
            rows.evaluate(actions, self.obs, self.reward, self.info)

    def simulation(self, env: int) -> tuple[Any, Any]:
        """Return a mujoco.MjModel, which the next call for the class writes to, and the env's own mujoco.MjData."""
        chosen = self._loaded(env)
        task_class = chosen.task_class
        if task_class not in self._pictured:
            self._pictured[task_class] = duplicate(task_class.model)  # megabytes, once per class
        model = self._pictured[task_class]
        for name, array in chosen.model.arrays.items():
            getattr(model, name)[...] = array
        return model, chosen.data

    def close(self) -> None:
        """End the threads and free memory; harmless when called twice."""
        self._pool.close()
        self._closed, self._ready, self._batch = True, False, None
        self._envs = [None] * self.num_envs
        self._functions.clear()
        self._pictured.clear()

    def _index(self, env: int) -> int:
        if self._closed:
            raise WorldError("engine: this core is closed")
        return super()._index(env)

    def _placed(self, env: int) -> SimulatedEnv:
        chosen = self._envs[self._index(env)]
        if chosen is None:
            raise WorldError(f"engine: env {env} has no class yet; place it first")
        return chosen

    def _loaded(self, env: int) -> SimulatedEnv:
        chosen = self._placed(env)
        if not chosen.loaded:
            raise WorldError(f"engine: env {env} has no state yet; load one first")
        return chosen

    def _run(self, batch: Batch) -> None:
        finished = False
        try:
            self._pool.run(batch.calls(self._stale))
            finished = True
        except mujoco.FatalError as problem:
            raise WorldError(f"engine: MuJoCo cannot go on with an env: {problem}; load all envs again") from problem
        finally:
            if not finished:  # also when interrupted: some envs have made the step and others have not
                self._ready = False
                for env in batch.envs:
                    env.loaded = False

    def _gather(self) -> Batch:
        envs = [self._loaded(env) for env in range(self.num_envs)]
        if self._batch is None:
            self._batch = Batch(envs, self._functions)
        self._ready = True
        return self._batch
