"""`metarl evaluate RUN_DIR`: adapt to held-out tasks, score strictly, write JSON, PNG and HTML.

Each protocol has files of its own: what is changed of the run's stands in their names (`evaluation-test+adapt20.json`).
With --upstream, Meta-World's own evaluation plays the same agent afterwards; its number is put beside the strict one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from metarl import run
from metarl.agent import Agent
from metarl.agents.baselines.random_policy import RandomConfig
from metarl.commandline import command, recorded
from metarl.errors import ConfigError
from metarl.evaluation import Evaluation, Protocol, evaluate
from metarl.provenance import provenance

from . import codec
from .build import LoadedRun, load_run, open_run, read_config
from .cli.outputs import check_folder, write_json
from .cli.parser import Parser, add_device, seed, whole
from .cli.safe_text import note, one_line
from .cli.trust import add_trust
from .figures.plots import Shown, adaptation_figure, save_png
from .figures.text_tables import about_before, scores_table, text_table
from .report import shots, write_report
from .runs import upstream_evaluation as upstream
from .runs.stored import FOLDER, make_room, page_path, picture_path, results_path, variant
from .sinks.track import after_evaluation

PROG = command("evaluate")


def _parser() -> Parser:
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False, renamed={"--max-copies": "--max-envs"})
    parser.add_argument("run_dir", type=Path, help="run directory that `train` wrote")
    parser.add_argument("--checkpoint", default="last", help="last, best (on validation tasks) or an iteration")
    parser.add_argument("--split", help="split to take tasks from (the run's protocol says, usually test)")
    parser.add_argument("--adapt-episodes", type=whole(0), metavar="A", help="episodes to adapt on, per task")
    parser.add_argument("--eval-episodes", type=whole(1), metavar="E", help="episodes to score afterwards, per task")
    parser.add_argument("--n-seeds", type=whole(1), metavar="S", help="times each task is played from scratch")
    parser.add_argument("--n-tasks", type=whole(1), metavar="N", help="tasks to play (default: all of a finite split)")
    parser.add_argument("--max-envs", type=whole(1), metavar="B", help="most envs side by side")
    parser.add_argument("--seed", type=seed, help="root of the evaluation's noise")
    parser.add_argument("--greedy", action=argparse.BooleanOptionalAction, help="scored episodes take the mode")
    parser.add_argument(
        "--greedy-adaptation", action=argparse.BooleanOptionalAction, help="adaptation episodes take the mode"
    )
    parser.add_argument("--wandb", choices=("online", "offline", "disabled"), help="W&B (default: as the run)")
    add_device(parser)
    add_trust(parser)
    upstream.add_flags(parser)
    return parser


def protocol_of(arguments: argparse.Namespace, base: Protocol) -> Protocol:
    """Return the run's protocol with what the command line changes; raises ConfigError for a value out of range."""
    given = {field.name: getattr(arguments, field.name) for field in fields(Protocol)}
    protocol = replace(base, **{name: value for name, value in given.items() if value is not None})
    if protocol.split == "train":
        raise ConfigError('split is "train", which measures no generalisation; use "test" or "validation"')
    return protocol


def main(argv: Sequence[str]) -> int:
    """Evaluate one run and return the exit code."""
    arguments = _parser().parse_args(list(argv))
    config = read_config(arguments.run_dir, arguments.trust)
    protocol = protocol_of(arguments, config.evaluation)
    loaded = open_run(arguments.run_dir, arguments.checkpoint, device=arguments.device, trust=arguments.trust)
    device = torch.device(loaded.config.device)
    check_results(arguments.run_dir)
    asked = upstream.Request(arguments, loaded.agent, loaded.tasks, protocol) if arguments.upstream else None
    ticker = Ticker()
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
            **_training(arguments.run_dir, loaded),
            "device": device.type,
            "command": recorded("evaluate", *argv),
        },
        progress=ticker,
    )
    ticker.close()
    path, summary = show(arguments.run_dir, evaluation, config.evaluation)
    log = replace(config.log, wandb=arguments.wandb or config.log.wandb)
    after_evaluation(log, arguments.run_dir, codec.to_json(config), path, evaluation, summary)
    if asked is not None:
        on_cpu = loaded
        if device.type != "cpu":
            on_cpu = load_run(arguments.run_dir, loaded.iteration, device="cpu", trust=arguments.trust)
        end = variant(config.evaluation, protocol, arguments.checkpoint)
        upstream.show(arguments.run_dir, asked.play(on_cpu.agent), evaluation, end)
    return 0


def _training(run_dir: Path, loaded: LoadedRun) -> dict[str, Any]:
    """Return what went into the agent: env steps of this run and of those that it was started from."""
    begin = run.read_json(run_dir, run.FACTS).get("warm_start")
    if begin is None:
        return {"train_env_steps": loaded.env_steps}
    return {"train_env_steps": begin["env_steps"] + loaded.env_steps, "warm_start": begin}


def _random_policy(loaded: LoadedRun, device: torch.device) -> Agent | None:
    """Return the uniform policy, or None where the action space has no uniform distribution."""
    try:
        return RandomConfig().build(loaded.agent.spec, seed=0, device=device)
    except ConfigError:
        return None


def evaluation_path(run_dir: Path, flags: Sequence[str]) -> Path:
    """Return where `evaluate RUN_DIR` with `flags` stores what it measures."""
    arguments = _parser().parse_args([str(run_dir), *flags])
    base = read_config(run_dir, arguments.trust).evaluation
    protocol = protocol_of(arguments, base)
    return results_path(run_dir, protocol.split, variant(base, protocol, arguments.checkpoint))


def check_flags(flags: Sequence[str], base: Protocol) -> None:
    """Raise ConfigError unless `evaluate RUN_DIR` takes `flags` for a run with the protocol `base`."""
    protocol_of(_parser().parse_args(["RUN_DIR", *flags]), base)


def check_results(run_dir: Path) -> None:
    """Raise MetarlError, before anything is played, if the history is damaged or results cannot be written."""
    run.history(run_dir)
    folder = run_dir / FOLDER
    check_folder(folder if folder.exists() else run_dir, "evaluate")


def show(run_dir: Path, evaluation: Evaluation, base: Protocol) -> tuple[Path, dict[str, Any]]:
    """Write JSON, PNG and HTML under the run's results/, and print a table and where they are.

    `base` is the run's own protocol, whose files have the short names. Returns where the JSON lies, and its summary.
    """
    split = evaluation.protocol.split
    end = variant(base, evaluation.protocol, evaluation.agent["checkpoint"])
    target = results_path(run_dir, split, end)
    target.parent.mkdir(exist_ok=True)
    moved = make_room(run_dir, base, evaluation, target)
    shown = Shown(one_line(run_dir.resolve().name), evaluation, run.history(run_dir))
    write_json(target, evaluation.to_json(shown.summary), indent=None)
    picture = picture_path(target)
    save_png(adaptation_figure([shown]), picture)
    page = write_report([shown], page_path(target, base.split), several=shots([(run_dir, shown)]))
    header, rows = scores_table(shown)
    print(text_table(header, rows))
    note(f"brackets are {shown.summary['intervals']['text']}")
    note(about_before(shown))
    for line in evaluation.world["notes"]:
        note(line)
    if moved is not None:
        note(f"an evaluation under another protocol lay there; it is now {moved}")
    print(f"numbers  {one_line(target)}\npicture  {one_line(picture)}\npage     {one_line(page)}")
    return target, shown.summary


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
