"""Write the numbers of README and docs anew from the committed results: `make numbers`; `--check` only compares.

A passage between `<!-- numbers: NAME -->` and `<!-- end of numbers -->` is what the function NAME below makes of the
files in `experiments/results/`; the suite fails where one is out of date. Prose around it is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metarl.experiments.studies.reproduce import tables

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
PASSAGE = re.compile(r"(<!-- numbers: (?P<name>[a-z-]+) -->\n).*?(<!-- end of numbers -->)", re.DOTALL)


def result(name: str) -> dict[str, Any]:
    """Return the result of one reproduction."""
    found: dict[str, Any] = json.loads((RESULTS / name / "result.json").read_text())
    return found


def number(value: float, digits: int) -> str:
    """Return a number as prose has it."""
    return f"{value:.{digits}f}".replace("-", "−")


SHOWN: tuple[tuple[str, str, str], ...] = (
    ("gridworld", "RL²", "Bayes-optimal 4.00, 11.07"),
    ("gridworld", "VariBAD", ""),
    ("bandit", "RL²", "Gittins index 78.3"),
    ("tabular-mdp", "RL² matching", "RL² of Duan et al. 2016: 156.2"),
    ("navigation", "MAML-TRPO", "Finn et al. 2017: −3.2"),
    ("navigation", "CAVIA", ""),
    ("navigation", "SB3 PPO", "from scratch on each task"),
    ("sparse-point-robot", "PEARL", "oracle 13.4"),
)
"""README's table: world, agent, what it compares with."""


def five_seeds() -> str:
    """Return README's table of results, from the table of all agents."""
    worlds = json.loads((RESULTS / "table" / "table.json").read_text())["worlds"]
    lines = ["| world | agent | first episode or before | after adaptation | compares with |", "|---|---|---|---|---|"]
    for world, agent, beside in SHOWN:
        row = next(row for row in worlds[world]["rows"] if row["agent"] == agent)
        lines.append(f"| {world} | {agent} | {interval(row['before'])} | {interval(row['after'])} | {beside} |")
    return "\n".join(lines)


def interval(estimate: Mapping[str, Any]) -> str:
    """Return a mean with its interval as the README has it."""
    mean, low, high = (number(estimate[key], 2) for key in ("value", "low", "high"))
    return f"{mean} [{low}, {high}]"


def demo() -> str:
    """Return what `make demo` prints at its end: it trains and evaluates what the reproduction of that name does."""
    printed = "\n".join(line.rstrip() for line in result("rl2-gridworld")["printed"])
    return f"```\n{printed}\n```"


PASSAGES: Mapping[str, Callable[[], str]] = {
    "demo": demo,
    "five-seeds": five_seeds,
    "reproduction-tables": lambda: tables(RESULTS),
}


def refreshed(text: str, where: str) -> str:
    """Return a document with its passages made anew; raises KeyError for a name that nobody makes."""

    def anew(found: re.Match[str]) -> str:
        if found["name"] not in PASSAGES:
            raise KeyError(f"{where}: nobody makes the passage {found['name']!r}; known: {', '.join(PASSAGES)}")
        return f"{found[1]}\n{PASSAGES[found['name']]()}\n\n{found[3]}"

    return PASSAGE.sub(anew, text)


def main(arguments: list[str]) -> int:
    """Refresh all documents; with --check write nothing and return 1 if one is out of date."""
    stale = []
    for path in sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]):
        before = path.read_text()
        after = refreshed(before, path.name)
        if after == before:
            continue
        stale.append(path.name)
        if "--check" not in arguments:
            path.write_text(after)
    if stale:
        print(("out of date: " if "--check" in arguments else "refreshed: ") + ", ".join(stale))
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
