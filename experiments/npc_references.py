"""Reference policies of NPC worlds, played now: the tables that a result is read against."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from envs.npc.family import NpcFamily, golden_file
from envs.npc.reference import measure
from metarl.checkpoint import replace_file
from metarl.errors import ConfigError
from metarl.provenance import package_versions
from metarl.tasks import TaskDistribution, check_split

_MOST_TRIALS = 100_000


def measure_references(
    family: TaskDistribution, n: int, split: str | None, console: Console, *, write: bool = False, seed: int = 0
) -> None:
    """Play every reference policy on `n` trials of `split` (None: of each), print the tables, and maybe keep them.

    Kept values are those that `NpcFamily.references` returns for the family's exact settings.

    Raises: ConfigError for a family without reference policies, a number of trials out of range, an unknown split, or
    keeping one split of several.
    """
    if not isinstance(family, NpcFamily):
        raise ConfigError(f"{family.name!r} has no reference policies to play; leave out --measure")
    if not 2 <= n <= _MOST_TRIALS:
        raise ConfigError(f"--measure must be 2 to {_MOST_TRIALS} trials, got {n}")
    if split is not None:
        check_split(family.name, split, family.splits)
        if write:
            raise ConfigError("--write keeps the values of all splits together; leave out --split")
    found = measure(family, n=n, seed=seed, splits=None if split is None else (split,))
    for name, policies in found["splits"].items():
        console.print(_table(name, policies, n))
    if write:
        path = golden_file(family.name)
        kept = json.loads(path.read_text()) if path.exists() else {}
        kept[family.fingerprint()] = found | {"packages": package_versions()}
        path.parent.mkdir(exist_ok=True)
        replace_file(path, (json.dumps(kept, indent=1, sort_keys=True) + "\n").encode())
        console.print(f"kept in {path}")


def _table(split: str, policies: dict[str, Any], n: int) -> Table:
    title = f"undiscounted return per episode (± standard error), {split} split, {n} trials"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("policy")
    episodes = len(next(iter(policies.values()))["mean"])
    for episode in range(episodes):
        table.add_column(f"{episode}", justify="right")
    for column in ("mean", "cost"):
        table.add_column(column, justify="right")
    for name, values in policies.items():
        cells = [f"{m:.3f}±{s:.3f}" for m, s in zip(values["mean"], values["se"], strict=True)]
        means = [f"{sum(values[k]) / episodes:.3f}" for k in ("mean", "cost")]
        table.add_row(name.replace("_", " "), *cells, *means)
    return table
