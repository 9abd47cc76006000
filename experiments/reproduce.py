"""`python -m experiments reproduce NAME ...`: a published experiment again, from training to a verdict per level.

Each reproduction is a preset, its evaluation and the levels to reach. The run goes to `runs/reproduce/NAME`, survives a
stop (call the command again), and leaves its result under `experiments/results/NAME/`: `result.json` with commands,
commit, seed, costs, levels and the evaluation's summary; `metrics.jsonl`; the adaptation curve as PNG.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl.errors import ConfigError, nearest
from metarl.provenance import provenance
from metarl.results import Evaluation, plain
from metarl.summary import summarise

from .parser import Parser, check_folder
from .subcommand import run_subcommand

RUNS, RESULTS = Path("runs/reproduce"), Path("experiments/results")

Measure = Callable[[Evaluation], float]


@dataclass(frozen=True)
class Level:
    """A number the reproduction must reach."""

    name: str
    measure: Measure
    at_least: float
    source: str
    """Where the level comes from, or what it compares with."""


@dataclass(frozen=True)
class Reproduction:
    """One experiment: which preset, how it is evaluated, what it must reach."""

    preset: str
    about: str
    levels: tuple[Level, ...]
    train: tuple[str, ...] = ()
    """Extra arguments of `train`."""
    evaluate: tuple[str, ...] = ()
    """Extra arguments of `evaluate`."""


def episode_mean(start: int, stop: int) -> Measure:
    """Return a measure: the mean return of episodes `start` .. `stop` - 1 of a trial."""
    return lambda evaluation: float(evaluation.trials.returns[..., start:stop].mean())


def worst_episode(start: int, stop: int) -> Measure:
    """Return a measure: the lowest of the mean returns of episodes `start` .. `stop` - 1."""
    return lambda evaluation: float(evaluation.trials.returns[..., start:stop].mean((0, 1)).min())


def trial_total(evaluation: Evaluation) -> float:
    """Return the mean return of a whole trial, all its episodes summed."""
    return float(evaluation.trials.returns.sum(-1).mean())


def phase_mean(phase: int) -> Measure:
    """Return a measure: the mean return of the episodes after `phase` adaptation steps."""

    def measure(evaluation: Evaluation) -> float:
        start = sum(evaluation.phases[:phase])
        return float(evaluation.trials.returns[..., start : start + evaluation.phases[phase]].mean())

    return measure


def query_success(evaluation: Evaluation) -> float:
    """Return the share of scored episodes with success at any step."""
    success = evaluation.trials.success_any
    if success is None:
        raise ConfigError(f"world {evaluation.world['name']!r} knows no success; choose another measure")
    return float(success[..., evaluation.query].mean())


REPRODUCTIONS: dict[str, Reproduction] = {
    "rl2-gridworld": Reproduction(
        "rl2-gridworld",
        "RL² on the 5x5 gridworld of VariBAD, 4 episodes per trial",
        (
            Level("episode 1", episode_mean(0, 1), 3.5, "Bayes-optimal 4.00"),
            Level("lowest of episodes 2-4", worst_episode(1, 4), 10.5, "Bayes-optimal 11.07"),
        ),
    ),
    "rl2-transformer-gridworld": Reproduction(
        "rl2-transformer-gridworld",
        "RL² with a causal transformer on the 5x5 gridworld of VariBAD, 4 episodes per trial",
        (
            Level("episode 1", episode_mean(0, 1), 3.8, "Bayes-optimal 4.00, less 5 %"),
            Level("lowest of episodes 2-4", worst_episode(1, 4), 10.52, "Bayes-optimal 11.07, less 5 %"),
        ),
    ),
    "varibad-gridworld": Reproduction(
        "varibad-gridworld",
        "VariBAD on the 5x5 gridworld of its paper, 4 episodes per trial",
        (
            Level("episode 1", episode_mean(0, 1), 3.5, "Bayes-optimal 4.00"),
            Level("lowest of episodes 2-4", worst_episode(1, 4), 10.5, "Bayes-optimal 11.07"),
        ),
    ),
    "rl2-bandit": Reproduction(
        "rl2-bandit",
        "RL² on Bernoulli bandits, n=100 pulls, k=5 arms",
        (Level("total reward of 100 pulls", trial_total, 78.0, "Duan et al. 2016, table 1: Gittins 78.3, RL² 78.7"),),
    ),
    "rl2-tabular-mdp": Reproduction(
        "rl2-tabular-mdp",
        "RL² on random tabular MDPs, n=10 episodes",
        (Level("total reward of 10 episodes", trial_total, 150.0, "Duan et al. 2016, table 2: RL² 156.2, PSRL 138.1"),),
    ),
    "maml-navigation": Reproduction(
        "maml-navigation",
        "MAML-TRPO on 2-D navigation, 1 inner step trained, 3 at test",
        (
            Level("after 1 step", phase_mean(1), -20.0, "Finn et al. 2017, appendix C: -11.68"),
            Level("after 2 steps", phase_mean(2), -13.0, "Finn et al. 2017, appendix C: -3.33"),
            Level("after 3 steps", phase_mean(3), -12.0, "Finn et al. 2017, appendix C: -3.23"),
        ),
    ),
    "finetune-navigation": Reproduction(
        "finetune-navigation", "Multi-task PPO, then gradient fine-tuning, on 2-D navigation: the non-meta baseline", ()
    ),
    "pearl-sparse-point-robot": Reproduction(
        "pearl-sparse-point-robot",
        "PEARL on the sparse point robot, 9 episodes of adaptation by posterior sampling",
        (Level("sparse return of episode 10", episode_mean(9, 10), 8.0, "oracle 13.4"),),
    ),
    "ml1-reach-rl2": Reproduction(
        "ml1-reach-quick", "RL² on Meta-World ML1 reach, a short run to measure cost, not skill", ()
    ),
    "ml1-reach-maml": Reproduction(
        "maml-ml1-reach",
        "MAML-TRPO on Meta-World ML1 reach, a short run to measure cost, not skill",
        (),
        train=(
            "--train.n-iterations",
            "20",
            "--agent.episodes-per-step",
            "2",
            "--train.validation-adapt-episodes",
            "2",
        ),
        evaluate=("--adapt-episodes", "2", "--eval-episodes", "1", "--n-tasks", "10"),
    ),
    "ml10-rl2": Reproduction(
        "rl2-ml10",
        "RL² on Meta-World ML10, a short run to measure cost, not skill",
        (),
        train=(
            "--train.n-iterations",
            "20",
            "--agent.episodes-per-trial",
            "2",
            "--train.validation-adapt-episodes",
            "1",
        ),
        evaluate=("--adapt-episodes", "1", "--eval-episodes", "1", "--n-tasks", "20"),
    ),
    "ml10-maml": Reproduction(
        "maml-ml10",
        "MAML-TRPO on Meta-World ML10, a short run to measure cost, not skill",
        (),
        train=(
            "--train.n-iterations",
            "20",
            "--agent.episodes-per-step",
            "1",
            "--train.validation-adapt-episodes",
            "1",
        ),
        evaluate=("--adapt-episodes", "1", "--eval-episodes", "1", "--n-tasks", "20"),
    ),
}


def main(argv: list[str]) -> int:
    """Run the command; returns 1 if a level was missed."""
    width = max(map(len, REPRODUCTIONS)) + 2
    listing = "\n".join(f"  {name:<{width}}{r.about}" for name, r in REPRODUCTIONS.items())
    parser = Parser(
        allow_abbrev=False,
        prog="python -m experiments reproduce",
        description=(__doc__ or "").splitlines()[0],
        epilog=f"reproductions:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", action="store_true", help="only print the committed results as Markdown tables")
    parser.add_argument("names", nargs="*", metavar="NAME", help='one or more reproductions, or "all"')
    parser.add_argument("--seed", type=int, default=0, help="training seed (default 0)")
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
    if args.seed < 0:
        raise ConfigError(f"--seed must be >= 0, got {args.seed}")
    existing = next(folder for folder in (args.into, *args.into.parents) if folder.exists())
    check_folder(existing, "--into")
    return max([reproduce(name, args.seed, args.into) for name in names])


def reproduce(name: str, seed: int, into: Path) -> int:
    """Train, evaluate, write the result; returns 1 if a level was missed."""
    plan = REPRODUCTIONS[name]
    label = name if seed == 0 else f"{name}-seed{seed}"
    folder = RUNS / label
    began = provenance()
    train = ["train", plan.preset, "--seed", str(seed), *plan.train, "--run-dir", str(folder), "--resume", "auto"]
    costs = {"train": run_subcommand(train, caller="reproduce")}
    costs["evaluate"] = run_subcommand(["evaluate", str(folder), *plan.evaluate], caller="reproduce")
    stored = json.loads((folder / "results" / "evaluation-test.json").read_text())
    evaluation = Evaluation.from_json(stored)
    levels: list[dict[str, Any]] = []
    for level in plan.levels:
        value = level.measure(evaluation)
        levels.append(
            {
                "name": level.name,
                "value": value,
                "at_least": level.at_least,
                "reached": value >= level.at_least,
                "source": level.source,
            }
        )
    target = into / label
    target.mkdir(parents=True, exist_ok=True)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    result = {
        "reproduction": name,
        "about": plan.about,
        "commands": [f"python -m experiments reproduce {name} --seed {seed}"]
        + [" ".join(["python -m experiments", *map(str, c["arguments"])]) for c in costs.values()],
        "seed": seed,
        "provenance": began,
        "cpus": len(os.sched_getaffinity(0)),
        "costs": costs,
        "training": _training(records),
        "levels": levels,
        "config": json.loads((folder / "config.json").read_text()),
        "evaluation": {
            "protocol": stored["protocol"],
            "world": stored["world"],
            "phases": stored["phases"],
            "env_steps": stored["env_steps"],
            "task_fingerprint": stored["task_fingerprint"],
            "references": stored["references"],
            "summary": _without_tasks(plain(summarise(evaluation))),
        },
    }
    (target / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    shutil.copy(folder / "metrics.jsonl", target / "metrics.jsonl")
    for picture in (folder / "results").glob("*.png"):
        shutil.copy(picture, target / picture.name)
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
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))]
    levels = ["| run | measure | value | level | compares with |", "|---|---|---|---|---|"]
    costs = ["| run | iterations | env steps | train CPU min | steps/s collecting | steps/s in all | commit |"]
    costs.append("|---|---|---|---|---|---|---|")
    for result in found:
        name, training = result["reproduction"], result["training"]
        name = f"[{name}](../experiments/results/{name})"
        for level in result["levels"]:
            verdict = "" if level["reached"] else " (missed)"
            levels.append(
                f"| {name} | {level['name']} | {level['value']:.2f} | ≥ {level['at_least']:g}{verdict} | "
                f"{level['source']} |"
            )
        minutes = result["costs"]["train"]["cpu_s"] / 60
        costs.append(
            f"| {name} | {training['iterations']} | {training['env_steps']:,} | {minutes:.1f} | "
            f"{training['collect_steps_per_s']:,.0f} | {training['end_to_end_steps_per_s']:,.0f} | "
            f"{str(result['provenance']['git']['commit'])[:7]} |"
        )
    return "\n".join([*levels, "", *costs])
