"""What the engine must know about each class, taken from upstream once: program, model, and where episodes start.

One upstream environment per class serves as the template. It is never stepped; it is reset once per goal, by upstream's
own code, and the state it then has is kept: beginning an episode is putting that state into an env.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.commandline import pip_command
from metarl.errors import ConfigError
from metarl.tasks import Tasks

from .core_protocol import EnvState, Floats, ModelEntry, TaskClass
from .program import Program
from .tasks import class_names, metaworld_module, upstream_goal
from .versions import SUPPORTED

MAX_STARTS = 16_384
"""First states kept per process, a few kB each; the one unused for longest goes first. ML45 has 4,500 goals."""

MOST_DRAWS = 8
"""Times that a reset may ask for its goal; upstream's classes ask once or twice unless they reject it."""

_ASSETS = ("mesh_", "tex_", "skin_", "hfield_", "bvh_", "oct_")
"""Prefixes of model arrays with geometry and pictures: megabytes that no environment writes to."""

_LOCK = RLock()


@dataclass(frozen=True, eq=False)
class Start:
    """What an env has right after upstream's reset."""

    state: EnvState
    obs: Floats
    """[39], as upstream's reset returns it: not clipped."""


@dataclass(frozen=True)
class GoalKey:
    """A class and one of its goals, comparable bit for bit."""

    name: str
    goal: bytes
    """The goal vector's float64 numbers."""


def goal_keys(tasks: Tasks) -> list[GoalKey]:
    """Return one key per task."""
    names = class_names()
    classes, sizes = tasks.values["class_index"].tolist(), tasks.values["goal_size"].tolist()
    goals = tasks.values["goal"].cpu().numpy().astype(np.float64, copy=False)
    return [GoalKey(names[c], row[:size].tobytes()) for c, row, size in zip(classes, goals, sizes, strict=True)]


def task_class(name: str, reward_version: str = "v2") -> TaskClass:
    """Return the class `name`; the first call takes a moment, later ones return the same object.

    Raises: ConfigError if upstream's code for it is not understood (see `derive`).
    """
    with _LOCK:
        return _template(name, reward_version).task_class


def reset_state(task_class: TaskClass, goal: NDArray[np.float64]) -> tuple[EnvState, Floats]:
    """Return state and first observation [39] of an episode with `goal`, exactly as upstream's reset leaves them.

    Raises: ConfigError for a goal that the class cannot have.
    """
    key = GoalKey(task_class.name, np.asarray(goal, np.float64).tobytes())
    found = start_of(key, task_class.program.reward_version)
    return found.state, found.obs


def start_of(key: GoalKey, reward_version: str) -> Start:
    """Return where episodes of a goal start; upstream's reset runs at the first call for a goal, taking about 10 ms.

    Raises: ConfigError for a goal that the class cannot have.
    """
    with _LOCK:
        at = (key, reward_version)
        found = _starts.get(at)
        if found is None:
            found = _starts[at] = _template(key.name, reward_version).start(np.frombuffer(key.goal))
            if len(_starts) > MAX_STARTS:
                _starts.popitem(last=False)
        else:
            _starts.move_to_end(at)
        return found


_starts: OrderedDict[tuple[GoalKey, str], Start] = OrderedDict()


@cache
def _template(name: str, reward_version: str) -> _Template:
    return _Template(name, reward_version)


class _Template:
    """The upstream environment of one class, reset over and over."""

    def __init__(self, name: str, reward_version: str) -> None:
        self.name = name
        self.env = _build(name, reward_version)
        _refuse_to_search(self.env)
        self.entries = self._written_by_resets()
        import mujoco

        self._spec = mujoco.mjtState.mjSTATE_INTEGRATION
        self.task_class = TaskClass(
            name=name,
            program=program_of(self.env, name, reward_version),
            model=self.env.model,
            action_scale=float(self.env.action_scale),
            mocap_low=np.asarray(self.env.mocap_low, np.float64),
            mocap_high=np.asarray(self.env.mocap_high, np.float64),
            frame_skip=int(self.env.frame_skip),
            entries=self.entries,
            n_state=mujoco.mj_stateSize(self.env.model, self._spec),
        )

    def start(self, goal: Floats) -> Start:
        """Run upstream's reset and return what it leaves behind, whatever was reset before."""
        import mujoco

        check_goal(self.env, self.name, goal)
        # A reset that writes an entry only for some goals must find what a new environment has.
        for field, values in self._pristine.items():
            getattr(self.env.model, field)[...] = values
        try:
            obs = self._reset(goal)
        except _GoalRefused:
            raise ConfigError(
                f"goal {goal.tolist()} puts the things of {self.name} too close together; upstream would look for "
                f"another goal for ever"
            ) from None
        physics = np.zeros(self.task_class.n_state)
        mujoco.mj_getState(self.env.model, self.env.data, physics, self._spec)
        state = EnvState(physics, self._model_values(), slots_of(self.env, self.task_class.program))
        for array in (state.model, state.slots, obs):  # MuJoCo's bindings take physics only if it could be written to
            array.flags.writeable = False
        return Start(state, obs)

    def _reset(self, goal: Floats) -> Floats:
        self.env.set_task(upstream_goal(self.name, goal.copy()))
        obs, _ = self.env.reset()
        return np.array(obs, np.float64)

    def _model_values(self) -> Floats:
        """Return the values of the entries, one after the other."""
        model = self.env.model
        parts = [getattr(model, e.field).reshape(-1)[e.start : e.start + e.size] for e in self.entries]
        return np.concatenate([np.zeros(0), *parts])

    def _written_by_resets(self) -> tuple[ModelEntry, ...]:
        """Return which numbers of the model differ from a new environment's after a reset, whole rows of them.

        Three goals that differ in every number show it. Raises: ConfigError if a reset writes something that is no
        float64 number.
        """
        model, space, generator = self.env.model, self.env._random_reset_space, np.random.default_rng(0)
        before = {field: array.copy() for field, array in _arrays(model)}
        rows: dict[str, set[int]] = {}
        seen = 0
        while seen < 3:
            with suppress(_GoalRefused):
                self._reset(generator.uniform(space.low, space.high))
                seen += 1
            for field, array in _arrays(model):
                if array.tobytes() != before[field].tobytes():
                    unequal = (array != before[field]).reshape(len(array), -1).any(axis=1)
                    rows.setdefault(field, set()).update(np.flatnonzero(unequal).tolist())
        self._pristine = {field: before[field] for field in rows}
        entries = []
        for field, found in sorted(rows.items()):
            array = getattr(model, field)
            if array.dtype != np.float64:
                raise ConfigError(
                    f"{self.name}: upstream's reset writes {array.dtype} numbers into model.{field}, which envs of "
                    f"the engine share; use backend='upstream'"
                )
            width = array[0].size
            entries += [ModelEntry(field, row * width, width) for row in sorted(found)]
        return tuple(entries)


def _build(name: str, reward_version: str) -> Any:
    """Return a new upstream environment; raises ConfigError if its model is missing or broken."""
    try:
        return metaworld_module().ALL_V3_ENVIRONMENTS[name](reward_function_version=reward_version)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"{name}: upstream's model cannot be loaded ({reason}); install Meta-World anew with "
            f"`{pip_command('--force-reinstall', 'metaworld==' + SUPPORTED['metaworld'])}`"
        ) from error


class _GoalRefused(Exception):
    """Upstream's reset did not like a goal and asked for another."""


def _refuse_to_search(env: Any) -> None:
    """Let a reset raise where upstream would go round and round: a fixed goal stays the same however often one asks."""
    ask, of_class = env._get_state_rand_vec, env.reset_model

    def reset_model() -> Any:
        asked = 0

        def once() -> Any:
            nonlocal asked
            asked += 1
            if asked > MOST_DRAWS:
                raise _GoalRefused
            return ask()

        env._get_state_rand_vec = once
        return of_class()

    env.reset_model = reset_model


def _arrays(model: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield all arrays of a model that are not geometry."""
    for field in _array_fields():
        array = getattr(model, field)
        if isinstance(array, np.ndarray) and array.size:
            yield field, array


@cache
def _array_fields() -> tuple[str, ...]:
    import mujoco

    return tuple(f for f in dir(mujoco.MjModel) if not f.startswith(("_", *_ASSETS)))


def check_goal(env: Any, name: str, goal: Floats) -> None:
    """Raise ConfigError for a goal that the class `name`, of which `env` is one, cannot have."""
    space = env._random_reset_space
    if goal.shape != space.low.shape or not ((goal >= space.low) & (goal <= space.high)).all():
        raise ConfigError(
            f"goal {goal.tolist()} is outside what {name} can have, {space.low.tolist()} to {space.high.tolist()}"
        )


def slots_of(env: Any, program: Program) -> Floats:
    """Return the attributes of an upstream environment in the order of the program's slots.

    Raises: ConfigError for an attribute whose shape or value has no place in them.
    """
    slots = np.zeros(program.n_slots)
    for attribute in program.attributes:
        value = getattr(env, attribute.name, None)
        if value is None:
            # Attributes that do not exist yet are written before they are read, or upstream would fail.
            if attribute.none_slot >= 0:
                slots[attribute.none_slot] = 1.0
            elif hasattr(env, attribute.name):
                raise ConfigError(f"{program.task}: {attribute.name} is None after a reset, which its program excludes")
            continue
        array = np.asarray(value, np.float64)
        if array.shape != attribute.shape:
            raise ConfigError(
                f"{program.task}: {attribute.name} has shape {array.shape} after a reset, its program says "
                f"{attribute.shape}"
            )
        slots[attribute.start : attribute.start + array.size] = array.reshape(-1)
    return slots


def program_of(env: Any, name: str, reward_version: str) -> Program:
    """Return the program of a class of which `env` is one that has a task and was reset; derived once per machine."""
    from .native.programs import cached_program

    def derive() -> Program:
        from .derive import derive_program

        return derive_program(env, reward_version)

    return cached_program(name, reward_version, derive)
