"""`make setup` compiles the Meta-World engine once there is a compiler, whenever that is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("bash", "sh", "dirname", "touch", "rm")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make (Debian: apt-get install make)")


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def setup(tmp_path: Path) -> Callable[..., tuple[str, int]]:
    """Return `make setup` in a folder that is set up, all but the engine: its output, and how often it compiled.

    The Python there only counts how often it is asked to compile; the shell finds no compiler but those named.
    """
    checkout, tools = tmp_path / "checkout", tmp_path / "tools"
    (checkout / ".ci").mkdir(parents=True)
    tools.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/setup.sh", ".ci/engine.sh"):
        shutil.copy(ROOT / name, checkout / name)
    (checkout / "envs/metaworld/native").mkdir(parents=True)
    (checkout / "envs/metaworld/native/core.cpp").write_text("")
    count = checkout / "compiled"
    count.write_text("")
    executable(checkout / ".venv/bin/python", f'#!/bin/sh\n[ ! -e {tmp_path}/broken ] || exit 1\necho x >>"{count}"\n')
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    (checkout / ".venv/.ready").write_text("")
    later = (checkout / ".venv/.ready").stat().st_mtime - 100
    for path in checkout.rglob("*"):
        if path.name != ".ready":
            os.utime(path, (later, later))
    make = str(shutil.which("make"))

    def run(*compilers: str, **variables: str) -> tuple[str, int]:
        for name in compilers:
            executable(tools / name, "#!/bin/sh\n")
        environment = {"PATH": str(tools), "HOME": str(tmp_path), **variables}
        ran = subprocess.run([make, "setup"], cwd=checkout, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout, count.read_text().count("x")

    return run


def test_without_a_compiler_that_is_said_once_and_one_that_appears_later_is_used(
    setup: Callable[..., tuple[str, int]],
) -> None:
    said, compiled = setup()
    assert "no C++ compiler" in said
    assert compiled == 0
    said, compiled = setup()
    assert "no C++ compiler" not in said
    assert compiled == 0
    assert setup("clang++")[1] == 1
    assert setup()[1] == 1, "compiled again although nothing had changed"


def test_a_compiler_named_in_cxx_is_the_only_one_that_counts(setup: Callable[..., tuple[str, int]]) -> None:
    assert setup("g++", CXX="mycc -m64")[1] == 0
    assert setup("mycc", CXX="mycc -m64")[1] == 1


def test_the_engine_is_compiled_again_when_its_sources_change_or_compiling_failed(
    setup: Callable[..., tuple[str, int]], tmp_path: Path
) -> None:
    (tmp_path / "broken").write_text("")
    assert setup("g++")[1] == 0
    (tmp_path / "broken").unlink()
    assert setup()[1] == 1
    source = tmp_path / "checkout/envs/metaworld/native/core.cpp"
    later = (tmp_path / "checkout/.venv/.engine").stat().st_mtime + 100
    os.utime(source, (later, later))
    assert setup()[1] == 2
