import os
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
import torch

from metarl import spaces
from metarl.action_check import ActionCheck
from metarl.envs.gym.processes import split_rows
from metarl.envs.gym.world import GymWorld
from metarl.errors import ConfigError, WorldError
from metarl.tasks import Tasks
from tests.envs.gym import toy_gym as toy

GOALS = [0.0, 1.0, 2.0, 20.0, 21.0]


ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def make_world(num_envs: int, n_workers: int = 0, **options) -> GymWorld:
    settings = {"horizon": 7, "example": toy.tasks([0.0]), "env_key": toy.kind, "has_success": True} | options
    return GymWorld(toy.make, toy.apply, num_envs, n_workers=n_workers, name="toy", **settings)


def random_actions(n_steps: int, num_envs: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n_steps, 5, 2, generator=torch.Generator().manual_seed(seed))[:, :num_envs] * 2 - 1


def play(world: GymWorld, actions: torch.Tensor) -> list[torch.Tensor]:
    out = []
    for action in actions:
        obs, reward, terminated, truncated, info = world.step(action)
        out.append(torch.cat([obs, info["final_obs"], reward[:, None], terminated[:, None], truncated[:, None]], dim=1))
        out.append(info["success"][:, None].float())
    return out


def begin(world: GymWorld, tasks: Tasks, seed: int = 3) -> torch.Tensor:
    world.set_tasks(tasks)
    return world.reset(seed=seed)[0]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def gone(pids: list[int], within_s: float = 30.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(os.path.exists(f"/proc/{pid}") and "Z" not in _status(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _status(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


# ---------------------------------------------------------------- episodes


def test_terminal_reward_is_visible_at_autoreset():
    world = make_world(2, horizon=10)
    begin(world, toy.tasks([0.0, 0.0], length=3))
    for _ in range(2):
        world.step(torch.full((2, 2), 0.5))
    obs, reward, terminated, truncated, info = world.step(torch.full((2, 2), 0.5))
    assert terminated.tolist() == [True, True]
    assert not truncated.any()
    assert (reward > 90).all()
    assert info["final_obs"][:, 1].tolist() == [3.0, 3.0]
    assert obs[:, 1].tolist() == [0.0, 0.0]
    assert torch.allclose(reward, 100 - info["final_obs"][:, 0])


def test_an_episode_is_truncated_at_the_horizon_and_not_when_it_ended_by_itself_there():
    world = make_world(2, horizon=4)
    tasks = toy.tasks([0.0, 0.0])
    tasks.values["length"][1] = 4
    begin(world, tasks)
    ends = [world.step(torch.zeros(2, 2))[2:4] for _ in range(4)]
    assert [bool(t.any() | u.any()) for t, u in ends] == [False, False, False, True]
    assert ends[3][0].tolist() == [False, True]
    assert ends[3][1].tolist() == [True, False]


def test_success_belongs_to_the_step_that_reached_it():
    world = make_world(1, horizon=2)
    begin(world, toy.tasks([0.0]))
    flags = [bool(world.step(torch.zeros(1, 2))[4]["success"]) for _ in range(4)]
    assert flags == [False, True, False, True]


def test_new_tasks_wait_for_the_next_reset_of_each_copy():
    world = make_world(2, horizon=3)
    begin(world, toy.tasks([0.0, 0.0]))
    world.set_tasks(toy.tasks([5.0, 20.0]))
    before = world.step(torch.zeros(2, 2))[1]
    assert (before.abs() < 2).all()
    world.reset(options={"mask": torch.tensor([True, False])})
    assert world.tasks is not None
    assert world.tasks.values["goal"].tolist() == [5.0, 0.0]
    reward = world.step(torch.zeros(2, 2))[1]
    assert reward[0] > 3
    assert abs(reward[1]) < 2
    world.step(torch.zeros(2, 2))  # env 1 reaches its horizon and takes its new task
    assert world.step(torch.zeros(2, 2))[1][1] > 17
    assert world.tasks.values["goal"].tolist() == [5.0, 20.0]


def test_a_masked_reset_leaves_the_other_copies_where_they_were():
    world = make_world(3)
    begin(world, toy.tasks([0.0, 1.0, 2.0]))
    obs = world.step(random_actions(1, 3)[0])[0]
    after, _ = world.reset(options={"mask": torch.tensor([False, True, False])})
    assert torch.equal(after[[0, 2]], obs[[0, 2]])
    assert after[1, 1] == 0
    assert world.step(torch.zeros(3, 2))[0][:, 1].tolist() == [2.0, 1.0, 2.0]


def test_a_seed_starts_the_streams_afresh_and_without_one_they_go_on():
    world = make_world(2)
    first = begin(world, toy.tasks([0.0, 0.0]))
    second, _ = world.reset()
    again, _ = world.reset(seed=3)
    assert torch.equal(first, again)
    assert not torch.equal(first[:, 2], second[:, 2])
    assert first[0, 2] != first[1, 2]


def test_the_global_random_state_of_numpy_plays_no_part():
    runs = []
    for state in (1, 2):
        np.random.seed(state)  # noqa: NPY002, TID251
        world = make_world(2, horizon=3)
        runs.append([begin(world, toy.tasks([0.0, 1.0])), *play(world, random_actions(6, 2))])
    assert same(*runs)


def test_trap_5_17_copies_of_one_task_have_seeds_of_their_own():
    world = make_world(4)
    noise = begin(world, toy.tasks([0.0] * 4))[:, 2]
    assert len(set(noise.tolist())) == 4


def test_environments_are_reused_by_kind_and_never_by_two_copies_at_once():
    world = make_world(4)
    begin(world, toy.tasks([0.0, 1.0, 20.0, 21.0]))
    assert world._chunk is not None
    toy.Toy.built = 0
    for goals in ([20.0, 21.0, 0.0, 1.0], [0.0, 20.0, 1.0, 21.0]):
        begin(world, toy.tasks(goals))
        assert len({id(e) for e in world._chunk.envs.values()}) == 4
        assert [e.kind for _, e in sorted(world._chunk.envs.items())] == ["a" if g < 10 else "b" for g in goals]
    assert toy.Toy.built == 0
    begin(world, toy.tasks([0.0, 1.0, 2.0, 3.0]))
    assert toy.Toy.built == 2


def test_returned_tensors_are_never_written_to_again():
    world = make_world(2, horizon=3)
    first = begin(world, toy.tasks([0.0, 1.0]))
    kept = [(first, first.clone())]
    for action in random_actions(5, 2):
        obs, reward, terminated, truncated, info = world.step(action)
        kept += [(t, t.clone()) for t in (obs, reward, terminated, truncated, info["final_obs"], info["success"])]
    assert all(torch.equal(now, then) for now, then in kept)


# ---------------------------------------------------------------- actions and spaces


def test_actions_outside_the_box_are_clipped():
    inside, outside = make_world(1), make_world(1)
    runs = []
    for world, action in ((inside, [1.0, -1.0]), (outside, [9.0, -9.0])):
        begin(world, toy.tasks([0.0]))
        runs.append(play(world, torch.tensor([[action]])))
    assert same(*runs)


def test_finite_actions_whose_sum_overflows_are_clipped_like_others():
    check = ActionCheck("w", gym.spaces.Box(-1.0, 1.0, (2,)), 2, torch.device("cpu"))
    most = torch.finfo(torch.float32).max
    assert check(torch.tensor([[most, most], [-0.5, 0.5]])).tolist() == [[1.0, 1.0], [-0.5, 0.5]]
    with pytest.raises(WorldError, match=r"infinite action for env 1"):
        check(torch.tensor([[most, most], [-torch.inf, 0.5]]))


def test_a_nan_action_is_refused_naming_the_copy():
    world = make_world(3)
    begin(world, toy.tasks([0.0, 1.0, 2.0]))
    actions = torch.zeros(3, 2)
    actions[1, 0] = torch.nan
    with pytest.raises(WorldError, match=r"NaN or infinite action for env 1"):
        world.step(actions)
    with pytest.raises(WorldError, match=r"shape \(3,\), expected \(3, 2\)"):
        world.step(torch.zeros(3))


def test_dict_observations_discrete_actions_and_masks_pass_through():
    task = Tasks.of("talk", goal=torch.zeros(2))
    make, apply = (lambda _: toy.Talker()), (lambda env, _: None)
    world = GymWorld(make, apply, 2, horizon=3, example=task, has_action_mask=True, fixed_horizon=True)
    world.set_tasks(task)
    obs, info = world.reset(seed=0)
    assert info["action_mask"].tolist() == [[False, True, True]] * 2
    obs, reward, _, truncated, info = world.step(torch.tensor([2, 3]))
    assert reward.tolist() == [2.0, 3.0]
    assert obs["body"]["mood"].tolist() == [[1, 1], [1, 1]]
    assert obs["place"].dtype == torch.int64
    assert spaces.flatten(world.single_observation_space, obs).shape == (2, 4 + 3 + 2 + 1)
    world.step(torch.tensor([1, 1]))
    obs, _, _, truncated, info = world.step(torch.tensor([1, 1]))
    assert truncated.all()
    assert info["final_obs"]["place"].tolist() == [3, 3]
    assert obs["place"].tolist() == [0, 0]
    assert info["action_mask"].tolist() == [[False, True, True]] * 2
    with pytest.raises(WorldError, match="out of range for env 1: 0"):
        world.step(torch.tensor([1, 0]))


# ---------------------------------------------------------------- snapshots and mistakes


def test_a_mid_episode_snapshot_continues_bit_for_bit():
    options = {"snapshot": toy.snapshot, "restore": toy.restore}
    world, other = make_world(3, **options), make_world(3, **options)
    begin(world, toy.tasks([0.0, 1.0, 20.0]))
    play(world, random_actions(3, 3))
    world.set_tasks(toy.tasks([4.0, 5.0, 6.0]))
    state = world.state_dict()
    expected = play(world, random_actions(9, 3, seed=1))
    begin(other, toy.tasks([20.0, 9.0, 8.0]), seed=99)
    play(other, random_actions(2, 3, seed=2))
    other.load_state_dict(state)
    assert same(play(other, random_actions(9, 3, seed=1)), expected)
    assert other.tasks == world.tasks


def test_a_snapshot_without_hooks_is_refused_with_the_remedy():
    world = make_world(1)
    begin(world, toy.tasks([0.0]))
    with pytest.raises(ConfigError, match="pass snapshot= and restore="):
        world.state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"example": None}, "needs its spaces"),
        ({"snapshot": toy.snapshot}, "needs both of snapshot and restore"),
        ({"has_action_mask": True}, "needs a Discrete action space"),
        ({"n_workers": -1}, "n_workers >= 0"),
        ({"horizon": 0}, "horizon >= 1"),
        ({"n_workers": 1, "render": lambda env: None}, "render cannot be sent to another process"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_before_anything_runs(options, message):
    with pytest.raises(ConfigError, match=message):
        make_world(1, **options)


def test_a_world_asks_for_tasks_and_a_reset_before_it_steps():
    world = make_world(2)
    with pytest.raises(ConfigError, match="call set_tasks before reset"):
        world.reset(seed=0)
    with pytest.raises(ConfigError, match="set_tasks got 3 tasks"):
        world.set_tasks(toy.tasks([0.0, 1.0, 2.0]))
    world.set_tasks(toy.tasks([0.0, 1.0]))
    with pytest.raises(WorldError, match="stepped before reset"):
        world.step(torch.zeros(2, 2))


def test_an_environment_that_raises_names_copy_task_and_step_with_its_traceback():
    world = make_world(3)
    begin(world, toy.tasks([0.0, 1.0, 2.0], faults=[0, 0, toy.RAISE]))
    play(world, random_actions(2, 3))
    with pytest.raises(WorldError, match=r"env 2 \(task 'toy/2'\) failed at step 2 .*the toy broke") as caught:
        world.step(torch.zeros(3, 2))
    assert 'raise ValueError("the toy broke")' in caught.value.__notes__[0]


# ---------------------------------------------------------------- processes


def test_results_depend_neither_on_worker_processes_nor_on_the_number_of_copies():
    options = {"snapshot": toy.snapshot, "restore": toy.restore}
    alone, pool, small = make_world(5, **options), make_world(5, 2, **options), make_world(3)
    tasks, actions = toy.tasks(GOALS, length=5), random_actions(12, 5)
    expected = [begin(alone, tasks), *play(alone, actions)]
    try:
        assert pool._pool is not None
        pool._pool.start()
        pids = [p.pid for p in pool._pool.processes]
        for pid in pids:  # the parent alone decides what Ctrl-C and SIGTERM mean
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        assert same([begin(pool, tasks), *play(pool, actions)], expected)
        assert same([begin(small, tasks[:3]), *play(small, actions[:, :3])], [row[:3] for row in expected])
        # A snapshot of one goes on in the other.
        pool.load_state_dict(alone.state_dict())
        assert same(play(pool, actions), play(alone, actions))
        alone.load_state_dict(pool.state_dict())
        assert same(play(alone, actions), play(pool, actions))
        mask = torch.tensor([False, False, True, False, True])
        assert torch.equal(pool.reset(options={"mask": mask})[0], alone.reset(options={"mask": mask})[0])
        # An error in one process ends them all.
        begin(pool, toy.tasks(GOALS, faults=[0, 0, 0, toy.RAISE, 0]))
        play(pool, actions[:2])
        with pytest.raises(WorldError, match=r"env 3 \(task 'toy/3'\) failed at step 2 .*the toy broke") as caught:
            pool.step(actions[2])
        assert "toy_gym.py" in caught.value.__notes__[0]
        assert gone(pids)
        with pytest.raises(WorldError, match="is closed"):
            pool.step(actions[2])
    finally:
        pool.close()


def test_a_world_that_is_only_asked_for_its_spaces_starts_no_process():
    world = make_world(2, 2)
    assert world._pool is not None
    assert world.single_action_space.shape == (2,)
    assert world._pool.processes == []
    world.set_tasks(toy.tasks([0.0, 1.0]))
    assert len(world._pool.processes) == 2
    world.close()
    unused = make_world(2, 2)
    unused.close()
    with pytest.raises(WorldError, match="is closed"):
        unused.set_tasks(toy.tasks([0.0, 1.0]))


def test_a_worker_that_dies_or_hangs_is_reported_with_copy_task_and_step():
    dying, hanging = make_world(2, 1), make_world(2, 1, timeout_s=60.0)
    try:
        for world, fault in ((dying, toy.DIE), (hanging, toy.HANG)):
            begin(world, toy.tasks([0.0, 1.0], faults=[0, fault]))
            play(world, torch.zeros(2, 2, 2))
        with pytest.raises(WorldError, match=r"env 1 \(task 'toy/1', step 2\) died with exit code 7"):
            dying.step(torch.zeros(2, 2))
        assert hanging._pool is not None
        hanging._pool.timeout_s = 0.5
        pids = [p.pid for p in hanging._pool.processes]
        with pytest.raises(WorldError, match=r"env 1 \(task 'toy/1', step 2\) did not answer 'step' within 0.5 s"):
            hanging.step(torch.zeros(2, 2))
        assert gone(pids)
    finally:
        dying.close()
        hanging.close()


def test_workers_leave_when_the_main_process_is_killed():
    script = (
        "import time, torch\n"
        "from metarl.envs.gym.world import GymWorld\n"
        "from tests.envs.gym import toy_gym as toy\n"
        "if __name__ == '__main__':\n"
        "    tasks = toy.tasks([0.0, 1.0], faults=[toy.HANG, 0])\n"
        "    world = GymWorld(toy.make, toy.apply, 2, horizon=7, example=tasks, n_workers=2)\n"
        "    world.set_tasks(tasks); world.reset(seed=0)\n"
        "    print(*[p.pid for p in world._pool.processes], flush=True)\n"
        "    while True: world.step(torch.zeros(2, 2))\n"  # one worker sleeps inside its environment for ever
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pids = [int(p) for p in parent.stdout.readline().split()]
        time.sleep(0.5)
        assert len(pids) == 2
        assert not gone(pids, within_s=0.2)
        parent.kill()
    assert gone(pids)


def test_workers_need_no_dev_shm():
    script = (
        "import sys, torch\n"
        "def refuse(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).startswith('/dev/shm'): raise OSError(30, 'read-only')\n"
        "if __name__ == '__main__':\n"
        "    sys.addaudithook(refuse)\n"
        "    from metarl.envs.gym.world import GymWorld\n"
        "    from tests.envs.gym import toy_gym as toy\n"
        "    tasks = toy.tasks([0.0, 1.0])\n"
        "    def play(n_workers):\n"
        "        world = GymWorld(toy.make, toy.apply, 2, horizon=7, example=tasks, n_workers=n_workers)\n"
        "        world.set_tasks(tasks); world.reset(seed=0)\n"
        "        steps = [world.step(torch.ones(2, 2)) for _ in range(9)]\n"
        "        world.close()\n"
        "        return torch.stack([step[1] for step in steps])\n"
        "    assert torch.equal(play(1), play(0))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_plain_gymnasium_environment_needs_two_functions():
    tasks = Tasks.of("cartpole", length=torch.tensor([0.3, 1.0]))
    world = GymWorld(lambda _: gym.make("CartPole-v1"), set_pole, 2, horizon=50, example=tasks)
    world.set_tasks(tasks)
    obs, _ = world.reset(seed=0)
    for _ in range(60):
        obs, reward, _, _, _ = world.step(torch.zeros(2, dtype=torch.int64))
    assert obs.shape == (2, 4)
    assert reward.tolist() == [1.0, 1.0]


def set_pole(env: gym.Env, task: Tasks) -> None:
    env.unwrapped.length = float(task.values["length"][0])


def test_neighbouring_copies_are_dealt_out_to_all_workers():
    # Tasks come class by class: each worker shall get its share of the slow ones.
    assert [list(rows) for rows in split_rows(5, 2)] == [[0, 2, 4], [1, 3]]
    assert sorted(row for rows in split_rows(20, 3) for row in rows) == list(range(20))
