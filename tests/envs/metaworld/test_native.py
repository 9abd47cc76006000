"""The compiled core: its physics against MuJoCo and upstream, and its life as threads and memory."""

import ctypes
import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from metarl.envs.metaworld.core_protocol import EnvState, ModelEntry
from metarl.envs.metaworld.native.build import BuildError, compile_library, find_compiler
from metarl.envs.metaworld.native.compiled import CompiledCore
from metarl.errors import ConfigError, WorldError
from tests.envs.gym.toy_mujoco import Reference, actions, first_state, scene, toy_class

try:
    find_compiler()
except BuildError as missing:
    pytest.skip(str(missing), allow_module_level=True)


def physics_only(num_envs, n_threads=1):
    return CompiledCore(num_envs, n_threads, function=lambda program: None)


def toy_core(states, task_class, n_threads=1):
    core = physics_only(len(states), n_threads)
    for i in range(len(states)):
        core.place(i, task_class)
    core.load(range(len(states)), states)
    return core


def same(a, b):
    return all(getattr(a, part).tobytes() == getattr(b, part).tobytes() for part in ("physics", "model", "slots"))


# ---------------------------------------------------------------- the numbers


PLAIN = {
    "upstream's settings": {},
    "another integrator": {"option": 'integrator="RK4"'},
    "another solver": {"option": 'solver="PGS"'},
    "a sensor": {"more": '<sensor><framepos objtype="body" objname="cube"/></sensor>'},
    "a mocap body that touches things": {"mocap_geom": ""},
}


@pytest.mark.parametrize("case", PLAIN)
def test_a_step_is_five_mj_steps_and_a_forward_bit_for_bit_whether_or_not_the_two_can_be_fused(case):
    task_class = toy_class(scene(**PLAIN[case]))
    state = first_state(task_class)
    core, reference = toy_core([state], task_class), Reference(task_class, state)
    n_contacts = 0
    for action in actions(80, 1):
        core.step(action)
        assert core.save(0).physics.tobytes() == reference.step(action[0]).tobytes()
        n_contacts += reference.data.ncon
    assert n_contacts > 80
    assert not core.unstable.any()
    model, data = core.simulation(0)
    assert np.array_equal(data.xpos, reference.data.xpos)
    assert np.array_equal(model.body_pos, reference.model.body_pos)


def test_the_scene_notices_a_warm_start_that_is_not_put_back():
    task_class = toy_class()
    state = first_state(task_class)
    cold = Reference(task_class, state)
    cold.data.qacc_warmstart[:] = 0
    warm = Reference(task_class, state)
    steps = actions(80, 1)[:, 0]
    assert any(cold.step(a).tobytes() != warm.step(a).tobytes() for a in steps)


@pytest.mark.metaworld
@pytest.mark.filterwarnings("ignore:Constant")  # upstream's policies
@pytest.mark.parametrize(("name", "expert"), [("reach-v3", False), ("pick-place-v3", True), ("door-lock-v3", True)])
def test_physics_observation_reward_and_info_are_upstreams(name, expert):
    import metaworld
    from metaworld.policies import ENV_POLICY_MAP

    from metarl.envs.metaworld.catalogue import reset_state, task_class
    from metarl.envs.metaworld.program import INFO
    from metarl.envs.metaworld.tasks import upstream_goal

    upstream = metaworld.ALL_V3_ENVIRONMENTS[name](reward_function_version="v2")
    goal = upstream._random_reset_space.low.astype(np.float64)
    upstream.set_task(upstream_goal(name, goal))
    obs, _ = upstream.reset()
    policy, generator, of_class = ENV_POLICY_MAP[name](), np.random.default_rng(1), task_class(name)
    core = CompiledCore(3, 2)
    for i in range(3):
        core.place(i, of_class)
    core.load([0, 1, 2], [reset_state(of_class, goal)[0]] * 3)
    for _ in range(70):
        seen = np.concatenate([obs[:36], upstream._target_pos])
        action = np.clip(policy.get_action(seen), -1, 1) if expert else generator.uniform(-1, 1, 4)
        action = action.astype(np.float32)
        obs, reward, _, _, info = upstream.step(action)
        core.step(np.stack([action] * 3))
        physics = np.empty(of_class.n_state)
        mujoco.mj_getState(upstream.model, upstream.data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        for i in (0, 2):
            assert core.save(i).physics.tobytes() == physics.tobytes()
            assert core.obs[i].tobytes() == obs.tobytes()
            assert core.reward[i] == pytest.approx(reward, abs=1e-12)
            assert core.info[i] == pytest.approx([float(info[key]) for key in INFO], abs=1e-12)
    upstream.close()


def test_results_do_not_depend_on_number_position_neighbours_or_threads():
    classes = [toy_class(name="a"), toy_class(scene(option='density="1.2"'), name="b")]
    kinds = [0, 1, 1, 0, 1, 0, 0]
    states = [first_state(classes[kind], seed) for seed, kind in enumerate(kinds)]
    steps = actions(20, len(kinds))

    def run(order, n_threads):
        core = physics_only(len(order), n_threads)
        for position, i in enumerate(order):
            core.place(position, classes[kinds[i]])
        core.load(range(len(order)), [states[i] for i in order])
        for step in steps:
            core.step(step[list(order)].copy())
        found = {i: core.save(position).physics.tobytes() for position, i in enumerate(order)}
        core.close()
        return found

    whole = run(range(7), 1)
    assert len(set(whole.values())) == 7
    for order, n_threads in ((range(7), 2), (range(7), 5), ((6, 2, 4, 0, 1, 5, 3), 3), ((4,), 1), ((3, 1), 2)):
        part = run(order, n_threads)
        assert part == {i: whole[i] for i in order}


def test_a_state_saved_in_mid_episode_goes_on_in_another_copy_exactly():
    task_class = toy_class()
    core = toy_core([first_state(task_class, seed) for seed in range(3)], task_class, n_threads=2)
    steps = actions(40, 3)
    for step in steps[:20]:
        core.step(step)
    middle = core.save(1)
    for step in steps[20:]:
        core.step(step)
    end = core.save(1)
    core.load([2], [middle])
    assert same(core.save(2), middle)
    for step in steps[20:]:
        core.step(step[[0, 0, 1]].copy())
    assert same(core.save(2), end)
    assert not same(core.save(0), end)


def test_copies_have_their_own_model_values_and_leave_the_shared_model_alone():
    task_class = toy_class()
    before = task_class.model.body_pos.copy()
    states = [first_state(task_class, seed) for seed in range(2)]
    core = toy_core(states, task_class)
    assert [same(core.save(i), states[i]) for i in range(2)] == [True, True]
    sites = [core.simulation(i)[1].site("goal").xpos.copy() for i in range(2)]
    expected = [state.model[6:9] + state.model[0:3] for state in states]  # the world's body, and the site in it
    assert sites[0] == pytest.approx(states[0].model[0:3])
    assert sites[1] == pytest.approx(states[1].model[0:3])
    assert not np.allclose(expected[0], expected[1])
    assert np.array_equal(task_class.model.body_pos, before)


def test_the_program_gets_the_copys_simulation_action_and_slots_after_the_step():
    seen = []
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.POINTER(t) for t in (ctypes.c_float, *_DOUBLES)])

    @kind
    def program(model, data, action, slots, obs, out):
        seen.append((model, data))
        slots[1] += 1
        obs[38] = action[3]
        out[0], out[7] = slots[0], slots[1]

    task_class = toy_class()
    core = CompiledCore(2, 1, function=lambda _: ctypes.cast(program, ctypes.c_void_p).value)
    state = first_state(task_class)
    for i in range(2):
        core.place(i, task_class)
    core.load([0, 1], [EnvState(state.physics, state.model, np.array([i + 0.5, 10.0])) for i in range(2)])
    for step in actions(3, 2):
        core.step(step)
        assert np.array_equal(core.obs[:, 38], step[:, 3].astype(np.float64))
    assert core.reward.tolist() == [0.5, 1.5]
    assert core.info[:, 6].tolist() == [13, 13]
    assert core.save(1).slots.tolist() == [1.5, 13]
    assert len(set(seen)) == 2


_DOUBLES = (ctypes.c_double,) * 3


# ---------------------------------------------------------------- what can go wrong


@pytest.mark.parametrize(
    ("velocities", "n_threads"),
    [
        pytest.param({8: 1e12}, 1, id="velocity too high, acceleration not"),
        pytest.param({3: 1e9, 4: 1e9}, 2, id="acceleration too high, velocity not"),
        pytest.param({0: np.nan}, 2, id="not a number"),
    ],
)
def test_unstable_physics_of_one_copy_is_reported_reset_as_mujoco_does_and_leaves_the_others_alone(
    velocities, n_threads, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # the reference's MuJoCo leaves its MUJOCO_LOG.TXT behind; the core's must not
    task_class = toy_class()
    states = [first_state(task_class, seed) for seed in range(3)]
    alone = toy_core([states[0], states[2]], task_class)
    broken = states[1].physics.copy()
    for i, velocity in velocities.items():
        broken[1 + task_class.model.nq + i] = velocity  # time and positions come first
    states[1] = EnvState(broken, states[1].model, states[1].slots)
    core, reference = toy_core(states, task_class, n_threads), Reference(task_class, states[1])
    for t, step in enumerate(actions(5, 3)):
        core.step(step)
        alone.step(step[[0, 2]].copy())
        assert core.unstable.tolist() == [0, int(t == 0), 0]
        assert core.save(1).physics.tobytes() == reference.step(step[1]).tobytes()
    assert same(core.save(0), alone.save(0))
    assert same(core.save(2), alone.save(1))


def test_unstable_physics_writes_no_log_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task_class = toy_class()
    state = first_state(task_class)
    broken = state.physics.copy()
    broken[1] = np.nan
    core = toy_core([EnvState(broken, state.model, state.slots)], task_class)
    core.step(actions(1, 1)[0])
    assert core.unstable.tolist() == [1]
    assert list(tmp_path.iterdir()) == []


FAILING = """
#include <mujoco/mujoco.h>
extern "C" void program(const mjModel*, const mjData* d, const float* action, double*, double*, double*) {
  mj_markStack(const_cast<mjData*>(d));
  if (action[0] > 9) mju_error("stack of %d", 7);
  mj_freeStack(const_cast<mjData*>(d));
}
"""


@pytest.mark.parametrize("n_threads", [1, 3])
def test_an_error_inside_mujoco_names_the_copy_and_the_core_goes_on(n_threads, tmp_path):
    compile_library(tmp_path / "failing.so", {"failing.cpp": FAILING})
    library = ctypes.CDLL(str(tmp_path / "failing.so"))
    task_class = toy_class()
    core = CompiledCore(3, n_threads, function=lambda _: ctypes.cast(library.program, ctypes.c_void_p).value)
    state, step = first_state(task_class), actions(1, 1)[0][[0, 0, 0]].copy()
    for i in range(3):
        core.place(i, task_class)
    core.load([0, 1, 2], [state] * 3)
    step[1, 0] = 10
    with pytest.raises(WorldError, match="env 1: MuJoCo says: stack of 7"):
        core.step(step)
    with pytest.raises(WorldError, match="env 1 is in no state"):
        core.step(step)
    core.load([0, 1, 2], [state] * 3)
    core.step(step[[0, 0, 0]].copy())
    assert same(core.save(0), core.save(1))


def test_wrong_calls_are_refused_with_what_is_wrong():
    task_class, core = toy_class(), physics_only(2)
    state = first_state(task_class)
    with pytest.raises(WorldError, match="env 0 is in no state yet"):
        core.step(actions(1, 2)[0])
    with pytest.raises(WorldError, match="no class yet"):
        core.save(1)
    with pytest.raises(ConfigError, match="env 2 does not exist"):
        core.place(2, task_class)
    with pytest.raises(ConfigError, match="lies outside of site_pos"):
        core.place(0, toy_class(entries=(ModelEntry("site_pos", 1, 3),)))
    with pytest.raises(ConfigError, match="no array of floats called site_bodyid"):
        core.place(0, toy_class(entries=(ModelEntry("site_bodyid", 0, 1),)))
    with pytest.raises(ConfigError, match="one mocap body and two actuators"):
        core.place(0, toy_class(mujoco.MjModel.from_xml_string("<mujoco/>"), entries=(), n_state=1))
    for i in range(2):
        core.place(i, task_class)
    with pytest.raises(ConfigError, match="env 0 needs slots as 2"):
        core.load([0], [EnvState(state.physics, state.model, np.zeros(3))])
    with pytest.raises(ConfigError, match="different envs"):
        core.load([1, 1], [state, state])
    core.load([0, 1], [state, state])
    with pytest.raises(ConfigError, match=r"\(2, 4\), got \(1, 4\)"):
        core.step(actions(1, 1)[0])
    with pytest.raises(TypeError):
        core.step(actions(1, 2)[0].astype(np.float64))
    with pytest.raises(ConfigError, match="n_threads"):
        CompiledCore(2, 0)


def test_a_second_call_during_a_step_is_refused_and_so_is_closing():
    refusals = []

    @ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 6)
    def program(*_):
        for call in (lambda: core.step(step), lambda: core.save(0), core.close):
            with pytest.raises(WorldError, match="another thread") as refusal:
                call()
            refusals.append(refusal)

    task_class, step = toy_class(), actions(1, 1)[0]
    core = CompiledCore(1, 1, function=lambda _: ctypes.cast(program, ctypes.c_void_p).value)
    core.place(0, task_class)
    core.load([0], [first_state(task_class)])
    core.step(step)
    assert len(refusals) == 3
    core.close()


# ---------------------------------------------------------------- life


def n_threads_now():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Threads:"))


def test_threads_end_with_the_core_and_closing_twice_is_harmless():
    task_class = toy_class()
    before = n_threads_now()
    core = toy_core([first_state(task_class)] * 6, task_class, n_threads=4)
    core.step(actions(1, 6)[0])
    assert n_threads_now() == before + 3
    core.close()
    core.close()
    assert n_threads_now() == before
    with pytest.raises(WorldError, match="closed"):
        core.step(actions(1, 6)[0])
    forgotten = toy_core([first_state(task_class)] * 6, task_class, n_threads=4)
    assert n_threads_now() == before + 3
    del forgotten
    assert n_threads_now() == before


def test_one_thread_means_that_none_is_started():
    task_class = toy_class()
    before = n_threads_now()
    core = toy_core([first_state(task_class)] * 3, task_class, n_threads=1)
    core.step(actions(1, 3)[0])
    assert n_threads_now() == before


def test_memory_does_not_grow_when_copies_change_class_over_and_over():
    classes = [toy_class(), toy_class(scene(more="<keyframe><key time='1'/></keyframe>"), name="other")]
    states = [first_state(task_class) for task_class in classes]
    core = physics_only(8)

    def around(n):
        for k in range(n):
            for i in range(8):
                core.place(i, classes[(k + i) % 2])
            core.load(range(8), [states[(k + i) % 2] for i in range(8)])
            core.step(actions(1, 8)[0])
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    around(20)
    assert around(60) - around(1) < 2**20


SCRIPT = """
import hashlib, os, sys
from tests.envs.gym.toy_mujoco import actions, first_state, toy_class
from metarl.envs.metaworld.native.compiled import CompiledCore

task_class, steps = toy_class(), actions(10, 6)
core = CompiledCore(6, 3, function=lambda program: None)
for i in range(6):
    core.place(i, task_class)
core.load(range(6), [first_state(task_class, i) for i in range(6)])
for step in steps[:5]:
    core.step(step)
children = []
for ending in ("close", "exit", "_exit"):
    children.append(os.fork())
    if not children[-1]:
        break
for step in steps[5:]:
    core.step(step)
end = hashlib.sha256(b"".join(core.save(i).physics.tobytes() for i in range(6))).digest()
if not children[-1]:
    os.write(int(sys.argv[1]), end)
    if ending == "close":
        core.close()
    (os._exit if ending == "_exit" else sys.exit)(0)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(int(sys.argv[2]), 32) == end
print("all went on")
"""


def test_a_forked_child_goes_on_with_threads_of_its_own_and_both_can_exit_without_closing():
    readable, writable = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, str(writable), str(readable)],
            capture_output=True, text=True, timeout=60, pass_fds=(readable, writable), check=False,
        )  # fmt: skip
    finally:
        os.close(readable)
        os.close(writable)
    assert (done.returncode, done.stdout) == (0, "all went on\n"), done.stderr
