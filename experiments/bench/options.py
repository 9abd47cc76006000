"""What the commands of `metarl bench` share: how they are called, and where their results go."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from metarl.commandline import command
from metarl.errors import ConfigError
from metarl.experiments.cli.outputs import check_writable, write_json
from metarl.experiments.cli.parser import Parser, whole

RESULTS = Path("experiments/results")


def bench_parser(name: str, about: str | None, scenarios: Iterable[str] = ()) -> Parser:
    """Return the parser of `bench NAME`; one with scenarios measures those, or the chosen, in rounds."""
    parser = Parser(prog=command("bench", name), description=about, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="try the command: little, few rounds, nothing is written")
    parser.add_argument("--out", type=Path, metavar="PATH", help=f"JSON file to write (default: in {RESULTS})")
    if names := ", ".join(scenarios):
        parser.add_argument("--rounds", type=whole(1), metavar="N", help="rounds; each measures everything once")
        parser.add_argument("--scenario", action="append", metavar="NAME", help=f"only this one; {names}")
    return parser


def store(found: object, path: Path | None, console: Console) -> None:
    """Write what was found and say where, if it is to be kept."""
    if path is not None:
        write_json(path, found)
        console.print(f"stored {path}")


def place(arguments: argparse.Namespace, name: str) -> Path | None:
    """Return where the JSON goes, None for nowhere; raises ConfigError for a place that cannot be written."""
    out: Path | None = arguments.out
    if out is None:
        if arguments.quick:
            return None
        out = RESULTS / name
    if out.suffix != ".json":
        raise ConfigError(f"--out {out} must end in .json; a picture lies beside it as .png")
    check_writable(out, "--out")
    return out
