"""A Gymnasium environment is held to what it declares: in training and evaluation, in this process and in others."""

import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.agents.baselines.random_policy import RandomPolicy
from metarl.conformance import check_world
from metarl.envs.gym.world import GymWorld
from metarl.errors import ConfigError, MetarlError, WorldError
from metarl.evaluation import Protocol, evaluate
from metarl.loop import LoopSettings, NullRecorder, meta_train
from metarl.task_distribution import TaskDistribution
from metarl.tasks import Tasks
from tests.envs.gym import broken_gym as broken
from tests.envs.gym.walk_gym import Walk

TASKS = broken.whole().all("train")[:2]


def agent_for(family: TaskDistribution) -> RandomPolicy:
    world = family.make_world(1)
    try:
        return RandomPolicy(world.spec)
    finally:
        world.close()


def train(family: TaskDistribution) -> str:
    """Return the sentence that ends a short training run."""
    settings = LoopSettings(n_iterations=2, n_tasks=4, validate_every_iters=0)
    with pytest.raises(MetarlError) as caught:
        meta_train(agent_for(family), family, settings, NullRecorder(), seed=0)
    return str(caught.value)


def world_of(env: gym.Env, num_envs: int = 2, **options) -> GymWorld:
    """Return a reset world of environments like `env`, which a task does nothing to."""
    world = GymWorld(lambda task: type(env)(env.observation_space, env.action_space), lambda env, task: None, num_envs,
                     **{"horizon": broken.HORIZON, "example": TASKS[:1], "name": "walk"} | options)  # fmt: skip
    world.set_tasks(TASKS[:num_envs])
    world.reset(seed=0)
    return world


def test_the_family_with_nothing_broken_passes_every_check_and_trains() -> None:
    findings = check_world(broken.whole)
    assert {f.check: f.message for f in findings if f.status == "fail"} == {}
    meta_train(
        agent_for(broken.whole()), broken.whole(), LoopSettings(n_iterations=1, n_tasks=4), NullRecorder(), seed=0
    )


@pytest.mark.parametrize("name", broken.BROKEN)
def test_a_broken_environment_does_not_train_and_one_line_says_what_is_wrong(name: str) -> None:
    sentence = train(broken.BROKEN[name]())
    assert re.search(broken.says(name), sentence), sentence
    assert "\n" not in sentence
    if "failed at step" in sentence:
        assert re.search(r"world 'walk': env \d \(task 'walk/\d'\) failed at step \d of its episode: ", sentence)


@pytest.mark.parametrize("name", ["first obs NaN", "success in a list", "ends early"])
def test_evaluation_refuses_it_with_the_same_sentence(name: str) -> None:
    family = broken.BROKEN[name]()
    protocol = Protocol(split="test", adapt_episodes=1, eval_episodes=1, n_seeds=1)
    with pytest.raises(WorldError, match=broken.says(name)):
        evaluate(agent_for(family), family, protocol)
    whole = broken.whole()
    assert evaluate(agent_for(whole), whole, protocol).trials.returns.shape == (1, 2, 2)


def test_a_process_of_its_own_refuses_it_with_the_same_sentence() -> None:
    found = {}
    for n_workers in (0, 1):
        world = broken.Walks("entry NaN", n_workers).make_world(2)
        world.set_tasks(TASKS)
        with pytest.raises(WorldError) as caught:
            world.reset(seed=0)
        found[n_workers] = str(caught.value)
        world.close()
    assert found[0] == found[1]
    assert "observation entry 'body/energy' of the reset is nan" in found[0]


# ---------------------------------------------------------------- what is as good as declared


@pytest.mark.parametrize("value", [[1, 2, 3], (0.5, 1.0, 2.0), np.arange(3), np.ones(3, np.float16), torch.ones(3)])
def test_other_dtypes_of_the_same_numbers_are_taken(value: object) -> None:
    class Other(Walk):
        def look(self) -> object:
            return value

    world = world_of(Other())
    obs = world.step(torch.zeros(2, dtype=torch.int64))[0]
    assert obs.dtype == torch.float32
    assert obs.tolist() == [[float(x) for x in value]] * 2


@pytest.mark.parametrize("flag", [True, np.True_, 1, np.int64(1), np.array(True)])
@pytest.mark.parametrize("reward", [2, 2.0, np.float64(2), np.float16(2), np.array(2.0), np.int8(2)])
def test_every_way_to_write_one_number_or_one_bool_is_taken(flag: object, reward: object) -> None:
    class Ends(Walk):
        def step(self, action: object) -> tuple:
            obs, _, _, _, info = super().step(action)
            return obs, reward, flag, False, info | {"success": flag}

    world = world_of(Ends(), has_success=True)
    _, paid, terminated, truncated, info = world.step(torch.zeros(2, dtype=torch.int64))
    assert paid.tolist() == [2.0, 2.0]
    assert terminated.all()
    assert info["success"].all()
    assert not truncated.any()


def test_a_success_of_metaworlds_kind_and_a_mask_of_floats_are_taken() -> None:
    class Floats(Walk):
        def say(self) -> dict:
            return {"success": float(self.age == 1), "action_mask": np.array([0.0, 1.0, 1.0])}

    world = world_of(Floats(), has_success=True, has_action_mask=True)
    info = world.step(torch.ones(2, dtype=torch.int64))[4]
    assert info["success"].tolist() == [True, True]
    assert info["action_mask"].tolist() == [[False, True, True]] * 2


def test_bounds_of_floats_are_the_declarations_business_and_not_a_runs() -> None:
    """Well-known environments leave theirs now and then; `doctor` says so, and no run ends over it."""

    class Wide(Walk):
        def look(self) -> np.ndarray:
            return super().look() + np.float32(100.0)

    world = world_of(Wide())
    assert (world.step(torch.zeros(2, dtype=torch.int64))[0] > 20).all()


def test_a_time_limit_may_end_episodes_where_nothing_is_said_of_a_fixed_horizon() -> None:
    family = broken.BROKEN["time limit below the horizon"]()
    world = GymWorld(broken.CASES[family.case].make, broken.put, 1, horizon=6, example=TASKS[:1])
    world.set_tasks(TASKS[:1])
    world.reset(seed=0)
    ends = [bool(world.step(torch.zeros(1, dtype=torch.int64))[3]) for _ in range(8)]
    assert ends == [False, False, False, True] * 2


def test_large_numbers_are_no_fault() -> None:
    class Far(Walk):
        def look(self) -> np.ndarray:
            return np.array([1e20, -1e38, self.age], np.float32)

    world = world_of(Far(spaces.Box(-np.inf, np.inf, (3,), np.float32)))
    obs = world.step(torch.zeros(2, dtype=torch.int64))[0]
    assert torch.equal(obs, torch.tensor([[1e20, -1e38, 1.0]]).expand(2, 3))


# ---------------------------------------------------------------- actions


class Keeps(Walk):
    """Keeps the action it was given."""

    def step(self, action: object) -> tuple:
        self.given = action
        return Walk.look(self), 0.0, False, False, {}


def handed_over(space: spaces.Space, actions: torch.Tensor | np.ndarray) -> list:
    """Return what environments of this action space are given, and hold `env_actions` to it."""
    made = []

    def make(task: Tasks) -> Keeps:
        made.append(Keeps(actions=space))
        return made[-1]

    world = GymWorld(make, lambda env, task: None, len(actions), horizon=6, example=TASKS[:1])
    world.set_tasks(broken.whole().all("train")[: len(actions)])
    world.reset(seed=0)
    told = world.env_actions(actions)
    world.step(actions)
    given = [env.given for env in made[1:]]  # the first one was looked at for its spaces
    assert [np.asarray(a).tolist() for a in told] == [np.asarray(a).tolist() for a in given]
    assert all(type(a) is type(b) for a, b in zip(told, given, strict=True))
    return given


@pytest.mark.parametrize(
    ("space", "actions"),
    [
        (spaces.Box(-0.1, 0.1, (2,), np.float64), [[0.1, -0.1], [9.0, -9.0], [0.03, 0.0]]),
        (spaces.Box(-0.1, 0.1, (2,), np.float16), [[0.1, -0.1], [9.0, -9.0], [0.03, 0.0]]),
        (spaces.Box(-1.0, 1.0, (2,), np.float32), [[1.0, -1.0], [9.0, -9.0], [0.3, 0.0]]),
        (spaces.Box(-0.3, np.inf, (2,), np.float64), [[1e30, -0.3], [9.0, -9.0], [0.3, 0.0]]),
        (spaces.Box(0, 255, (2,), np.uint8), [[254.6, -0.4], [999.0, -9.0], [1.4, 1.6]]),
        (spaces.Box(-3, 3, (2,), np.int64), [[2.5, -2.6], [3.4, -9.0], [0.4, -0.4]]),
        (spaces.Box(-(2**62), 2**62, (2,), np.int64), [[1e30, -1e30], [0.0, 1.0], [2.0, 3.0]]),
        (spaces.Box(-1.0, 1.0, (), np.float32), [1.0, -9.0, 0.5]),
        (spaces.Box(-1.0, 1.0, (1, 2), np.float64), [[[0.1, -0.1]], [[9.0, -9.0]], [[0.03, 0.0]]]),
        (spaces.MultiDiscrete([2, 3], dtype=np.int32), [[0, 2], [1, 0], [1, 1]]),
        (spaces.MultiDiscrete([2, 3], start=[-1, 5], dtype=np.int8), [[0, 5], [-1, 7], [-1, 6]]),
        (spaces.Discrete(3), [0, 1, 2]),
        (spaces.Discrete(3, start=-1), [0, 1, -1]),
    ],
    ids=str,
)
def test_the_environment_is_given_an_action_of_its_own_space(space: spaces.Space, actions: list) -> None:
    for action in handed_over(space, torch.tensor(actions)):
        assert space.contains(action)
        if not isinstance(space, spaces.Discrete):
            assert isinstance(action, np.ndarray)
            assert action.dtype == space.dtype


class Loose(GymWorld):
    """Gives its environments what it was given, in float32."""

    def env_actions(self, actions: torch.Tensor) -> list:
        return list(actions.numpy())


@pytest.mark.parametrize(("kind", "status"), [(GymWorld, "pass"), (Loose, "fail")])
def test_the_doctor_looks_whether_actions_are_of_the_environments_own_space(kind: type[GymWorld], status: str) -> None:
    class Family(broken.Walks):
        def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> GymWorld:
            make = lambda task: Walk(actions=spaces.Box(-0.1, 0.1, (2,), np.float64))  # noqa: E731
            return kind(make, broken.put, num_envs, horizon=broken.HORIZON, example=TASKS[:1])

    [_, finding] = check_world(Family("nothing"), only=["env actions"])
    assert (finding.check, finding.status) == ("env actions", status)
    if status == "fail":
        assert "env 0 is given array([-0.1, -0.1], dtype=float32)" in finding.message
        assert "no element of its Box(-0.1, 0.1, (2,), float64)" in finding.message


def test_a_number_between_two_integers_counts_as_the_nearest() -> None:
    given = handed_over(spaces.Box(0, 255, (2,), np.uint8), torch.tensor([[1.4, 1.6], [300.0, -1.0]]))
    assert [a.tolist() for a in given] == [[1, 2], [255, 0]]


@pytest.mark.parametrize(
    ("space", "actions", "message"),
    [
        (spaces.Discrete(3), torch.tensor([0.0, 1.5]), r"env 0: 0.0 \(float32\), expected one of Discrete\(3\)"),
        (spaces.Discrete(3), torch.tensor([0, 3]), r"out of range for env 1: 3"),
        (spaces.MultiDiscrete([2, 2]), torch.tensor([[0, 1], [2, 0]]), r"out of range for env 1: \[2 0\]"),
        (spaces.Box(-1.0, 1.0, (1,)), torch.tensor([[0.0], [torch.nan]]), r"NaN or infinite action for env 1"),
        (spaces.Box(-np.inf, 1.0, (1,)), torch.tensor([[torch.inf], [-torch.inf]]), r"infinite action for env 1"),
        (spaces.Box(-3, 3, (1,), np.int64), torch.tensor([[0.0], [torch.nan]]), r"NaN or infinite action for env 1"),
    ],
)
def test_an_action_that_cannot_be_meant_is_refused(space: spaces.Space, actions: torch.Tensor, message: str) -> None:
    with pytest.raises(WorldError, match=message):
        handed_over(space, actions)


def test_a_bound_beyond_float32_is_none_in_observations() -> None:
    world = world_of(Walk(spaces.Box(-1e300, 1e300, (3,), np.float64)))
    assert np.isinf(world.single_observation_space.high).all()


def test_an_environment_class_that_asks_for_its_task_may_be_passed_as_it_is() -> None:
    class Asks(Walk):
        def __init__(self, task: Tasks) -> None:
            super().__init__()

    assert GymWorld(Asks, broken.put, 1, horizon=3, example=TASKS[:1]).single_action_space == spaces.Discrete(3)
    with pytest.raises(ConfigError, match="whose constructor asks for no task"):
        GymWorld(Walk, broken.put, 1, horizon=3, example=TASKS[:1])
