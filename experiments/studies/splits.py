"""`metarl study splits RUN_DIR`: a trained run on every held-out split, to measure how far it generalises.

Each split is evaluated as `evaluate --split` does it, with its files under RUN_DIR/results; the table goes to
`splits.json`, that of some splits to `splits+SPLIT+....json`. Where a split has reference
policies, the last episode is also placed between the best policy that does not adapt (0) and the one that is told the
task (1), and beside the best of the exact filters, if there are any.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metarl.commandline import command, recorded
from metarl.errors import ConfigError, nearest
from metarl.experiments.build import build_tasks, read_config, run_device
from metarl.experiments.cli.outputs import write_json
from metarl.experiments.cli.parser import Parser, add_device
from metarl.experiments.cli.safe_text import note, one_line
from metarl.experiments.cli.trust import add_trust
from metarl.experiments.figures.text_tables import interval, number, text_table
from metarl.experiments.npc.scores import ABOUT, CEILING, FLOOR, normalised
from metarl.experiments.runs.stored import FOLDER, named, read_evaluation, results_path
from metarl.provenance import provenance
from metarl.results import Evaluation, plain
from metarl.summary import Intervals, summarise

from .harness import run_command

PROG = command("study", "splits")
PERSONA = "persona_oracle"
"""Ceiling of worlds in which part of what is hidden changes with every episode: knows what lasts, no more."""
FILTERS = "bayes"
"""How the names of policies begin that filter exactly."""


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="run directory that `train` wrote")
    parser.add_argument("--only", nargs="+", metavar="SPLIT", help="splits to play (default: all but train)")
    add_device(parser)
    add_trust(parser)
    arguments = parser.parse_args(list(argv))
    folder: Path = arguments.run_dir
    config = read_config(folder, arguments.trust)
    known = [s for s in build_tasks(config).splits if s != "train"]
    for name in arguments.only or ():
        if name not in known:
            raise ConfigError(f"no held-out split {name!r}; {nearest(name, known)}")
    chosen = [s for s in known if not arguments.only or s in arguments.only]
    where = run_device(config, arguments.device)  # once: each evaluation would say it again
    elsewhere = ["--device", where] if where != config.device else []
    elsewhere += [word for name in arguments.trust for word in ("--trust", name)]
    began, found, costs = provenance(), dict[str, Any](), dict[str, Any]()
    notes: dict[str, None] = {}  # each once, in order
    for split in chosen:
        words = ["evaluate", "--split", split, *elsewhere, "--", str(folder)]
        costs[split] = run_command(words, caller="study splits")
        evaluation = read_evaluation(results_path(folder, split), folder)
        found[split] = score(evaluation)
        notes[Intervals(evaluation).describe()["text"]] = None
        if "normalised" in found[split]:
            notes[f"of the gap: {ABOUT}"] = None
    result = {
        "kind": "metarl.splits",
        "schema_version": 1,
        "command": recorded("study", "splits", *argv),
        "provenance": began,
        "costs": costs,
        "intervals": list(notes),
        "splits": found,
    }
    into = folder / FOLDER / f"splits{named(chosen) if chosen != known else ''}.json"
    write_json(into, result)
    print(f"\n{table(found)}")
    for text in notes:
        note(f"brackets are {text}")
    print(f"numbers  {one_line(into)}")
    return 0


def score(evaluation: Evaluation) -> dict[str, Any]:
    """Return what counts of one split: returns before and after adaptation, and, with references, where they stand."""
    summary, known = plain(summarise(evaluation)), evaluation.references
    found: dict[str, Any] = {
        "task_fingerprint": evaluation.task_fingerprint,
        "before": summary["pre"]["return"]["mean"],
        "after": summary["query"]["return"]["mean"],
    }
    if "cost" in summary["query"]:
        found |= {
            f"cost_{when}": summary[part]["cost"]["mean"] for when, part in (("before", "pre"), ("after", "query"))
        }
    ceiling = PERSONA if PERSONA in known else CEILING
    if FLOOR in known and ceiling in known:
        found["normalised"] = normalised(evaluation, ceiling)
        filters = [float(v[-1]) for name, v in known.items() if name.startswith(FILTERS)]
        if filters:
            floor, top = (float(known[name][-1]) for name in (FLOOR, ceiling))
            found["filter"] = (max(filters) - floor) / (top - floor)
    return found


def table(found: dict[str, Any]) -> str:
    """Return the splits as text."""
    header = ["split", "first episode", "after", "of the gap", "best filter", "cost before", "after"]
    rows = []
    for split, part in found.items():
        share = part.get("normalised")
        closed = interval({k: share[k][-1] for k in ("low", "high")} | {"value": share["curve"][-1]}) if share else "–"
        exact = number(part["filter"]) if "filter" in part else "–"
        costs = [interval(part[f"cost_{when}"]) if f"cost_{when}" in part else "–" for when in ("before", "after")]
        rows.append([split, interval(part["before"]), interval(part["after"]), closed, exact, *costs])
    return text_table(header, rows)
