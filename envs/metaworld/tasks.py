"""Meta-World's task classes and goals as `Tasks` values, built from upstream's own benchmarks."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from metarl.envs.opengl import remedy
from metarl.errors import ConfigError, nearest
from metarl.tasks import Tasks

from .versions import check_installed

MAX_STEPS = 500
"""Env steps per episode upstream; one more raises."""

GOAL_WIDTH = 6
"""Longest upstream goal vector; shorter ones are padded with zeros, and `goal_size` says how much counts."""

TEST_ONLY_NOTE = (
    "{names}: in the train and the test classes of upstream's {benchmark}, so not held out; left out of the test split"
)


def metaworld_module() -> Any:
    """Import Meta-World; raises ConfigError if it or MuJoCo is missing or another version (see `versions`)."""
    check_installed()
    try:
        import metaworld
    except Exception as error:  # mujoco loads MUJOCO_GL's library at import, and fails in that library's own way
        asked = os.environ.get("MUJOCO_GL", "unset")
        raise ConfigError(
            f"Meta-World cannot be imported ({type(error).__name__}: {error}); MUJOCO_GL is {asked!r}: unset it, or "
            f"{remedy()}"
        ) from error
    return metaworld


@cache
def class_names() -> tuple[str, ...]:
    """Return the names of all 50 task classes in upstream's order; `class_index` counts along it."""
    return tuple(metaworld_module().ALL_V3_ENVIRONMENTS)


def check_classes(names: Sequence[str], what: str) -> None:
    """Raise ConfigError naming the nearest known classes for an unknown one, an empty list or a repeated name."""
    if not isinstance(names, list | tuple):
        raise ConfigError(f'{what}: classes are a list such as ["reach-v3"], got {names!r}')
    for name in map(str, names):
        if name not in class_names():
            raise ConfigError(f"{what}: Meta-World has no task class {name!r}; {nearest(name, class_names())}")
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"{what}: needs at least one Meta-World task class, each once, got {list(names)}")


@dataclass(frozen=True)
class Splits:
    """Tasks of the three splits, class by class, and what a reader of results must know about them."""

    train: Tasks
    validation: Tasks
    test: Tasks
    notes: tuple[str, ...]


@cache
def benchmark_splits(
    kind: str, train: tuple[str, ...], test: tuple[str, ...], seed: int, validation_goals: int
) -> Splits:
    """Return the splits of upstream's benchmark `kind` ("ML1", "ML10", "ML25", "ML45" or "custom").

    The last `validation_goals` of each train class become the validation split. Classes that upstream puts into train
    and test alike are left out of test, with a note. Cached: building a benchmark takes seconds.

    Raises: ConfigError if a goal is in two splits.
    """
    upstream = _upstream_benchmark(kind, train, test, seed)
    seen, held_out = _encode(upstream.train_tasks), _encode(upstream.test_tasks)
    notes = []
    if kind != "ML1":
        both = sorted(set(seen.groups) & set(held_out.groups))
        if both:
            held_out = held_out[[i for i, g in enumerate(held_out.groups) if g not in both]]
            notes.append(TEST_ONLY_NOTE.format(names=", ".join(both), benchmark=kind))
    for_training, for_selection = [], []
    for rows in class_rows(seen).values():
        for_training += rows[:-validation_goals]
        for_selection += rows[-validation_goals:]
    splits = Splits(seen[for_training], seen[for_selection], held_out, tuple(notes))
    check_disjoint(kind, splits)
    return splits


def check_disjoint(kind: str, splits: Splits) -> None:
    """Raise ConfigError if two splits share a task."""
    keys = {name: set(getattr(splits, name).keys()) for name in ("train", "validation", "test")}
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = len(keys[a] & keys[b])
        if shared:
            raise ConfigError(f"{kind}: {shared} goals are in both {a} and {b}; choose another seed")


def class_rows(tasks: Tasks) -> dict[str, list[int]]:
    """Return the rows of each class, classes in order of appearance."""
    rows: dict[str, list[int]] = {}
    for i, group in enumerate(tasks.groups):
        rows.setdefault(group, []).append(i)
    return rows


def goal_of(task: Tasks) -> tuple[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return class name and goal vector of one task."""
    size = int(task.values["goal_size"][0])
    return class_names()[int(task.values["class_index"][0])], task.values["goal"][0, :size].numpy().copy()


def upstream_task(task: Tasks) -> Any:
    """Return one task as upstream's own `Task`, goal hidden."""
    return upstream_goal(*goal_of(task))


def upstream_goal(name: str, goal: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    """Return the task of class `name` with `goal` as upstream's own `Task`, goal hidden."""
    from metaworld.types import Task

    environment = metaworld_module().ALL_V3_ENVIRONMENTS[name]
    data = {"rand_vec": goal, "env_cls": environment, "partially_observable": True}
    return Task(env_name=name, data=pickle.dumps(data))


def _upstream_benchmark(kind: str, train: tuple[str, ...], test: tuple[str, ...], seed: int) -> Any:
    metaworld = metaworld_module()
    with _without_physics():
        if kind == "ML1":
            return metaworld.ML1(train[0], seed=seed)
        if kind == "custom":
            return metaworld.CustomML(list(train), list(test), seed=seed)
        return getattr(metaworld, kind)(seed=seed)


@contextmanager
def _without_physics() -> Iterator[None]:
    """Let upstream draw its goals without simulating: 3 times faster, and the same goals in all 50 classes.

    A benchmark resets each environment 50 times to see which goal it draws. The draw does not look at the simulation,
    but a reset settles the arm for 100 control steps; here they only place the bodies where the state says.
    """
    import mujoco
    from metaworld.sawyer_xyz_env import SawyerXYZEnv

    patched: Any = SawyerXYZEnv
    kept = vars(patched).get("do_simulation")  # None: inherited

    def place(self: Any, ctrl: Any, n_frames: int | None = None) -> None:
        mujoco.mj_kinematics(self.model, self.data)

    patched.do_simulation = place
    try:
        yield
    finally:
        if kept is None:
            del patched.do_simulation
        else:
            patched.do_simulation = kept


def _encode(upstream_tasks: Sequence[Any]) -> Tasks:
    """Return upstream's tasks as values."""
    index = {name: i for i, name in enumerate(class_names())}
    goal = torch.zeros(len(upstream_tasks), GOAL_WIDTH, dtype=torch.float64)
    sizes, names, counts = [], [], dict[str, int]()
    for i, task in enumerate(upstream_tasks):
        # The bytes come from the installed package's own constructor a moment ago, not from disk.
        data = pickle.loads(task.data)
        if set(data) != {"rand_vec", "env_cls", "partially_observable"} or not data["partially_observable"]:
            raise ConfigError(
                f"Meta-World task {task.env_name!r} has parameters {sorted(data)} that are not understood"
            )
        vector = data["rand_vec"]
        goal[i, : len(vector)] = torch.from_numpy(np.asarray(vector, dtype=np.float64))
        sizes.append(len(vector))
        counts[task.env_name] = counts.get(task.env_name, -1) + 1
        names.append(f"{task.env_name}/{counts[task.env_name]}")
    groups = tuple(task.env_name for task in upstream_tasks)
    return Tasks(
        {
            "class_index": torch.tensor([index[g] for g in groups], dtype=torch.int64),
            "goal": goal,
            "goal_size": torch.tensor(sizes, dtype=torch.int64),
        },
        tuple(names),
        groups,
    )
