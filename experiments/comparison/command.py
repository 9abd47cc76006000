"""`metarl report RUN [RUN ...]` or `metarl report GRID_DIR`: one self-contained HTML page about evaluated runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from metarl.commandline import command
from metarl.errors import ConfigError
from metarl.experiments.build import stored_config
from metarl.experiments.cli.parser import Parser
from metarl.experiments.cli.safe_text import note, one_line
from metarl.experiments.launch.folder import is_grid
from metarl.experiments.report import MANY_RUNS, find_evaluation, headline, shots, write_report
from metarl.experiments.runs.stored import FOLDER, page_path

from .compare import compare
from .listing import read, runs_of

PROG = command("report")


def main(argv: Sequence[str]) -> int:
    """Write one page about the given runs and return the exit code."""
    arguments = _parser().parse_args(list(argv))
    folders: list[Path] = arguments.run_dirs
    listed = runs_of(folders)
    found = read(listed, lambda folder: find_evaluation(folder, arguments.split, arguments.protocol))
    grid = next((f for f in folders if is_grid(f)), None)
    compared = compare(found) if len(found.shown) > 1 or grid is not None else None
    if compared is None and (arguments.csv or arguments.json or arguments.png or arguments.svg):
        raise ConfigError(
            "--csv, --json, --png and --svg are of a comparison; name several runs, or a grid's directory"
        )
    target = arguments.output or _default_page(folders, grid, found.listed[0].run_dir, arguments)
    try:
        dirs = [(one.run_dir, there) for one, there in zip(found.listed, found.shown, strict=True)]
        several = shots(dirs) if len(dirs) <= MANY_RUNS else ()
        values = None if compared is None else compared.page_values()
        write_report(found.shown, target, several=several, compared=values)
        written = {} if compared is None else compared.save(arguments.csv, arguments.json, arguments.png, arguments.svg)
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename or target}: {error}; choose another place") from error
    if len(found.shown) <= MANY_RUNS:
        for one in found.shown:
            print(one_line(f"{one.label}: {headline(one)}"))
    if compared is not None:
        for line in compared.lines():
            print(line)
        for remark in compared.remarks():
            note(remark)
    for kind, path in {"page": target, **written}.items():
        print(f"{kind:<8} {one_line(path)}")
    return 0


def _parser() -> Parser:
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "run_dirs", type=Path, nargs="+", metavar="RUN", help="run directory with an evaluation, or a grid's directory"
    )
    parser.add_argument("--split", help="which evaluation to show (default: test)")
    parser.add_argument(
        "--protocol", metavar="NAME", help="an evaluation of another protocol, as its file is named: adapt20+greedy"
    )
    parser.add_argument(
        "--output", type=Path, help="the page (default: results/report.html of the first run; GRID_DIR/report.html)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the comparison's table as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers of the comparison as well")
    parser.add_argument("--png", type=Path, metavar="DIR", help="write the comparison's plots as well, as PNG")
    parser.add_argument("--svg", type=Path, metavar="DIR", help="the same as SVG")
    return parser


def _default_page(folders: Sequence[Path], grid: Path | None, first: Path, arguments: argparse.Namespace) -> Path:
    """Return where the page lies, told as the first folder was: not whole where it was not."""
    if grid is not None:
        return grid / "report.html"
    if len({f.resolve() for f in folders}) > 1:
        return folders[0] / FOLDER / "comparison.html"
    path = find_evaluation(first, arguments.split, arguments.protocol)
    return folders[0] / page_path(path, stored_config(first)["evaluation"]["split"]).relative_to(first)
