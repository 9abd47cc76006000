"""Compile the core and the programs of task classes with the system's C++ compiler, once per machine and version.

Products lie in a cache directory, each under a digest of everything it is made from, so nothing is ever out of date
and any number of processes may build at once.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from metarl.errors import ConfigError

SOURCES = ("core.cpp", "copy.hpp", "data.hpp", "guard.hpp", "pool.hpp")
# Contraction would fuse a * b + c into one rounding where NumPy and MuJoCo round twice.
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-pthread", "-ffp-contract=off", "-fno-fast-math", "-fwrapv", "-w")
COMPILERS = ("g++", "c++", "clang++")
_FIRST_LINES = 3
_TIMEOUT_S = 300


class BuildError(ConfigError):
    """No compiler, or one that fails: the compiled core cannot be had on this machine."""


def cache_folder() -> Path:
    """Return where products are kept: $METARL_CACHE, else metarl/engine in the user's cache directory."""
    chosen = os.environ.get("METARL_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "metarl" / "engine"


def core_library() -> Path:
    """Return the shared library of the core, compiled if need be.

    Raises: BuildError without a working compiler or a place to put the result.
    """
    here = Path(__file__).parent
    sources = {name: (here / name).read_text(encoding="utf-8") for name in SOURCES}
    product = product_path("core", *sources.values())
    if not product.is_file():
        compile_library(product, sources)
    return product


def product_path(name: str, *parts: str) -> Path:
    """Return where the library made of `parts` is or belongs; `name` is for the reader.

    The compiler's version is no part: a library once compiled also serves machines that have none.
    """
    import mujoco

    key = digest(*FLAGS, mujoco.__version__, platform.machine(), os.environ.get("CXX", ""), *parts)
    return cache_folder() / f"{name}-{key}.so"


def compile_library(product: Path, sources: Mapping[str, str]) -> None:
    """Make the shared library `product` of `sources`, {file name: text}, unless another process makes it meanwhile.

    Raises: BuildError with the compiler's first lines.
    """
    compiler = find_compiler()
    with locked(product) as folder:
        if product.is_file():
            return
        for file, text in sources.items():
            (folder / file).write_text(text, encoding="utf-8")
        # One unit: reading MuJoCo's and the standard library's headers takes longer than the rest.
        units = "".join(f'#include "{file}"\n' for file in sources if file.endswith(".cpp"))
        (folder / "unit.cc").write_text(units, encoding="utf-8")
        include, output = ["-isystem", str(mujoco_folder() / "include")], ["-o", str(folder / "product.so")]
        link = [str(mujoco_library()), f"-Wl,-rpath,{mujoco_folder()}"]
        _run([*compiler, *FLAGS, *include, *output, str(folder / "unit.cc"), *link], product.stem)
        os.replace(folder / "product.so", product)


def digest(*parts: str) -> str:
    """Return 16 hexadecimal digits that differ whenever any part does."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@contextmanager
def locked(product: Path) -> Iterator[Path]:
    """Hold the right to make `product`; give a folder to work in, on the same disk, that vanishes afterwards."""
    import fcntl

    try:
        product.parent.mkdir(parents=True, exist_ok=True)
        with (
            open(product.with_suffix(".lock"), "w") as lock,
            tempfile.TemporaryDirectory(prefix=".build-", dir=product.parent) as folder,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(folder)
    except OSError as problem:
        raise BuildError(
            f"cannot write {product.parent} ({problem.strerror or problem}); "
            "name a folder that can be written in METARL_CACHE"
        ) from problem


def find_compiler() -> list[str]:
    """Return the C++ compiler as a command: $CXX if set, else the first of `COMPILERS` on the PATH.

    Raises: BuildError if there is none.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
    for command in [chosen] if chosen else [[name] for name in COMPILERS]:
        if shutil.which(command[0]):
            return command
    raise BuildError(
        f"no C++ compiler: {shlex.join(chosen) if chosen else ', '.join(COMPILERS)} not found; "
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


def _run(command: list[str], what: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise BuildError(f"{what}: {command[0]} cannot be run: {problem}") from problem
    if done.returncode:
        lines = " | ".join((done.stderr or done.stdout).strip().splitlines()[:_FIRST_LINES])
        raise BuildError(f"{what}: {command[0]} failed with code {done.returncode}: {lines or 'no output'}")
    return done.stdout
