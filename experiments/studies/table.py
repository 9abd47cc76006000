"""`metarl study table`: every agent on every world where it applies, as JSON, Markdown and a picture.

The rows stand in `table_rows.py`. A row and seed that has a result under --into is not run again, nor is one that
`reproduce` has run with the same preset; one that was stopped goes on. All rows get their first seed before any gets
its second, so that a budget is spent evenly.
"""

from __future__ import annotations

import fnmatch
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl.checkpoint import replace_file
from metarl.commandline import command, recorded
from metarl.errors import ConfigError, nearest
from metarl.experiments.cli.outputs import check_future_folder, write_json
from metarl.experiments.cli.parser import Parser, real, whole
from metarl.experiments.cli.safe_text import grid, one_line
from metarl.experiments.figures.plots import REFERENCES, save_png
from metarl.experiments.figures.text_tables import interval, number, text_table
from metarl.experiments.runs.comparison import ALIKE, unequal
from metarl.statistics import LEVEL, class_weights
from metarl.summary import over_runs, runs_text

from .reproduce import RESULTS as REPRODUCED
from .table_plot import table_figure
from .table_reuse import reuse
from .table_rows import ROWS, Row
from .table_runs import costs_of, learns_within_episode, read_result, run_row

RUNS, RESULTS = Path("runs/table"), Path("experiments/results/table")
AsText = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


def main(argv: Sequence[str]) -> int:
    """Run what is missing, then write the table; returns 0, or 3 if the budget ended before all was run."""
    arguments = _parser().parse_args(list(argv))
    rows = chosen_rows(ROWS, arguments.only)
    check_future_folder(arguments.into, "--into")
    if arguments.list:
        print("\n".join(f"{row.name:<34}{' '.join((row.preset, *row.train, *row.baseline)).strip()}" for row in rows))
        return 0
    for row, seed in lacking(rows, arguments.seeds, arguments.into):
        if reuse(row, seed, arguments.reuse, arguments.into):
            print(f"{row.name}, seed {seed}: as reproduced")
    left = fill(rows, arguments.seeds, arguments.runs, arguments.into, arguments.budget)
    # All rows with results are shown, chosen or not: the table is one file.
    write(aggregate(ROWS, arguments.into, arguments.seeds), arguments.into)
    if left:
        print(f"{left} runs are still to do; call the command again to go on")
    return 3 if left else 0


def _parser() -> Parser:
    parser = Parser(
        prog=command("study", "table"), description=__doc__, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="rows to run; * stands for anything")
    parser.add_argument(
        "--seeds", type=whole(1), default=5, help="training seeds per row, 0, 1, ... (default %(default)s)"
    )
    parser.add_argument(
        "--budget", type=real(0), default=math.inf, metavar="MINUTES", help="begin no run after so long; 0: only write"
    )
    parser.add_argument("--list", action="store_true", help="only list the rows")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the results (default %(default)s)")
    parser.add_argument(
        "--reuse", type=Path, default=REPRODUCED, help="folder of reproductions, not run twice (default %(default)s)"
    )
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the run directories (default %(default)s)")
    return parser


def chosen_rows(rows: Sequence[Row], only: Sequence[str]) -> list[Row]:
    """Return the rows whose names match; raises ConfigError for a pattern that matches none."""
    for pattern in only:
        if not any(fnmatch.fnmatchcase(row.name, pattern) for row in rows):
            raise ConfigError(f"no row is called {pattern!r}; {nearest(pattern, [row.name for row in rows])}")
    return [row for row in rows if not only or any(fnmatch.fnmatchcase(row.name, p) for p in only)]


def fill(rows: Sequence[Row], n_seeds: int, runs: Path, into: Path, budget_min: float) -> int:
    """Run what has no result yet, while the budget lasts; return how many runs are left.

    A row that cannot run here (a package that it needs is not installed) is told and left out; the others go on.
    """
    until = time.monotonic() + 60 * budget_min
    missing, left, refused = lacking(rows, n_seeds, into), 0, set[str]()
    for done, (row, seed) in enumerate(missing):
        if time.monotonic() >= until or row.name in refused:
            left += 1
            continue
        if read_result(into, row, seed) is not None:  # another call on the same folder was faster
            continue
        print(f"[{done + 1}/{len(missing)}] {row.name}, seed {seed}", flush=True)
        try:
            run_row(row, seed, runs, into)
        except ConfigError as error:
            print(f"{row.name} is left out: {error}", flush=True)
            refused.add(row.name)
            left += 1
    return left


def lacking(rows: Sequence[Row], n_seeds: int, into: Path) -> list[tuple[Row, int]]:
    """Return the rows and seeds without a result, all first seeds before the second ones."""
    return [(row, seed) for seed in range(n_seeds) for row in rows if read_result(into, row, seed) is None]


def aggregate(rows: Sequence[Row], into: Path, n_seeds: int) -> dict[str, Any]:
    """Return the table: per world its rows with results, and the known policies of the first of them.

    "missing" tells which of the `n_seeds` training seeds each row lacks, and how much CPU time they would take: what
    the row's other seeds took, or None if it has none.
    """
    worlds: dict[str, dict[str, Any]] = {}
    missing: list[dict[str, Any]] = []
    for row in rows:
        results = _results(row, into)
        lacking = [seed for seed in range(n_seeds) if seed not in {r["seed"] for r in results}]
        if lacking:
            each = float(np.mean([costs_of(r)[1] for r in results])) if results else None
            cpu = None if each is None else each * len(lacking)
            missing.append({"name": row.name, "agent": row.agent, "world": row.world, "seeds": lacking, "cpu_s": cpu})
        if not results:
            continue
        world = worlds.setdefault(row.world, {"references": {}, "rows": []})
        for name, value in results[0]["references"].items():
            world["references"].setdefault(name, value)
        world["rows"].append(summary_of_row(row, results))
    return {"kind": "metarl.table", "schema_version": 1, "level": LEVEL, "worlds": worlds, "missing": missing}


def _results(row: Row, into: Path) -> list[dict[str, Any]]:
    """Return a row's stored results by seed."""
    paths = (into / "runs").glob(f"{row.name}-seed*.json")
    seeds = sorted(int(p.stem.removeprefix(f"{row.name}-seed")) for p in paths)
    return [r for r in (read_result(into, row, seed) for seed in seeds) if r is not None]


def summary_of_row(row: Row, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one row: scores with intervals over training seeds, costs per run."""
    scores = {k: np.array([_score(r, k) for r in results]) for k in ("before", "after")}
    wall, cpu = zip(*map(costs_of, results), strict=True)
    return {
        "name": row.name,
        "agent": row.agent,
        "measure": row.measure,
        "published": row.published,
        "seeds": [r["seed"] for r in results],
        "adapts_within_episode": learns_within_episode(row),
        "before": over_runs(scores["before"]),
        "after": over_runs(scores["after"]),
        "gain": over_runs(scores["after"] - scores["before"]) if row.measure == "episode" else None,
        "per_seed": {k: v.tolist() for k, v in scores.items()},
        "n_tasks": results[0].get("n_tasks", len(results[0]["after"])),
        "same_tasks": len({r["task_fingerprint"] for r in results}) == 1,
        "adapt_episodes": results[0]["adapt_episodes"],
        "train_env_steps": float(np.mean([r["train_env_steps"] for r in results])),
        "steps_per_task": results[0].get("steps_per_task"),
        "wall_s": float(np.mean(wall)),
        "cpu_s": float(np.mean(cpu)),
        "costs_in_part": any(r.get("resumed", False) for r in results),
        "commits": sorted({str(r["provenance"]["git"]["commit"])[:7] for r in results}),
    }


def _score(result: Mapping[str, Any], part: str) -> float:
    """Return a run's score: its mean over tasks, classes counted alike, as its evaluation says."""
    scores, groups = np.asarray(result[part], dtype=float), result.get("task_groups")
    weights = None if groups is None else class_weights(groups)
    return float(scores.mean() if weights is None else scores @ weights)


def markdown(table: Mapping[str, Any], as_text: AsText = grid) -> str:
    """Return the table as Markdown, a section per world; `as_text` makes text of header and rows."""
    parts = [
        "# Agents and references",
        f"Mean over training seeds. Brackets: {runs_text(table['level'])}. *First episode* is the score of an episode "
        "before which nothing of the task was seen (of agents without memory: of the first phase); agents marked † "
        "have a memory and adapt while it goes on, the others have not adapted then. References are means. Wall time "
        "and CPU time are those of one run, its evaluation included (≥: it was resumed, and what came before is not "
        f"counted). Written by `{recorded('study', 'table')}`.",
    ]
    for world, found in table["worlds"].items():
        trial = any(row["measure"] == "trial" for row in found["rows"])
        unit = "return of an episode"
        if trial:
            unit = "return of a whole trial (first episode: of that episode alone)"
        parts += [f"## {world}", f"Score: {unit}.", *budgets(found["rows"]), as_text(*_world_cells(found))]
    if table["missing"]:
        parts += ["## Still to run", as_text(*_missing_cells(table["missing"]))]
    return "\n\n".join(parts) + "\n"


def budgets(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a warning for each budget of which the rows had unequal amounts."""
    found = [
        unequal([(r["agent"], r["train_env_steps"]) for r in rows], "training", "env steps", ALIKE),
        unequal([(r["agent"], None if r["steps_per_task"] else r["adapt_episodes"]) for r in rows], "adaptation",
                "episodes per task"),
    ]  # fmt: skip
    return [f"⚠ {text}" for text in found if text]


def _world_cells(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["agent", "seeds", "tasks", "first episode", "after", "adaptation", "training env steps", "wall s"]
    header += ["CPU s", "published"]
    rows = []
    for row in found["rows"]:
        learns = f"{row['adapt_episodes']} episodes"
        if row["steps_per_task"] is not None:
            learns = f"{row['steps_per_task']:,} env steps"
        least = "≥ " if row["costs_in_part"] else ""
        cells = [
            row["agent"] + " †" * row["adapts_within_episode"], str(len(row["seeds"])),
            str(row["n_tasks"]) + ("" if row["same_tasks"] else " (differ)"),
            interval(row["before"]), interval(row["after"]), learns, f"{row['train_env_steps']:,.0f}",
            f"{least}{row['wall_s']:.0f}", f"{least}{row['cpu_s']:.0f}", row["published"] or "–",
        ]  # fmt: skip
        rows.append(cells)
    for name, value in found["references"].items():
        label = REFERENCES.get(name, (name.replace("_", " "),))[0]
        rows.append([f"*{label}, mean*", "", "", "", number(value), *[""] * (len(header) - 5)])
    return header, rows


def _missing_cells(missing: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for row in missing:
        minutes = "unknown" if row["cpu_s"] is None else f"{row['cpu_s'] / 60:.1f}"
        rows.append([row["agent"], row["world"], ", ".join(map(str, row["seeds"])), minutes])
    return ["agent", "world", "missing seeds", "CPU min they need"], rows


def write(table: Mapping[str, Any], into: Path) -> None:
    """Write table.json, table.md and table.png, and print what they say."""
    text = markdown(table)
    into.mkdir(parents=True, exist_ok=True)
    write_json(into / "table.json", table)
    replace_file(into / "table.md", text.encode())
    if table["worlds"]:
        save_png(table_figure(table), into / "table.png")
    print(f"{markdown(table, text_table)}\ntable    {one_line(into / 'table.md')}")
