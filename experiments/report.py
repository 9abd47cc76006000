"""`metarl report RUN [RUN ...]`: one self-contained HTML page about evaluated runs."""

from __future__ import annotations

import argparse
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
from metarl.errors import CheckpointError, ConfigError
from metarl.results import SCHEMA_VERSION, Evaluation, plain
from metarl.summary import runs_text

from .build import stored_config
from .cli.parser import Parser
from .cli.safe_text import note, one_line
from .figures.plots import Shown, adaptation_figure, classes_figure, to_svg, training_figure
from .figures.shots import same_but_shots, shots_figure, shots_table
from .figures.text_tables import about_before, groups_table, interval, scores_table, tasks_table, text_table
from .runs.comparison import improvement_table, methods, methods_table, warnings
from .runs.stored import FOLDER, page_path, read_evaluation, stored_splits, stored_variants

PROG = command("report")
MANY_TASKS = 40
"""Longer per-task tables are folded."""


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
    configs: Sequence[Mapping[str, Any]] | None = None,
    several: Sequence[Sequence[Shown]] = (),
) -> Path:
    """Write the page about `shown` to `target`; `configs` (config.json of each run) make it a comparison.

    `several` are evaluations with different numbers of adaptation episodes, see `shots`.
    """
    page = _environment().get_template("report_template.html.j2").render(**page_values(shown, configs, several))
    replace_file(target, page.encode(errors="backslashreplace"))  # names of files need not be text
    return target


def page_values(
    shown: Sequence[Shown], configs: Sequence[Mapping[str, Any]] | None = None, several: Sequence[Sequence[Shown]] = ()
) -> dict[str, Any]:
    """Return what the template fills in."""
    values: dict[str, Any] = {
        "title": shown[0].label if len(shown) == 1 else f"{len(shown)} runs",
        "version": __version__,
        "runs": [_section(s, alone=len(shown) == 1) for s in shown],
        "shots": {"figure": _svg(shots_figure(several)), "table": shots_table(several)} if several else None,
    }
    if len(shown) > 1:
        found = methods(shown, configs or [{"run": s.label} for s in shown])
        values["comparison"] = {
            "table": methods_table(found),
            "improvement": improvement_table(found),
            "warnings": warnings(found),
            "intervals": runs_text(),
            "adaptation": _svg(adaptation_figure(shown)),
            "training": _svg(training_figure(shown)),
        }
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
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "figures")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)


def main(argv: Sequence[str]) -> int:
    """Write one page about the given runs and return the exit code."""
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN", help="run directory with an evaluation")
    parser.add_argument("--split", help="which evaluation to show (default: test)")
    parser.add_argument(
        "--protocol", metavar="NAME", help="an evaluation of another protocol, as its file is named: adapt20+greedy"
    )
    parser.add_argument("--output", type=Path, help="the page (default: results/report.html of the first run)")
    arguments: argparse.Namespace = parser.parse_args(list(argv))
    dirs: list[Path] = list(dict.fromkeys(p.resolve() for p in arguments.run_dirs))
    names = [d.name for d in dirs]
    labels = [one_line(d.name if names.count(d.name) == 1 else f"{d.parent.name}/{d.name}") for d in dirs]
    paths = [find_evaluation(d, arguments.split, arguments.protocol) for d in dirs]
    shown = [
        Shown(label, read_evaluation(path, d), run.history(d))
        for d, label, path in zip(dirs, labels, paths, strict=True)
    ]
    configs = [stored_config(d) for d in dirs]
    own = configs[0]["evaluation"]["split"]
    default = page_path(paths[0], own) if len(dirs) == 1 else dirs[0] / FOLDER / "comparison.html"
    # Told as the folder was: not whole where it was not.
    target: Path = arguments.output or arguments.run_dirs[0] / default.relative_to(dirs[0])
    try:
        write_report(shown, target, configs, shots(list(zip(dirs, shown, strict=True))))
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error}; choose another --output") from error
    for one in shown:
        print(one_line(f"{one.label}: {headline(one)}"))
    if len(shown) > 1:
        found = methods(shown, configs)
        print(text_table(*methods_table(found)))
        note(f"brackets are {runs_text()}")
        for warning in warnings(found):
            note(warning)
    print(f"page     {one_line(target)}")
    return 0
