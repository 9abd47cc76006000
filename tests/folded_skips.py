"""The end of a test run says what was skipped and why, in one line per reason: silence would look like success."""

from __future__ import annotations

from collections import Counter
from typing import Any


def folded(reports: list[Any]) -> list[str]:
    """Return one line for each reason among the reports of skipped tests, the most frequent first."""
    reasons = Counter(str(r.longrepr[2]).removeprefix("Skipped: ") for r in reports)
    return [f"{n} skipped: {reason}" for reason, n in reasons.most_common()]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print those lines; pytest calls this when all tests have run."""
    lines = folded(terminalreporter.stats.get("skipped", []))
    if lines:
        terminalreporter.section("skipped")
        for line in lines:
            terminalreporter.write_line(line)
