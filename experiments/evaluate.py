"""`metarl evaluate RUN_DIR`: adapt to held-out tasks, score strictly, write JSON, PNG and HTML.

With --upstream, Meta-World's own evaluation plays the same agent afterwards; its number is put beside the strict one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from agents.random_policy import RandomConfig
from metarl import run
from metarl.agent import Agent
from metarl.checkpoint import replace_file
from metarl.commandline import command, recorded
from metarl.errors import ConfigError
from metarl.evaluation import Evaluation, Protocol, evaluate
from metarl.provenance import provenance

from . import codec, upstream
from .build import LoadedRun, configure_torch, load_run, read_config
from .config import check_device
from .parser import Parser, check_folder
from .plots import Shown, adaptation_figure, save_png
from .report import results_path, write_report
from .tables import scores_table, text_table

PROG = command("evaluate")


def _parser() -> Parser:
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument("run_dir", type=Path, help="run directory that `train` wrote")
    parser.add_argument("--checkpoint", default="last", help="last, best (on validation tasks) or an iteration")
    parser.add_argument("--split", help="split to take tasks from (the run's protocol says, usually test)")
    parser.add_argument("--adapt-episodes", type=int, metavar="A", help="episodes to adapt on, per task")
    parser.add_argument("--eval-episodes", type=int, metavar="E", help="episodes to score afterwards, per task")
    parser.add_argument("--n-seeds", type=int, metavar="S", help="times each task is played from scratch")
    parser.add_argument("--n-tasks", type=int, metavar="N", help="tasks to play (default: all of a finite split)")
    parser.add_argument("--max-copies", type=int, metavar="B", help="most world copies side by side")
    parser.add_argument("--seed", type=int, help="root of the evaluation's noise")
    parser.add_argument("--greedy", action=argparse.BooleanOptionalAction, help="scored episodes take the mode")
    parser.add_argument(
        "--greedy-adaptation", action=argparse.BooleanOptionalAction, help="adaptation episodes take the mode"
    )
    parser.add_argument("--device", help="torch device, if another than the run's")
    upstream.add_flags(parser)
    return parser


def protocol_of(arguments: argparse.Namespace, base: Protocol) -> Protocol:
    """Return the run's protocol with what the command line changes; raises ConfigError for a value out of range."""
    names = (
        "split",
        "adapt_episodes",
        "eval_episodes",
        "n_seeds",
        "n_tasks",
        "max_copies",
        "seed",
        "greedy",
        "greedy_adaptation",
    )
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    protocol = replace(base, **given)
    if protocol.split == "train":
        raise ConfigError('split is "train", which measures no generalisation; use "test" or "validation"')
    return protocol


def main(argv: Sequence[str]) -> int:
    """Evaluate one run and return the exit code."""
    arguments = _parser().parse_args(list(argv))
    config = read_config(arguments.run_dir)
    check_device(arguments.device or config.device)
    protocol = protocol_of(arguments, config.evaluation)
    device = configure_torch(replace(config, device=arguments.device or config.device))
    loaded = load_run(arguments.run_dir, arguments.checkpoint, device=str(device))
    check_results(arguments.run_dir, protocol.split)
    asked = upstream.Request(arguments, loaded.agent, loaded.tasks, protocol) if arguments.upstream else None
    note = Ticker()
    evaluation = evaluate(
        loaded.agent,
        loaded.tasks,
        protocol,
        device=device,
        random_policy=_random_policy(loaded, device),
        about_agent={
            "algorithm": loaded.config.agent.algorithm,
            "config": codec.to_json(loaded.config)["agent"],
            "checkpoint": arguments.checkpoint,
            "iteration": loaded.iteration,
        },
        provenance={
            **provenance(),
            "run": arguments.run_dir.resolve().name,
            "world_options": dict(loaded.config.world.options),
            "train_seed": loaded.config.seed,
            "train_env_steps": loaded.env_steps,
            "device": device.type,
            "command": recorded("evaluate", *argv),
        },
        progress=note,
    )
    note.close()
    show(arguments.run_dir, evaluation)
    if asked is not None:
        on_cpu = loaded if device.type == "cpu" else load_run(arguments.run_dir, loaded.iteration, device="cpu")
        upstream.show(arguments.run_dir, asked.play(on_cpu.agent), evaluation)
    return 0


def _random_policy(loaded: LoadedRun, device: torch.device) -> Agent | None:
    """Return the uniform policy, or None where the action space has no uniform distribution."""
    try:
        return RandomConfig().build(loaded.agent.spec, seed=0, device=device)
    except ConfigError:
        return None


def check_results(run_dir: Path, split: str) -> None:
    """Raise MetarlError, before anything is played, if the history is damaged or results cannot be written."""
    run.history(run_dir)
    folder = results_path(run_dir, split).parent
    check_folder(folder if folder.exists() else run_dir, "evaluate")


def show(run_dir: Path, evaluation: Evaluation) -> None:
    """Write JSON, PNG and HTML under the run's results/, and print a table and where they are."""
    split = evaluation.protocol.split
    target = results_path(run_dir, split)
    target.parent.mkdir(exist_ok=True)
    replace_file(target, (json.dumps(evaluation.to_json(), allow_nan=False) + "\n").encode())
    shown = Shown(run_dir.resolve().name, evaluation, run.history(run_dir))
    picture = target.with_name(f"adaptation-{split}.png")
    save_png(adaptation_figure([shown]), picture)
    page = write_report([shown], target.with_name("report.html"))
    header, rows = scores_table(shown)
    print(text_table(header, rows))
    print(f"intervals: {shown.summary['bootstrap']['text']}")
    for line in evaluation.world["notes"]:
        print(f"note: {line}")
    print(f"numbers  {target}\npicture  {picture}\npage     {page}")


class Ticker:
    """One line of progress on a terminal, rewritten in place; nothing elsewhere."""

    def __init__(self) -> None:
        self._on, self._last = sys.stderr.isatty(), 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show how far the evaluation is, at most ten times a second."""
        if self._on and (time.monotonic() - self._last > 0.1 or done == total):
            self._last = time.monotonic()
            print(f"\r{what.replace('-', ' ')}: batch {done} of {total}\033[K", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line."""
        if self._on:
            print(file=sys.stderr)
