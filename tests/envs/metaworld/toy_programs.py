"""Programs of every operation and of random ones, and what NumPy's scalars make of them."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from metarl.envs.metaworld.emit import emit_cpp, numpy_functions
from metarl.envs.metaworld.native.build import BuildError, find_compiler
from metarl.envs.metaworld.program import ARITY, DType, Node, Program, Read

N_READS, N_SLOTS = 12, 10
DTYPES: tuple[DType, ...] = ("f64", "f32", "i64", "bool")
NUMPY_DTYPE: dict[str, Any] = {"f64": np.float64, "f32": np.float32, "i64": np.int64, "bool": np.bool_}
ARITHMETIC = ("add", "sub", "mul", "neg", "abs", "minimum", "maximum")
LOGIC = ("and", "or", "not")
COMPARISONS = ("lt", "le", "eq", "ne")
FLOAT_ONLY = tuple(
    op for op, n in ARITY.items() if n != 0 and op not in (*ARITHMETIC, *LOGIC, *COMPARISONS, "select", "cast")
)
AWKWARD = (0.0, -0.0, 1.0, -1.0, 0.1, 2.0, -2.5, 1e-310, 1e300, -1e300, np.inf, -np.inf, np.nan)

# What upstream's scalars do, written down without the code under test.
SCALAR: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "pow": lambda a, b: a**b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "and": lambda a, b: bool(a) and bool(b),
    "or": lambda a, b: bool(a) or bool(b),
    "not": lambda a: not a,
    "select": lambda c, a, b: a if c else b,
    "dot": lambda *v: np.array(v[: len(v) // 2]).dot(np.array(v[len(v) // 2 :])),
}

Case = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]


def scalar_values(program: Program, reads: Any, slots: Any, action: Any) -> list[Any]:
    """Every node of a program for one env, in NumPy scalars."""
    values: list[Any] = []
    for node in program.nodes:
        args = [values[i] for i in node.args]
        if node.op in ("const", "read", "slot", "action"):
            store = {"read": reads, "slot": slots, "action": action}.get(node.op)
            value = node.value if store is None else store[node.index]
        elif node.op == "cast":
            value = args[0].astype(NUMPY_DTYPE[node.dtype])
        else:
            value = SCALAR.get(node.op, getattr(np, node.op, None))(*args)
        values.append(np.asarray(value).astype(NUMPY_DTYPE[node.dtype])[()])
    return values


def upstream(program: Program, case: Case) -> list[NDArray[np.float64]]:
    """obs [39, N], reward [N], info [7, N], slots [n, N] from scalars."""
    reads, slots, action = case
    n = reads.shape[1]
    new = slots.copy()
    obs, reward, info = np.empty((39, n)), np.empty(n), np.empty((7, n))
    with np.errstate(all="ignore"):
        for k in range(n):
            values = scalar_values(program, reads[:, k], slots[:, k], action[:, k])
            obs[:, k] = [values[i] for i in program.obs]
            reward[k] = values[program.reward]
            info[:, k] = [values[i] for i in program.info]
            for slot, i in program.updates:
                new[slot, k] = values[i]
    return [obs, reward, info, new]


def same_bits(a: Any, b: Any) -> bool:
    """Equal including the sign of zero; one NaN is as good as another."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    zero_signs = (np.signbit(a) == np.signbit(b)) | np.isnan(a)
    return bool(np.array_equal(a, b, equal_nan=True) and zero_signs.all())


class Builder:
    """Writes nodes with every leaf in place."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.leaves: dict[str, list[int]] = {dtype: [] for dtype in DTYPES}
        for i in range(N_READS):
            self.leaf("read", "f64", i)
        for i in range(N_SLOTS):
            self.leaf("slot", "f64", i)
        for dtype in ("bool", "i64"):
            for i in range(4):
                self.leaf("slot", dtype, i)
        self.leaf("read", "bool", 1)
        self.leaf("action", "f64", 3)
        for i in range(4):
            self.leaf("action", "f32", i)

    def leaf(self, op: str, dtype: Any, index: int) -> None:
        self.leaves[dtype].append(self.add(op, dtype, (), index=index, label=f"{op}[{index}]"))

    def add(self, op: str, dtype: Any, args: tuple[int, ...] = (), **fields: Any) -> int:
        self.nodes.append(Node(op, dtype, args, **fields))
        return len(self.nodes) - 1

    def const(self, value: float, dtype: Any = "f64") -> int:
        return self.add("const", dtype, value=NUMPY_DTYPE[dtype](value).item())

    def program(self, outputs: Sequence[int], key: str) -> Program:
        """Put `outputs`, which may be many or few, wherever a program has outputs."""
        f64 = [i if self.nodes[i].dtype == "f64" else self.add("cast", "f64", (i,)) for i in outputs]
        many = (f64 * 60)[:60]
        reads = tuple(Read("qpos", i, name=f"q[{i}]") for i in range(N_READS))
        updates = tuple((slot, many[48 + slot]) for slot in range(0, N_SLOTS, 2))
        nodes = tuple(self.nodes)
        return Program(key, "v2", nodes, reads, (), N_SLOTS, tuple(many[:39]), many[39], tuple(many[40:47]), updates)


def signatures() -> list[tuple[str, DType, tuple[DType, ...]]]:
    """Every operation with every allowed result type and its operand types."""
    found: list[tuple[str, DType, tuple[DType, ...]]] = []
    for op in ARITHMETIC:
        found += [(op, dtype, (dtype,) * (ARITY[op] or 0)) for dtype in ("f64", "f32", "i64")]
    for op in FLOAT_ONLY:
        found += [(op, dtype, (dtype,) * (ARITY[op] or 6)) for dtype in ("f64", "f32")]
    truth: DType = "bool"
    found += [(op, truth, (truth,) * (ARITY[op] or 0)) for op in LOGIC]
    found += [(op, truth, (dtype, dtype)) for op in COMPARISONS for dtype in DTYPES]
    found += [("select", dtype, (truth, dtype, dtype)) for dtype in DTYPES]
    return found + [("cast", new, (old,)) for new in DTYPES for old in DTYPES if new != old]


def single(op: str, dtype: DType, operands: Sequence[DType]) -> Program:
    """One operation on leaves."""
    builder = Builder()
    leaves = {kind: cycle(indices) for kind, indices in builder.leaves.items()}
    node = builder.add(op, dtype, tuple(next(leaves[kind]) for kind in operands), label=op, source="file.py:1")
    return builder.program([node], f"{op}-{dtype}-{'-'.join(operands)}-v3")


def random_program(seed: int, n: int = 200) -> Program:
    """A program of any operations on earlier nodes, some of them on vectors, some on constants."""
    generator = np.random.default_rng(seed)
    builder = Builder()
    known = {dtype: list(indices) for dtype, indices in builder.leaves.items()}
    for value in (v for v in AWKWARD if not 1e38 < abs(v) < np.inf):
        known["f64"].append(builder.const(value))
        known["f32"].append(builder.const(value, "f32"))
    known["i64"] += [builder.const(value, "i64") for value in (0, -3, 7)]
    known["bool"] += [builder.const(value, "bool") for value in (True, False)]
    every = signatures()
    for j in range(n):
        op, dtype, operands = every[generator.integers(len(every))]
        starts = [int(generator.integers(len(known[kind]))) for kind in operands]
        for k in range(int(generator.integers(1, 5))):  # the next rows are vectors more often than not
            args = tuple(
                known[kind][min(s + k, len(known[kind]) - 1)] for kind, s in zip(operands, starts, strict=True)
            )
            known[dtype].append(builder.add(op, dtype, args, label=f"{op}[{k}]", source=f"file.py:{j // 5}"))
    last = [known["f64"][-1 - int(generator.integers(150))] for _ in range(60)]
    return builder.program(last, f"random-{seed}-v3")


def cases(n: int, seed: int = 0, odd: Sequence[float] = AWKWARD) -> Case:
    """Reads, slots and actions of n envs: small numbers with awkward ones among them."""
    generator = np.random.default_rng(seed)

    def numbers(rows: int) -> NDArray[np.float64]:
        values = generator.normal(size=(rows, n))
        chosen = generator.random((rows, n)) < 0.2
        values[chosen] = generator.choice(odd, chosen.sum())
        return values

    with np.errstate(over="ignore"):
        return numbers(N_READS), numbers(N_SLOTS), numbers(4).astype(np.float32)


def attribute_that_may_be_none() -> Program:
    """Slot 0 says whether slot 1 is None; where it is, the program takes a read, and it is None no more."""
    builder = Builder()
    flag, value = N_READS, N_READS + 1
    is_none = builder.add("ne", "bool", (flag, builder.const(0.0)))
    program = builder.program([builder.add("select", "f64", (is_none, 0, value))], "none-v3")
    zero = len(program.nodes)
    return replace(program, nodes=(*program.nodes, Node("const", "f64", value=0.0)), updates=((0, zero),))


PROGRAMS = [single(*signature) for signature in signatures()] + [random_program(seed) for seed in range(6)]


def compile_programs(programs: Sequence[Program], folder: Path) -> ctypes.CDLL:
    """Programs in one library, with NumPy's functions; skips where there is no compiler."""
    try:
        compiler = find_compiler()
    except BuildError as missing:
        pytest.skip(str(missing))
    for name, text in emit_cpp(programs).items():
        (folder / name).write_text(text)
    (folder / "all.cpp").write_text("".join(f'#include "{path.name}"\n' for path in sorted(folder.glob("*.cpp"))))
    include = Path(mujoco.__file__).parent / "include"
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-fwrapv", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    command = [*compiler, *flags, "-fPIC", "-shared", f"-I{include}", "all.cpp", "-o", "all.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(folder / "all.so"))
    library.set_numpy_functions(numpy_functions())
    library.find_program.restype = ctypes.c_void_p
    return library


def call_compiled(library: ctypes.CDLL, key: str, model: Any, data: Any, slots: Any, action: Any) -> list[Any]:
    """obs [39], reward, info [7], slots [n] of one env."""
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 6)(library.find_program(key.encode()))
    obs, out, new, action = np.empty(39), np.empty(8), slots.copy(), np.ascontiguousarray(action)
    function(model._address, data._address, *(array.ctypes.data for array in (action, new, obs, out)))
    return [obs, out[0], out[1:], new]
