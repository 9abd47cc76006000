"""An evaluation as a run of its own in Weights & Biases, linked to the training it scores."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.errors import ConfigError
from metarl.results import Evaluation, plain

from .weights_and_biases import begin, places

if TYPE_CHECKING:
    from metarl.experiments.config import LogConfig

MEDIA = {".png": "Image", ".gif": "Video", ".mp4": "Video", ".webm": "Video", ".html": "Html"}
"""What is handed over as which kind of media."""
_PARTS = {"pre": "before", "query": "after", "gain": "gain"}


def evaluation_id(run_id: str, what: str) -> str:
    """Return the id of the W&B run of an evaluation; `what` is the split and what it changed of the protocol."""
    return f"{run_id}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"


def track_evaluation(
    settings: LogConfig,
    run_dir: Path,
    config: Mapping[str, Any],
    run_id: str,
    what: str,
    evaluation: Evaluation,
    summary: Mapping[str, Any],
    files: Sequence[Path],
) -> None:
    """Write scores, tables per task and class, the adaptation curve and `files` into a W&B run of job type `evaluate`.

    `config` is the run's config.json and `summary` what `metarl.summary.summarise` says. An earlier evaluation under
    the same name that still lies offline is replaced, as its JSON file is. Raises: ConfigError if W&B fails.
    """
    about = {
        **config, "train_run": run_id, "checkpoint": evaluation.agent.get("checkpoint"),
        "iteration": evaluation.agent.get("iteration"), "evaluation": plain(_settings(evaluation)),
    }  # fmt: skip
    name = f"{config.get('name', run_id)}: {what}"
    with _run(settings, run_dir, about, evaluation_id(run_id, what), name, "evaluate") as run:
        import wandb

        for part, word in _PARTS.items():
            for metric, found in summary[part].items():
                for end in ("value", "low", "high"):
                    value = float(found["mean"][end])
                    if np.isfinite(value):
                        suffix = "" if end == "value" else f"_{end}"
                        run.summary[f"evaluation/{metric}_{word}{suffix}"] = value
        curve = _curve(summary)
        logged: dict[str, Any] = {
            "tasks": _table(wandb, _tasks(evaluation, summary)),
            "classes": _table(wandb, _classes(summary)),
            "adaptation": _table(wandb, curve),
        }
        for metric in summary["curve"]:
            title = f"{metric.replace('_', ' ')} per episode on a new task"
            logged[f"adaptation_{metric}"] = wandb.plot.line(logged["adaptation"], "episode", metric, title=title)
        run.log({**logged, **_media(wandb, files)})


def track_files(
    settings: LogConfig, run_dir: Path, config: Mapping[str, Any], run_id: str, files: Sequence[Path]
) -> None:
    """Hand pictures, films and pages to a W&B run of job type `media`; raises ConfigError if W&B fails."""
    about = {**config, "train_run": run_id}
    with _run(settings, run_dir, about, f"{run_id}-media", f"{config.get('name', run_id)}: media", "media") as run:
        import wandb

        run.log(_media(wandb, files))


def check_media(files: Sequence[Path]) -> None:
    """Raise ConfigError for a file that is not there or of no kind that W&B shows, or two of one name."""
    for path in files:
        if not path.is_file():
            raise ConfigError(f"there is no file {path}; name pictures, films or pages")
        if path.suffix.lower() not in MEDIA:
            raise ConfigError(f"{path} is of no kind that W&B shows; name files that end in {', '.join(MEDIA)}")
    names = [path.name for path in files]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ConfigError(f"two files are called {twice}, and one would hide the other; rename one")


@contextlib.contextmanager
def _run(
    settings: LogConfig, run_dir: Path, about: Mapping[str, Any], run_id: str, name: str, job_type: str
) -> Iterator[Any]:
    folder = run_dir.absolute()
    if settings.wandb == "offline":
        for old in (folder / "wandb").glob(f"offline-run-*-{run_id}"):
            shutil.rmtree(old)
    with places(settings.wandb, folder):
        run = begin(settings, folder, about, run_id, name, job_type)
        code = 1
        try:
            yield run
            code = 0
        finally:
            run.finish(exit_code=code)


def _settings(evaluation: Evaluation) -> dict[str, Any]:
    played = {"task_fingerprint": evaluation.task_fingerprint, "env_steps": evaluation.env_steps}
    return asdict(evaluation.protocol) | played


def _tasks(evaluation: Evaluation, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row per task: its class, and each metric before and after adaptation and the gain."""
    rows = []
    for i, (name, group) in enumerate(zip(evaluation.task_names, evaluation.task_groups, strict=True)):
        row: dict[str, Any] = {"task": name, "class": group}
        for metric in summary["tasks"]["query"]:
            before, after = (float(summary["tasks"][part][metric]["value"][i]) for part in ("pre", "query"))
            row |= {f"{metric}_before": before, f"{metric}_after": after, f"{metric}_gain": after - before}
        rows.append(row)
    return rows


def _classes(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row per class of tasks: how many there are, and each metric's mean and interval before and after."""
    rows = []
    for name, group in summary["groups"].items():
        row: dict[str, Any] = {"class": name, "tasks": group["n_tasks"]}
        for metric in group["query"]:
            for part in ("pre", "query"):
                for end, found in group[part][metric]["mean"].items():
                    suffix = "" if end == "value" else f"_{end}"
                    row[f"{metric}_{_PARTS[part]}{suffix}"] = float(found)
        rows.append(row)
    return rows


def _curve(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row per episode of a trial: each metric's mean and interval."""
    columns: dict[str, Any] = {}
    for metric, found in summary["curve"].items():
        for end, values in found["mean"].items():
            columns[metric if end == "value" else f"{metric}_{end}"] = np.asarray(values, dtype=float)
    n_episodes = len(next(iter(columns.values())))
    return [{"episode": i + 1, **{k: float(v[i]) for k, v in columns.items()}} for i in range(n_episodes)]


def _table(wandb: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a W&B table; what could not be computed is an empty cell."""
    names = list(rows[0])
    cells: Callable[[Any], Any] = lambda x: None if isinstance(x, float) and not np.isfinite(x) else x  # noqa: E731
    return wandb.Table(columns=names, data=[[cells(row[name]) for name in names] for row in rows])


def _media(wandb: Any, files: Sequence[Path]) -> dict[str, Any]:
    found = {}
    for path in files:
        kind = MEDIA[path.suffix.lower()]
        key = f"media/{path.name}"
        if kind == "Html":
            found[key] = wandb.Html(path.read_text(errors="replace"), inject=False)
        elif kind == "Video":
            found[key] = wandb.Video(str(path), format=path.suffix[1:].lower())
        else:
            found[key] = wandb.Image(str(path))
    return found
