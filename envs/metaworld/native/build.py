"""Compile the core and the programs of task classes with the system's C++ compiler, once per machine and version.

Products are kept under a digest of everything they are made from, so nothing is ever out of date.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from .store import FORMAT, BuildError, cache_folder, disk, keep_or_make, load_library

SOURCES = ("core.cpp", "data.hpp", "env.hpp", "guard.hpp", "pool.hpp")
# Contraction would fuse a * b + c into one rounding where NumPy and MuJoCo round twice.
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-pthread", "-ffp-contract=off", "-fno-fast-math", "-fwrapv", "-w")
COMPILERS = ("g++", "c++", "clang++")
TIMEOUT_S = 300
"""Longest time, in seconds, that compiling one library may take."""
ANSWER_S = 10
"""Longest time, in seconds, for a compiler that $CXX names to tell its version."""

_FIRST_LINES = 3
_MOST_OUTPUT = 2**16


def core_library() -> Any:
    """Return the core, loaded; compiled if need be.

    Raises: BuildError without a working compiler or a place to put the result.
    """
    here = Path(__file__).parent
    sources = {name: (here / name).read_text(encoding="utf-8") for name in SOURCES}
    product = product_path("core", *sources.values())
    return load_library(product.stem, compile_library(product, sources))


def product_path(name: str, *parts: str) -> Path:
    """Return where the library made of `parts` is or belongs; `name` is for the reader.

    The compiler's version is no part: a library once compiled also serves machines that have none.
    """
    import mujoco

    key = digest(FORMAT, *FLAGS, mujoco.__version__, platform.machine(), os.environ.get("CXX", ""), *parts)
    return cache_folder() / f"{name}-{key}.so"


def compile_library(product: Path, sources: Mapping[str, str]) -> bytes:
    """Return the shared library that `product` keeps, compiled of `sources`, {file name: text}, if it keeps none.

    Raises: BuildError with the compiler's first lines.
    """
    return keep_or_make(product, lambda folder: compiled(product.stem, sources, folder))


def compiled(name: str, sources: Mapping[str, str], folder: Path) -> bytes:
    """Return a shared library compiled of `sources` in an empty folder.

    Raises: BuildError with the compiler's first lines.
    """
    compiler = find_compiler()
    if os.environ.get("CXX"):
        _run([*compiler, "--version"], folder, ANSWER_S)
    # One unit: reading MuJoCo's and the standard library's headers takes longer than the rest.
    units = "".join(f'#include "{file}"\n' for file in sources if file.endswith(".cpp"))
    with disk(folder):
        for file, text in {**sources, "unit.cc": units}.items():
            (folder / file).write_text(text, encoding="utf-8")
    include, output = ["-isystem", str(mujoco_folder() / "include")], ["-o", str(folder / "product.so")]
    link = [str(mujoco_library()), f"-Wl,-rpath,{mujoco_folder()}"]
    code, said = _run([*compiler, *FLAGS, *include, *output, str(folder / "unit.cc"), *link], folder, TIMEOUT_S)
    if code:
        raise BuildError(f"{name}: {compiler[0]!r} failed with code {code}: {said or 'no output'}")
    if not (folder / "product.so").is_file():
        raise BuildError(f"{name}: {compiler[0]!r} made no library; name a C++ compiler in CXX")
    with disk(folder):
        return (folder / "product.so").read_bytes()


def digest(*parts: str) -> str:
    """Return 16 hexadecimal digits that differ whenever any part does."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]


def find_compiler() -> list[str]:
    """Return the C++ compiler as a command: $CXX if set, else the first of `COMPILERS` on the PATH.

    Raises: BuildError if there is none.
    """
    try:
        chosen = shlex.split(os.environ.get("CXX", ""))
    except ValueError as problem:
        raise BuildError(f"CXX is not a command ({problem}): {os.environ['CXX']!r}; mend or unset it") from problem
    for command in [chosen] if chosen else [[name] for name in COMPILERS]:
        if shutil.which(command[0]):
            return command
    raise BuildError(
        f"no C++ compiler: {repr(chosen[0]) if chosen else ', '.join(COMPILERS)} not found; "
        "install one (Debian: apt-get install g++) or name it in CXX"
    )


@cache
def mujoco_folder() -> Path:
    """Return where the MuJoCo wheel keeps its library and headers."""
    import mujoco

    return Path(mujoco.__file__).resolve().parent


def mujoco_library() -> Path:
    """Return MuJoCo's shared library; Python has the same file loaded, and the two share it.

    Raises: BuildError if the wheel carries none.
    """
    import mujoco

    ending = f"{mujoco.__version__}.dylib" if sys.platform == "darwin" else f"so.{mujoco.__version__}"
    for path in mujoco_folder().glob(f"libmujoco*{ending}"):
        return path
    raise BuildError(f"no libmujoco*{ending} in {mujoco_folder()}; reinstall mujoco {mujoco.__version__}")


def _run(command: list[str], folder: Path, limit_s: float) -> tuple[int, str]:
    """Run a command that may be anything at all; return its code and first lines.

    Nothing of it goes on afterwards, and what it keeps for the moment lies in `folder`.
    Raises: BuildError if it cannot be run or takes too long.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(folder)},
            start_new_session=True,
        )
    except OSError as problem:
        raise BuildError(f"{command[0]!r} cannot be run: {problem.strerror}") from problem
    late = threading.Event()

    def stop() -> None:
        late.set()
        _end(process)

    timer = threading.Timer(limit_s, stop)
    timer.start()
    try:
        assert process.stdout is not None
        with process.stdout as pipe:
            said = pipe.read(_MOST_OUTPUT)
        if len(said) < _MOST_OUTPUT:
            process.wait()
    finally:
        timer.cancel()
        _end(process)
        process.wait()
    if late.is_set():
        raise BuildError(f"{command[0]!r} was not done after {limit_s} s; name a C++ compiler that works in CXX")
    lines = said.decode(errors="replace").strip().splitlines()
    return process.returncode, " | ".join(lines[:_FIRST_LINES])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a compiler and what it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
