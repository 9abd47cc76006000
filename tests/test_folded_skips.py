"""What was skipped is said at the end of the run, once per reason."""

from __future__ import annotations

from types import SimpleNamespace

from tests.folded_skips import folded, pytest_terminal_summary


def skipped(reason: str, line: int) -> SimpleNamespace:
    """Return what pytest keeps of a test that was skipped."""
    return SimpleNamespace(longrepr=("tests/test_x.py", line, f"Skipped: {reason}"))


class Screen:
    """A terminal that keeps its lines."""

    def __init__(self, **stats: list[SimpleNamespace]) -> None:
        self.stats, self.lines = stats, list[str]()

    def section(self, title: str) -> None:
        self.lines.append(f"= {title} =")

    def write_line(self, line: str) -> None:
        self.lines.append(line)


def test_many_skips_become_one_line_per_reason_with_their_number() -> None:
    reports = [skipped("no browser", 1), *[skipped("no C++ compiler", n) for n in range(157)]]
    assert folded(reports) == ["157 skipped: no C++ compiler", "1 skipped: no browser"]


def test_the_lines_come_at_the_end_and_only_if_something_was_skipped() -> None:
    screen, quiet = Screen(skipped=[skipped("no browser", 1)]), Screen(passed=[SimpleNamespace()])
    pytest_terminal_summary(screen)
    pytest_terminal_summary(quiet)
    assert screen.lines == ["= skipped =", "1 skipped: no browser"]
    assert quiet.lines == []
