"""Whatever became of the cache of compiled code, results are the same, in time, and a line says what was wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from metarl.envs.metaworld.native.build import BuildError, compile_library, find_compiler, product_path
from metarl.envs.metaworld.native.store import load_library
from tests.hostile import Surroundings
from tests.hostile.caches import STRANGER, cases, copier
from tests.hostile.user import User

try:
    find_compiler()
except BuildError as missing:
    pytest.skip(str(missing), allow_module_level=True)

NAMES = [case.name for case in cases(Path(), "")]
USER, MOST_S = "cache_user", 10


@pytest.fixture(scope="module")
def good(user: User, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("good")
    first = user(Surroundings({"METARL_CACHE": str(folder / "first")}))
    assert first["lines"] == ["answer: 10.0"]
    compiler = copier(next((folder / "first").glob("*.so")), folder)
    user(Surroundings({"METARL_CACHE": str(folder / "cache"), "CXX": compiler, "HOSTILE_FILL": "1"}))
    return folder / "cache", compiler


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_or_hostile_cache_changes_no_result(
    name: str, user: User, good: tuple[Path, str], tmp_path: Path
) -> None:
    case = next(c for c in cases(*good) if c.name == name)
    found = user(case.make(tmp_path))
    *said, answer = found["lines"]
    assert (found["code"], answer) == (0, "answer: 10.0"), found["lines"]
    if case.expected == "works":
        assert said == []
    else:
        assert len(said) == 1
        assert (
            said[0].endswith("so it was made anew") if case.expected == "rebuilt" else said[0].startswith("refused: ")
        )
    assert found["seconds"] < MOST_S


def test_of_many_at_once_one_compiles_and_all_get_the_answer(
    user: User, good: tuple[Path, str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    compiler = script(tmp_path, f'[ "$1" = --version ] || echo x >> {log}; sleep 0.2; exec {good[1]} "$@"')
    found = user.at_once([Surroundings({"METARL_CACHE": str(tmp_path / "cache"), "CXX": compiler})] * 6)
    assert [f["lines"] for f in found] == [["answer: 10.0"]] * 6
    assert log.read_text() == "x\n"


def test_a_kill_while_compiling_leaves_nothing_that_is_used_or_stays(
    user: User, good: tuple[Path, str], tmp_path: Path
) -> None:
    cache, reached = tmp_path / "cache", tmp_path / "reached"
    compiler = script(
        tmp_path, f'[ "$1" = --version ] && exit\n{good[1]} "$@"\n[ -e {reached} ] || {{ touch {reached}; sleep 2; }}'
    )
    environment = {"METARL_CACHE": str(cache), "CXX": compiler}
    assert user(Surroundings(environment, killed_at=reached))["code"] == -9
    assert len(list(cache.glob(".build-*"))) == 1
    assert user(Surroundings(environment))["lines"] == ["answer: 10.0"]
    assert sorted(p.suffix for p in cache.iterdir()) == ["", ".lock", ".so"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for somebody else")
def test_a_cache_that_root_filled_serves_users_who_can_only_read_it(user: User, good: tuple[Path, str]) -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        folder.chmod(0o755)
        shutil.copytree(good[0], folder / "cache")
        for place in (folder / "cache").rglob("*"):
            place.chmod(0o755 if place.is_dir() else 0o644)
        (folder / "cache").chmod(0o755)
        environment = {"METARL_CACHE": str(folder / "cache"), "CXX": good[1]}
        assert user(Surroundings(environment, user=STRANGER))["lines"] == ["answer: 10.0"]
        next((folder / "cache").glob("toy*.so")).unlink()
        (said, answer) = user(Surroundings(environment, user=STRANGER))["lines"]
        assert said.startswith("refused: cannot write ")
        assert answer == "answer: 10.0"
    finally:
        shutil.rmtree(folder)


def test_a_relative_cache_below_a_folder_that_is_gone_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("METARL_CACHE", "cache")
    with pytest.raises(BuildError, match=r"cannot write 'cache' \(No such file"):
        product_path("answer", ANSWER)


def script(folder: Path, text: str) -> str:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return str(path)


def test_a_strangers_library_is_not_run_even_with_a_fitting_digest(user: User, tmp_path: Path) -> None:
    """A compiler that plants a library which leaves a mark when it is loaded stands for the stranger."""
    mark, cache = tmp_path / "mark", tmp_path / "cache"
    (tmp_path / "evil.c").write_text(
        f'#include <fcntl.h>\n__attribute__((constructor)) void run() {{ open("{mark}", O_CREAT, 0600); }}'
    )
    evil = tmp_path / "evil.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", evil, tmp_path / "evil.c"], check=True)
    surroundings = Surroundings({"METARL_CACHE": str(cache), "CXX": copier(evil, tmp_path)})
    assert user(surroundings)["lines"][0].startswith("refused: a compiled library lacks ")
    assert mark.exists()  # our own folder is trusted
    mark.unlink()
    cache.chmod(0o777)
    assert user(surroundings)["lines"][0].startswith("refused: others can write to ")
    assert not mark.exists()


def test_a_library_that_is_cut_while_it_is_used_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    product = product_path("answer", ANSWER)
    library = load_library("answer", compile_library(product, {"answer.cpp": ANSWER}))
    os.truncate(product, 0)
    assert library.answer() == 42


def test_libraries_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    for answer in (1, 2):
        text = ANSWER.replace("42", str(answer))
        content = compile_library(product_path("answer", text), {"answer.cpp": text})
        assert load_library("answer", content).answer() == answer


ANSWER = 'extern "C" int answer() { return 42; }'
