"""`worlds` lists what there is, broken plug-ins included, and shows one world in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from metarl.experiments.cli.main import main as command
from metarl.experiments.worlds import list_worlds, show
from tests.experiments.plugin_package import install


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path)))


def rows(text: str) -> dict[str, str]:
    """Return the first word of each line, and the rest."""
    return {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines() if line.strip()}


@pytest.mark.usefixtures("plugin")
def test_the_list_has_built_in_worlds_and_plug_ins_and_says_what_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_worlds([]) == 0
    said = capsys.readouterr().out
    listed = rows(said)
    assert listed["corridor"] == "corridor_pkg:make corridor-pkg"
    assert "BROKEN ModuleNotFoundError: No module named" in listed["half-done"]
    assert "'a_package_that_nobody_has'" in said  # folded at 100 columns
    assert listed["gridworld"].endswith("metarl")
    assert "metaworld/ML10" in listed


@pytest.mark.usefixtures("plugin")
def test_a_plug_in_world_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(["corridor", "--option", "leaky=true", "--references", "--episodes", "2"]) == 0
    shown = rows(capsys.readouterr().out)
    assert shown["factory"] == "corridor_pkg:make of corridor-pkg"
    assert shown["observations"] == "Box(-9.0, 9.0, (2,), float32)"
    assert shown["actions"] == "Discrete(2)"
    assert shown["horizon"] == "5 env steps, exactly"
    assert shown["splits"] == "disjoint"
    assert shown["test"] == "10 tasks of class corridor with side"
    assert len(shown["fingerprint"]) == 16
    assert shown["note"] == "1 the two sides differ in strength"
    assert shown["random"] == "0.000 0.000"


@pytest.mark.usefixtures("plugin")
def test_a_broken_plug_in_fails_alone_and_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["worlds", "show", "half-done"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: world 'half-done' of 'corridor-pkg' cannot be loaded: ModuleNotFoundError")
    assert error.count("\n") == 1
    assert show(["gridworld"]) == 0


def test_an_unknown_world_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["worlds", "show", "gridwrld"]) == 2
    assert "did you mean 'gridworld'" in capsys.readouterr().err


def test_an_endless_split_and_a_whole_family_are_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(["navigation"]) == 0
    assert "infinitely many tasks with" in rows(capsys.readouterr().out)["train"]
    assert show(["gridworld"]) == 0
    assert rows(capsys.readouterr().out)["splits"] == "each split is the whole distribution"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["os:getcwd"], "str is no task distribution"),
        (["gridworld", "--references", "--episodes", "-1"], "--episodes must be a whole number from 1 to 1000, got"),
        (
            ["bandit", "--references", "--episodes", "10000000000"],
            "--episodes must be a whole number from 1 to 1000, got",
        ),
        (["--option", "n_arms=3"], "required: world"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["worlds", "show", *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
