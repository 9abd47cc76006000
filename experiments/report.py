"""`metarl report RUN [RUN ...]`: one self-contained HTML page about evaluated runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from metarl import __version__, run
from metarl.checkpoint import replace_file
from metarl.commandline import command
from metarl.errors import CheckpointError, ConfigError
from metarl.results import SCHEMA_VERSION, Evaluation, plain

from .comparison import comparable, improvement_table, methods, methods_table
from .parser import Parser
from .plots import Shown, adaptation_figure, classes_figure, to_svg, training_figure
from .tables import groups_table, interval, scores_table, tasks_table

PROG = command("report")
MANY_TASKS = 40
"""Longer per-task tables are folded."""


def results_path(run_dir: Path, split: str) -> Path:
    """Return where the evaluation of `split` is stored."""
    return run_dir / "results" / f"evaluation-{split}.json"


def load_shown(run_dir: Path, split: str | None = None, label: str | None = None) -> Shown:
    """Read one run's evaluation and history; without `split` the test split, or the only one there is.

    Raises: CheckpointError if there is none, or it is damaged.
    """
    found = {p.stem.removeprefix("evaluation-"): p for p in sorted(run_dir.glob("results/evaluation-*.json"))}
    chosen = split or ("test" if "test" in found or len(found) != 1 else next(iter(found)))
    if chosen not in found:
        if not run_dir.is_dir():
            raise CheckpointError(f"there is no run directory {run_dir}; check the path (runs are in runs/ by default)")
        raise CheckpointError(
            f"{run_dir} has no evaluation of split {chosen!r} (it has: {', '.join(found) or 'none'}); "
            f"run `{command('evaluate', run_dir, '--split', chosen)}` first"
        )
    try:
        stored = json.loads(found[chosen].read_bytes())
    except ValueError as error:
        raise CheckpointError(
            f"{found[chosen]} is damaged ({error}); write it again with `{command('evaluate', run_dir)}`"
        ) from error
    evaluation = Evaluation.from_json(stored)
    return Shown(label or run_dir.resolve().name, evaluation, run.history(run_dir))


def write_report(shown: Sequence[Shown], target: Path, configs: Sequence[Mapping[str, Any]] | None = None) -> Path:
    """Write the page about `shown` to `target`; `configs` (config.json of each run) make it a comparison."""
    page = _environment().get_template("report_template.html.j2").render(**page_values(shown, configs))
    replace_file(target, page.encode())
    return target


def page_values(shown: Sequence[Shown], configs: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Return what the template fills in."""
    values: dict[str, Any] = {
        "title": shown[0].label if len(shown) == 1 else f"{len(shown)} runs",
        "version": __version__,
        "runs": [_section(s, alone=len(shown) == 1) for s in shown],
    }
    if len(shown) > 1:
        found = methods(shown, configs or [{"run": s.label} for s in shown])
        values["comparison"] = {
            "table": methods_table(found),
            "improvement": improvement_table(found),
            "warning": comparable(shown),
            "adaptation": _svg(adaptation_figure(shown)),
            "training": _svg(training_figure(shown)),
        }
    return values


def _svg(figure: Any) -> Markup | None:
    return None if figure is None else Markup(to_svg(figure))


def _section(shown: Shown, *, alone: bool) -> dict[str, Any]:
    """Return one run's part of the page."""
    evaluation, summary = shown.evaluation, shown.summary
    groups = evaluation.task_groups
    return {
        "label": shown.label,
        "headline": headline(shown),
        "byline": byline(shown),
        "scores": scores_table(shown),
        "bootstrap": summary["bootstrap"]["text"],
        "upstream": summary.get("upstream_counting", {}).get("text"),
        "adaptation": _svg(adaptation_figure([shown])),
        "parallel": evaluation.agent["parallel_episodes"],
        "training": _svg(training_figure([shown])) if alone else None,
        "classes": _svg(classes_figure(shown)),
        "groups": groups_table(shown) if len(set(groups)) > 1 else None,
        "tasks": tasks_table(shown),
        "fold_tasks": len(groups) > MANY_TASKS,
        "notes": _notes(evaluation),
        "settings": _settings(evaluation),
    }


def headline(shown: Shown) -> str:
    """Return the result in one sentence."""
    evaluation, summary = shown.evaluation, shown.summary
    protocol = evaluation.protocol
    metric = "success_any" if "success_any" in summary["query"] else "return"
    before, after = (interval(summary[p][metric]["mean"], metric) for p in ("pre", "query"))
    what = "Success rate" if metric == "success_any" else "Mean return per episode"
    n = protocol.adapt_episodes
    return (
        f"{what} {after} after {n} adaptation episode{'s' * (n != 1)}, {before} before any, on "
        f"{len(evaluation.task_names)} tasks of the {protocol.split} split of {evaluation.world['name']}, "
        f"{protocol.n_seeds} evaluation seed{'s' * (protocol.n_seeds != 1)}."
    )


def byline(shown: Shown) -> str:
    """Return which agent was scored: algorithm, checkpoint, training so far, commit."""
    about, origin = shown.evaluation.agent, shown.evaluation.provenance
    commit = (origin.get("git") or {}).get("commit")
    parts = [
        f"Agent {about.get('algorithm', about['name'])}",
        f"checkpoint {about['checkpoint']} (iteration {about['iteration']})" if "checkpoint" in about else "",
        f"{origin['train_env_steps']:,} env steps of training" if "train_env_steps" in origin else "",
        f"training seed {origin['train_seed']}" if "train_seed" in origin else "",
        f"commit {commit[:10]}{', with local changes' if origin['git'].get('dirty') else ''}" if commit else "",
    ]
    return " · ".join(p for p in parts if p)


def _notes(evaluation: Evaluation) -> list[str]:
    notes = [str(n) for n in evaluation.world["notes"]]
    if evaluation.world["exhaustive"]:
        notes.append(
            "The family is so small that every split holds all of its tasks: what is held out here is the randomness "
            "of the episodes, not the tasks."
        )
    return notes


def _settings(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return every stored setting as (dotted name, value)."""
    parts = {
        "protocol": asdict(evaluation.protocol),
        "world": {k: v for k, v in evaluation.world.items() if k != "notes"},
        "agent": evaluation.agent,
        "provenance": evaluation.provenance,
        "evaluation": {
            "phases": evaluation.phases,
            "task_fingerprint": evaluation.task_fingerprint,
            "env_steps": evaluation.env_steps,
            "wall_s": round(evaluation.wall_s, 2),
            "schema_version": SCHEMA_VERSION,
        },
    }
    return [(k, v if isinstance(v, str) else json.dumps(v)) for k, v in _flat(plain(parts))]


def _flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [row for k, v in value.items() for row in _flat(v, f"{path}.{k}" if path else str(k))]
    return [(path, value)]


def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)


def main(argv: Sequence[str]) -> int:
    """Write one page about the given runs and return the exit code."""
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN", help="run directory with an evaluation")
    parser.add_argument("--split", help="which evaluation to show (default: test)")
    parser.add_argument("--output", type=Path, help="the page (default: results/report.html of the first run)")
    arguments: argparse.Namespace = parser.parse_args(list(argv))
    dirs: list[Path] = list(dict.fromkeys(p.resolve() for p in arguments.run_dirs))
    names = [d.name for d in dirs]
    labels = [d.name if names.count(d.name) == 1 else f"{d.parent.name}/{d.name}" for d in dirs]
    shown = [load_shown(d, arguments.split, label) for d, label in zip(dirs, labels, strict=True)]
    configs = [run.read_json(d, run.CONFIG) for d in dirs]
    default = dirs[0] / "results" / ("report.html" if len(dirs) == 1 else "comparison.html")
    target: Path = arguments.output or default
    try:
        write_report(shown, target, configs)
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error}; choose another --output") from error
    for one in shown:
        print(f"{one.label}: {headline(one)}")
    print(f"page     {target}")
    return 0
