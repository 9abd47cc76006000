"""Whatever lies in a run directory: it is refused in one line, or the numbers are what they were; no code of it runs.

A part of the corpus, fixed beforehand; `python -m tests.hostile` plays all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import Surroundings, command_lines, runs
from tests.hostile.intact import OTHERS
from tests.hostile.judging import Judge
from tests.hostile.runs import CHECKPOINT

KINDS = ("changed", "foreign")
EVERY = 97
"""Of the damaged files each that many-th is played here."""


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    found = Judge(tmp_path_factory.mktemp("hostile"))
    yield found
    found.close()


def test_the_corpus_is_as_large_as_it_is_said_to_be(judge: Judge) -> None:
    names = [case.name for case in judge.run_cases()]
    assert len(names) == len(set(names)) >= 1_000
    assert len(set(command_lines.lines())) == 1_000


def test_no_code_that_a_run_names_is_executed_unless_it_is_trusted_and_of_the_right_kind(judge: Judge) -> None:
    cases = [case for case in judge.run_cases() if case.name.startswith("code: ")]
    assert len(cases) > 30
    wrong = {case.name: found for case in cases if (found := judge.faults(case))[0]}
    assert not wrong


def test_trusted_code_is_called_only_by_the_config_that_the_checkpoint_was_trained_with(
    judge: Judge, tmp_path: Path
) -> None:
    case = next(c for c in judge.run_cases() if c.name == "code: a module of the run as the world: evaluate")
    (tmp_path / runs.PRECIOUS).touch()
    surroundings = case.make(tmp_path)
    folder = Path(str(surroundings.folder))
    (folder / "payload.py").write_text(
        f"open({str(tmp_path / runs.MARKER)!r}, 'w')\nfrom metarl import envs\n"
        f"def make(): return envs.make('gridworld', held_out=3)"
    )
    trusting = Surroundings({"PYTHONPATH": str(folder)}, (*surroundings.arguments, "--trust", "payload:make"))
    resuming = Surroundings(
        {"PYTHONPATH": str(folder)}, ("train", "--run-dir", str(folder), "--resume", "--trust", "payload:make")
    )
    for attempt in (trusting, resuming):
        found = judge.user(attempt)
        assert found["code"] == 2
        assert "config.json is not what iteration-" in found["lines"][-1]
        assert not (tmp_path / runs.MARKER).exists()
    runs.bind(folder)
    found = judge.user(trusting)
    assert (found["code"], found["lines"][-1]) == (0, judge.answer("evaluate"))
    assert (tmp_path / runs.MARKER).exists()


def test_damaged_runs_are_refused_in_one_line_or_give_the_numbers_that_they_gave(judge: Judge) -> None:
    cases = [case for case in judge.run_cases() if not case.name.startswith("code: ")][::EVERY]
    wrong = {case.name: found for case in cases if (found := judge.faults(case))[0]}
    assert not wrong


def test_a_changed_setting_and_another_runs_checkpoint_are_refused(judge: Judge) -> None:
    chosen = ("seed", "agent.ppo.lr", "world.options.held_out", "log.progress", CHECKPOINT)
    cases = [c for c in judge.run_cases() if c.name.startswith(tuple(f"{w}: {n} " for n in chosen for w in KINDS))]
    assert len(cases) == 2 * (4 + len(OTHERS))
    wrong = {case.name: found for case in cases if (found := judge.faults(case))[0]}
    assert not wrong


def test_nothing_is_followed_out_of_a_run_directory(judge: Judge) -> None:
    places = ("directory: its lock", "config.json: a link to", "metrics.jsonl: a link to", "directory: .run.json.tmp")
    cases = [c for c in judge.run_cases() if c.name.startswith(places) and "precious" in c.name and "resume" in c.name]
    assert len(cases) == len(places)
    wrong = {case.name: found for case in cases if (found := judge.faults(case))[0]}
    assert not wrong


def test_command_lines_with_one_value_of_nonsense_are_refused_in_one_line(judge: Judge) -> None:
    wrong = {
        case.name: found for case in list(command_lines.cases(judge.good))[::12] if (found := judge.faults(case))[0]
    }
    assert not wrong


def test_evaluations_of_one_run_at_once_do_not_disturb_each_other(judge: Judge, tmp_path: Path) -> None:
    words = ("evaluate", str(judge.good))
    plain, drawing = (Surroundings(draw, words, tmp_path) for draw in ({}, runs.DRAW))
    found = judge.user.at_once([drawing] * 4 + [plain] * 20)
    assert {each["code"] for each in found} == {0}
    assert {each["lines"][-1] for each in found} == {judge.answer("evaluate")}
    assert not [p for p in judge.good.rglob(".*") if p.is_file()]
    written = {p.name for p in judge.good.glob("results/*")}
    assert written == {"evaluation-test.json", "adaptation-test.png", "report.html"}
