"""Compiling the core: what a user is told, and what several processes do at once."""

import ctypes
import textwrap
import threading

import pytest

from metarl.envs.metaworld import precompile
from metarl.envs.metaworld.native import build
from metarl.envs.metaworld.native.build import BuildError, compile_library, find_compiler, product_path
from metarl.envs.metaworld.native.store import cache_folder

try:
    find_compiler()
except BuildError as missing:
    pytest.skip(str(missing), allow_module_level=True)


ANSWER = {
    "a.cpp": '#include "answer.hpp"\nextern "C" int answer() { return ANSWER; }',
    "answer.hpp": "#define ANSWER 42",
}


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    return tmp_path


def compiler_script(folder, monkeypatch, text):
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(text)}")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))


def test_without_a_compiler_the_error_says_what_to_install(empty_cache, monkeypatch):
    monkeypatch.setenv("PATH", str(empty_cache))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BuildError, match=r"no C\+\+ compiler: g\+\+, .* not found; .*apt-get install g\+\+"):
        build.core_library()


def test_compiling_beforehand_without_a_compiler_says_in_one_line_what_becomes_of_it(empty_cache, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(empty_cache))
    monkeypatch.delenv("CXX", raising=False)
    assert precompile.main() == 1
    said = capsys.readouterr().out
    assert said.startswith("Meta-World will step in Python, slower but with the same results: no C++ compiler")
    assert said.count("\n") == 1


def test_what_was_compiled_once_needs_no_compiler_afterwards(empty_cache, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    product = product_path("answer", *ANSWER.values())
    compile_library(product, ANSWER)
    monkeypatch.setenv("PATH", "")
    assert product_path("answer", *ANSWER.values()) == product
    assert ctypes.CDLL(str(product)).answer() == 42
    assert product_path("answer", *(text + " " for text in ANSWER.values())) != product


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing_behind(empty_cache, monkeypatch):
    compiler_script(empty_cache, monkeypatch, "echo 'cannot find cc1plus' >&2; echo second >&2; exit 3")
    with pytest.raises(BuildError, match=r"core-.*failed with code 3: cannot find cc1plus \| second"):
        build.core_library()
    assert [path.suffix for path in cache_folder().iterdir()] == [".lock"]


def test_builds_at_once_compile_once(empty_cache, monkeypatch):
    log = empty_cache / "log"
    compiler_script(empty_cache, monkeypatch, f'[ "$1" = --version ] || echo x >> {log}; sleep 0.3; exec g++ "$@"')
    product, problems = product_path("answer", *ANSWER.values()), []

    def one():
        try:
            compile_library(product, ANSWER)
        except BuildError as problem:
            problems.append(problem)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (problems, log.read_text()) == ([], "x\n")
    assert ctypes.CDLL(str(product)).answer() == 42


def test_a_cache_that_cannot_be_written_says_how_to_name_another(empty_cache, monkeypatch):
    (empty_cache / "file").write_text("")
    monkeypatch.setenv("METARL_CACHE", str(empty_cache / "file" / "cache"))
    with pytest.raises(BuildError, match=r"cannot write .*METARL_CACHE"):
        build.core_library()
