"""`metarl reproduce NAME ...`: a published experiment again, from training to a verdict per level.

Each reproduction is a preset, its evaluation and the levels to reach. The run goes to `runs/reproduce/NAME`, survives a
stop (call the command again), and leaves its result under `experiments/results/NAME/`: `result.json` with commands,
commit, seed, costs, levels and the evaluation's summary; `metrics.jsonl`; the adaptation curve as PNG.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl import run
from metarl.checkpoint import replace_file
from metarl.commandline import command, recorded
from metarl.errors import ConfigError, nearest
from metarl.experiments.cli.outputs import check_future_folder, write_json
from metarl.experiments.cli.parser import Parser, seed
from metarl.experiments.config import check_device
from metarl.experiments.figures.plots import Shown
from metarl.experiments.figures.text_tables import scores_table, text_table
from metarl.experiments.runs.stored import picture_path
from metarl.provenance import provenance
from metarl.reading import read_bytes, read_object
from metarl.results import Evaluation, plain
from metarl.summary import summarise

from .harness import carry_out, run_command
from .reproductions import REPRODUCTIONS

_RESUMED = 0.02
"""A command that took a smaller share of the time that a run's records name has only finished the run."""
RUNS, RESULTS = Path("runs/reproduce"), Path("experiments/results")
PICTURE = "adaptation-test.png"


def main(argv: list[str]) -> int:
    """Run the command; returns 1 if a level was missed."""
    width = max(map(len, REPRODUCTIONS)) + 2
    listing = "\n".join(f"  {name:<{width}}{r.about}" for name, r in REPRODUCTIONS.items())
    parser = Parser(
        allow_abbrev=False,
        prog=command("reproduce"),
        description=(__doc__ or "").splitlines()[0],
        epilog=f"reproductions:\n{listing}",
    )
    parser.add_argument("--table", action="store_true", help="only print the committed results as Markdown tables")
    parser.add_argument("names", nargs="*", metavar="NAME", help='one or more reproductions, or "all"')
    parser.add_argument("--seed", type=seed, default=0, help="training seed (default 0)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N, if another than the published run's")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the results (default %(default)s)")
    args = parser.parse_args(argv)
    if args.table:
        print(tables(args.into))
        return 0
    if not args.names:
        raise ConfigError(f"reproduce needs a name, or --table; known: {', '.join(REPRODUCTIONS)}, all")
    names = list(REPRODUCTIONS) if "all" in args.names else args.names
    for name in (*args.names, *names):
        if name not in REPRODUCTIONS and name != "all":
            raise ConfigError(f"unknown reproduction {name!r}; {nearest(name, REPRODUCTIONS)}")
    if args.device is not None:
        check_device(args.device)
    check_future_folder(args.into, "--into")
    return max([reproduce(name, args.seed, args.into, args.device) for name in names])


def reproduce(name: str, seed: int, into: Path, device: str | None = None) -> int:
    """Train (on `device`, or the plan's), evaluate, write the result; returns 1 if a level was missed."""
    plan, began = REPRODUCTIONS[name], provenance()
    label = name if seed == 0 else f"{name}-seed{seed}"
    folder, target = RUNS / label, into / label
    carried = carry_out(plan, seed, folder, caller="reproduce", device=device)
    where = ["--device", device] if device else []
    costs = carried.costs | {
        study: run_command(["study", study, str(folder), *where], caller="reproduce") for study in plan.studies
    }
    stored = read_object(carried.evaluation)
    evaluation = Evaluation.from_json(stored)
    levels = [level.judge(evaluation) for level in plan.levels]
    kept = ("protocol", "world", "phases", "env_steps", "task_fingerprint", "references")
    result = {
        "reproduction": name,
        "about": plan.about,
        "commands": [recorded("reproduce", name, "--seed", str(seed))]
        + [recorded(*map(str, c["arguments"])) for c in costs.values()],
        "seed": seed,
        "provenance": began,
        "cpus": len(os.sched_getaffinity(0)),
        "costs": costs,
        "training": _training(carried.records),
        "levels": levels,
        "config": run.read_json(folder, run.CONFIG),
        "evaluation": {k: stored[k] for k in kept} | {"summary": _without_tasks(plain(summarise(evaluation)))},
        "printed": text_table(*scores_table(Shown(label, evaluation, []))).splitlines(),
    } | ({} if plan.scores is None else {"scores": plan.scores(evaluation)})
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "result.json", result)
    copies = {"metrics.jsonl": folder / "metrics.jsonl", PICTURE: picture_path(carried.evaluation)}
    for file, source in (copies | {f"{s}.json": folder / "results" / f"{s}.json" for s in plan.studies}).items():
        replace_file(target / file, read_bytes(source))
    print(f"\n{label}: {plan.about}")
    for found in levels:
        verdict = "reached" if found["reached"] else "MISSED"
        print(f"  {found['name']:<28}{found['value']:9.3f}  >= {found['at_least']:g}  {verdict}  ({found['source']})")
    print(f"  written: {target / 'result.json'}")
    return 0 if all(found["reached"] for found in levels) else 1


def _without_tasks(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary without its table of single tasks, which is as long as the split."""
    return {k: v for k, v in summary.items() if k != "tasks"}


def _training(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what training cost and how fast each phase went, from its records."""
    collect, update = (sum(r[f"time/{k}_s"] for r in records) for k in ("collect", "update"))
    steps = records[-1]["env_steps"]
    return {
        "iterations": records[-1]["iteration"],
        "env_steps": steps,
        "collect_s": collect,
        "update_s": update,
        "collect_steps_per_s": steps / collect,
        "end_to_end_steps_per_s": steps / (collect + update),
        "last": {k: v for k, v in records[-1].items() if k.startswith(("train/", "validation/", "update/"))},
    }


def tables(folder: Path) -> str:
    """Return the results in `folder` as two Markdown tables: levels reached, and what the runs cost."""
    found = {path.parent.name: read_object(path) for path in sorted(folder.glob("*/result.json"))}
    levels = ["| run | measure | value | level | compares with |", "|---|---|---|---|---|"]
    costs = ["| run | iterations | env steps | train CPU min | steps/s collecting | steps/s in all | commit |"]
    costs.append("|---|---|---|---|---|---|---|")
    for name, result in found.items():
        training = result["training"]
        name = f"[{name}](../experiments/results/{name})"
        for level in result["levels"]:
            verdict = "" if level["reached"] else " (missed)"
            levels.append(
                f"| {name} | {level['name']} | {_value(level)} | ≥ {level['at_least']:g}{verdict} | {level['source']} |"
            )
        costs.append(
            f"| {name} | {training['iterations']} | {training['env_steps']:,} | {_minutes(result)} | "
            f"{training['collect_steps_per_s']:,.0f} | {training['end_to_end_steps_per_s']:,.0f} | "
            f"{str(result['provenance']['git']['commit'])[:7]} |"
        )
    return "\n".join([*levels, "", *costs])


def _value(level: Mapping[str, Any]) -> str:
    """Return what was measured; a dash for the end of an interval that there is not."""
    return "–" if level["value"] is None else f"{level['value']:.2f}"


def _minutes(result: Mapping[str, Any]) -> str:
    """Return the CPU minutes of training; of a run that was resumed, the wall minutes that its records add up to."""
    cpu_s = result["costs"]["train"]["cpu_s"]
    recorded_s = result["training"]["collect_s"] + result["training"]["update_s"]
    resumed = cpu_s < _RESUMED * recorded_s
    return f"{recorded_s / 60:.1f} (wall)" if resumed else f"{cpu_s / 60:.1f}"
