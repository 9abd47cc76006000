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

from metarl.envs.metaworld import emit
from metarl.envs.metaworld.emit import dot_is_fused, emit_cpp, numpy_functions
from metarl.envs.metaworld.program import Program

from .build import compiled, digest, find_compiler, product_path
from .program_json import SCHEMA, dumps, loads
from .store import FORMAT, BuildError, cache_folder, is_kept, keep_or_make, load_library, symbol

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
            library = load_library(program.key, _library_of(program))
            find = symbol(library, "find_program")
            find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
            symbol(library, "set_numpy_functions")(numpy_functions())
            found = _loaded[id(program)] = (program, library, find(program.key.encode()))
        if not found[2]:
            raise BuildError(f"the library of {program.key} does not have it; empty {cache_folder()}")
        return found[2]


def prepare(programs: Sequence[Program]) -> int:
    """Compile what is missing, as many at once as there are CPUs to use; return how many were compiled.

    Raises: BuildError if one fails.
    """
    find_compiler()
    missing = [p for p in programs if not is_kept(_product(p))]
    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        list(pool.map(_library_of, missing))
    return len(missing)


def cached_program(name: str, reward_version: str, derive: Callable[[], Program]) -> Program:
    """Return the program of a class as `derive` gave it once on this machine, from the same upstream sources.

    A cache that cannot be read or written only costs the time to derive.
    """
    try:
        kept = cache_folder() / f"derived-{upstream_digest()}" / f"{name}_{reward_version}.json"
        return loads(keep_or_make(kept, lambda _: dumps(derive()).encode()).decode())
    except BuildError:
        return derive()


def _library_of(program: Program) -> bytes:
    product = _product(program)
    return keep_or_make(product, lambda folder: compiled(product.stem, emit_cpp([program]), folder))


def _product(program: Program) -> Path:
    return product_path(program.key, dumps(program), _emitter_digest())


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
        FORMAT,
        str(SCHEMA),
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
