import textwrap
from dataclasses import replace

import numpy as np
import pytest

from metarl.envs.metaworld.derive import derive_program
from metarl.envs.metaworld.program import ARITY, Program
from metarl.envs.metaworld.tasks import class_names
from metarl.errors import ConfigError
from tests.envs.metaworld.program_reference import differences, scattered, slots_of, upstream

pytestmark = [
    pytest.mark.metaworld,
    pytest.mark.filterwarnings("ignore:Constant:UserWarning"),  # a scripted expert about its own gains
]

SOME_V1 = ("disassemble-v3", "bin-picking-v3", "pick-place-wall-v3", "sweep-v3")


@pytest.fixture
def reach():
    return upstream("reach-v3")


def method(tmp_path, body: str, name: str = "compute_reward"):
    """Return a method (self, action, obs) that looks like one of upstream's."""
    path = tmp_path / f"fake{len(list(tmp_path.iterdir()))}.py"
    path.write_text(
        f"import numpy as np\ndef {name}(self, action, obs):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    )
    names = {"__name__": "metaworld.fake"}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return names[name]


@pytest.mark.parametrize("name", class_names())
def test_program_agrees_with_upstream_to_the_bit_on_physics_and_on_invented_states(name):
    env = upstream(name)
    program = derive_program(env, "v2")
    assert differences(program, env, 12).max() == 0
    worst, n_answers, _ = scattered(program, env, 10)
    assert worst.max() == 0
    assert n_answers >= 5


@pytest.mark.parametrize("name", SOME_V1)
def test_program_agrees_with_upstreams_old_reward(name):
    env = upstream(name, "v1")
    program = derive_program(env, "v1")
    assert differences(program, env, 16).max() == 0
    assert scattered(program, env, 40)[0].max() == 0


@pytest.mark.parametrize("name", ["pick-place-v3", "basketball-v3", "lever-pull-v3"])
def test_program_of_one_goal_holds_for_another(name):
    program = derive_program(upstream(name, seed=0), "v2")
    other = upstream(name, seed=7)
    assert derive_program(other, "v2") == program
    assert differences(program, other, 16).max() == 0


def test_old_reward_is_another_program():
    env = upstream("push-v3")
    assert derive_program(env, "v1").nodes != derive_program(env, "v2").nodes


def test_attribute_that_is_none_until_the_first_step_works_from_either_state():
    env = upstream("bin-picking-v3")
    assert env._target_to_obj_init is None
    program = derive_program(env, "v2")
    assert differences(program, env, 4).max() == 0
    assert env._target_to_obj_init is not None
    assert derive_program(env, "v2") == program
    (attribute,) = (a for a in program.attributes if a.name == "_target_to_obj_init")
    assert attribute.none_slot in dict(program.updates)


def test_expert_that_grasps_and_lifts_is_followed_to_the_end():
    env = upstream("pick-place-v3", seed=2)
    program = derive_program(env, "v2")
    assert differences(program, env, 70, disturbed=False).max() == 0
    assert env._get_obs()[6] > 0.04


def test_program_is_well_formed_and_reads_live_views_from_the_simulation():
    program = derive_program(upstream("basketball-v3"), "v2")
    check(program)
    names = {r.name for r in program.reads}
    assert {"_target_pos[0]", "body:leftpad.xpos[1]"} <= names
    assert "_target_pos" not in {a.name for a in program.attributes}
    assert [a.name for a in derive_program(upstream("soccer-v3"), "v2").attributes] == [
        "_target_pos", "_prev_obs", "obj_init_pos", "init_tcp",
    ]  # fmt: skip


def check(program: Program) -> None:
    for i, node in enumerate(program.nodes):
        assert all(a < i for a in node.args)
        assert ARITY[node.op] in (None, len(node.args))
    slots = [s for a in program.attributes for s in [*range(a.start, a.start + int(np.prod(a.shape))), a.none_slot]]
    assert sorted(s for s in slots if s >= 0) == list(range(program.n_slots))
    outputs = [*program.obs, program.reward, *program.info, *(node for _, node in program.updates)]
    assert all(program.nodes[n].dtype == "f64" for n in outputs)


def test_changed_constant_is_noticed():
    env = upstream("door-open-v3")
    program = derive_program(env, "v2")
    (i,) = (i for i, n in enumerate(program.nodes) if n.op == "const" and n.dtype == "f64" and n.value == 0.12)
    broken = replace(
        program, nodes=(*program.nodes[:i], replace(program.nodes[i], value=0.1200001), *program.nodes[i + 1 :])
    )
    assert scattered(broken, env, 40)[0][1] > 0


def test_types_branches_aliases_and_early_returns_follow_python_and_numpy(tmp_path, monkeypatch, reach):
    body = """
        a = min(max(0, action[-1]), 0.7) / 0.7
        v = obs[4:7].copy()
        w = v[1:]
        if action[0] > 0:
            w[0] = action[1]
            w *= 2
        else:
            v[2] = 1
            self.mark = v
        for i, scale in enumerate([1.5, 2]):
            v[i] += scale
        if action[1] > 0:
            return sum((v[0], a)), a * 0.1 + 1.0 / 3, v[1]
        x = (a + 0.1) * 0.1 if action[2] > 0 else 0
        def nested(t):
            return t ** 2 if 0 < t <= 0.05 else (t and -t)
        y, _ = [nested(x)], 0
        return float(x + np.float64(0.3) * a), np.clip(y[0], -0.01, 0.02), np.where(action > 0.2, v[0], 1.0)[1]
    """
    monkeypatch.setattr(type(reach), "compute_reward", method(tmp_path, body))
    program = derive_program(reach, "v2")
    worst, n_answers, _ = scattered(program, reach, 150)
    assert n_answers == 150
    assert worst.max() == 0
    assert {n.dtype for n in program.nodes} >= {"f32", "f64", "bool"}


def test_a_scalar_of_one_type_or_another_is_a_scalar(tmp_path, monkeypatch, reach):
    body = """
        margin = max(obs[0] - 0.1, 0.0)  # NumPy's float64, or Python's 0.0
        value = np.where(margin > 0.05, 1.0, margin + 0.1)
        value = value.item() if np.isscalar(margin) else value
        return action[3] * value, 0.0, 0.0  # rounded to float32 only if `value` is Python's
    """
    monkeypatch.setattr(type(reach), "compute_reward", method(tmp_path, body))
    worst, n_answers, _ = scattered(derive_program(reach, "v2"), reach, 150)
    assert n_answers == 150
    assert worst.max() == 0


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("while obs[0] > 0: pass\nreturn 0, 0, 0", "statement While"),
        ("return np.fft.fft(obs), 0, 0", "a call of fft"),
        ("return int(obs[0]), 0, 0", "int()"),
        ("return obs[int(obs[0] > 0)], 0, 0", "an index that depends on the state"),
        ("self.data.body('hand').xpos[0] = 1\nreturn 0, 0, 0", "shared with the simulation"),
        ("return self.curr_path_length, 0, 0", "step itself changes"),
        ("return self.data.time, 0, 0", "of the simulation"),
        ("return obs[0] % 1, 0, 0", "operator Mod"),
        ("return np.random.uniform(), 0, 0", "a call of uniform"),
        ("return [i for i in range(3) if obs[i] > 0], 0, 0", "length depends on the state"),
    ],
)
def test_what_is_not_understood_is_named_with_file_and_line(tmp_path, monkeypatch, reach, body, what):
    monkeypatch.setattr(type(reach), "compute_reward", method(tmp_path, body))
    with pytest.raises(ConfigError, match=r"fake0\.py:3") as caught:
        derive_program(reach, "v2")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_that_always_raises_is_refused_and_a_branch_that_does_counts_for_nothing(tmp_path, monkeypatch, reach):
    monkeypatch.setattr(type(reach), "compute_reward", method(tmp_path, "return self.model.no_such_thing(obs)"))
    with pytest.raises(ConfigError, match=r"fake0\.py:3: .*no_such_thing"):
        derive_program(reach, "v2")
    body = "if obs[0] > 0:\n    raise ValueError\nreturn 1.0, obs[0], 0.0"
    monkeypatch.setattr(type(reach), "compute_reward", method(tmp_path, body))
    program = derive_program(reach, "v2")
    assert program.nodes[program.reward].value == 1.0


def test_unknown_reward_version_and_foreign_environment_are_refused(reach):
    with pytest.raises(ConfigError, match="'v3'"):
        derive_program(reach, "v3")

    class Other(type(reach)):
        pass

    with pytest.raises(ConfigError, match="Other is none of"):
        derive_program(Other(), "v2")


def test_slots_are_the_state_that_the_program_keeps(reach):
    program = derive_program(reach, "v2")
    slots = slots_of(program, reach)
    (previous,) = (a for a in program.attributes if a.name == "_prev_obs")
    np.testing.assert_array_equal(slots[previous.start : previous.start + 18], reach._prev_obs)
