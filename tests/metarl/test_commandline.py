"""Lines that tell a user what to type: they run as pasted, by the program that printed them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from metarl.commandline import command, module_command, pip_command, recorded

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "import sys\nfrom metarl.experiments.cli.main import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
"""What pip writes for a console command, below the line that names the interpreter."""


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what makes this process look as if it had been started as `program`, in a folder, with a PATH."""

    def start(program: Path, *, path: str = "/nowhere") -> None:
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PATH", path)
        if program.name.startswith("python"):
            monkeypatch.setattr(sys, "executable", str(program))
            monkeypatch.setattr(sys, "argv", [str(ROOT / "experiments" / "__main__.py")])
        else:
            monkeypatch.setattr(sys, "argv", [str(program)])

    return start


@pytest.mark.parametrize(
    ("program", "on_path", "line"),
    [
        ("venv/bin/metarl", True, "metarl evaluate x"),
        ("venv/bin/metarl", False, "venv/bin/metarl evaluate x"),
        ("my venv/bin/metarl", False, "'my venv/bin/metarl' evaluate x"),
        ("metarl", False, "./metarl evaluate x"),
        ("venv/bin/python", True, "python -m metarl evaluate x"),
        ("venv/bin/python3", False, "venv/bin/python3 -m metarl evaluate x"),
    ],
)
def test_a_hint_names_the_program_that_runs_as_this_shell_finds_it(
    program: str, on_path: bool, line: str, tmp_path: Path, started: Callable[..., None]
) -> None:
    started(tmp_path / program, path=str((tmp_path / program).parent) if on_path else "/nowhere")
    assert command("evaluate", "x") == line


def test_another_python_of_the_same_name_on_the_path_is_not_the_one_that_runs(
    tmp_path: Path, started: Callable[..., None]
) -> None:
    other = tmp_path / "other" / "python"
    started(other)
    started(tmp_path / "venv" / "bin" / "python", path=str(other.parent))
    assert command() == "venv/bin/python -m metarl"
    assert module_command("a.b") == "venv/bin/python -m a.b"
    assert pip_command("x[y]>=1") == "venv/bin/python -m pip install 'x[y]>=1'"


def test_a_program_outside_the_current_folder_is_named_in_full(
    tmp_path_factory: pytest.TempPathFactory, started: Callable[..., None]
) -> None:
    program = tmp_path_factory.mktemp("elsewhere") / "metarl"
    started(program)
    assert command() == str(program)


@pytest.mark.parametrize("name", ["my run", "it's", "$HOME", "a;b", "*", "-x", "ü"])
def test_any_name_of_a_run_comes_back_from_the_shell_as_it_was(name: str) -> None:
    for line in (command("evaluate", Path(name)), recorded("evaluate", Path(name))):
        split = subprocess.run(
            ["sh", "-c", f"set -- {line}; for w; do printf '%s\\0' \"$w\"; done"], capture_output=True, check=True
        )
        last = split.stdout.decode().split("\0")[-2]
        assert os.path.normpath(last) == name
        assert not last.startswith("-")


def test_what_is_recorded_does_not_depend_on_who_ran_it(tmp_path: Path, started: Callable[..., None]) -> None:
    line = recorded("evaluate", "runs/a b")
    assert line == "metarl evaluate 'runs/a b'"
    started(tmp_path / "bin" / "metarl")
    assert recorded("evaluate", "runs/a b") == line


def test_the_console_command_that_is_installed_is_the_command_line() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["metarl"].partition(":")
    assert getattr(import_module(module), function)(["--help"]) == 0


def test_the_console_command_finds_modules_in_the_current_folder_and_says_its_own_name(tmp_path: Path) -> None:
    here, script = tmp_path / "here", tmp_path / "bin" / "metarl"
    here.mkdir()
    # A file that is called as a package of ours must not take its place.
    (here / "envs.py").write_text("raise SystemExit('taken for the project')")
    (here / "my_worlds.py").write_text("from metarl.envs.classic.point_tasks import make_navigation as make")
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\n{SCRIPT}")
    script.chmod(0o755)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run([script, *words], cwd=here, env=environment, capture_output=True, text=True, check=False)

    shown = run("worlds", "show", "my_worlds:make")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "navigation" in shown.stdout
    assert run().stdout.startswith(f"usage: {script} COMMAND")


def test_no_hint_is_spelled_out_by_hand() -> None:
    spelled = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in ("metarl", "envs", "agents", "experiments")
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"python -m (metarl|experiments) [a-z]", line) or "pip install" in line
    ]
    assert spelled == []
