"""`metarl doctor NAME`: does a world keep the contract that agents, training and evaluation rely on?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metarl import envs
from metarl.commandline import command
from metarl.conformance import CHECKS, Finding, check_world
from metarl.task_distribution import TaskDistribution, check_distribution

from .cli.outputs import check_writable, write_json
from .cli.parser import Parser, seed, whole
from .cli.safe_text import make_console
from .cli.world_options import parse_options
from .config import check_device

PROG = command("doctor")

_STYLES = {"pass": "green", "fail": "bold red", "skip": "yellow"}


def _parser() -> Parser:
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False, renamed={"--copies": "--num-envs"})
    parser.add_argument("world", help="a name that `worlds list` lists, or package.module:attribute of your own")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="option of the world")
    parser.add_argument("--check", action="append", metavar="NAME", help=f"only this check; {', '.join(CHECKS)}")
    parser.add_argument(
        "--num-envs", type=whole(4), default=8, metavar="B", help="batch size of the checks, at least 4"
    )
    parser.add_argument("--steps", type=whole(8), default=64, metavar="T", help="steps per run of a check, at least 8")
    parser.add_argument("--seed", type=seed, default=0, help="root of the checks' randomness")
    parser.add_argument("--device", default="cpu", help="torch device of the world")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the findings as JSON")
    return parser


def main(argv: Sequence[str]) -> int:
    """Check one world, print what was found, and return 1 if a check failed, else 0."""
    arguments = _parser().parse_args(list(argv))
    if arguments.json is not None:
        check_writable(arguments.json, "--json")
    source = find_family(arguments.world, parse_options(arguments.option))
    findings = check_world(
        source,
        num_envs=arguments.num_envs,
        n_steps=arguments.steps,
        seed=arguments.seed,
        device=check_device(arguments.device),
        only=arguments.check,
    )
    if arguments.json is not None:
        stored = {"world": arguments.world, "findings": [asdict(f) for f in findings]}
        write_json(arguments.json, stored, indent=2)
    print_findings(arguments.world, findings, make_console())
    return int(any(f.status == "fail" for f in findings))


def find_family(name: str, options: dict[str, Any]) -> TaskDistribution | Callable[[], TaskDistribution]:
    """Return what builds the task distribution `name`, or the distribution itself if `name` points at one.

    A plug-in is tried in another process first, so that it is told if it takes the process with it. Raises:
    ConfigError for an unknown name, or options for something that is built already.
    """
    envs.WORLDS.check_survives(name)
    return envs.source(name, **options)


def built_family(name: str, options: Sequence[str]) -> TaskDistribution:
    """Return the task distribution `name` with `options` as the command line has them ("key=value")."""
    source = find_family(name, parse_options(options))
    return check_distribution(source() if callable(source) else source)


def print_findings(name: str, findings: Sequence[Finding], console: Console) -> None:
    """Print one row per check and a last line with the counts."""
    table = Table(title=f"conformance of {name}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("check", "", "what was seen"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(finding.check, Text(finding.status, style=_STYLES[finding.status]), Text(finding.message))
    console.print(table)
    counts = {status: sum(f.status == status for f in findings) for status in _STYLES}
    console.print(
        f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped (torch {torch.__version__})"
    )
