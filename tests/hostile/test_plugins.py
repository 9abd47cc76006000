"""A plug-in that is broken in any way is listed with its error, gives one line by name, and harms nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import Surroundings
from tests.hostile.plugins import CRASHING, FAILING, HANGING, cases
from tests.hostile.user import User

CASES = {case.name: case for case in cases()}
USER, MOST_S = "command_user", 10


@pytest.mark.parametrize("name", CASES)
def test_a_broken_plug_in_gives_one_line_by_name_and_a_working_one_works(name: str, user: User, tmp_path: Path) -> None:
    case = CASES[name]
    surroundings = case.make(tmp_path)
    found = user(surroundings)
    if case.expected == "works":
        assert (found["code"], "1 passed, 0 failed" in found["out"]) == (0, True), found
    elif surroundings.arguments == ("worlds", "list"):
        assert (found["code"], found["lines"], found["out"].count("BROKEN")) == (0, [], 1)
    else:
        *own_words, error = found["lines"]
        assert (found["code"], found["out"], own_words) == (
            2,
            "",
            ["all is well"] * name.endswith("text and an exit"),
        ), found
        assert error.startswith("error: ")
        assert error.isprintable()
    assert found["seconds"] < MOST_S


@pytest.mark.parametrize("names", [[*FAILING, *CRASHING], HANGING], ids=["failing and crashing", "hanging"])
def test_all_broken_plug_ins_are_listed_at_once_beside_what_works(names: list[str], user: User, tmp_path: Path) -> None:
    *_, environment = [CASES[name].make(tmp_path).environment for name in names]
    found = user(Surroundings(environment, arguments=("worlds", "list")))
    assert (found["code"], found["lines"]) == (0, [])
    assert found["out"].count(" BROKEN ") == len(names)
    assert "5x5 grid with a hidden goal" in found["out"]
    assert found["seconds"] < MOST_S
