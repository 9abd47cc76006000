"""Programs kept on disk: as text, and as compiled code."""

import ctypes
import math

import numpy as np
import pytest

from metarl.envs.metaworld.native import programs as module
from metarl.envs.metaworld.native.build import BuildError, cache_folder, find_compiler
from metarl.envs.metaworld.native.program_json import dumps, loads
from metarl.envs.metaworld.native.programs import cached_program, prepare, program_function
from metarl.envs.metaworld.program import INFO, OBS_SIZE, Attribute, Node, Program, Read


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))


def program(factor=2.5, task="toy-v3") -> Program:
    """Return a program that multiplies its first slot, counts in its second and shows the sum."""
    nodes = (
        Node("slot", "f64", index=0, label="obj[1]"),
        Node("const", "f64", value=factor),
        Node("mul", "f64", (0, 1), source="toy.py:7"),
        Node("slot", "f64", index=1),
        Node("const", "f64", value=1.0),
        Node("add", "f64", (3, 4)),
        Node("add", "f64", (2, 5), label="total"),
    )
    return Program(
        task=task,
        reward_version="v2",
        nodes=nodes,
        reads=(Read("xpos", 5, name="body:hand.xpos[2]"), Read("touching", 3, pads=(1, 2))),
        attributes=(Attribute("_prev", 0, (1,), "f64"), Attribute("n", 1, (), "i64", none_slot=-1)),
        n_slots=2,
        obs=(2,) * OBS_SIZE,
        reward=6,
        info=(5,) * len(INFO),
        updates=((0, 2), (1, 5)),
    )


CONSTANTS = [
    ("f64", 0.1), ("f64", -0.0), ("f64", math.inf), ("f64", 5e-324), ("f64", np.float64(1 / 3)),
    ("f32", np.float32(0.1)), ("i64", -(2**63)), ("i64", np.int64(7)), ("bool", True), ("bool", np.bool_(False)),
]  # fmt: skip


def test_a_program_read_from_its_text_is_the_same_program():
    assert loads(dumps(program())) == program()
    assert dumps(program(2.5)) != dumps(program(np.nextafter(2.5, 3)))


@pytest.mark.parametrize(("dtype", "value"), CONSTANTS)
def test_constants_keep_every_bit_and_their_type(dtype, value):
    node = Node("const", dtype, value=value)
    whole = Program("t", "v2", (node,), (), (), 0, (), 0, (), ())
    found = loads(dumps(whole)).nodes[0].value
    assert np.asarray(found).tobytes() == np.asarray(node.value, type(found)).tobytes()
    assert type(found) is {"f64": float, "f32": float, "i64": int, "bool": bool}[dtype]


def test_text_of_something_else_is_refused():
    for text in ("", "{}", "[]", dumps(program()).replace('"schema":1', '"schema":0'), dumps(program())[:-20]):
        with pytest.raises(ValueError):
            loads(text)
    with pytest.raises(ValueError, match="unknown operation 'fuse'"):
        loads(dumps(program()).replace('"mul"', '"fuse"'))


def test_a_program_is_derived_once_and_again_if_what_is_kept_is_broken_or_upstream_changes(monkeypatch):
    calls = []

    def derive():
        calls.append(1)
        return program()

    for _ in range(3):
        assert cached_program("toy-v3", "v2", derive) == program()
    assert len(calls) == 1
    (kept,) = cache_folder().glob("derived-*/*.json")
    kept.write_text(kept.read_text()[:100])
    assert cached_program("toy-v3", "v2", derive) == program()
    cached_program("toy-v3", "v2", derive)
    assert len(calls) == 2
    cached_program("toy-v3", "v1", derive)
    assert len(calls) == 3
    monkeypatch.setattr(module, "upstream_digest", lambda: "other")
    cached_program("toy-v3", "v2", derive)
    assert len(calls) == 4


def test_a_cache_that_cannot_be_used_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "file"))
    assert cached_program("toy-v3", "v2", program) == program()


def compiler_or_skip():
    try:
        find_compiler()
    except BuildError as missing:
        pytest.skip(str(missing))


def call(address, slots):
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 6)(address)
    obs, out, action = np.zeros(OBS_SIZE), np.zeros(8), np.zeros(4, np.float32)
    function(None, None, *(a.ctypes.data for a in (action, slots, obs, out)))
    return obs, out


def test_the_compiled_function_does_what_the_program_says():
    compiler_or_skip()
    a, b = program(), program(factor=-1.0, task="other-v3")
    assert prepare([a, b]) == 2
    assert prepare([a, b]) == 0
    slots = np.array([4.0, 9.0])
    obs, out = call(program_function(a), slots)
    assert (obs[0], out[0], out[1], slots.tolist()) == (10.0, 20.0, 10.0, [10.0, 10.0])
    call(program_function(b), slots)
    assert slots.tolist() == [-10.0, 11.0]


def test_programs_of_one_name_that_differ_do_not_get_each_others_code():
    compiler_or_skip()
    first, second = np.array([4.0, 0.0]), np.array([4.0, 0.0])
    call(program_function(program(2.0)), first)
    call(program_function(program(3.0)), second)
    assert (first[0], second[0]) == (8.0, 12.0)
