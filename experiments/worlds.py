"""`metarl worlds list` and `metarl worlds show NAME`: the task distributions there are, and one of them in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from metarl.commandline import command
from metarl.envs import WORLDS
from metarl.errors import ConfigError
from metarl.strangers import Entry
from metarl.task_distribution import TaskDistribution, about, spec_of
from metarl.tasks import Tasks, check_split

from .cli.parser import Parser, whole
from .cli.safe_text import make_console
from .doctor import built_family
from .figures.text_tables import text_table

_MOST_EPISODES = 1000
"""Columns of the table of references."""


def _parser() -> Parser:
    about = "show a task distribution in full"
    parser = Parser(prog=command("worlds", "show"), description=about, allow_abbrev=False)
    parser.add_argument("world", help="a name that `worlds list` lists, or package.module:attribute")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="option of the world")
    parser.add_argument("--references", action="store_true", help="also show known policies' returns per episode")
    parser.add_argument(
        "--episodes",
        type=whole(1, _MOST_EPISODES),
        metavar="E",
        help="episodes to show references for; a trial's, or 4",
    )
    parser.add_argument("--split", metavar="NAME", help="split to show references for; test, with --measure all")
    parser.add_argument("--measure", type=whole(1), metavar="N", help="play the references now, N trials on each split")
    parser.add_argument("--write", action="store_true", help="keep what --measure found as the world's golden values")
    return parser


def list_worlds(argv: Sequence[str]) -> int:
    """List all task distributions; a broken plug-in is listed with its error and is no failure."""
    about = "list the task distributions that can be named"
    Parser(prog=command("worlds", "list"), description=about, allow_abbrev=False).parse_args(list(argv))
    make_console().print(list_table(WORLDS.entries()))
    return 0


def show(argv: Sequence[str]) -> int:
    """Show one task distribution, with what known policies earn on it if asked."""
    arguments = _parser().parse_args(list(argv))
    if arguments.write and arguments.measure is None:
        raise ConfigError("--write keeps what --measure found; add --measure N")
    console = make_console()
    family = built_family(arguments.world, arguments.option)
    check_split(family.name, arguments.split or "test", family.splits)
    if (arguments.split or arguments.episodes) and not arguments.references and arguments.measure is None:
        raise ConfigError("--split and --episodes are about known policies; add --references, or --measure N")
    entry = WORLDS.entry(arguments.world) or Entry(arguments.world, arguments.world)
    console.print(details(family, entry))
    if arguments.measure is not None:
        from .npc.references import measure_references

        measure_references(family, arguments.measure, arguments.split, console, write=arguments.write)
    elif arguments.references:
        episodes = arguments.episodes or about(family).n_episodes or 4
        print_references(family, episodes, console, arguments.split or "test")
    return 0


def list_table(entries: dict[str, Entry]) -> Table:
    """Return one row per entry: name, what it is, where it comes from, and what is wrong with it."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("world", "what it is", "from"):
        table.add_column(column, overflow="fold")
    for name, entry in entries.items():
        what = Text(f"BROKEN {entry.error}", style="bold red") if entry.error else Text(entry.summary or entry.target)
        table.add_row(Text(name), what, Text(entry.origin))
    return table


def details(family: TaskDistribution, entry: Entry) -> Table:
    """Return a two-column table of everything a user may want to know before training."""
    spec = spec_of(family)
    rows: dict[str, Any] = {
        "world": f"{family.name}: {entry.summary}" if entry.summary else family.name,
        "factory": f"{entry.target} of {entry.origin}",
        "observations": spec.observation_space,
        "actions": spec.action_space,
        "horizon": f"{spec.horizon} env steps, {'exactly' if spec.fixed_horizon else 'at most'}",
        "success": "reported at each step" if spec.has_success else "no such notion",
    }
    rows["splits"] = "each split is the whole distribution" if family.exhaustive else "disjoint"
    for split in family.splits:
        rows[f"  {split}"] = describe_split(family, split)
    rows["fingerprint"] = family.fingerprint()
    for note in about(family).notes:
        rows[f"note {sum(k.startswith('note') for k in rows) + 1}"] = note
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(str(value), overflow="fold"))
    return table


def describe_split(family: TaskDistribution, split: str) -> str:
    """Return size, classes and parameters of a split."""
    tasks = family.all(split)
    if tasks is None:
        import torch

        sample = family.sample(split, 1, torch.Generator().manual_seed(0))
        return f"infinitely many tasks with {_parameters(sample)}"
    classes = list(dict.fromkeys(tasks.groups))
    named = f" of {len(classes)} classes ({', '.join(classes)})" if len(classes) > 1 else f" of class {classes[0]}"
    return f"{len(tasks)} tasks{named} with {_parameters(tasks)}"


def _parameters(tasks: Tasks) -> str:
    return ", ".join(f"{k}{list(v.shape[1:]) if v.dim() > 1 else ''}" for k, v in tasks.values.items())


def print_references(family: TaskDistribution, n_episodes: int, console: Console, split: str) -> None:
    """Print the expected return per episode of the policies that are known, for one split."""
    references = family.references(split, n_episodes)
    if not references:
        console.print("no reference policies are known for this world")
        return
    console.print(f"undiscounted return per episode, {split} split")
    header = ["policy", *(f"episode {episode}" for episode in range(n_episodes))]
    rows = [[name, *(f"{v:.3f}" for v in values)] for name, values in references.items()]
    console.print(text_table(header, rows, console.width), soft_wrap=True)
