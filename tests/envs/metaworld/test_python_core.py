"""The Python core against upstream's own environments, bit for bit, and what envs may not notice of each other."""

import copy
import dataclasses
import os
import pickle
import threading
import warnings
from functools import cache

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore:Constant.s. may be too high")  # upstream's policies say so
mujoco = pytest.importorskip("mujoco")
metaworld = pytest.importorskip("metaworld")

from metaworld.policies import ENV_POLICY_MAP  # noqa: E402
from metaworld.types import Task  # noqa: E402

from metarl.envs.metaworld.contacts import PadContacts  # noqa: E402
from metarl.envs.metaworld.core_protocol import EnvState, ModelEntry, TaskClass  # noqa: E402
from metarl.envs.metaworld.memory import Memory, layout  # noqa: E402
from metarl.envs.metaworld.program import Attribute, Node, Program, Read  # noqa: E402
from metarl.envs.metaworld.python_core import PythonCore  # noqa: E402
from metarl.envs.metaworld.thread_pool import ThreadPool  # noqa: E402
from metarl.errors import ConfigError, WorldError  # noqa: E402

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
FIELDS = ("qpos", "qvel", "qacc_warmstart", "mocap_pos", "model.body_pos", "site_xpos", "geom_xmat")
TOUCHING, COUNTER = 37, 38


@cache
def upstream(name):
    """Return an upstream environment of a class, and two tasks."""
    kind = metaworld.ALL_V3_ENVIRONMENTS[name]
    env = kind()
    space, generator = env._random_reset_space, np.random.default_rng(3)
    tasks = []
    for _ in range(2):
        goal = {"rand_vec": generator.uniform(space.low, space.high), "env_cls": kind, "partially_observable": True}
        tasks.append(Task(env_name=name, data=pickle.dumps(goal)))
    return env, tasks


def main_geom(env):
    try:
        return int(env._get_id_main_object())
    except Exception:
        return int(env.model.ngeom - 1)


def probe(env, name):
    """Return a program that shows numbers of the simulation as its observation, and counts steps in a slot."""
    reads = []
    for k in range(TOUCHING):
        field = FIELDS[k % len(FIELDS)]
        owner = env.model if field.startswith("model.") else env.data
        reads.append(Read(field, (7 * k) % getattr(owner, field.removeprefix("model.")).size))
    pads = (env.data.geom("leftpad_geom").id, env.data.geom("rightpad_geom").id)
    reads.append(Read("touching", main_geom(env), pads))
    nodes = [Node("read", "f64", index=k) for k in range(TOUCHING)]
    nodes += [Node("read", "bool", index=TOUCHING), Node("cast", "f64", (TOUCHING,))]
    nodes += [Node("slot", "f64"), Node("const", "f64", value=1.0), Node("add", "f64", (39, 40))]
    nodes += [Node("action", "f32", index=3), Node("cast", "f64", (42,))]
    obs = (*range(TOUCHING), 38, 41)
    return Program(
        name,
        "probe",
        tuple(nodes),
        tuple(reads),
        (Attribute("steps", 0, (), "f64"),),
        1,
        obs,
        43,
        (41,) * 7,
        ((0, 41),),
    )


def shown(env, program):
    """Return the reads of a probe as upstream's environment has them."""
    values = []
    for read in program.reads[:TOUCHING]:
        owner = env.model if read.field.startswith("model.") else env.data
        values.append(getattr(owner, read.field.removeprefix("model.")).flat[read.index])
    return [*values, float(env.touching_object(program.reads[TOUCHING].index))]


@cache
def class_of(name):
    env, _ = upstream(name)
    entries = (ModelEntry("body_pos", 0, env.model.body_pos.size), ModelEntry("site_pos", 0, env.model.site_pos.size))
    return TaskClass(
        name=name,
        program=probe(env, name),
        model=copy.copy(env.model),
        action_scale=env.action_scale,
        mocap_low=env.mocap_low,
        mocap_high=env.mocap_high,
        frame_skip=env.frame_skip,
        entries=entries,
        n_state=mujoco.mj_stateSize(env.model, STATE),
    )


def state_of(env, n_steps=0.0):
    physics = np.zeros(mujoco.mj_stateSize(env.model, STATE))
    mujoco.mj_getState(env.model, env.data, physics, STATE)
    model = np.concatenate([env.model.body_pos.ravel(), env.model.site_pos.ravel()])
    return EnvState(physics, model, np.array([n_steps]))


@cache
def episode(name, style, n_steps):
    """Play upstream; return the first state, the actions, the probe's reads and the physics after each step."""
    env, tasks = upstream(name)
    env.set_task(tasks[0])
    obs, _ = env.reset()
    generator, policy = np.random.default_rng(5), ENV_POLICY_MAP[name]()
    program, first = class_of(name).program, state_of(env)
    actions, reads, states = [], [], []
    for _ in range(n_steps):
        action = generator.uniform(-1.5, 1.5, 4).astype(np.float32)
        if style == "expert":
            action = np.clip(policy.get_action(obs) + 0.1 * action, -1, 1).astype(np.float32)
        obs, *_ = env.step(action)
        actions.append(action)
        reads.append(shown(env, program))
        states.append(state_of(env).physics)
    return first, np.array(actions), np.array(reads), np.array(states)


@pytest.fixture
def make_core():
    cores = []

    def make(num_envs, n_threads=1, name="pick-place-v3"):
        cores.append(PythonCore(num_envs, n_threads))
        for i in range(num_envs):
            cores[-1].place(i, class_of(name))
        return cores[-1]

    yield make
    for core in cores:
        core.close()


def replay(core, actions, wanted=0):
    """Step all envs with the same actions; return the observations of one."""
    seen = []
    for action in actions:
        core.step(np.tile(action, (core.num_envs, 1)))
        seen.append(core.obs[wanted].copy())
    return np.array(seen)


CLASSES = [
    ("reach-v3", "random", 60),
    ("pick-place-v3", "random", 60),
    ("pick-place-v3", "expert", 110),
    ("door-open-v3", "expert", 80),
    ("peg-insert-side-v3", "expert", 80),
    ("stick-push-v3", "expert", 80),
    ("hammer-v3", "expert", 60),
]


@pytest.mark.parametrize(("name", "style", "n_steps"), CLASSES)
def test_physics_and_what_programs_read_are_upstreams_to_the_bit(make_core, name, style, n_steps):
    first, actions, reads, states = episode(name, style, n_steps)
    core = make_core(2, name=name)
    core.load([0, 1], [first, first])
    for t, action in enumerate(actions):
        core.step(np.stack([action, -action]))
        np.testing.assert_array_equal(core.obs[0, : TOUCHING + 1], reads[t])
        np.testing.assert_array_equal(core.save(0).physics, states[t])
    assert core.obs[0, COUNTER] == n_steps
    assert core.reward[0] == actions[-1, 3]
    assert not core.unstable.any()


def test_pads_touch_during_an_expert_episode_and_not_during_all_of_it():
    touched = episode("pick-place-v3", "expert", 110)[2][:, TOUCHING]
    assert 0 < touched.mean() < 1


def test_contacts_outside_of_the_constraints_count_with_the_last_force_as_upstream_counts_them():
    env, _ = upstream("pick-place-v3")
    states = episode("pick-place-v3", "expert", 110)[3]
    read = class_of("pick-place-v3").program.reads[TOUCHING]
    data = env.data
    touching = PadContacts([read], [data], Memory([data._address, layout("mjData").from_address(data._address).arena]))
    seen, out = [], np.empty((1, 1))
    for physics in states[40::3]:
        mujoco.mj_setState(env.model, data, physics, STATE)
        mujoco.mj_forward(env.model, data)
        for last in (0.0, 3.0, -500.0):
            data.efc_force[-1] = last
            for contact in range(-1, data.ncon):
                if contact >= 0:
                    data.contact[contact].efc_address = -1
                touching(out)
                assert out[0, 0] == env.touching_object(read.index)
                seen.append((last, contact, out[0, 0]))
    assert {(last, result) for last, contact, result in seen if contact >= 0} >= {(3.0, 1.0), (0.0, 0.0), (-500.0, 0.0)}


@pytest.mark.parametrize("n_threads", [1, 2])
def test_results_depend_neither_on_the_other_copies_nor_on_place_or_threads(make_core, n_threads):
    first, actions, reads, states = episode("pick-place-v3", "expert", 110)
    core = make_core(5, n_threads)
    core.place(1, class_of("reach-v3"))
    other = episode("reach-v3", "random", 60)[0]
    core.load(range(5), [first, other, first, first, first])
    generator = np.random.default_rng(0)
    for t, action in enumerate(actions[:80]):
        batch = generator.uniform(-1, 1, (5, 4)).astype(np.float32)
        batch[[0, 3]] = action
        core.step(batch)
        np.testing.assert_array_equal(core.obs[[0, 3], : TOUCHING + 1], np.stack([reads[t]] * 2))
    np.testing.assert_array_equal(core.save(3).physics, states[79])


def test_a_state_saved_in_mid_episode_goes_on_elsewhere_as_if_nothing_had_happened(make_core):
    first, actions, reads, _ = episode("pick-place-v3", "expert", 110)
    core = make_core(1)
    core.load([0], [first])
    replay(core, actions[:70])
    saved = core.save(0)
    assert saved.slots == [70.0]
    elsewhere = make_core(3, 2)
    elsewhere.load([0, 1, 2], [first, first, first])
    replay(elsewhere, actions[:9])
    elsewhere.load([2], [saved])
    went_on = replay(elsewhere, actions[70:], wanted=2)
    np.testing.assert_array_equal(went_on[:, : TOUCHING + 1], reads[70:])
    np.testing.assert_array_equal(went_on, replay(core, actions[70:]))


def test_each_copy_has_model_entries_of_its_own(make_core):
    env, tasks = upstream("door-open-v3")
    core = make_core(2, name="door-open-v3")
    states, positions = [], []
    for task in tasks:
        env.set_task(task)
        env.reset()
        states.append(state_of(env))
        positions.append(env.data.body("door").xpos.copy())
    core.load([0, 1], states)
    core.step(np.zeros((2, 4), np.float32))
    body = env.model.body("door").id
    for i in range(2):
        model, data = core.simulation(i)
        np.testing.assert_array_equal(model.body_pos.ravel(), states[i].model[: model.body_pos.size])
        np.testing.assert_array_equal(data.xpos[body], positions[i])
        np.testing.assert_array_equal(core.save(i).model, states[i].model)
    assert not np.array_equal(*positions)


def test_an_unstable_copy_is_reported_and_leaves_the_others_alone(make_core):
    first, actions, reads, _ = episode("pick-place-v3", "random", 60)
    broken = dataclasses.replace(first, physics=first.physics.copy())
    broken.physics[5] = np.nan
    core = make_core(2)
    core.load([0, 1], [first, broken])
    core.step(np.stack([actions[0]] * 2))
    assert core.unstable.tolist() == [0, 1]
    for t in range(1, 10):
        core.step(np.stack([actions[t]] * 2))
        np.testing.assert_array_equal(core.obs[0, : TOUCHING + 1], reads[t])
    assert core.unstable.tolist() == [0, 0]  # MuJoCo began anew
    core.load([1], [first])
    np.testing.assert_array_equal(replay(core, actions[:5], wanted=1)[:, : TOUCHING + 1], reads[:5])


def test_after_a_step_that_mujoco_refuses_copies_can_be_loaded_again(make_core):
    first, actions, reads, _ = episode("pick-place-v3", "random", 60)
    core = make_core(3, 2)
    core.load(range(3), [first] * 3)
    struct = layout("mjData").from_address(core.simulation(1)[1]._address)
    size, struct.narena = struct.narena, 1000
    with pytest.raises(WorldError, match="cannot go on with an env"):
        replay(core, actions[:1])
    struct.narena = size
    with pytest.raises(WorldError, match="no state yet"):
        replay(core, actions[:1])
    core.place(1, class_of("reach-v3"))
    core.place(1, class_of("pick-place-v3"))
    core.load(range(3), [first] * 3)
    np.testing.assert_array_equal(replay(core, actions[:5], wanted=2)[:, : TOUCHING + 1], reads[:5])


@pytest.mark.parametrize("failing", range(4))
def test_a_call_that_fails_in_any_thread_is_raised_and_the_threads_live_on(failing):
    def call(outcome, seen):
        seen.append(outcome)
        if outcome is not None:
            raise outcome

    pool, seen = ThreadPool(3), []
    problem = RuntimeError("refused")
    with pytest.raises(RuntimeError, match="refused"):
        pool.run([(call, problem if k == failing else None, seen) for k in range(4)])
    seen.clear()
    pool.run([(call, None, seen)] * 20)
    assert seen == [None] * 20
    pool.close()


def test_close_ends_the_threads_and_may_be_called_twice(make_core):
    def ours():
        return [thread for thread in threading.enumerate() if thread.name == "metarl-python-core"]

    before = len(ours())
    core = make_core(3, 3)
    assert len(ours()) == before + 2
    core.close()
    core.close()
    assert len(ours()) == before
    with pytest.raises(WorldError, match="closed"):
        core.step(np.zeros((3, 4), np.float32))


def test_threads_end_with_the_last_reference():
    before = threading.active_count()
    core = PythonCore(3, 3)
    assert threading.active_count() == before + 2
    del core
    assert threading.active_count() == before


def test_a_forked_child_steps_with_threads_of_its_own(make_core):
    first, actions, reads, _ = episode("pick-place-v3", "random", 60)
    core = make_core(2, 2)
    core.load([0, 1], [first, first])
    replay(core, actions[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking a process that has threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if np.array_equal(replay(core, actions[3:10])[:, : TOUCHING + 1], reads[3:10]) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(replay(core, actions[3:10])[:, : TOUCHING + 1], reads[3:10])


def test_wrong_use_is_refused_with_what_was_expected(make_core):
    first = episode("reach-v3", "random", 60)[0]
    core = make_core(2, name="reach-v3")
    with pytest.raises(WorldError, match="env 0 has no state yet"):
        core.step(np.zeros((2, 4), np.float32))
    with pytest.raises(ConfigError, match="env 2 does not exist"):
        core.load([2], [first])
    with pytest.raises(ConfigError, match="different envs"):
        core.load([0, 0], [first, first])
    with pytest.raises(ConfigError, match="needs physics as"):
        core.load([0], [dataclasses.replace(first, physics=first.physics[1:])])
    core.load([0, 1], [first, first])
    with pytest.raises(ConfigError, match="actions must be float32"):
        core.step(np.zeros((2, 4)))
    core.place(1, class_of("reach-v3"))
    with pytest.raises(WorldError, match="env 1 has no state yet"):
        core.step(np.zeros((2, 4), np.float32))
    with pytest.raises(ConfigError, match="n_threads"):
        PythonCore(2, 0)
