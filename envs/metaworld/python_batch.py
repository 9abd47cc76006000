"""All envs of a Python core at once: where their numbers lie in memory, and what NumPy does with them each step."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from metarl.errors import ConfigError

from .contacts import PadContacts
from .core_protocol import Floats, TaskClass
from .memory import Memory, address_of, layout, offset
from .shallow_model import ShallowModel
from .substeps import fusable, fused_step, whole_step
from .thread_pool import Call

Evaluate = Callable[[Floats, Floats, NDArray[np.float32]], Any]
"""A program as array code: reads [F, N], slots [S, N], action [4, N] to `emit.Result`."""

_LOWEST, _HIGHEST = np.float32(-1), np.float32(1)
_HUGE = 1e10
"""mjMAXVAL: beyond it MuJoCo finds positions and velocities bad, and starts anew."""
_BAD = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)


class SimulatedEnv:
    """One env: its model, its simulation and the slots of its program."""

    def __init__(self, task_class: TaskClass) -> None:
        """Allocate an env without a state."""
        self.task_class = task_class
        self.model = ShallowModel(task_class.model, {entry.field for entry in task_class.entries})
        self.data = mujoco.MjData(task_class.model)
        self.slots: Floats = np.zeros(task_class.program.n_slots)
        """[n_slots]; a column of its class's slots once these are gathered."""
        self.loaded = False
        fields = {read.field for read in task_class.program.reads} | {"qpos", "qvel", "xpos", "mocap_pos", "ctrl"}
        self.arrays = {name: self._array(name) for name in fields - {"touching"}}
        """What is read and written each step."""

    def _array(self, name: str) -> NDArray[np.float64]:
        of_model = name.startswith("model.")
        array: NDArray[Any] = self.model.array(name[6:]) if of_model else getattr(self.data, name)
        if array.dtype != np.float64 or not array.flags.c_contiguous:
            raise ConfigError(
                f"engine: {self.task_class.name} reads {name}, which is {array.dtype}; the Python core reads arrays of "
                "float64 only: use core='compiled'"
            )
        return array

    def landmarks(self) -> list[int]:
        """Return an address in each piece of memory that belongs to the env."""
        struct = layout("mjData").from_address(self.data._address)
        return [self.data._address, struct.arena, *(address_of(array) for array in self.arrays.values())]


class Rows:
    """The envs of one class: what their program reads and keeps."""

    def __init__(
        self, envs: Sequence[SimulatedEnv], positions: Sequence[int], evaluate: Evaluate, memory: Memory
    ) -> None:
        """Look up where the reads of `envs`, which are at `positions` among all, lie in memory."""
        reads = envs[0].task_class.program.reads
        self._evaluate, self._memory = evaluate, memory
        consecutive = list(positions) == list(range(positions[0], positions[0] + len(positions)))
        self._where: Any = slice(positions[0], positions[-1] + 1) if consecutive else np.array(positions)
        touching = any(read.field == "touching" for read in reads)
        self._pad_contacts = PadContacts(reads, [env.data for env in envs], memory) if touching else None
        self._at = memory.doubles(np.stack([_read_addresses(env) for env in envs], axis=1))
        self._reads = np.empty(self._at.shape)
        self._slots = np.stack([env.slots for env in envs], axis=1)
        for column, env in enumerate(envs):
            env.slots = self._slots[:, column]

    def evaluate(self, actions: NDArray[np.float32], obs: Floats, reward: Floats, info: Floats) -> None:
        """Run the program after a step and write what it computes into the rows of the arrays of all envs."""
        self._memory.f64.take(self._at, out=self._reads, mode="clip")  # other modes copy `out`
        if self._pad_contacts is not None:
            self._pad_contacts(self._reads)
        result = self._evaluate(self._reads, self._slots, np.ascontiguousarray(actions[self._where].T))
        obs[self._where] = result.obs.T
        reward[self._where] = result.reward
        info[self._where] = result.info.T
        self._slots[...] = result.slots  # in place: envs hold columns


class Batch:
    """B envs in memory; gathered anew whenever one is replaced, because it looks into theirs."""

    def __init__(self, envs: Sequence[SimulatedEnv], functions: dict[TaskClass, Evaluate]) -> None:
        """Look up addresses, keep the envs of a class together."""
        self.envs = list(envs)
        self.memory = memory = Memory([at for env in self.envs for at in env.landmarks()])
        positions: dict[TaskClass, list[int]] = {}
        for i, env in enumerate(self.envs):
            positions.setdefault(env.task_class, []).append(i)
        self.rows = [Rows([envs[i] for i in at], at, functions[each], memory) for each, at in positions.items()]
        self._order = [i for at in positions.values() for i in at]
        fits = {each: fusable(each.model) for each in positions}
        self._calls = [_call(self.envs[i], fits[self.envs[i].task_class]) for i in self._order]
        classes = [env.task_class for env in self.envs]
        self._scale = np.array([each.action_scale for each in classes], np.float32)[:, None]
        self._low = np.array([each.mocap_low for each in classes])
        self._high = np.array([each.mocap_high for each in classes])
        self._inputs = memory.doubles([_input_addresses(env) for env in self.envs])
        self._mocap = np.ascontiguousarray(self._inputs[:, :3])
        self._values = np.empty(self._inputs.shape)
        states = [_span(env.arrays[name]) for env in self.envs for name in ("qpos", "qvel")]
        self._state_of = np.repeat(np.arange(len(states)) // 2, [len(state) for state in states])
        states += [_warning_addresses(env.data) for env in self.envs]
        self._watched = memory.doubles(np.concatenate(states))

    def drive(self, actions: NDArray[np.float32]) -> None:
        """Move the mocap bodies and set ctrl as upstream does, in its types: the shift is float32, the rest float64."""
        memory, values = self.memory.f64, self._values
        shift = np.maximum(actions[:, :3], _LOWEST)
        np.minimum(shift, _HIGHEST, out=shift)
        shift *= self._scale
        position = memory.take(self._mocap)
        position += shift
        np.maximum(position, self._low, out=position)
        np.minimum(position, self._high, out=position)
        values[:, :3] = values[:, 3:6] = position
        values[:, 6] = values[:, 7] = actions[:, 3]
        values[:, 7] *= -1.0
        memory[self._inputs] = values

    def calls(self, stale: Collection[int]) -> list[Call]:
        """Return the physics of one step, class by class; the `stale` envs compute everything."""
        if not stale:
            return self._calls
        changed = {i: _call(self.envs[i], fuse=False) for i in stale}
        return [changed.get(i, call) for i, call in zip(self._order, self._calls, strict=True)]

    def watch(self) -> tuple[list[int], list[int]]:
        """Return the envs that MuJoCo found unstable since the last call, and those that it will find bad next."""
        watched = self.memory.i64.take(self._watched)
        state, raised = watched[: len(self._state_of)].view(np.float64), watched[len(self._state_of) :]
        unstable, bad = [], []
        if np.count_nonzero(raised):
            self.memory.i64[self._watched[len(state) :]] = 0
            unstable = np.unique(np.flatnonzero(raised) // len(_BAD)).tolist()
        if not np.dot(state, state) <= _HUGE**2:  # else none is huge; true for NaN
            bad = np.unique(self._state_of[~(np.abs(state) <= _HUGE)]).tolist()
        return unstable, bad


def _call(env: SimulatedEnv, fuse: bool) -> Call:
    kind = fused_step if fuse else whole_step
    return kind(env.task_class.frame_skip), env.model.model, env.data


def _read_addresses(env: SimulatedEnv) -> NDArray[np.intp]:
    """Return where the program's reads lie; for "touching", which lies nowhere, somewhere harmless."""
    start = {name: address_of(array) for name, array in env.arrays.items()} | {"touching": address_of(env.data.qpos)}
    reads = env.task_class.program.reads
    return np.array([start[read.field] + 8 * read.index * (read.field != "touching") for read in reads], np.intp)


def _input_addresses(env: SimulatedEnv) -> NDArray[np.intp]:
    body = int(np.flatnonzero(env.task_class.model.body_mocapid == 0)[0])
    arrays = env.arrays
    return np.concatenate([_span(arrays["mocap_pos"]), _span(arrays["xpos"][body]), _span(arrays["ctrl"])])


def _span(array: NDArray[np.float64]) -> NDArray[np.intp]:
    return address_of(array) + 8 * np.arange(array.size, dtype=np.intp)


def _warning_addresses(data: Any) -> NDArray[np.intp]:
    """Return where the pairs of what went wrong and how often lie, 8 bytes each, zero while all is well."""
    start = int(data._address) + offset("mjData", "warning")
    return np.array([start + ctypes.sizeof(layout("mjWarningStat")) * int(kind) for kind in _BAD], np.intp)
