"""`metarl worlds audit [NAME ...]`: is each NPC world a benchmark, with its numbers as ever?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text

from metarl.commandline import command, recorded
from metarl.envs.npc.audit import Check
from metarl.errors import ConfigError, nearest
from metarl.experiments.cli.outputs import check_writable, write_json
from metarl.experiments.cli.parser import Parser, whole
from metarl.experiments.cli.safe_text import make_console
from metarl.provenance import provenance

PROG = command("worlds", "audit")
_MOST_TRIALS = 100_000


def _audits() -> dict[str, Callable[[int], list[Check]]]:
    """Return the audits by world; each takes the number of trials."""
    from metarl.envs.npc.assets.audit import audit_assets, audit_regime
    from metarl.envs.npc.assistant.audit import audit_assistant
    from metarl.envs.npc.companion.audit import audit_companion
    from metarl.envs.npc.family import golden
    from metarl.envs.npc.guide.audit import audit_guide

    # Golden values of the guide are kept for the splits that could be played in reasonable time.
    splits = {s for kept in golden("npc/guide-macro").values() for s in kept["splits"]}
    return {
        "npc/guide-macro": partial(audit_guide, splits=tuple(sorted(splits))),
        "npc/assistant": audit_assistant,
        "npc/companion": audit_companion,
        "npc/assets-held": audit_assets,
        "npc/assets-regime": audit_regime,
    }


def main(argv: Sequence[str]) -> int:
    """Play the references, print every check with what it takes, and return 1 if one does not hold."""
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="worlds to audit (all)")
    parser.add_argument(
        "--trials", type=whole(64, _MOST_TRIALS), default=1024, metavar="N", help="trials per policy and split (1024)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write what was found")
    arguments = parser.parse_args(list(argv))
    audits = _audits()
    for name in arguments.names:
        if name not in audits:
            raise ConfigError(f"no audit of {name!r}; {nearest(name, audits)}")
    if arguments.json is not None:
        check_writable(arguments.json, "--json")
    found: dict[str, list[Check]] = {}
    with torch.no_grad():
        for name in arguments.names or audits:
            found[name] = audits[name](arguments.trials)
            make_console().print(_table(name, found[name], arguments.trials))
    if arguments.json is not None:
        kept = {name: [asdict(check) for check in checks] for name, checks in found.items()}
        line = recorded("worlds", "audit", *argv)
        stored = {"trials": arguments.trials, "command": line, "found": kept, **provenance()}
        write_json(arguments.json, stored)
    return int(not all(check.holds for checks in found.values() for check in checks))


def _table(name: str, checks: list[Check], n: int) -> Table:
    table = Table(title=f"{name}, {n} trials", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("check", "measured", "takes", ""):
        table.add_column(column, overflow="fold")
    for check in checks:
        verdict = Text("holds", style="green") if check.holds else Text("FAILS", style="bold red")
        table.add_row(check.name, f"{check.value:.3g}", f"{check.bound:.3g}", verdict)
    return table
