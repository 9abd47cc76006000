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


def levels(name: str, digits: int, *which: str) -> str:
    """Return the named levels of a reproduction, all by default."""
    known = {level["name"]: level["value"] for level in result(name)["levels"]}
    return "; ".join(number(known[key], digits) for key in which or known)


def after_steps(name: str, digits: int) -> str:
    """Return the mean return of each phase after the first: what 1, 2, 3 adaptation steps lead to."""
    phases = result(name)["evaluation"]["summary"]["phases"]
    return ", ".join(number(phase["return"]["mean"]["value"], digits) for phase in phases[1:])


def number(value: float, digits: int) -> str:
    """Return a number as prose has it."""
    return f"{value:.{digits}f}".replace("-", "−")


_LAST = "A_K, last episode"

ROWS: tuple[tuple[str, str, Callable[[str], str], str], ...] = (
    ("rl2-gridworld", "return in episode 1; lowest of 2–4", lambda n: levels(n, 2), "Bayes-optimal 4.00; 11.07"),
    ("rl2-transformer-gridworld", "the same, with a causal transformer", lambda n: levels(n, 2), ""),
    ("rl2-bandit", "reward of 100 pulls, 5 arms", lambda n: levels(n, 1), "Gittins 78.3, RL² 78.7 (Duan et al. 2016)"),
    (
        "rl2-matching-tabular-mdp",
        "reward of 10 episodes, memory filed by state",
        lambda n: levels(n, 1),
        "RL² 156.2, PSRL 138.1 (Duan et al. 2016)",
    ),
    ("rl2-tabular-mdp", "the same with a GRU", lambda n: levels(n, 1), "not reached"),
    (
        "maml-navigation",
        "return after 1, 2, 3 steps",
        lambda n: after_steps(n, 1),
        "−11.7, −3.3, −3.2 (Finn et al. 2017): not reached",
    ),
    (
        "maml-navigation-500",
        "the same after 500 iterations in place of 50",
        lambda n: after_steps(n, 1),
        "not reached",
    ),
    (
        "matching-navigation",
        "lead of a start from similar known tasks over the average-task policy",
        lambda n: levels(n, 1, "lead of the start"),
        "0",
    ),
    (
        "pearl-sparse-point-robot",
        "sparse return of episode 10 (further seeds: 9.5, 8.3, 9.1, 8.7)",
        lambda n: levels(n, 1),
        "oracle 13.4",
    ),
    (
        "rl2-npc-guide-macro",
        "share of the gap from the best non-adaptive policy to the oracle, unseen people, last episode",
        lambda n: levels(n, 2, _LAST),
        "Bayes filter 0.82",
    ),
    (
        "rl2-npc-companion",
        "the same; visitors recognised by a letter drawn anew",
        lambda n: levels(n, 2, _LAST),
        "Bayes filter 0.99",
    ),
    (
        "rl2-npc-assistant",
        "the same; ceiling: a policy that knows the visitor's tastes",
        lambda n: levels(n, 2, _LAST),
        "Bayes filter 0.79",
    ),
    ("rl2-npc-assets-held", "the same", lambda n: levels(n, 2, _LAST), "Bayes filter 0.94"),
    ("finetune-navigation", "return after 1, 2, 3 steps", lambda n: after_steps(n, 1), "the non-meta baseline"),
)
"""README's table of results: reproduction, what is scored, the score, what it compares with."""


def reproductions() -> str:
    """Return README's table of results."""
    lines = ["| NAME | score | ours | compares with |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {what} | {score(name)} | {beside} |" for name, what, score, beside in ROWS]
    return "\n".join(lines)


def demo() -> str:
    """Return what `make demo` prints at its end: it trains and evaluates what the reproduction of that name does."""
    printed = "\n".join(line.rstrip() for line in result("rl2-gridworld")["printed"])
    return f"```\n{printed}\n```"


PASSAGES: Mapping[str, Callable[[], str]] = {
    "demo": demo,
    "reproductions": reproductions,
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
