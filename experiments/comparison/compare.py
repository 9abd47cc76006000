"""A comparison of methods: its numbers, and how the terminal, the page and files tell them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from metarl.checkpoint import replace_file
from metarl.experiments.figures.text_tables import text_table
from metarl.experiments.runs.comparison import Method, methods, warnings
from metarl.summary import runs_text

from .figures import save
from .listing import Read
from .measure import differences, measured
from .tables import Table, as_csv, cost_table, improvement_table, scores_table

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Comparison:
    """Methods side by side."""

    methods: tuple[Method, ...]
    sets: list[dict[str, Any]]
    """One entry per set of tasks, see `measured`."""
    settings: list[list[str]]
    """Rows of settings that differ: name, then each method's value."""
    warnings: list[str]
    missing: tuple[tuple[str, str], ...]

    def lines(self) -> Iterator[str]:
        """Yield the tables as the terminal shows them."""
        for one in self.sets:
            if len(self.sets) > 1:
                yield one["title"]
            yield text_table(*scores_table(one))
            if (improvement := improvement_table(one)) is not None:
                yield text_table(*improvement)

    def remarks(self) -> Iterator[str]:
        """Yield what must be known to read the tables."""
        yield f"brackets are {runs_text()}"
        yield from self.warnings
        for name, reason in self.missing:
            yield f"missing: {name}: {reason}"

    def page_values(self) -> dict[str, Any]:
        """Return what the page's template fills in."""
        return {
            "sets": [
                {
                    "title": one["title"],
                    "scores": scores_table(one),
                    "improvement_table": improvement_table(one),
                    "cost": cost_table(one),
                    "without_curve": one["without_curve"],
                    "by_class": any(h["of"] == "class" for h in one["heat"].values()),
                }
                for one in self.sets
            ],
            "sets_data": self.sets,
            "differences": self._differences(),
            "warnings": self.warnings,
            "missing": self.missing,
            "intervals": runs_text(),
            "n_runs": sum(len(m.runs) for m in self.methods),
            "script": Markup((_HERE / "comparison.js").read_text()),
            "style": Markup((_HERE / "comparison.css").read_text()),
        }

    def _differences(self) -> Table | None:
        return (["setting", *(m.label for m in self.methods)], self.settings) if self.settings else None

    def to_json(self) -> dict[str, Any]:
        """Return every number and remark."""
        return {
            "kind": "metarl.comparison", "schema_version": 1, "intervals": runs_text(), "sets": self.sets,
            "methods": [m.label for m in self.methods], "settings_that_differ": self.settings,
            "warnings": self.warnings, "missing": [list(pair) for pair in self.missing],
        }  # fmt: skip

    def save(self, csv: Path | None, as_json: Path | None, png: Path | None, svg: Path | None) -> dict[str, Path]:
        """Write the files that are asked for and return where each kind lies."""
        found: dict[str, Path] = {}
        if csv is not None:
            found["csv"] = replace_file_in(csv, as_csv(self.sets))
        if as_json is not None:
            found["json"] = replace_file_in(as_json, json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")
        for kind, folder in (("png", png), ("svg", svg)):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                save(self.sets, folder, kind)
                found[kind] = folder
        return found


def replace_file_in(path: Path, text: str) -> Path:
    """Write `text` to `path`, whose folder is made if there is none, and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode(errors="backslashreplace"))
    return path


def compare(found: Read) -> Comparison:
    """Group runs into methods and measure them."""
    names: Sequence[str | None] = [one.method for one in found.listed]
    grouped = methods(found.shown, found.configs, names)
    labels = [one.label for one in found.shown]
    cpu_s = {label: one.cpu_s for label, one in zip(labels, found.listed, strict=True)}
    configs = dict(zip(labels, found.configs, strict=True))
    return Comparison(
        tuple(grouped), measured(grouped, cpu_s), differences(grouped, configs), warnings(grouped), found.missing
    )
