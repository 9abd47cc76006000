"""Code that a stored config names runs only if it is built in, installed, or named by the user as well."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from metarl.errors import ConfigError
from metarl.experiments.build import load_run, read_config
from metarl.experiments.cli import trust
from metarl.experiments.cli.main import main
from metarl.experiments.overrides import parse
from tests.experiments.evaluated_runs import line_config, make_run
from tests.metarl.line_world import Line

LINE, LEARNER = "tests.metarl.line_world:Line", "tests.metarl.line_world:LearnerConfig"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_run(tmp_path / "run", line_config())
    monkeypatch.delenv("METARL_TRUST")
    return folder


def test_each_command_that_loads_a_run_says_which_flags_it_wants_and_takes_them(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--trust", LEARNER, "--trust", LINE]
    assert main(["evaluate", str(run)]) == 2
    told = capsys.readouterr().err
    assert "--trust " + LEARNER + " --trust " + LINE in told
    assert told.count("\n") == 1
    commands = [
        [*name.split(), str(run)]
        for name in ("study splits", "npc watch", "study coverage", "study transfer", "bench profile")
    ]
    commands += [["train", "--run-dir", str(run), "--resume"], ["train", "--from", str(run)]]
    for words in commands:
        assert main(words) == 2
        assert "neither built in nor installed" in capsys.readouterr().err, words
        main([*words, *flags, *(["--seed", "-1"] if words[0] == "train" else [])])
        assert "neither built in nor installed" not in capsys.readouterr().err, words
    assert main(["evaluate", str(run), *flags]) == 0


def test_the_environment_and_python_can_say_it_too(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_config(run, {LINE, LEARNER}).world.name == LINE
    with pytest.raises(ConfigError, match=f"{LINE!r}; if it is yours, add --trust {LINE}"):
        load_run(run, trust=[LEARNER])
    monkeypatch.setenv("METARL_TRUST", f"{LINE}, {LEARNER}")
    assert load_run(run).iteration == 2


def test_what_the_users_own_preset_names_needs_no_flag_when_the_run_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "preset", line_config, raising=False)
    words = [f"{__name__}:preset", "--run-dir", str(run), "--resume"]
    assert parse(words).config.world.name == LINE
    with pytest.raises(ConfigError, match="neither built in nor installed"):
        parse(words[1:])


def test_names_are_found_wherever_a_config_can_hold_them_and_paths_and_words_are_none() -> None:
    world = {"name": "revealed", "options": {"world": "os:system", "more": [{"deep": "a.b:c"}], "path": "/data/a:b"}}
    stored = {"agent": {"type": "run.payload:X"}, "world": world | {"note": "12:30", "other": "a word: more"}}
    assert trust.named(stored) == ["run.payload:X", "os:system", "a.b:c"]


class Unlike:
    """No task distribution."""


def promises_text() -> str:
    """Return no task distribution, and says so."""
    raise AssertionError("this must not be called")


def promises_tasks() -> Line:
    """Return a task distribution."""
    return Line()


def promises_nothing() -> Any:
    """Return whatever it likes."""
    return Line()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os:system", "is a function of the interpreter"),
        ("os:path", "is a module"),
        (f"{__name__}:Unlike", "is a class without sample, all"),
        (f"{__name__}:promises_text", "is a function that returns str"),
    ],
)
def test_what_is_trusted_is_examined_before_it_is_called(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trust.check_world(name)


def test_classes_functions_and_objects_that_give_task_distributions_pass() -> None:
    for name in (LINE, f"{__name__}:promises_tasks", f"{__name__}:promises_nothing", "gridworld"):
        trust.check_world(name)
