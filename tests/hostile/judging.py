"""What must hold of every command on damaged or hostile files, whatever they are."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.hostile import Case, Surroundings, runs
from tests.hostile.intact import make_good
from tests.hostile.user import LIMIT_S, User


class Judge:
    """Tries cases and says what was wrong: code that ran, a traceback, a wait, changed content that was accepted."""

    def __init__(self, folder: Path, most_s: float = LIMIT_S) -> None:
        """Make an intact run in `folder`, and a program that runs commands; none may take longer than `most_s`."""
        self.most_s = most_s
        self.folder, self.good, self.user = folder, make_good(folder), User("run_user")
        self._untouched(self.good, "evaluate", runs.DRAW)
        self.answers: dict[str, str] = {}

    def run_cases(self) -> list[Case]:
        """Return all cases of damaged run directories."""
        return list(runs.cases(self.good))

    def close(self) -> None:
        """End the program."""
        self.user.close()

    def _untouched(self, run: Path, command: str, environment: Mapping[str, str | None] | None = None) -> str:
        words = tuple(str(run) if word == "RUN" else word for word in runs.COMMANDS[command])
        found = self.user(Surroundings(environment=environment or {}, arguments=words, folder=self.folder))
        assert found["code"] == 0, found["lines"]
        return str(found["lines"][-1])

    def answer(self, command: str) -> str:
        """Return what a command on the intact run answers."""
        if command not in self.answers:
            copy = Path(tempfile.mkdtemp(dir=self.folder)) / "run"
            shutil.copytree(self.good, copy)
            self.answers[command] = self._untouched(copy, command)
        return self.answers[command]

    def faults(self, case: Case) -> tuple[list[str], dict[str, Any]]:
        """Return what was wrong with one case, nothing if all was well, and what was found.

        What took too long is tried once more: a hang hangs again, a busy machine need not.
        """
        faults, found = self._tried(case)
        return self._tried(case) if "hung" in faults else (faults, found)

    def _tried(self, case: Case) -> tuple[list[str], dict[str, Any]]:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        (folder / runs.PRECIOUS).write_text(runs.PRECIOUS)
        found = self.user(case.make(folder))
        faults = list(self._faults(case, found, folder))
        shutil.rmtree(folder)
        return faults, found

    def _faults(self, case: Case, found: dict[str, Any], folder: Path) -> Iterator[str]:
        said = [line for line in found["lines"] if not line.startswith(("warning: ", "note: "))]
        refused = found["code"] == 2 and len(said) == 1 and said[0].startswith("error: ")
        refused |= found["code"] == 2 and not said and "fault" in found["out"]  # `worlds check` lists faults
        if (folder / runs.MARKER).exists():
            yield "code executed"
        outside = folder / runs.OUTSIDE
        if (folder / runs.PRECIOUS).read_text() != runs.PRECIOUS or (outside.exists() and not any(outside.iterdir())):
            yield "a link followed"
        if found["seconds"] > self.most_s:
            yield "hung"
        if found["code"] not in (0, 2) or (found["code"] == 2 and not refused):
            yield "traceback"
        if found["code"] == 0:
            same = case.expected != "refused" and said[-1:] == [self.answer(case.name.rpartition(": ")[2])]
            if not same:
                yield "accepted"
        elif case.expected == "works":
            yield "refused"
