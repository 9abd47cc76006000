"""The engine behind the World contract: bad input, unstable physics, snapshots, cores, pictures."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.envs.metaworld import core_selection as cores
from metarl.envs.metaworld import versions
from metarl.envs.metaworld.core_selection import make_core
from metarl.envs.metaworld.engine import EngineWorld
from metarl.envs.metaworld.options import EpisodeRules
from metarl.envs.metaworld.render import CAMERAS
from metarl.envs.metaworld.tasks import class_rows
from metarl.envs.metaworld.upstream import apply_task, make_env
from metarl.errors import ConfigError, WorldError
from metarl.tasks import Tasks

pytestmark = pytest.mark.metaworld

CLASSES = ["reach-v3", "pick-place-v3", "window-open-v3"]


@pytest.fixture(params=["compiled", "python"])
def core(request: pytest.FixtureRequest) -> str:
    try:
        make_core(request.param, 1, 1).close()
    except ConfigError as missing:
        pytest.skip(str(missing))
    return str(request.param)


def all_tasks() -> Tasks:
    """Return two train tasks of each class: reach, reach, pick-place, ..."""
    train = envs.make("metaworld/custom", train=CLASSES, test=["door-close-v3"]).all("train")
    return train[[i for rows in class_rows(train).values() for i in rows[:2]]]


def engine(core: str, n: int = 3, tasks: Tasks | None = None, n_threads: int = 1, **rules: Any) -> EngineWorld:
    """Return a world that has begun its first episodes."""
    world = EngineWorld("toy", n, n_threads=n_threads, core=core, rules=EpisodeRules(**rules))
    world.set_tasks(all_tasks()[[(2 * i) % 6 for i in range(n)]] if tasks is None else tasks)
    world.reset(seed=0)
    return world


def actions(n_steps: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n_steps, n, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def play(world: EngineWorld, steps: torch.Tensor) -> list[torch.Tensor]:
    """Return observation, reward, flags and success of each step, side by side."""
    rows = []
    for action in steps:
        obs, reward, terminated, truncated, info = world.step(action)
        flags = torch.stack([reward, terminated.float(), truncated.float(), info["success"].float()], dim=1)
        rows.append(torch.cat([obs, info["final_obs"], flags], dim=1))
    return rows


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def throw(world: EngineWorld, copy: int) -> None:
    """Give one env a speed that MuJoCo calls unstable."""
    state = world.state_dict()
    model = world.core.simulation(copy)[0]
    state["copies"][copy]["physics"][1 + model.nq] = 1e11  # time, positions, then velocities
    world.load_state_dict(state)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 4), r"shape \(2, 4\) and dtype float32, expected \(3, 4\) of float32"),
        (torch.zeros(3, 5), r"shape \(3, 5\)"),
        (torch.zeros(3, 4, dtype=torch.bool), "dtype bool"),
        (torch.zeros(3, 4, dtype=torch.complex64), "dtype complex64"),
        (np.full((3, 4), "up"), "dtype <U2"),
        (torch.tensor([[0.0] * 4, [0.0] * 4, [0.0, float("nan"), 0.0, 0.0]]), r"NaN action for env 2 \(task 'window-"),
    ],
)
def test_bad_actions_are_refused_before_anything_moves(core, bad, message):
    world = engine(core)
    steps = actions(3, 3)
    world.step(steps[0])
    before = world.state_dict()
    with pytest.raises(WorldError, match=message) as caught:
        world.step(bad)
    assert "\n" not in str(caught.value)
    expected = play(world, steps[1:])
    world.load_state_dict(before)
    assert same(play(world, steps[1:]), expected)
    world.close()


def test_a_nan_action_is_named_with_its_step():
    world = engine("auto")
    for step in actions(4, 3):
        world.step(step)
    with pytest.raises(WorldError, match=r"at step 4 of its episode: \[nan"):
        world.step(torch.full((3, 4), float("nan")))
    world.close()


def test_actions_of_any_number_type_are_taken_and_clipped():
    steps = torch.tensor([[-3.0, 2.0, 1.0, -1.0]]).repeat(3, 1)
    worlds = [engine("auto") for _ in range(5)]
    given = [steps.clamp(-1, 1), steps, steps.double().numpy(), steps.to(torch.int64), steps.to(torch.bfloat16)]
    given[2][0, 0] = -np.inf
    found = [world.step(action)[0] for world, action in zip(worlds, given, strict=True)]
    assert all(torch.equal(found[0], other) for other in found[1:])
    for world in worlds:
        world.close()


def test_a_world_that_is_not_ready_says_what_to_do():
    world = EngineWorld("toy", 3, n_threads=1)
    with pytest.raises(ConfigError, match="call set_tasks before reset"):
        world.reset()
    with pytest.raises(ConfigError, match="nothing to save before its first reset"):
        world.state_dict()
    with pytest.raises(ConfigError, match="3 envs but set_tasks got 6"):
        world.set_tasks(all_tasks())
    world.set_tasks(all_tasks()[:3])
    with pytest.raises(WorldError, match="stepped before reset"):
        world.step(torch.zeros(3, 4))
    world.reset()
    with pytest.raises(ConfigError, match=r"mask of bool \(2,\); pass bool \[3\]"):
        world.reset(options={"mask": torch.ones(2, dtype=torch.bool)})
    world.close()
    world.close()
    for call in (lambda: world.step(torch.zeros(3, 4)), world.reset):
        with pytest.raises(WorldError, match="is closed; build another one"):
            call()
    with pytest.raises(ConfigError, match="n_threads >= 1"):
        EngineWorld("toy", 3, n_threads=0)


def test_a_goal_that_cannot_be_leaves_all_copies_where_they_were():
    tasks = all_tasks()[:3]
    world = engine("auto", tasks=tasks)
    steps = actions(6, 3)
    play(world, steps[:2])
    state = world.state_dict()
    values = dict(tasks.values)
    values["goal"] = values["goal"] + torch.tensor([0.0, 5.0, 0.0])[:, None]
    world.set_tasks(Tasks(values, tasks.names, tasks.groups))
    with pytest.raises(WorldError, match=rf"env 1 \(task '{tasks.names[1]}'\) failed .* is outside what reach-v3 can"):
        world.reset()
    moved = play(world, steps[2:])
    world.load_state_dict(state)
    assert same(moved, play(world, steps[2:]))
    world.close()


def test_a_goal_that_cannot_be_in_mid_run_stops_only_the_copies_that_should_begin_it(core):
    tasks, steps = all_tasks()[:3], actions(6, 3)
    world, quiet = engine(core, tasks=tasks, horizon=4), engine(core, tasks=tasks, horizon=4)
    for one in (world, quiet):
        one.step(steps[0])
        one.reset(options={"mask": torch.tensor([True, False, False])})
    values = dict(tasks.values)
    values["goal"] = values["goal"] + torch.tensor([0.0, 5.0, 0.0])[:, None]
    world.set_tasks(Tasks(values, tasks.names, tasks.groups))
    play(world, steps[1:3])
    with pytest.raises(WorldError, match="outside what reach-v3 can have"):
        world.step(steps[3])  # envs 1 and 2 are at the end of their episodes
    with pytest.raises(
        WorldError, match=r"env 1 .* could not begin a new episode \(WorldError\) after step 4 .* env 2 "
    ):
        world.step(steps[4])
    world.set_tasks(tasks)
    obs, _ = world.reset(options={"mask": torch.tensor([False, True, True])})
    expected = play(quiet, steps[1:])
    assert torch.equal(obs, expected[2][:, :39])
    assert same(play(world, steps[4:]), expected[3:])
    world.close()
    quiet.close()


# ---------------------------------------------------------------- unstable physics


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> None:
    """Work in an empty folder: MuJoCo's Python bindings write a log file about unstable physics."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("elsewhere")
def test_unstable_physics_is_reported_and_leaves_the_others_alone(core):
    steps = actions(12, 3)
    world, quiet = engine(core, horizon=9), engine(core, horizon=9)
    play(world, steps[:4])
    expected = play(quiet, steps)
    throw(world, 1)
    with pytest.raises(
        WorldError, match=r"env 1 \(task 'pick-place-v3/0'\) became unstable .* step 5 of its"
    ) as caught:
        world.step(steps[4])
    assert "\n" not in str(caught.value)
    with pytest.raises(WorldError, match="env 1 "):
        world.step(steps[5])
    obs, _ = world.reset(options={"mask": torch.tensor([False, True, False])})
    assert torch.equal(obs[[0, 2]], expected[4][[0, 2], :39])
    after = play(world, steps[5:])
    for mine, theirs in zip(after, expected[5:], strict=True):
        assert torch.equal(mine[[0, 2]], theirs[[0, 2]])
    assert all(row.isfinite().all() for row in after)
    world.close()
    quiet.close()


@pytest.mark.usefixtures("elsewhere")
def test_a_copy_that_breaks_when_the_others_begin_anew_does_not_hold_them_up(core):
    world = engine(core, horizon=3)
    first = world.state_dict()["obs"]
    play(world, actions(2, 3))
    throw(world, 0)
    with pytest.raises(WorldError, match="env 0 "):
        world.step(torch.zeros(3, 4))
    obs, _ = world.reset(options={"mask": np.array([True, False, False])})
    assert torch.equal(obs, first)
    flags = [row[:, 80] for row in play(world, actions(3, 3))]
    assert [bool(f.any()) for f in flags] == [False, False, True]
    world.close()


# ---------------------------------------------------------------- snapshots, cores


def test_a_snapshot_goes_on_in_the_other_core_with_other_threads(core):
    other = {"compiled": "python", "python": "auto"}[core]
    world = engine(core, horizon=11)
    steps = actions(16, 3)
    play(world, steps[:5])
    world.set_tasks(all_tasks()[[5, 3, 1]])  # waits in the snapshot, too
    twin = EngineWorld("twin", 3, n_threads=2, core=other, rules=EpisodeRules(horizon=11))
    twin.load_state_dict(world.state_dict())
    assert same(play(world, steps[5:]), play(twin, steps[5:]))
    assert twin.tasks == world.tasks == all_tasks()[[5, 3, 1]]
    world.close()
    twin.close()


def test_a_snapshot_of_another_kind_is_refused():
    world, small = engine("auto"), engine("auto", 2)
    state = world.state_dict()
    with pytest.raises(ConfigError, match="has 2 envs but the snapshot has 3; build the world with num_envs=3"):
        small.load_state_dict(state)
    with pytest.raises(
        ConfigError, match="comes from upstream's environments; build the world with backend='upstream'"
    ):
        world.load_state_dict({k: v for k, v in state.items() if k != "backend"})
    state["copies"][1]["slots"] = state["copies"][1]["slots"][:-1]
    with pytest.raises(ConfigError, match="the snapshot of a pick-place-v3 holds"):
        world.load_state_dict(state)
    world.step(torch.zeros(3, 4))
    world.close()
    small.close()


def test_copies_that_end_at_different_times_take_up_new_tasks_one_by_one(core):
    old, new = all_tasks()[[0, 2, 4]], all_tasks()[[3, 1, 0]]
    world = engine(core, tasks=old, horizon=6)
    play(world, actions(2, 3))
    world.reset(options={"mask": torch.tensor([True, False, False])})
    world.set_tasks(new)
    play(world, actions(4, 3))
    assert world.tasks is not None
    assert world.tasks.names == (old.names[0], *new.names[1:])
    world.set_tasks(old)  # before env 0 had its turn: the later wish counts
    rows = play(world, actions(2, 3))
    assert world.tasks.names == (old.names[0], *new.names[1:])
    fresh = engine(core, tasks=old)
    assert torch.equal(rows[-1][0, :39], fresh.reset()[0][0])
    world.close()
    fresh.close()


def test_exact_numbers_are_upstreams_float64(core):
    tasks = all_tasks()[[0, 2, 4]]
    world, steps = engine(core, tasks=tasks), actions(8, 3)
    upstream = [make_env(tasks[i], reward_version="v2") for i in range(3)]
    for i, env in enumerate(upstream):
        apply_task(env, tasks[i])
        env.reset()
    for step in steps:
        world.step(step)
        exact = world.exact()
        for i, env in enumerate(upstream):
            obs, reward, _, _, info = env.step(step[i].numpy())
            assert np.array_equal(exact["obs"][i], obs)
            assert exact["reward"][i] == reward
            assert {k: exact[k][i] for k in info} == {k: float(v) for k, v in info.items()}
    world.close()
    for env in upstream:
        env.close()


def test_without_a_compiler_one_line_says_so_and_the_numbers_stay(monkeypatch, caplog):
    steps = actions(5, 3)
    normal = engine("auto")
    expected = play(normal, steps)

    def refuse(num_envs: int, n_threads: int) -> Any:
        raise ConfigError("no C++ compiler (tried c++, g++, clang++)")

    monkeypatch.setattr(cores, "_compiled", refuse)
    monkeypatch.setattr(cores, "_reported", set())
    with caplog.at_level(logging.WARNING):
        worlds = [engine("auto") for _ in range(2)]
    assert [w.core.kind for w in worlds] == ["python", "python"]
    (line,) = [r.getMessage() for r in caplog.records]
    assert "steps in Python" in line
    assert "no C++ compiler" in line
    assert "\n" not in line
    assert same(play(worlds[0], steps), expected)
    with pytest.raises(ConfigError, match=r"no C\+\+ compiler"):
        engine("compiled")
    for world in (normal, *worlds):
        world.close()


def test_a_class_that_cannot_be_compiled_moves_the_whole_world_to_python(monkeypatch, caplog):
    try:
        make_core("compiled", 1, 1).close()
    except ConfigError as missing:
        pytest.skip(str(missing))
    world, straight = engine("auto", n=1), engine("python", n=1)
    steps = actions(6, 1)
    play(world, steps[:3])
    play(straight, steps[:3])
    monkeypatch.setattr(cores, "_reported", set())

    def refuse(copy: int, kind: Any) -> None:
        raise ConfigError("the compiler ran out of memory")

    monkeypatch.setattr(world.core, "place", refuse)
    for one in (world, straight):
        one.set_tasks(all_tasks()[[2]])
        one.reset()
    assert world.core.kind == "python"
    assert "ran out of memory" in caplog.text
    assert same(play(world, steps[3:]), play(straight, steps[3:]))
    world.close()
    straight.close()


# ---------------------------------------------------------------- options


def test_backend_and_core_are_recorded_but_do_not_make_another_family():
    options: list[dict[str, Any]] = [{}, {"core": "python", "n_threads": 1}, {"backend": "upstream", "n_workers": 0}]
    families = [envs.make("metaworld/ML1", **o) for o in options]
    assert len({f.fingerprint() for f in families}) == 1
    families[0].make_world(2).close()
    recorded = [(f.settings["backend"], f.settings["core"]) for f in families]
    assert recorded[0][1] in ("compiled", "python")  # no longer "auto"
    assert recorded[1:] == [("engine", "python"), ("upstream", "auto")]
    assert envs.make("metaworld/ML1", n_workers=2).settings["backend"] == "engine"  # an old preset's option


def test_another_release_is_accepted_only_by_name_and_leaves_a_note(monkeypatch):
    monkeypatch.setattr(versions, "version", lambda name: {"metaworld": "3.1.1", "mujoco": "3.3.7"}[name])
    monkeypatch.setattr(versions, "_accepted", set())
    with pytest.raises(ConfigError, match=r"MuJoCo 3\.3\.7 is installed, but .* 3\.3\.0 .* allow_version_mismatch"):
        envs.make("metaworld/ML1")
    family = envs.make("metaworld/ML1", allow_version_mismatch=True)
    assert "MuJoCo 3.3.7 instead of 3.3.0" in family.notes[-1]
    with pytest.raises(ConfigError, match="allow_version_mismatch is True or False, got 'yes'"):
        envs.make("metaworld/ML1", allow_version_mismatch="yes")


# ---------------------------------------------------------------- pictures


def test_any_copy_can_be_drawn_from_any_camera_the_right_way_up(core):
    world = engine(core, 2)
    try:
        first = world.render()
    except ConfigError as missing:
        pytest.skip(str(missing))
    play(world, actions(10, 2))
    pictures = {camera: world.render_env(1, camera) for camera in CAMERAS}
    assert all(p.shape == (480, 480, 3) and p.dtype == np.uint8 and p.std() > 10 for p in pictures.values())
    assert len({p.tobytes() for p in pictures.values()}) == len(CAMERAS)
    for camera in ("corner", "corner2", "corner4"):  # the plain grey of the background is above the table's wood
        top, bottom = pictures[camera][:40].astype(float), pictures[camera][-40:].astype(float)
        assert top.std() < bottom.std()
    assert not np.array_equal(world.render(), first)
    assert not np.array_equal(world.render_env(0), world.render_env(1))  # another class
    with pytest.raises(ConfigError, match="no camera 'corner9'; did you mean 'corner"):
        world.render_env(0, "corner9")
    with pytest.raises(ConfigError, match="has envs 0 to 1, got 2"):
        world.render_env(2)
    world.close()
