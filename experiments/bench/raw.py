"""The limit: MuJoCo's own `mj_step(nstep=5)`, and nothing else, on the same envs in the same states."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.envs.metaworld.upstream import make_env

from .clock import Sample, timed
from .trajectories import MODEL_FIELDS, REWARD_VERSION, Recording


class Raw:
    """mj_step through the Python bindings, a loop over each env's mjData.

    What drives an env (where the hand is pulled to, what the fingers are told, and what its goal changes in the model,
    where goals differ in that) is written right before each call, from tables made beforehand. The same loop without
    `mj_step` is timed too and taken off, so that what remains is MuJoCo and the call into it. No forward pass after the
    step, no observation, no reward. With several threads each steps its share of the envs through the whole window
    without ever waiting for the others.
    """

    label = "raw mj_step"

    def __init__(self, recording: Recording, num_envs: int, n_threads: int = 1) -> None:
        import mujoco

        self.recording, self.num_envs, self.n_threads = recording, num_envs, n_threads
        self.n_repeats = recording.repeats(num_envs)
        env: Any = make_env(recording.tasks[0], reward_version=REWARD_VERSION).unwrapped
        self._frame_skip = int(env.frame_skip)
        self._models = [copy.copy(env.model) for _ in range(n_threads)]  # threads write into them
        env.close()
        self._data = [mujoco.MjData(self._models[i % n_threads]) for i in range(num_envs)]
        self._written = _goal_dependent(recording)

    def measure(self, window: int, repeat: int) -> Sample:
        """See `Contender.measure`."""
        self._rewind(window, repeat)
        # A loop that only writes never waits, and the interpreter's lock makes threads take turns: its wall time is its
        # CPU time, unless another program comes between, which must not be taken off.
        without = self._timed(window, repeat, step=False).cpu_s
        return self._timed(window, repeat, step=True).minus(Sample(without, without))

    def reached(self) -> NDArray[Any] | None:
        """Return None: nothing is observed."""
        return None

    def positions(self) -> NDArray[np.float64]:
        """Return each env's generalised positions."""
        return np.stack([data.qpos for data in self._data])

    def close(self) -> None:
        """Drop the envs."""
        self._data.clear()

    def _rewind(self, window: int, repeat: int) -> None:
        import mujoco

        for i, row in enumerate(self.recording.rows(self.num_envs, repeat)):
            state, model = self.recording.states[row][window], self._models[i % self.n_threads]
            for field, values in state["model"].items():
                getattr(model, field)[...] = values.numpy()
            mujoco.mj_setState(model, self._data[i], state["physics"].numpy(), mujoco.mjtState.mjSTATE_INTEGRATION)

    def _timed(self, window: int, repeat: int, *, step: bool) -> Sample:
        loops = [self._loop(thread, window, repeat, step=step) for thread in range(self.n_threads)]
        if self.n_threads == 1:
            return timed(loops[0])
        threads = [threading.Thread(target=loop) for loop in loops]

        def work() -> None:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        return timed(work)

    def _loop(self, thread: int, window: int, repeat: int, *, step: bool) -> Callable[[], None]:
        """Return the work of one thread: all steps of its envs."""
        import mujoco

        envs = range(thread, self.num_envs, self.n_threads)
        model, frame_skip = self._models[thread], self._frame_skip
        rows = self.recording.rows(self.num_envs, repeat)
        mocap, ctrl = (
            self.recording.steps(values, self.num_envs, window, repeat)
            for values in (self.recording.mocap, self.recording.ctrl)
        )
        model_views = [getattr(model, field) for field in self._written]
        tables = []
        for i in envs:
            data = self._data[i]
            goal = [self.recording.states[rows[i]][window]["model"][field].numpy() for field in self._written]
            shared = list(zip(model_views, goal, strict=True))
            tables.append((data, data.mocap_pos[0], list(mocap[:, i]), data.ctrl, list(ctrl[:, i]), shared))
        advance = mujoco.mj_step if step else _nothing

        def loop() -> None:
            for t in range(len(mocap)):
                for data, hand, pulled, fingers, told, shared in tables:
                    hand[:] = pulled[t]
                    fingers[:] = told[t]
                    for view, values in shared:
                        view[:] = values
                    advance(model, data, frame_skip)

        return loop


def _nothing(model: Any, data: Any, nstep: int) -> None:
    """Stand in for mj_step when the rest of the loop is timed."""


def _goal_dependent(recording: Recording) -> tuple[str, ...]:
    """Return the model fields in which the recorded goals differ and that the physics feels."""
    models = [states[0]["model"] for states in recording.states]
    return tuple(f for f in MODEL_FIELDS if any(not models[0][f].equal(model[f]) for model in models[1:]))
