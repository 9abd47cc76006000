"""`doctor` prints a verdict per check and fails with exit code 1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metarl.conformance import CHECKS
from metarl.experiments.cli.main import main as command
from metarl.experiments.doctor import main
from tests.experiments.plugin_package import install


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path)))


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("name", ["corridor", "corridor_pkg:Corridors", "corridor_pkg:ready"])
def test_a_sound_plug_in_passes_by_name_by_class_and_as_an_object(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "findings.json"
    assert main([name, "--steps", "12", "--json", str(path)]) == 0, capsys.readouterr().out
    stored = json.loads(path.read_text(encoding="utf-8"))
    found = {f["check"]: f["status"] for f in stored["findings"]}
    assert list(found) == list(CHECKS)
    assert set(found.values()) == {"pass"}
    assert "25 passed, 0 failed, 0 skipped" in capsys.readouterr().out


@pytest.mark.usefixtures("plugin")
def test_a_leaky_plug_in_fails_with_exit_code_1_and_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corridor", "--option", "leaky=true", "--steps", "12"]) == 1
    said = capsys.readouterr().out
    [line] = [s for s in said.splitlines() if " fail " in s]
    assert line.startswith("hidden tasks")
    assert "take the task out" in " ".join(said.split())


@pytest.mark.usefixtures("plugin")
def test_one_check_alone_brings_only_the_interface_check_along(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corridor", "--check", "snapshot", "--steps", "12", "--copies", "4"]) == 0
    said = capsys.readouterr()
    assert "2 passed, 0 failed, 0 skipped" in said.out
    assert "note: --copies is --num-envs now" in said.err


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["corridr"], "did you mean 'corridor'"),
        (["corridor", "--option", "leaky"], "not of the form key=value"),
        (["corridor", "--option", "width=3"], "has no option 'width'; known: leaky"),
        (["corridor", "--check", "snapshto"], "did you mean 'snapshot'"),
        (["corridor", "--num-envs", "2"], "--num-envs must be a whole number from 4 to"),
        (["corridor_pkg:ready", "--option", "leaky=true"], "takes no options"),
        (["corridor_pkg:Corridor"], "needs the option 'num_envs'"),
        (["collections:Counter"], "Counter is no task distribution: it lacks name"),
        (["corridor", "--seed", "-1"], "--seed must be a whole number from 0 to"),
        (["corridor", "--json", "nowhere/x.json"], "cannot write into nowhere"),
        (["corridor", "--json", "tests"], "is a folder"),
        (["corridor", "--optoin", "x=1"], "did you mean '--option'"),
    ],
)
def test_bad_input_is_one_line_with_a_remedy(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["doctor", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["bandit", "gridworld", "navigation", "point-robot", "sparse-point-robot", "corner-point", "tabular-mdp"]
)
def test_a_built_in_world_passes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--steps", "24"]) == 0, capsys.readouterr().out
