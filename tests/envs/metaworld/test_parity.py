"""The engine is upstream, number for number: all classes, both cores, whatever the batch. `make parity` does more."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from metarl.envs.metaworld.core_selection import make_core
from metarl.envs.metaworld.tasks import class_names
from metarl.errors import ConfigError
from metarl.experiments.parity.recording import BEHAVIOURS, CLIPPED, Recording, record_class
from metarl.experiments.parity.replay import Arrangement, Tally, make_engine, replay
from metarl.experiments.parity.report import TOLERANCE, row
from metarl.tasks import Tasks, concatenate

pytestmark = pytest.mark.metaworld

N_STEPS = 40
OLD_REWARD = ("reach-v3", "pick-place-v3", "door-open-v3", "basketball-v3", "hammer-v3", "sweep-into-v3")
"""Classes whose reward "v1" is compared here; `make parity` has all."""


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["compiled", "python"])
def core(request: pytest.FixtureRequest) -> str:
    try:
        make_core(request.param, 1, 1).close()
    except ConfigError as missing:
        pytest.skip(str(missing))
    return str(request.param)


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    """Return upstream's steps in all classes, two behaviours each."""
    return [r for name in class_names() for r in record_class(name, "v2", ("expert", "random"), 1, 1, N_STEPS, seed=1)]


@pytest.fixture(scope="module")
def mixed() -> list[Recording]:
    """Return upstream's steps in four classes, every behaviour, two episodes with different goals."""
    names = ("pick-place-v3", "door-lock-v3", "bin-picking-v3", "reach-v3")
    return [r for name in names for r in record_class(name, "v2", BEHAVIOURS, 2, 2, 25, seed=2)]


def different(tallies: dict[str, Tally]) -> dict[str, Any]:
    """Return what breaks the promise, per class: any bit of observation or success, rewards and info beyond 1e-12."""
    found = {name: row([tally], examples=True) for name, tally in tallies.items()}
    return {
        name: of_class
        for name, of_class in found.items()
        if of_class["not_bit_equal"]["obs"]
        or of_class["not_bit_equal"]["success"]
        or max(of_class["largest_difference"].values()) > TOLERANCE
    }


def test_every_class_equals_upstream_in_one_mixed_batch(core: str, recordings: list[Recording]) -> None:
    arrangement = Arrangement(core, n_threads=2, batch=100, through="core", shuffle=5)
    tallies = replay(arrangement, recordings, partial(make_engine, reward_version="v2"))
    assert len(tallies) == 50
    assert sum(t.steps for t in tallies.values()) == 100 * N_STEPS
    assert different(tallies) == {}


def test_the_old_reward_equals_upstream_too(core: str) -> None:
    old = [r for name in OLD_REWARD for r in record_class(name, "v1", ("expert", "noisy"), 1, 1, N_STEPS, seed=3)]
    arrangement = Arrangement(core, n_threads=1, batch=100, through="world", shuffle=6)
    tallies = replay(arrangement, old, partial(make_engine, reward_version="v1"))
    assert set(tallies) == set(OLD_REWARD)
    assert different(tallies) == {}


@pytest.mark.parametrize(("n_threads", "batch"), [(1, 1), (2, 16), (1, 48)])
def test_batch_size_order_and_threads_make_no_difference(
    core: str, mixed: list[Recording], n_threads: int, batch: int
) -> None:
    for through in ("core", "world"):
        arrangement = Arrangement(core, n_threads, batch, through, shuffle=batch, every=6 if batch == 1 else 1)
        tallies = replay(arrangement, mixed, partial(make_engine, reward_version="v2"))
        assert different(tallies) == {}
        assert sum(t.boundary for t in tallies.values()) == 0


def test_whole_episodes_of_the_expert_equal_upstream_and_succeed(core: str) -> None:
    names = ("pick-place-v3", "hammer-v3", "peg-insert-side-v3")
    whole = [r for name in names for r in record_class(name, "v2", ("expert",), 1, 2, 500, seed=4)]
    assert all(r.info[..., 0].any() for r in whole)  # what success and contact lead to is compared as well
    arrangement = Arrangement(core, n_threads=2, batch=3, through="world", shuffle=0)
    assert different(replay(arrangement, whole, partial(make_engine, reward_version="v2"))) == {}


def test_a_branch_that_few_episodes_reach_rounds_as_upstream_does(core: str) -> None:
    """Here the hand dips below the funnel while holding the object: the reward is then rounded to float32."""
    five = record_class("bin-picking-v3", "v2", ("noisy",), n_goals=5, n_episodes=1, n_steps=400, seed=0)
    arrangement = Arrangement(core, n_threads=1, batch=2, through="core", shuffle=0)
    assert different(replay(arrangement, [five[2], five[4]], partial(make_engine, reward_version="v2"))) == {}


def test_both_cores_agree_bit_for_bit_wherever_a_copy_stands(core: str, recordings: list[Recording]) -> None:
    random = [r for r in recordings if r.behaviour == "random"]
    tasks = concatenate([r.tasks for r in random])
    draw = torch.Generator().manual_seed(0)
    order = torch.randperm(len(tasks), generator=draw)
    actions = torch.rand(12, len(tasks), 4, generator=draw) * 2 - 1
    straight = play(core, tasks, actions, n_threads=1)
    shuffled = play("python", tasks[order], actions[:, order], n_threads=2)
    back = order.argsort().numpy()
    assert all(np.array_equal(a, b[:, back], equal_nan=True) for a, b in zip(straight, shuffled, strict=True))


def play(core: str, tasks: Tasks, actions: torch.Tensor, n_threads: int) -> list[np.ndarray]:
    """Return float64 observations, rewards and info [T, B, ...]."""
    world = make_engine(len(tasks), horizon=500, core=core, n_threads=n_threads, reward_version="v2")
    try:
        world.set_tasks(tasks)
        world.reset(seed=0)
        steps = []
        for action in actions:
            world.step(action)
            steps.append((world.core.obs.copy(), world.core.reward.copy(), world.core.info.copy()))
        return [np.stack(parts) for parts in zip(*steps, strict=True)]
    finally:
        world.close()


# ---------------------------------------------------------------- the comparison itself


class Replayer:
    """Stands in for a world whose core returns what was recorded, but for one number of env 1 at step 3."""

    def __init__(self, batch: list[Recording], quantity: str, entry: int, by: float) -> None:
        self.batch, self.quantity, self.entry, self.by, self.t = batch, quantity, entry, by, 0
        self.core = self

    def set_tasks(self, tasks: Tasks) -> None:
        assert tasks.groups == tuple(r.name for r in self.batch)

    def reset(self, seed: int) -> tuple[torch.Tensor, dict[str, Any]]:
        return torch.from_numpy(np.stack([r.first[0] for r in self.batch]).astype(np.float32)), {}

    def step(self, actions: np.ndarray) -> None:
        assert np.array_equal(actions, np.stack([r.actions[0, self.t] for r in self.batch]))
        for name in ("obs", "reward", "info"):
            setattr(self, name, np.stack([getattr(r, name)[0, self.t] for r in self.batch]))
        if self.t == 3:
            row = getattr(self, self.quantity).reshape(3, -1)[1]
            row[self.entry] += self.by or np.spacing(row[self.entry])
        self.t += 1

    def close(self) -> None:
        assert self.t == N_STEPS


@pytest.mark.parametrize(
    ("quantity", "entry", "by", "name", "tolerated"),
    [
        ("obs", 2, 0.0, "obs", False),  # the last bit
        ("obs", 38, 0.0, "obs", False),  # zero upstream
        ("reward", 0, 2e-12, "reward", False),
        ("reward", 0, 0.0, "reward", True),
        ("info", 0, 1.0, "success", False),
        ("info", 5, 1e-9, "obj_to_target", False),
    ],
)
def test_a_single_wrong_number_is_found_and_named(
    recordings: list[Recording], quantity: str, entry: int, by: float, name: str, tolerated: bool
) -> None:
    three = [r for r in recordings if r.behaviour == "random"][:3]
    arrangement = Arrangement("python", n_threads=1, batch=3, through="core", shuffle=0)
    (batch,) = arrangement.batches(three)
    tallies = replay(arrangement, three, lambda n, **options: Replayer(batch, quantity, entry, by))
    wrong = tallies[batch[1].name]
    assert wrong.unequal[name] == sum(wrong.unequal.values()) == 1
    assert wrong.worst[name] == pytest.approx(by, rel=1e-3) or not by
    assert {key: wrong.examples[0][key] for key in ("quantity", "step", "position", "task")} == {
        "quantity": name, "step": 3, "position": 1, "task": batch[1].tasks.names[0],
    }  # fmt: skip
    assert all(tally.exact for key, tally in tallies.items() if key != batch[1].name)
    assert set(different(tallies)) == (set() if tolerated else {batch[1].name})


def test_recordings_repeat_themselves_and_press_hard() -> None:
    a, b = (record_class("push-v3", "v2", BEHAVIOURS, 1, 2, 10, seed=7) for _ in range(2))
    assert all(np.array_equal(x.obs, y.obs) and np.array_equal(x.actions, y.actions) for x, y in zip(a, b, strict=True))
    by_name = {r.behaviour: r for r in a}
    assert all(np.abs(by_name[name].actions).max() <= 1 for name in CLIPPED)
    assert np.abs(by_name["beyond"].actions).max() > 1
    assert not by_name["zero"].actions.any()
    assert len(set(by_name["expert"].tasks.keys())) == 2  # the goal changes between episodes
