"""Emitted C++ and array code against NumPy's scalars, operation by operation and on random programs."""

from __future__ import annotations

import ctypes
import math
import re
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metarl.envs.metaworld.emit import (
    check,
    compile_arrays,
    dot_is_fused,
    emit_arrays,
    emit_cpp,
    numpy_functions,
    simplify,
)
from metarl.envs.metaworld.program import Node, Program, Read
from metarl.errors import ConfigError
from tests.envs.metaworld.toy_programs import (
    N_READS,
    N_SLOTS,
    Builder,
    Case,
    attribute_that_may_be_none,
    call_compiled,
    cases,
    compile_programs,
    random_program,
    same_bits,
    signatures,
    single,
    upstream,
)

PROGRAMS = [single(*signature) for signature in signatures()] + [random_program(seed) for seed in range(6)]
SCENE = """
<mujoco><option gravity="0 0 0"/><worldbody>
  <geom name="left" type="box" size=".1 1 1" pos="-1 0 0"/>
  <geom name="right" type="box" size=".1 1 3" pos="1 0 0" margin=".2" gap=".15"/>
  <body><freejoint/><geom name="object" type="box" size=".88 .3 .3"/></body>
  <body pos="0 0 3"><freejoint/><geom name="far" size=".1"/></body>
</worldbody></mujoco>"""
"""Two pads and an object between them, which overlaps with both, one or none where it is; near the right pad there are
contacts outside of the constraints."""


def touching_program() -> Program:
    """Whether the pads press on the object, and on a ball far away."""
    model = mujoco.MjModel.from_xml_string(SCENE)
    left, right, thing, far = (model.geom(name).id for name in ("left", "right", "object", "far"))
    builder = Builder()
    read = builder.add("cast", "f64", (builder.add("read", "bool", index=0),))
    reads = (Read("touching", thing, (left, right)), Read("touching", far, (left, right)))
    return replace(builder.program([read, 1, 0], "touching-v3"), reads=reads + (Read("qpos", 0),) * (N_READS - 2))


TOUCHING = touching_program()
NONE = attribute_that_may_be_none()
WIDE = cases(64)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """All programs above in one library."""
    return compile_programs([*PROGRAMS, NONE, TOUCHING], tmp_path_factory.mktemp("programs"))


def run_compiled(library: ctypes.CDLL, program: Program, case: Case) -> list[NDArray[np.float64]]:
    """obs [39, N], reward [N], info [7, N], slots [n, N]."""
    ball = '<body><joint type="slide"/><geom size="1"/></body>'
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{ball * N_READS}</worldbody></mujoco>")
    data = mujoco.MjData(model)
    copies = []
    for reads, slots, action in zip(*(array.T for array in case), strict=True):
        data.qpos[:] = reads
        copies.append(call_compiled(library, program.key, model, data, slots, action))
    return [np.stack(parts, axis=-1) for parts in zip(*copies, strict=True)]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.key)
def test_array_code_has_the_bits_of_upstreams_scalars(program: Program) -> None:
    expected = upstream(program, WIDE)
    for got, wanted in zip(compile_arrays(program)(*WIDE), expected, strict=True):
        assert same_bits(got, wanted)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.key)
def test_compiled_code_has_the_bits_of_upstreams_scalars(program: Program, compiled: ctypes.CDLL) -> None:
    expected = upstream(program, WIDE)
    for got, wanted in zip(run_compiled(compiled, program, WIDE), expected, strict=True):
        assert same_bits(got, wanted)


def touching_object(data: Any, object_geom_id: int, left: int, right: int) -> bool:
    """Upstream's."""
    contacts = [x for x in data.contact if object_geom_id in (x.geom1, x.geom2)]
    forces = [
        sum(data.efc_force[x.efc_address] for x in contacts if pad in (x.geom1, x.geom2)) for pad in (left, right)
    ]
    return bool(forces[0] > 0 and forces[1] > 0)


def test_touching_is_upstreams_touching_object(compiled: ctypes.CDLL) -> None:
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    thing, far = TOUCHING.reads[0], TOUCHING.reads[1]
    slots, action = np.zeros(N_SLOTS), np.zeros(4, np.float32)
    generator = np.random.default_rng(0)
    seen: set[tuple[bool | None, bool]] = set()
    for _ in range(300):
        data.qpos[:3] = generator.uniform(-0.1, 0.1), 0, generator.choice((0.0, 2.2))
        data.qpos[3:7] = 1, *generator.normal(scale=0.01, size=3)
        data.qvel[:] = generator.normal(scale=3, size=model.nv)
        mujoco.mj_forward(model, data)
        obs = call_compiled(compiled, TOUCHING.key, model, data, slots, action)[0]
        outside = any(x.efc_address < 0 for x in data.contact)
        if data.nefc == 0:  # upstream would raise if there were a contact
            assert obs[0] == 0.0
            seen.add((None, outside))  # None: no constraints at all
            continue
        assert obs[0] == touching_object(data, thing.index, *thing.pads)
        assert obs[1] == touching_object(data, far.index, *far.pads) == 0.0
        seen.add((bool(obs[0]), outside))
    assert {(True, False), (False, False), (True, True), (False, True)} <= seen
    assert (None, True) in seen


def test_random_programs_are_not_trivial() -> None:
    finite = [np.isfinite(np.concatenate(upstream(p, WIDE)[:1])).mean() for p in PROGRAMS[-6:]]
    assert min(finite) > 0.3
    assert min(len(simplify(p).nodes) for p in PROGRAMS[-6:]) > 60


def test_without_numpys_functions_the_c_librarys_are_used(compiled: ctypes.CDLL) -> None:
    program = single("tanh", "f64", ("f64",))
    case = (
        np.linspace(-2, 2, N_READS * 40).reshape(N_READS, 40),
        np.zeros((N_SLOTS, 40)),
        np.zeros((4, 40), np.float32),
    )
    table = numpy_functions()
    compiled.set_numpy_functions(type(table)())
    try:
        got = run_compiled(compiled, program, case)[1]
    finally:
        compiled.set_numpy_functions(table)
    assert got.tolist() == [math.tanh(x) for x in case[0][0]]


def test_numpys_functions_are_all_found() -> None:
    assert all(entry.loop for entry in numpy_functions())


@pytest.mark.parametrize("program", PROGRAMS[:-6], ids=lambda program: program.key)
def test_torch_agrees_up_to_rounding(program: Program) -> None:
    case = cases(64, odd=(0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan))
    wanted = compile_arrays(program)(*case)
    got = compile_arrays(program, "torch")(*(torch.from_numpy(array) for array in case))
    tolerance = 1e-5 if "_f32" in program.key else 1e-13
    for tensor, array in zip(got, wanted, strict=True):
        assert tensor.dtype == torch.float64
        assert np.allclose(tensor.numpy(), array, rtol=tolerance, atol=1e-300, equal_nan=True)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_arguments_stay_as_they_were_and_results_are_fresh(backend: Any) -> None:
    builder = Builder()
    program = builder.program([0, 12, 13, 14], "leaves-v3")
    case = cases(3)
    run = compile_arrays(program, backend)
    arguments = case if backend == "numpy" else tuple(torch.from_numpy(array.copy()) for array in case)
    results = run(*arguments)
    for result in results:
        result[...] = 7.0
    for argument, array in zip(arguments, case, strict=True):
        assert same_bits(argument, array)


def test_one_copy_computes_what_it_computes_among_many() -> None:
    for program in PROGRAMS[-6:]:
        run = compile_arrays(program)
        many = run(*WIDE)
        for k in (0, 17, 63):
            one = run(*(np.ascontiguousarray(array[:, k : k + 1]) for array in WIDE))
            assert all(same_bits(a[..., :1], b[..., k : k + 1]) for a, b in zip(one, many, strict=True))


def test_none_slots_choose_between_branches(compiled: ctypes.CDLL) -> None:
    slots = WIDE[1].copy()
    slots[0] = np.arange(64) % 2
    slots[1, 1::2] = np.nan  # meaningless while the attribute is None
    case = (WIDE[0], slots, WIDE[2])
    wanted = np.where(slots[0] != 0, WIDE[0][0], slots[1])
    for results in (compile_arrays(NONE)(*case), run_compiled(compiled, NONE, case)):
        assert same_bits(results[0][0], wanted)
        assert same_bits(results[3][0], np.zeros(64))


def test_vectors_are_put_back_together() -> None:
    """Three subtractions, three clips and a norm of components become one statement each."""
    builder = Builder()
    difference = [builder.add("sub", "f64", (i, N_READS + i)) for i in range(3)]
    clipped = [
        builder.add("minimum", "f64", (i, builder.const(bound)))
        for i, bound in zip(difference, (0.1, 0.2, 0.3), strict=True)
    ]
    norm = builder.add("sqrt", "f64", (builder.add("dot", "f64", (*clipped, *clipped)),))
    source = emit_arrays(builder.program([norm, *clipped], "vectors-v3"))
    assert "reads[0:3] - slots[0:3]" in source
    assert "xp.column([0.1, 0.2, 0.3]" in source
    assert re.search(r"= dot\(v := p\d+, v\)", source)
    assert len(re.findall(r"^ +p\d+ = ", source, re.MULTILINE)) == 4


def test_constants_fold_as_upstream_would_compute_them() -> None:
    builder = Builder()
    third = builder.add("div", "f32", (builder.const(1.0, "f32"), builder.const(3.0, "f32")))
    wide = builder.add("cast", "f64", (third,))
    inverse = builder.add("div", "f64", (builder.const(1.0), builder.const(-0.0)))
    unknown = builder.add("select", "f64", (builder.const(True, "bool"), wide, 0))
    program = simplify(builder.program([unknown, inverse], "constants-v3"))
    assert {node.op for node in program.nodes} == {"const"}
    values = [program.nodes[i].value for i in program.obs[:2]]
    assert values == [float(np.float32(1) / np.float32(3)), -np.inf]


def test_conditions_that_cannot_hold_leave_the_program() -> None:
    builder = Builder()
    a, b = (builder.add("lt", "bool", (i, N_READS)) for i in (0, 1))
    not_a = builder.add("not", "bool", (a,))
    both_ways = builder.add("or", "bool", (builder.add("and", "bool", (a, b)), builder.add("and", "bool", (not_a, b))))
    never = builder.add("and", "bool", (a, builder.add("and", "bool", (b, not_a))))
    inner = builder.add("select", "f64", (a, 2, 3))
    outputs = [
        builder.add("select", "f64", (both_ways, 4, 5)),  # b ? 4 : 5
        builder.add("select", "f64", (never, 6, 7)),  # 7
        builder.add("select", "f64", (not_a, inner, 8)),  # a ? 8 : 3
    ]
    program = builder.program(outputs, "conditions-v3")
    small = simplify(program)
    assert sorted(node.op for node in small.nodes if node.op not in ("read", "slot")) == [
        "lt",
        "lt",
        "select",
        "select",
    ]
    assert 6 not in [node.index for node in small.nodes if node.op == "read"]
    for got, wanted in zip(compile_arrays(program)(*WIDE), upstream(program, WIDE), strict=True):
        assert same_bits(got, wanted)


def test_zeros_of_both_signs_stay_apart() -> None:
    builder = Builder()
    signs = [builder.add("div", "f64", (builder.const(1.0), builder.const(zero))) for zero in (0.0, -0.0)]
    program = simplify(builder.program(signs, "zeros-v3"))
    assert [program.nodes[i].value for i in program.obs[:2]] == [np.inf, -np.inf]


def test_names_and_lines_of_upstream_are_in_the_code() -> None:
    builder = Builder()
    node = builder.add("add", "f64", (0, 1), label="self.tcp to[obj].x", source="sawyer_reach_v3.py:12")
    program = builder.program([node], "names-v3")
    text = emit_cpp([program])["programs_00.cpp"]
    assert re.search(
        r"// sawyer_reach_v3.py:12\n  const double self_tcp_to_obj_x_\d+ = read_0_\d+ \+ read_1_\d+;", text
    )
    assert "# self.tcp to[obj].x (sawyer_reach_v3.py:12)" in emit_arrays(program)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node("fma", "f64", (0, 1)), "no known operation"),
        (Node("add", "f64", (0,)), "has 1 operands; expected 2"),
        (Node("dot", "f64", (0, 1, 2)), "expected an even number"),
        (Node("add", "f64", (0, 999)), "expected earlier nodes"),
        (Node("add", "f32", (0, 1)), "expected one type"),
        (Node("div", "i64", (0, 1)), "expected one type of f64, f32"),
        (Node("lt", "f64", (0, 1)), "compares"),
        (Node("and", "bool", (0, 1)), "expected truth values"),
        (Node("select", "f64", (0, 1, 2)), "for f64"),
        (Node("read", "f64", index=N_READS), "has index 12"),
        (Node("const", "f64"), "has no value"),
    ],
)
def test_programs_that_break_a_rule_are_refused(node: Node, message: str) -> None:
    builder = Builder()
    builder.nodes.append(node)
    program = builder.program([0], "broken-v3")
    with pytest.raises(ConfigError, match=message):
        check(program)
    with pytest.raises(ConfigError, match="broken_v3_v2"):
        emit_cpp([program])
    with pytest.raises(ConfigError, match="broken_v3_v2"):
        emit_arrays(program)


def test_outputs_that_break_a_rule_are_refused() -> None:
    builder = Builder()
    program = builder.program([0], "outputs-v3")
    for wrong, message in (
        (replace(program, reward=len(builder.nodes) - 1), "not f64"),
        (replace(program, obs=program.obs[:3]), "3 observation"),
        (replace(program, updates=((0, 0), (0, 1))), "at most once"),
    ):
        with pytest.raises(ConfigError, match=message):
            check(wrong)


def test_inner_products_in_an_unknown_order_are_refused() -> None:
    assert dot_is_fused((2, 3, 4)) in (True, False)
    with pytest.raises(ConfigError, match="100 numbers"):
        dot_is_fused((3, 100))
