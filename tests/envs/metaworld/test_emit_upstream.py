"""Emitted code of programs derived from upstream's classes: compiled, NumPy and PyTorch agree on real simulations."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import torch
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from numpy.typing import NDArray

from metarl.envs.metaworld.derive import derive_program
from metarl.envs.metaworld.emit import compile_arrays
from metarl.envs.metaworld.program import Program
from tests.envs.metaworld.toy_programs import call_compiled, compile_programs, same_bits

pytestmark = pytest.mark.metaworld

CHOSEN = (("pick-place-v3", "v2"), ("dial-turn-v3", "v2"), ("box-close-v3", "v2"), ("reach-v3", "v1"))
"""Touching and mixed types; sine and cosine; logarithm and branches; exponentials."""

N = 24


def environment(task: str, version: str) -> Any:
    env = ALL_V3_ENVIRONMENTS[task](reward_function_version=version)
    env._freeze_rand_vec, env._set_task_called = False, True
    env.reset(seed=0)
    return env


@pytest.fixture(scope="module")
def environments() -> dict[str, tuple[Any, Program]]:
    """key -> upstream's environment and the program derived from it."""
    pairs = [(env, derive_program(env, version)) for task, version in CHOSEN for env in [environment(task, version)]]
    return {program.key: (env, program) for env, program in pairs}


@pytest.fixture(scope="module")
def compiled(environments: dict[str, tuple[Any, Program]], tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compile_programs([program for _, program in environments.values()], tmp_path_factory.mktemp("programs"))


def read(env: Any, program: Program) -> list[float]:
    """The program's reads, taken from MuJoCo's Python bindings."""
    values = []
    for entry in program.reads:
        if entry.field == "touching":
            values.append(float(env.touching_object(entry.index)))
            continue
        owner = env.model if entry.field.startswith("model.") else env.data
        values.append(getattr(owner, entry.field.removeprefix("model.")).reshape(-1)[entry.index])
    return values


def random_slots(program: Program, generator: np.random.Generator) -> NDArray[np.float64]:
    """Attributes as they might be; whole numbers for those that are integers, truth values or flags of None."""
    slots = generator.uniform(0, 1, program.n_slots)
    for attribute in program.attributes:
        if attribute.dtype in ("i64", "bool"):
            size = int(np.prod(attribute.shape))
            slots[attribute.start : attribute.start + size] = generator.integers(2, size=size)
        if attribute.none_slot >= 0:
            slots[attribute.none_slot] = generator.integers(2)
    return slots


@pytest.mark.parametrize("key", [f"{task.replace('-', '_')}_{version}" for task, version in CHOSEN])
def test_compiled_numpy_and_torch_agree(key: str, environments: Any, compiled: ctypes.CDLL) -> None:
    env, program = environments[key]
    generator = np.random.default_rng(0)
    slots = np.stack([random_slots(program, generator) for _ in range(N)], axis=1)
    action = generator.uniform(-1.5, 1.5, (4, N)).astype(np.float32)
    reads, rows = [], []
    for k in range(N):
        env.do_simulation([1.0, -1.0], 5)
        env.data.xpos[:] += generator.normal(scale=0.03, size=env.data.xpos.shape)  # so that more branches are taken
        reads.append(read(env, program))
        rows.append(call_compiled(compiled, key, env.model, env.data, slots[:, k], action[:, k]))
    case = (np.array(reads).T, slots, action)
    numpy_result = compile_arrays(program)(*case)
    torch_result = compile_arrays(program, "torch")(*(torch.from_numpy(array) for array in case))
    for k, part in enumerate(numpy_result):
        assert same_bits(part, np.stack([row[k] for row in rows], axis=-1))
        assert np.allclose(torch_result[k].numpy(), part, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert len(np.unique(numpy_result.reward)) > 4
