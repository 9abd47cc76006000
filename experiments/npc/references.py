"""Reference policies of NPC worlds, played now: the tables that a result is read against."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from metarl.checkpoint import replace_file
from metarl.envs.npc.family import NpcFamily, golden_file
from metarl.envs.npc.measure import measure
from metarl.errors import ConfigError
from metarl.experiments.figures.text_tables import text_table
from metarl.provenance import package_versions
from metarl.reading import read_object
from metarl.task_distribution import TaskDistribution
from metarl.tasks import check_split

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
        console.print(_table(name, policies, n, console.width), soft_wrap=True)
    if write:
        path = golden_file(family.name)
        kept = read_object(path) if path.exists() else {}
        kept[family.fingerprint()] = found | {"packages": package_versions()}
        path.parent.mkdir(exist_ok=True)
        replace_file(path, (json.dumps(kept, indent=1, sort_keys=True) + "\n").encode())
        console.print(f"kept in {path}")


def _table(split: str, policies: dict[str, Any], n: int, width: int) -> str:
    episodes = len(next(iter(policies.values()))["mean"])
    header = ["policy", *map(str, range(episodes)), "mean", "cost"]
    rows = []
    for name, values in policies.items():
        cells = [f"{m:.3f}±{s:.3f}" for m, s in zip(values["mean"], values["se"], strict=True)]
        means = [f"{sum(values[k]) / episodes:.3f}" for k in ("mean", "cost")]
        rows.append([name.replace("_", " "), *cells, *means])
    title = f"undiscounted return per episode (± standard error), {split} split, {n} trials"
    return f"{title}\n{text_table(header, rows, width)}"
