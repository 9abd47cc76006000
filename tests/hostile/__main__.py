"""`python -m tests.hostile`: every damaged or hostile run, cache and plug-in, and every wrong command line, counted."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from metarl.checkpoint import replace_file
from metarl.provenance import provenance
from tests.hostile import Case, command_lines
from tests.hostile.judging import Judge

MOST_S = 10.0


def play(judge: Judge, cases: list[Case]) -> dict[str, Any]:
    """Return how many cases there are, how they ended, and what was wrong with which."""
    ends, faults, slowest = Counter[str](), dict[str, list[str]](), 0.0
    for case in cases:
        wrong, found = judge.faults(case)
        ends["went on, with the same numbers" if found["code"] == 0 else "refused in one line"] += not wrong
        slowest = max(slowest, found["seconds"])
        if wrong:
            faults[case.name] = wrong
            print(f"{case.name}: {', '.join(wrong)}: {found['lines'][-1:]}", flush=True)
    kinds = ("code executed", "traceback", "hung", "accepted", "a link followed", "refused")
    totals = {kind: sum(kind in wrong for wrong in faults.values()) for kind in kinds}
    return {"cases": len(cases), "ends": dict(ends), "wrong": totals, "slowest_s": round(slowest, 2), "faults": faults}


class _Counted:
    """Counts what pytest reports."""

    def __init__(self) -> None:
        self.outcomes = Counter[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] += 1


def suite(path: Path) -> dict[str, Any]:
    """Return how the tests of another corpus end: each of its cases is one."""
    counted = _Counted()
    pytest.main(["-q", "-p", "no:cacheprovider", str(path)], plugins=[counted])
    return {"cases": sum(counted.outcomes.values()), "ends": dict(counted.outcomes)}


def main() -> int:
    """Run everything, write what was found, and return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--into", type=Path, help="JSON file to write")
    into = parser.parse_args().into
    began, found = time.monotonic(), {"kind": "metarl.hostile", "schema_version": 1, "provenance": provenance()}
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(Path(folder), MOST_S)
        found["runs"] = play(judge, judge.run_cases())
        found["command lines"] = play(judge, list(command_lines.cases(judge.good)))
        judge.close()
    for name in ("caches", "plugins"):
        path = Path(__file__).with_name(f"test_{name}.py")
        if path.exists():
            found[name] = suite(path)
    found["wall_s"] = round(time.monotonic() - began, 1)
    wrong = [
        name
        for name, part in found.items()
        if isinstance(part, dict) and (part.get("faults") or "failed" in part.get("ends", ()))
    ]
    print(json.dumps({k: v for k, v in found.items() if k != "provenance"}, indent=1))
    if into is not None:
        replace_file(into, (json.dumps(found, indent=1) + "\n").encode())
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
