"""The compiled core: envs that step in native threads, without Python inside."""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.metaworld.core_protocol import STATE_PARTS, CoreArrays, EnvState, TaskClass, check_load, check_state
from metarl.envs.metaworld.program import ACTION_SIZE, Program
from metarl.envs.metaworld.shutdown import shut_at_exit
from metarl.errors import ConfigError, WorldError

from .build import core_library
from .programs import program_function
from .store import BuildError, cache_folder, symbol

_BUSY = 2
_A_STEP_S = 1e-3


class _Class(ctypes.Structure):
    _fields_ = (
        ("model", ctypes.c_void_p),
        ("program", ctypes.c_void_p),
        ("action_scale", ctypes.c_double),
        ("mocap_low", ctypes.c_double * 3),
        ("mocap_high", ctypes.c_double * 3),
        ("frame_skip", ctypes.c_int),
        ("n_slots", ctypes.c_int),
    )


class _Entry(ctypes.Structure):
    _fields_ = (("field", ctypes.c_char_p), ("start", ctypes.c_int), ("size", ctypes.c_int))


class CompiledCore(CoreArrays):
    """B envs stepped by `n_threads` native threads (the caller is one of them); see the contract `core.Core`.

    A forked child may go on with the envs it inherited: it starts its own threads at the next `load` or `step`.
    """

    kind = "compiled"

    def __init__(
        self, num_envs: int, n_threads: int = 1, *, function: Callable[[Program], int | None] = program_function
    ) -> None:
        """Allocate the arrays; `function` gives the address of a program's compiled code, None for physics alone.

        Raises: ConfigError for a size out of range, BuildError if the core cannot be compiled here.
        """
        super().__init__(num_envs, n_threads)
        self._actions = np.zeros((num_envs, ACTION_SIZE), np.float32)
        self._classes: list[TaskClass | None] = [None] * num_envs  # keeps the shared models alive
        self._spare: dict[Any, tuple[Any, Any]] = {}
        self._function = function
        self._library = _library()
        arrays = (self._actions, self.obs, self.reward, self.info, self.unstable)
        self._core: int | None = self._library.core_new(num_envs, self.n_threads, *[_address(a) for a in arrays])
        self._step = self._library.core_step
        self._user = threading.get_ident()
        self._finalizer = weakref.finalize(self, self._library.core_free, self._core)
        self._finalizer.atexit = False  # a daemon thread may still hold the address
        shut_at_exit(self)

    def place(self, env: int, task_class: TaskClass) -> None:
        """Make `env` one of `task_class`; raises ConfigError if its model is not a hand on a mocap body."""
        core = self._open()
        program = task_class.program
        record = _Class(
            task_class.model._address,
            self._function(program),
            task_class.action_scale,
            tuple(task_class.mocap_low),
            tuple(task_class.mocap_high),
            task_class.frame_skip,
            program.n_slots,
        )
        entries = [_Entry(entry.field.encode(), entry.start, entry.size) for entry in task_class.entries]
        self._check(
            self._library.core_place(
                core, self._index(env), ctypes.byref(record), (_Entry * len(entries))(*entries), len(entries)
            ),
            ConfigError,
        )
        self._classes[env] = task_class

    def load(self, envs: Sequence[int], states: Sequence[EnvState]) -> None:
        """Put different envs into states of their class, exactly; the threads share the work."""
        core = self._open()
        check_load(envs, states)
        for env, state in zip(envs, states, strict=True):
            check_state(env, self._class(self._index(env)), state)
        chosen = np.array(envs, np.int32)
        parts = [np.array([_address(getattr(s, part)) for s in states], np.uintp) for part in STATE_PARTS]
        self._check(self._library.core_load(core, len(states), _address(chosen), *[_address(p) for p in parts]))

    def save(self, env: int) -> EnvState:
        """Return the state of an env; raises WorldError before its first `load`."""
        core = self._open()
        task_class = self._class(self._index(env))
        parts = [np.empty(size) for size in task_class.state_sizes]
        self._check(self._library.core_save(core, env, *[_address(p) for p in parts]))
        return EnvState(*parts)

    def step(self, actions: NDArray[np.float32]) -> None:
        """Advance all envs by one environment step; `actions` is float32 [B, 4].

        Raises: WorldError naming the env if MuJoCo cannot go on with one; it can be loaded again.
        """
        if actions.shape != self._actions.shape:
            raise ConfigError(f"engine: actions must be {self._actions.shape}, got {actions.shape}")
        np.copyto(self._actions, actions, casting="no")
        self._user = threading.get_ident()
        status = self._step(self._core or self._open())
        if status:
            self._check(status)

    def simulation(self, env: int) -> tuple[Any, Any]:
        """Return a model and data of their own that show the env as it is now; the next call writes to them again."""
        import mujoco

        state, task_class = self.save(env), self._class(env)
        if task_class not in self._spare:
            from copy import copy as duplicate

            model = duplicate(task_class.model)
            self._spare[task_class] = (model, mujoco.MjData(model))
        model, data = self._spare[task_class]
        start = 0
        for entry in task_class.entries:
            values = state.model[start : start + entry.size]
            getattr(model, entry.field).reshape(-1)[entry.start : entry.start + entry.size] = values
            start += entry.size
        mujoco.mj_setState(model, data, state.physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(model, data)
        return model, data

    def close(self) -> None:
        """End the threads and free memory; harmless when called twice. Raises WorldError during a step."""
        if self._core is not None and self._finalizer.alive:
            self._check(self._library.core_free(self._core))
            self._finalizer.detach()
            self._core = None
            self._spare.clear()

    def shut(self) -> int:
        """Let nobody in any more, once nobody is inside; returns the thread that made the last step."""
        core, self._core = self._core, None
        while core is not None and self._library.core_shut(core) == _BUSY:
            time.sleep(_A_STEP_S)
        return self._user

    def _open(self) -> int:
        if self._core is None:
            raise WorldError("engine: this core is closed")
        return self._core

    def _class(self, env: int) -> TaskClass:
        task_class = self._classes[env]
        if task_class is None:
            raise WorldError(f"engine: env {env} has no class yet; place it first")
        return task_class

    def _check(self, status: int, error: type[Exception] = WorldError) -> None:
        if status == _BUSY:
            raise WorldError(
                "engine: another thread is inside this core (or was when this process was forked: build a new world)"
            )
        if status:
            raise error("engine: " + self._library.core_error(self._core).decode(errors="replace"))


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


@cache
def _library() -> Any:
    """Load the core; ctypes lets go of the interpreter lock while one of its functions runs."""
    import mujoco  # its library must be the one that the core finds

    library = core_library()
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "core_mujoco_version": (integer, []),
        "core_new": (pointer, [integer, integer] + [pointer] * 5),
        "core_free": (integer, [pointer]),
        "core_shut": (integer, [pointer]),
        "core_error": (ctypes.c_char_p, [pointer]),
        "core_place": (integer, [pointer, integer, pointer, pointer, integer]),
        "core_load": (integer, [pointer, integer, pointer, pointer, pointer, pointer]),
        "core_save": (integer, [pointer, integer, pointer, pointer, pointer]),
        "core_step": (integer, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = symbol(library, name)
        function.restype, function.argtypes = result, arguments
    if library.core_mujoco_version() != mujoco.mj_version():
        raise BuildError(f"the core was compiled for another MuJoCo than {mujoco.__version__}; empty {cache_folder()}")
    return library
