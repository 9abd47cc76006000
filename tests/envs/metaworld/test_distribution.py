import subprocess
import sys
from importlib import metadata

import gymnasium as gym
import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs.metaworld import tasks as metaworld_tasks
from metarl.envs.metaworld import versions
from metarl.envs.metaworld.tasks import benchmark_splits, class_rows, goal_of, metaworld_module
from metarl.envs.metaworld.upstream import apply_task, make_env
from metarl.envs.metaworld.upstream_state import restore, snapshot
from metarl.episodes import episode_table
from metarl.errors import ConfigError, WorldError
from metarl.seeding import generator
from metarl.tasks import Tasks
from metarl.trial import run_trial
from tests.envs.scripted import Reacher

pytestmark = pytest.mark.metaworld


@pytest.fixture(params=["upstream", "engine"])
def backend(request) -> str:
    return request.param


def ml1(task: str = "reach-v3", **options):
    return envs.make("metaworld/ML1", task=task, **({"n_workers": 0} | options))


def pick(*classes: str, backend: str = "upstream"):
    """Return one train task of each class."""
    family = envs.make("metaworld/custom", train=list(classes), test=["door-close-v3"], n_workers=0, backend=backend)
    rows = class_rows(family.all("train"))
    return family, family.all("train")[[rows[c][0] for c in classes]]


def actions(n_steps: int, n: int = 1, seed: int = 0) -> torch.Tensor:
    """Return jerky actions that press the hand down and the gripper shut, so that it meets things."""
    out = torch.rand(n_steps, n, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    out[: n_steps // 2, :, 2] = -out[: n_steps // 2, :, 2].abs()
    out[..., 3] = out[..., 3].sign()
    return out


def drive(env: gym.Env, steps: torch.Tensor) -> np.ndarray:
    rows = []
    for action in steps[:, 0].numpy():
        obs, reward, _, _, info = env.step(action.copy())
        rows.append(np.concatenate([obs, [reward, info["success"]]]))
    return np.array(rows)


# ---------------------------------------------------------------- tasks and splits


@pytest.mark.parametrize("name", ["reach-v3", "lever-pull-v3"])
def test_goals_are_those_of_upstreams_own_benchmark(name):
    upstream = metaworld_module().ML1(name, seed=4)
    family = ml1(name, seed=4)
    ours = [family.all(s)[i] for s in ("train", "validation", "test") for i in range(len(family.all(s)))]
    theirs = [*upstream.train_tasks, *upstream.test_tasks]
    assert [metaworld_tasks.upstream_task(t) for t in ours] == theirs


def test_goals_are_drawn_without_touching_the_global_numpy_state_or_leaving_the_patch_behind():
    from metaworld.sawyer_xyz_env import SawyerXYZEnv

    before = np.random.get_state()[1].copy()  # noqa: NPY002
    benchmark_splits.__wrapped__("ML1", ("reach-v3",), ("reach-v3",), 9, 10)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert "do_simulation" not in vars(SawyerXYZEnv)


def test_ml1_train_goals_are_not_test_goals():
    family = ml1()
    keys = {split: set(family.all(split).keys()) for split in family.splits}
    assert {k: len(v) for k, v in keys.items()} == {"train": 40, "validation": 10, "test": 50}
    assert not keys["train"] & keys["test"]
    assert not keys["validation"] & (keys["train"] | keys["test"])
    # The trap: upstream's registered train environment hands out the test goals.
    registered = gym.make_vec("Meta-World/ML1-train", env_name="reach-v3", seed=0, meta_batch_size=1)
    (tasks,) = registered.get_attr("tasks")
    registered.close()
    encoded = set(metaworld_tasks._encode(tasks).keys())
    assert encoded == keys["test"]


def test_ml25_leaves_the_class_it_trains_on_out_of_its_test_split():
    upstream = metaworld_module()._env_dict.ML25_V3
    assert "basketball-v3" in upstream["train"]
    assert "basketball-v3" in upstream["test"]  # the trap
    family = envs.make("metaworld/ML25", n_workers=0)
    assert set(family.all("test").groups) == set(upstream["test"]) - {"basketball-v3"}
    assert set(family.all("train").groups) == set(upstream["train"])
    assert not set(family.all("test").groups) & set(family.all("train").groups)
    assert len(family.notes) == 1
    assert "basketball-v3" in family.notes[0]


def test_tasks_are_values():
    family = ml1()
    tasks = family.all("test")
    assert Tasks.from_json(tasks.to_json()) == tasks
    assert hash(tasks[3]) == hash(family.all("test")[3])
    assert tasks[3].names == ("reach-v3/3",)
    assert tasks.groups[3] == "reach-v3"
    assert metaworld_tasks.class_names()[int(tasks.values["class_index"][3])] == "reach-v3"
    assert all(v.isfinite().all() for v in tasks.values.values() if v.is_floating_point())
    assert family.fingerprint() == ml1().fingerprint()
    assert family.fingerprint() != ml1(seed=1).fingerprint() != ml1(reward_version="v1").fingerprint()


def test_trap_5_14_another_horizon_is_another_family():
    assert ml1().horizon == ml1().make_world(1).horizon == 500
    assert ml1().fingerprint() != ml1(horizon=150).fingerprint()


def test_trap_5_18_every_goal_of_a_class_is_restored_to_its_own_environment(backend):
    family = ml1(backend=backend)
    tasks = family.all("test")[[0, 1, 2]]
    world, other = family.make_world(3), family.make_world(3)
    for one, seed in ((world, 1), (other, 2)):
        one.set_tasks(tasks)
        one.reset(seed=seed)
    steps = actions(6, 3)
    for step in steps[:3]:
        world.step(step)
    other.load_state_dict(world.state_dict())
    rewards = [(world.step(step)[1], other.step(step)[1]) for step in steps[3:]]
    assert all(torch.equal(a, b) for a, b in rewards)
    assert len(set(rewards[-1][0].tolist())) == 3  # the goals differ, and so do their rewards


def test_a_draw_is_even_over_classes_in_their_fixed_order():
    family, _ = pick("reach-v3", "push-v3", "lever-pull-v3")
    drawn = family.sample("train", 6, generator(0, "t"))
    assert drawn.groups == ("reach-v3",) * 2 + ("push-v3",) * 2 + ("lever-pull-v3",) * 2
    assert len(set(drawn.keys())) == 6
    assert drawn == family.sample("train", 6, generator(0, "t"))
    assert drawn != family.sample("train", 6, generator(1, "t"))
    counts = [family.sample("train", 7, generator(s, "t")).groups.count("push-v3") for s in range(20)]
    assert set(counts) == {2, 3}
    everything = family.sample("train", 120, generator(0, "t"))
    assert set(everything.keys()) == set(family.all("train").keys())
    assert len(family.sample("train", 200, generator(0, "t"))) == 200
    assert set(family.sample("validation", 9, generator(0, "t")).keys()) <= set(family.all("validation").keys())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ML1", {"task": "reech-v3"}, "'reach-v3'"),
        ("custom", {"train": ["reach-v3"], "test": ["pusch-v3"]}, "'push-v3'"),
        ("custom", {"train": ["reach-v3"], "test": ["push-v3", "reach-v3"]}, "reach-v3 in both train and test"),
        ("custom", {"train": [], "test": ["push-v3"]}, "at least one"),
        ("ML1", {"backend": "native"}, "unknown backend 'native'; known: engine, upstream"),
        ("ML1", {"core": "pyton"}, "unknown core 'pyton'; did you mean 'python'"),
        ("ML1", {"n_threads": 0}, "n_threads must be a whole number from 1 to 1024, got 0"),
        ("ML1", {"reward_version": "v3"}, "'v1' or 'v2'"),
        ("ML1", {"validation_goals": 50}, "1 to 49"),
        ("ML1", {"horizon": 501}, "1 to 500"),
        ("ML1", {"n_workers": -1}, "n_workers must be a whole number from 0"),
        ("ML1", {"n_workers": "many"}, "n_workers must be a whole number from 0 to 1024, got 'many'"),
        ("ML1", {"seed": -1}, "seed must be"),
        ("ML1", {"seed": "abc"}, "seed must be a whole number"),
        ("ML1", {"horizon": 2.5}, "horizon must be a whole number"),
        ("ML1", {"sed": 1}, "has no option 'sed'; did you mean 'seed'"),
        ("ML1", {"task": 3}, "no task class '3'"),
        ("custom", {"train": "reach-v3", "test": ["push-v3"]}, r'classes are a list such as \["reach-v3"\]'),
        ("custom", {"train": ["reach-v3"]}, "needs the option 'test'"),
    ],
)
def test_a_bad_option_is_refused_with_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        envs.make(f"metaworld/{name}", **options)
    assert "\n" not in str(caught.value)


def test_another_version_of_meta_world_is_refused(monkeypatch):
    monkeypatch.setattr(versions, "version", lambda name: "2.0.0")
    with pytest.raises(ConfigError, match=r"2\.0\.0 is installed, but .* need 3\.1\.1"):
        metaworld_module()

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", missing)
    with pytest.raises(ConfigError, match=r"not installed; install it with `.* -m pip install"):
        metaworld_module()


def test_meta_world_is_imported_only_when_it_is_used():
    check = "import sys, metarl.envs.metaworld; sys.exit('metaworld' in sys.modules or 'mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_a_goal_that_its_class_cannot_have_is_refused(backend):
    family = ml1(backend=backend)
    task = family.all("test")[0]
    values = dict(task.values)
    values["goal"] = values["goal"] + 5.0
    world = family.make_world(1)
    world.set_tasks(Tasks(values, task.names, task.groups))
    with pytest.raises(WorldError, match=r"goal .* is outside what reach-v3 can have"):
        world.reset(seed=0)


# ---------------------------------------------------------------- stepping


def test_a_world_is_upstream_bit_for_bit_whatever_its_copies_did_before(backend):
    family, tasks = pick("pick-place-v3", "lever-pull-v3", "basketball-v3", backend=backend)
    world, steps = family.make_world(3), actions(40, 3)
    elsewhere = family.all("train")[[5, 60, 100]][[2, 0, 1]]  # other classes, other goals
    world.set_tasks(elsewhere)
    world.reset(seed=5)
    for action in actions(7, 3, seed=1):
        world.step(action)
    world.set_tasks(tasks)
    seen = [world.reset(seed=0)[0]]
    rewards = []
    for action in steps:
        obs, reward, _, _, info = world.step(action)
        seen.append(obs)
        rewards.append(torch.cat([reward, info["success"].float()]))
    for i in range(3):
        name, goal = goal_of(tasks[i])
        env = metaworld_module().ALL_V3_ENVIRONMENTS[name]()
        env.set_task(metaworld_tasks.upstream_task(tasks[i]))
        assert np.array_equal(env._last_rand_vec, goal)
        obs, _ = env.reset()
        assert np.array_equal(obs.astype(np.float32), seen[0][i])
        rows = drive(env, steps[:, i : i + 1]).astype(np.float32)
        assert np.array_equal(rows[:, :39], torch.stack(seen[1:])[:, i])
        assert np.array_equal(rows[:, 39:], torch.stack(rewards)[:, [i, i + 3]])
        env.close()
    world.close()


def test_the_goal_stays_fixed_across_resets_and_out_of_the_observation(backend):
    family = ml1(horizon=3, backend=backend)
    world = family.make_world(2)
    world.set_tasks(family.all("train")[:2])
    first, _ = world.reset(seed=0)
    steps, rewards = actions(3, 2), []
    for t in range(7):
        obs, reward, *_, info = world.step(steps[t % 3])
        assert (obs[:, -3:] == 0).all()
        assert (info["final_obs"][:, -3:] == 0).all()
        rewards.append(reward)
    assert rewards[0][0] != rewards[0][1]  # two goals
    assert torch.equal(rewards[0], rewards[3])
    again, _ = world.reset()
    assert torch.equal(first, again)  # the reset itself draws nothing: the task fixes it
    assert torch.equal(world.step(steps[0])[1], rewards[0])
    world.close()


def test_a_world_never_steps_past_500(backend):
    family = ml1(backend=backend)
    world = family.make_world(1)
    world.set_tasks(family.all("train")[0])
    first, _ = world.reset(seed=0)
    zero = torch.zeros(1, 4)
    ends = [bool(world.step(zero)[3]) for _ in range(499)]
    obs, _, terminated, truncated, info = world.step(zero)
    assert not any(ends)
    assert (bool(terminated), bool(truncated)) == (False, True)
    assert torch.equal(obs, first)
    assert not torch.equal(info["final_obs"], first)
    assert not world.step(zero)[3]
    world.close()


def test_the_trap_upstream_raises_at_the_501st_step():
    task = ml1().all("train")[0]
    env = make_env(task, reward_version="v2")
    apply_task(env, task)
    env.reset()
    env.unwrapped.curr_path_length = 500
    with pytest.raises(ValueError, match="must reset"):
        env.step(np.zeros(4, np.float32))
    env.close()


def test_success_at_any_step_counts_though_the_last_step_fails():
    family = ml1(horizon=120)
    tasks = family.all("test")[:2]
    targets = tasks.values["goal"][:, 3:].float()
    world = family.make_world(2)
    agent = Reacher(world.spec, targets, then_leave=True)
    table = episode_table(run_trial(world, agent, tasks, (2,), seed=0).query)
    assert table.success_any is not None
    assert table.success_last is not None
    assert table.success_any.all()
    assert not table.success_last.any()
    world.close()


@pytest.mark.parametrize("name", ["pick-place-v3", "basketball-v3", "door-lock-v3"])
def test_a_mid_episode_snapshot_continues_bit_for_bit_in_another_environment(name):
    family = ml1(name)
    task, other = family.all("train")[0], family.all("train")[1]
    env, used = (make_env(task, reward_version="v2") for _ in range(2))
    apply_task(env, task)
    env.reset()
    steps = actions(50)
    drive(env, steps[:20])
    state = snapshot(env)
    expected = drive(env, steps[20:])
    apply_task(used, other)
    used.reset()
    drive(used, steps[:9])
    apply_task(used, task)
    used.reset()
    restore(used, state)
    assert np.array_equal(drive(used, steps[20:]), expected)
    if name == "pick-place-v3":  # the trap: rewards read MuJoCo's memory through views; envs give other rewards
        restore(used, state)
        for pad in ("init_left_pad", "init_right_pad"):
            assert pad in state["views"]
            setattr(used.unwrapped, pad, getattr(used.unwrapped, pad).copy())
        frozen = drive(used, steps[20:])
        assert np.array_equal(frozen[:, :39], expected[:, :39])
        assert not np.array_equal(frozen[:, 39], expected[:, 39])
    env.close()
    used.close()


def test_a_world_snapshot_goes_on_in_worker_processes():
    family, tasks = pick("reach-v3", "push-v3")
    options = {"train": ["reach-v3", "push-v3"], "test": ["door-close-v3"], "backend": "upstream", "n_workers": 1}
    pooled = envs.make("metaworld/custom", **options)
    world, other = family.make_world(2), pooled.make_world(2)
    try:
        world.set_tasks(tasks)
        world.reset(seed=0)
        for action in actions(5, 2):
            world.step(action)
        other.load_state_dict(world.state_dict())
        for action in actions(5, 2, seed=2):
            a, b = world.step(action), other.step(action)
            assert torch.equal(a[0], b[0])
            assert torch.equal(a[1], b[1])
    finally:
        world.close()
        other.close()


# ---------------------------------------------------------------- pictures


def test_a_picture_shows_the_table_the_right_way_up(backend):
    family = ml1(backend=backend)
    world = family.make_world(1)
    world.set_tasks(family.all("train")[0])
    world.reset(seed=0)
    try:
        image = world.render()
    except ConfigError as missing:
        pytest.skip(str(missing))
    assert image.shape == (480, 480, 3)
    assert image.dtype == np.uint8
    # Grey sky above; below, left of the middle, the red robot. Upside down the sky would be at the bottom.
    sky, robot = image[20:60, 20:460].astype(int), image[200:360, 60:130].astype(int)
    assert sky.std(axis=(0, 1)).max() < 6
    assert np.median(robot[..., 0] - robot[..., 1:].max(axis=-1)) > 30
    world.close()


def test_a_missing_opengl_library_is_named_with_the_line_that_installs_it(backend, monkeypatch):
    world = ml1(backend=backend).make_world(1)
    world.set_tasks(ml1().all("train")[0])
    world.reset(seed=0)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setitem(sys.modules, "mujoco.osmesa", None)  # as if its library were not there
    with pytest.raises(ConfigError, match=r"no OpenGL library .* `apt-get install .* libosmesa6`") as caught:
        world.render()
    assert "\n" not in str(caught.value)
    world.step(torch.zeros(1, 4))  # the world goes on
    world.close()
