"""What TensorWorld promises, on every sanity world and on a small one with random starts, random steps and ends."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl import envs
from metarl.envs.tensor_world import TensorWorld
from metarl.errors import ConfigError, WorldError
from metarl.seeding import EnvStreams, generator
from metarl.spec import WorldSpec
from metarl.tasks import Tasks

SANITY = ("bandit", "tabular-mdp", "gridworld", "navigation", "point-robot", "sparse-point-robot", "corner-point")
RANDOM = ("bandit", "tabular-mdp", "point-robot", "corner-point", "dice")


class Dice(TensorWorld):
    """Starts on a random number, adds a random one; ends by itself once the sum exceeds the task's limit."""

    def __init__(self, num_envs, *, fixed_horizon=False, horizon=6):
        box = spaces.Box(-1e6, 1e6, (1,), np.float32)
        push = spaces.Box(0.0, 1.0, (1,), np.float32)
        spec = WorldSpec(box, push, horizon, name="dice", fixed_horizon=fixed_horizon, has_success=True)
        super().__init__(spec, num_envs)

    def initial(self, streams, episode):
        return {"sum": streams.uniform(episode).squeeze(1)}

    def transition(self, state, actions, streams, clock):
        total = state["sum"] + actions[:, 0] + streams.uniform(clock).squeeze(1)
        over = total > self.params["limit"]
        return {"sum": total}, total, None if self.fixed_horizon else over, over

    def observation(self, state):
        return state["sum"].clone()[:, None]


def dice_tasks(*limits):
    return Tasks.of("dice", limit=torch.tensor(limits))


def some_tasks(name, n, seed=0):
    """Env i has the same task however many envs there are."""
    if name == "dice":
        return dice_tasks(*[1.5 + 0.5 * (i + seed) for i in range(n)])
    return envs.make(name).sample("train", 16, generator(seed, "tasks"))[:n]


def build(name, n, tasks_seed=0):
    world = Dice(n) if name == "dice" else envs.make(name).make_world(n)
    world.set_tasks(some_tasks(name, n, tasks_seed))
    return world


def act(world, t):
    """Actions of step t; those of env i depend on i and t only."""
    u = EnvStreams(world.num_envs, 7).uniform(t, 2)
    space = world.single_action_space
    if isinstance(space, spaces.Discrete):
        return (u[:, 0] * int(space.n)).long()
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
    return low + (high - low) * u[:, : low.shape[0]]


def record(world, times):
    rows = []
    for t in times:
        obs, reward, terminated, truncated, info = world.step(act(world, t))
        rows.append({"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated} | info)
    return rows


def assert_equal(rows, others, copies=slice(None)):
    assert len(rows) == len(others)
    for t, (row, other) in enumerate(zip(rows, others, strict=True)):
        assert row.keys() == other.keys()
        for key, value in row.items():
            assert torch.equal(value[copies], other[key][copies]), (t, key)


def differ(rows, others):
    return any(not torch.equal(a[k], b[k]) for a, b in zip(rows, others, strict=True) for k in a)


def long(world):
    return range(min(2 * world.horizon + 3, 130))


each_world = pytest.mark.parametrize("name", [*SANITY, "dice"])


@each_world
def test_copies_do_not_depend_on_how_many_there_are(name):
    few, many = build(name, 3), build(name, 8)
    few.reset(seed=5), many.reset(seed=5)
    for a, b in zip(record(few, long(few)), record(many, long(many)), strict=True):
        assert all(torch.equal(a[key], b[key][:3]) for key in a)


@each_world
def test_equal_seeds_give_equal_results_and_a_new_seed_starts_afresh(name):
    world, twin = build(name, 4), build(name, 4)
    first_obs, _ = world.reset(seed=11)
    first = record(world, long(world))
    twin.reset(seed=11)
    assert_equal(first, record(twin, long(twin)))
    world.reset(seed=12)
    other = record(world, long(world))
    assert differ(first, other) == (name in RANDOM)
    again_obs, _ = world.reset(seed=11)
    assert torch.equal(first_obs, again_obs)
    assert_equal(first, record(world, long(world)))


@pytest.mark.parametrize("name", RANDOM)
def test_a_reset_without_seed_goes_on_with_new_random_numbers(name):
    world = build(name, 8)
    world.reset(seed=1)
    first = record(world, long(world))
    world.reset()
    assert differ(first, record(world, long(world)))


@each_world
def test_worlds_leave_the_global_random_state_alone(name):
    before = torch.get_rng_state()
    world = build(name, 4)
    world.reset(seed=0)
    record(world, range(12))
    assert torch.equal(before, torch.get_rng_state())


@each_world
def test_a_snapshot_goes_on_bit_for_bit_in_another_world(name):
    world = build(name, 4)
    world.reset(seed=3)
    record(world, range(5))
    # The snapshot also carries envs out of step and tasks that still wait for their env's next reset.
    world.set_tasks(some_tasks(name, 4, seed=9))
    world.reset(options={"mask": torch.tensor([True, False, False, True])})
    record(world, range(5, 8))
    stored = world.state_dict()
    expected = record(world, long(world))
    other = build(name, 4, tasks_seed=1)
    other.reset(seed=99)
    record(other, range(3))
    other.load_state_dict(stored)
    assert_equal(expected, record(other, long(other)))
    assert other.tasks == world.tasks
    world.load_state_dict(stored)
    assert_equal(expected, record(world, long(world)))


@each_world
def test_a_masked_reset_leaves_the_other_copies_alone(name):
    world, twin = build(name, 4), build(name, 4)
    world.reset(seed=3), twin.reset(seed=3)
    start, _ = build(name, 4).reset(seed=3) if name in SANITY else (None, None)
    record(world, range(4)), record(twin, range(4))
    before, _ = world.reset(options={"mask": torch.tensor([False, True, False, True])})
    if name in ("gridworld", "navigation", "tabular-mdp", "sparse-point-robot"):
        assert torch.equal(before[[1, 3]], start[[1, 3]])  # these always start at the same place
    rows, twin_rows = record(world, long(world)), record(twin, long(twin))
    assert_equal(rows, twin_rows, copies=[0, 2])


@pytest.mark.parametrize("name", [name for name in SANITY if name != "navigation"])  # which may end earlier
def test_the_time_limit_counts_from_each_copys_own_reset(name):
    world = build(name, 2)
    world.reset(seed=3)
    h = world.horizon
    record(world, range(h // 2))
    world.reset(options={"mask": torch.tensor([False, True])})
    ends = torch.stack([row["truncated"] for row in record(world, range(2 * h))])
    expected = torch.zeros(2 * h, 2, dtype=torch.bool)
    expected[h - h // 2 - 1 :: h, 0] = True
    expected[h - 1 :: h, 1] = True
    assert torch.equal(ends, expected)


@each_world
def test_a_masked_reset_with_a_seed_restarts_only_those_streams(name):
    world, twin, fresh = build(name, 4), build(name, 4), build(name, 4)
    world.reset(seed=3), twin.reset(seed=3), fresh.reset(seed=8)
    record(world, range(4)), record(twin, range(4))
    world.reset(seed=8, options={"mask": torch.tensor([True, False, True, False])})
    rows = record(world, long(world))
    assert_equal(rows, record(fresh, long(world)), copies=[0, 2])
    assert_equal(rows, record(twin, long(world)), copies=[1, 3])


@each_world
def test_returned_tensors_are_never_written_to_again(name):
    world = build(name, 3)
    obs, _ = world.reset(seed=0)
    rows = [{"obs": obs}, *record(world, range(5))]
    kept = [{k: v.clone() for k, v in row.items()} for row in rows]
    record(world, long(world))
    world.reset(options={"mask": torch.tensor([True, False, True])})
    assert_equal(rows, kept)


@each_world
def test_writing_into_what_a_world_returned_does_not_reach_the_world(name):
    world, twin = build(name, 3), build(name, 3)
    obs, _ = world.reset(seed=0)
    twin.reset(seed=0)
    obs.fill_(1)
    for t in long(world):
        (row,), (expected,) = record(world, [t]), record(twin, [t])
        assert_equal([row], [expected])
        for value in row.values():
            value.fill_(1)


@each_world
def test_observations_have_the_spaces_dtype_and_shape(name):
    world = build(name, 3)
    obs, _ = world.reset(seed=0)
    for row in [{"obs": obs, "final_obs": obs}, *record(world, range(4))]:
        for key in ("obs", "final_obs"):
            value = row[key]
            assert value.shape == (3, *world.single_observation_space.shape)
            assert value.dtype == (
                torch.int64 if isinstance(world.single_observation_space, spaces.Discrete) else torch.float32
            )
            assert all(world.single_observation_space.contains(v.numpy()) for v in value)
        if "reward" in row:
            assert row["reward"].dtype == torch.float32
            assert row["reward"].shape == row["terminated"].shape == row["truncated"].shape == (3,)
            assert row["terminated"].dtype == row["truncated"].dtype == torch.bool


def test_trap_5_3_the_terminal_reward_and_the_last_observation_are_visible():
    world = build("navigation", 2)
    obs, _ = world.reset(seed=0)
    goal = world.params["goal"]
    ended = torch.zeros(2, dtype=torch.bool)
    for _ in range(6):
        obs, reward, terminated, truncated, info = world.step(goal - obs)
        for i in (terminated & ~ended).nonzero()[:, 0]:
            assert torch.allclose(info["final_obs"][i], goal[i], atol=1e-6)
            assert torch.equal(obs[i], torch.zeros(2))
            assert reward[i].abs() < 1e-6  # it belongs to the step that ended the episode, not to the new one
            assert not truncated[i]
        ended |= terminated
    assert ended.all()


def test_trap_5_13_running_out_of_time_is_truncation_and_never_termination():
    world = build("gridworld", 2)
    world.reset(seed=0)
    rows = record(world, range(15))
    assert not any(row["terminated"].any() for row in rows)
    assert [bool(row["truncated"].all()) for row in rows] == [False] * 14 + [True]
    assert torch.equal(rows[-1]["obs"], torch.zeros(2, 2))
    assert not torch.equal(rows[-1]["final_obs"], rows[-1]["obs"])


def test_an_episode_that_ends_at_the_time_limit_is_terminated_and_not_truncated():
    world = Dice(2, horizon=2)
    world.set_tasks(dice_tasks(1.9, 100.0))
    world.reset(seed=0)
    world.step(torch.zeros(2, 1))
    _, _, terminated, truncated, info = world.step(torch.ones(2, 1))
    assert terminated.tolist() == [True, False]
    assert truncated.tolist() == [False, True]
    assert info["success"].tolist() == [True, False]


def test_the_draws_of_beginnings_and_of_steps_are_different():
    world = Dice(64, fixed_horizon=True, horizon=1)
    world.set_tasks(dice_tasks(*[9.0] * 64))
    world.reset(seed=0)
    rows = [world.step(torch.zeros(64, 1)) for _ in range(2)]
    begin = rows[0][0][:, 0]  # episode 1's start
    drawn = rows[1][1] - begin  # what step 1 added
    assert not torch.isclose(begin, drawn, atol=1e-6).any()


@pytest.mark.parametrize("fixed", [True, False])
def test_new_tasks_wait_for_the_next_reset_or_the_end_of_the_episode(fixed):
    world = Dice(2, fixed_horizon=fixed, horizon=3)
    world.set_tasks(dice_tasks(100.0, 100.0))
    world.reset(seed=0)
    world.set_tasks(dice_tasks(-1.0, -2.0))
    success = [world.step(torch.zeros(2, 1))[4]["success"].tolist() for _ in range(4)]
    assert success == [[False, False]] * 3 + [[True, True]]
    assert world.tasks == dice_tasks(-1.0, -2.0)


def test_new_tasks_reach_the_copies_one_by_one():
    world = Dice(3, horizon=50)
    world.set_tasks(dice_tasks(100.0, 101.0, 102.0))
    world.reset(seed=0)
    world.set_tasks(dice_tasks(200.0, 201.0, 202.0))
    world.reset(options={"mask": torch.tensor([False, True, False])})
    assert world.params["limit"].tolist() == [100.0, 201.0, 102.0]
    assert world.tasks.values["limit"].tolist() == [100.0, 201.0, 102.0]
    world.reset(options={"mask": torch.tensor([True, True, False])})
    assert world.params["limit"].tolist() == [200.0, 201.0, 102.0]
    world.reset()
    assert world.params["limit"].tolist() == [200.0, 201.0, 202.0]


def test_box_actions_are_clipped_to_their_bounds():
    world = Dice(2)
    world.set_tasks(dice_tasks(100.0, 100.0))
    world.reset(seed=0)
    far = world.step(torch.tensor([[50.0], [-50.0]]))[1]
    world.reset(seed=0)
    assert torch.equal(far, world.step(torch.tensor([[1.0], [0.0]]))[1])


def test_calls_that_cannot_work_say_why():
    world = Dice(2)
    with pytest.raises(ConfigError, match="no tasks yet"):
        world.reset()
    with pytest.raises(ConfigError, match="2 envs but set_tasks got 3"):
        world.set_tasks(dice_tasks(1.0, 2.0, 3.0))
    world.set_tasks(dice_tasks(1.0, 2.0))
    with pytest.raises(WorldError, match="before reset"):
        world.step(torch.zeros(2, 1))
    world.reset()
    with pytest.raises(WorldError, match="infinite action for env 1"):
        world.step(torch.tensor([[0.0], [float("nan")]]))
    with pytest.raises(WorldError, match=r"shape \(2,\), expected \(2, 1\)"):
        world.step(torch.zeros(2))
    with pytest.raises(ConfigError, match="reset mask"):
        world.reset(options={"mask": torch.tensor([True])})
    other = Dice(3)
    other.set_tasks(dice_tasks(1.0, 2.0, 3.0))
    other.reset()
    with pytest.raises(ConfigError, match="2 envs but the snapshot has 3"):
        world.load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ("name", "actions", "message"),
    [
        ("gridworld", torch.tensor([0, 5]), r"out of range for env 1: 5; expected an element of Discrete\(5\)"),
        ("gridworld", torch.tensor([-1, 0]), "out of range for env 0: -1"),
        ("gridworld", torch.tensor([0.0, 1.0]), "actions of torch.float32, expected integers"),
        ("gridworld", torch.tensor([True, False]), "actions of torch.bool, expected integers"),
        (
            "npc/companion-tiny",
            torch.tensor([[0, 0], [52, 53]]),
            r"out of range for env 1: \[52, 53\]; expected an elem",
        ),
        ("npc/companion-tiny", torch.tensor([[0, -1], [0, 0]]), r"out of range for env 0: \[0, -1\]"),
        ("npc/companion-tiny", torch.zeros(2, 2), "actions of torch.float32, expected integers"),
        ("npc/companion-tiny", torch.zeros(2, dtype=torch.int64), r"actions of shape \(2,\), expected \(2, 2\)"),
    ],
)
def test_choices_outside_their_space_are_refused(name, actions, message):
    family = envs.make(name)
    world = family.make_world(2)
    world.set_tasks(family.sample("train", 2, torch.Generator().manual_seed(0)))
    world.reset()
    with pytest.raises(WorldError, match=message):
        world.step(actions)
