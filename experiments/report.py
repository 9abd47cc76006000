"""One self-contained HTML page about evaluated runs; what compares them is handed in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from metarl import __version__, run
from metarl.checkpoint import replace_file
from metarl.commandline import command
from metarl.errors import CheckpointError
from metarl.results import SCHEMA_VERSION, Evaluation, plain

from .cli.safe_text import one_line
from .figures.plots import Shown, adaptation_figure, classes_figure, to_svg, training_figure
from .figures.shots import same_but_shots, shots_figure, shots_table
from .figures.text_tables import about_before, groups_table, interval, scores_table, tasks_table
from .runs.stored import read_evaluation, stored_splits, stored_variants

MANY_TASKS = 40
"""Longer per-task tables are folded."""
MANY_RUNS = 8
"""Of more runs than these only the comparison is shown."""


def find_evaluation(run_dir: Path, split: str | None = None, protocol: str | None = None) -> Path:
    """Return where an evaluation lies; without `split` of the test split, or the only one there is.

    `protocol` is what the evaluation changed of the run's own protocol, as in the file's name ("adapt20"); without it
    that of the run's own, or the only one there is. Raises: CheckpointError if there is none.
    """
    splits = stored_splits(run_dir)
    chosen = split if split is not None else ("test" if "test" in splits or len(splits) != 1 else splits[0])
    found = stored_variants(run_dir, chosen)
    end = "" if protocol is None else f"+{protocol.lstrip('+')}"
    if protocol is None and "" not in found and len(found) == 1:
        (end,) = found
    if end in found:
        return found[end]
    if not run_dir.is_dir():
        raise CheckpointError(f"there is no run directory {run_dir}; check the path (runs are in runs/ by default)")
    there = [f"{s}{e}" for s in splits for e in stored_variants(run_dir, s)]
    asked = "" if protocol is None else f" with protocol {protocol!r}"
    raise CheckpointError(
        f"{run_dir} has no evaluation of split {chosen!r}{asked} (it has: "
        f"{', '.join(there) or 'none'}); run `{command('evaluate', run_dir, '--split', chosen)}` first"
        f"{', or choose with --protocol' if found else ''}"
    )


def load_shown(run_dir: Path, split: str | None = None, label: str | None = None, protocol: str | None = None) -> Shown:
    """Read one run's evaluation, see `find_evaluation`, and its history.

    Raises: CheckpointError if there is none, or it is damaged.
    """
    evaluation = read_evaluation(find_evaluation(run_dir, split, protocol), run_dir)
    return Shown(label or one_line(run_dir.resolve().name), evaluation, run.history(run_dir))


def shots(shown: Sequence[tuple[Path, Shown]]) -> list[list[Shown]]:
    """Return, per run, those of its evaluations that differ in the number of adaptation episodes alone, if several."""
    found = []
    for folder, one in shown:
        paths = stored_variants(folder, one.evaluation.protocol.split).values()
        others = [replace(one, evaluation=read_evaluation(path, folder)) for path in paths]
        if len(alike := same_but_shots(one, others)) > 1:
            found.append(alike)
    return found


def write_report(
    shown: Sequence[Shown],
    target: Path,
    *,
    several: Sequence[Sequence[Shown]] = (),
    compared: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page about `shown` to `target`, with `compared` as what a comparison fills in.

    `several` are evaluations with different numbers of adaptation episodes, see `shots`.
    """
    page = _environment().get_template("report_template.html.j2").render(**page_values(shown, several, compared))
    replace_file(target, page.encode(errors="backslashreplace"))  # names of files need not be text
    return target


def page_values(
    shown: Sequence[Shown], several: Sequence[Sequence[Shown]] = (), compared: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what the template fills in."""
    each = shown if len(shown) <= MANY_RUNS else ()
    values: dict[str, Any] = {
        "title": shown[0].label if len(shown) == 1 else f"{len(shown)} runs",
        "version": __version__,
        "runs": [_section(s, alone=len(shown) == 1) for s in each],
        "shots": {"figure": _svg(shots_figure(several)), "table": shots_table(several)} if several else None,
    }
    if compared is not None:
        values["comparison"] = compared
    return values


def _svg(figure: Any) -> Markup | None:
    return None if figure is None else Markup(to_svg(figure))


def _section(shown: Shown, *, alone: bool) -> dict[str, Any]:
    """Return one run's part of the page."""
    evaluation, summary = shown.evaluation, shown.summary
    groups, upstream = evaluation.task_groups, summary.get("upstream_counting", {})
    return {
        "label": shown.label,
        "headline": headline(shown),
        "byline": byline(shown),
        "scores": scores_table(shown),
        "intervals": summary["intervals"]["text"],
        "before": about_before(shown),
        "upstream": upstream["text"] if upstream.get("success_rate") is not None else None,
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
    first = "in the first one, within which it adapts already" if shown.adapts_within_episode else "before any"
    return (
        f"{what} {after} after {n} adaptation episode{'s' * (n != 1)}, {before} {first}, on "
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
            "The task distribution is so small that every split holds all of its tasks: held out here is the "
            "randomness of the episodes, not the tasks."
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
    loader = jinja2.FileSystemLoader([Path(__file__).parent / wing for wing in ("figures", "comparison")])
    found = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    found.policies["json.dumps_kwargs"] = {"sort_keys": False}  # success before return, as in the tables
    return found
