"""From a program to the address of its compiled code, and programs kept from one process to the next."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from envs.metaworld import emit
from envs.metaworld.emit import dot_is_fused, emit_cpp, numpy_functions
from envs.metaworld.program import Program

from .build import BuildError, cache_folder, compile_library, digest, find_compiler, locked, product_path
from .program_json import dumps, loads

_loaded: dict[int, tuple[Program, Any, int]] = {}
"""id of a program -> itself (so that the id stays its own), its library, its function's address."""
_lock = Lock()


def program_function(program: Program) -> int:
    """Return the address of a program's compiled function; the first time on a machine that takes a second.

    Raises: BuildError if it cannot be compiled.
    """
    with _lock:
        found = _loaded.get(id(program))
        if found is None:
            library = _open(_library_of(program))
            found = _loaded[id(program)] = (program, library, library.find_program(program.key.encode()))
        if not found[2]:
            raise BuildError(f"the library of {program.key} does not have it; empty {cache_folder()}")
        return found[2]


def prepare(programs: Sequence[Program]) -> int:
    """Compile what is missing, as many at once as there are CPUs to use; return how many were compiled.

    Raises: BuildError if one fails.
    """
    find_compiler()
    missing = [p for p in programs if not _product(p).is_file()]
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        list(pool.map(_library_of, missing))
    return len(missing)


def cached_program(name: str, reward_version: str, derive: Callable[[], Program]) -> Program:
    """Return the program of a class as `derive` gave it once on this machine, from the same upstream sources.

    A cache that cannot be read or written only costs the time to derive.
    """
    path = cache_folder() / f"derived-{upstream_digest()}" / f"{name}_{reward_version}.json"
    try:
        return loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        program = derive()
    try:
        with locked(path) as folder:
            (folder / "program").write_text(dumps(program), encoding="utf-8")
            os.replace(folder / "program", path)
    except BuildError:
        pass
    return program


def _library_of(program: Program) -> Path:
    product = _product(program)
    if not product.is_file():
        compile_library(product, emit_cpp([program]))
    return product


def _product(program: Program) -> Path:
    return product_path(program.key, dumps(program), _emitter_digest())


def _open(path: Path) -> Any:
    try:
        library: Any = ctypes.CDLL(str(path))
    except OSError as problem:
        raise BuildError(f"{path} cannot be loaded: {problem}") from problem
    library.find_program.restype, library.find_program.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    library.set_numpy_functions(numpy_functions())
    return library


@cache
def _emitter_digest() -> str:
    """Return a digest of all that turns a program into C++; NumPy's rounding of inner products depends on the CPU."""
    return digest(str(dot_is_fused()), *_texts(Path(emit.__file__).parent, "*.py", "*.hpp"))


@cache
def upstream_digest() -> str:
    """Return a digest of all that a derived program follows from: upstream's code and scenes, and our reading of it."""
    import metaworld
    import mujoco
    import numpy as np

    here = Path(__file__).parent
    upstream = _texts(Path(metaworld.__file__).parent, "**/*.py", "**/*.xml")
    return digest(
        mujoco.__version__,
        np.__version__,
        *upstream,
        *_texts(here.parent / "derive", "*.py"),
        *_texts(here.parent, "program.py"),
    )


def _texts(folder: Path, *patterns: str) -> Iterator[str]:
    """Yield name and text of each file in a fixed order."""
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        yield str(path.relative_to(folder))
        yield path.read_text(encoding="utf-8", errors="replace")
