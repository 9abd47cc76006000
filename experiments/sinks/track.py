"""`metarl track RUN_DIR [FILE ...]`: hand a run's evaluations, pictures, films and pages to Weights & Biases."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from metarl import run
from metarl.commandline import command
from metarl.errors import CheckpointError, ConfigError
from metarl.experiments import codec
from metarl.experiments.build import read_config
from metarl.experiments.cli.parser import Parser
from metarl.experiments.cli.safe_text import note, one_line
from metarl.experiments.cli.trust import add_trust
from metarl.experiments.config import LogConfig
from metarl.experiments.runs.stored import page_path, picture_path, read_evaluation, stored_splits, stored_variants
from metarl.results import Evaluation
from metarl.summary import summarise

from . import check
from .evaluations import check_media, track_evaluation, track_files


def main(argv: Sequence[str]) -> int:
    """Write what is stored of a run into W&B and return the exit code."""
    parser = Parser(prog=command("track"), description=__doc__, allow_abbrev=False)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="run directory that `train` wrote")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="png, gif, mp4, webm or html, as media")
    parser.add_argument("--wandb", choices=("online", "offline"), help="default: as the run, offline if it has none")
    add_trust(parser)
    arguments = parser.parse_intermixed_args(list(argv))
    config = read_config(arguments.run_dir, arguments.trust)
    mode: Literal["online", "offline"] = arguments.wandb or ("online" if config.log.wandb == "online" else "offline")
    settings = dataclasses.replace(config.log, wandb=mode)
    check(settings)
    check_media(arguments.files)
    stored, run_id = codec.to_json(config), str(run.read_json(arguments.run_dir, run.FACTS)["run_id"])
    splits = stored_splits(arguments.run_dir)
    found = [path for split in splits for path in stored_variants(arguments.run_dir, split).values()]
    if not found and not arguments.files:
        raise CheckpointError(
            f"{arguments.run_dir} has no evaluation, and no files are named; run "
            f"`{command('evaluate', arguments.run_dir)}` first"
        )
    for path in found:
        evaluation = read_evaluation(path, arguments.run_dir)
        _track(settings, arguments.run_dir, stored, path, evaluation, summarise(evaluation))
        print(f"tracked  {one_line(path)}")
    if arguments.files:
        track_files(settings, arguments.run_dir, stored, run_id, arguments.files)
        print(f"tracked  {len(arguments.files)} files")
    if mode == "offline":
        print(f"next: wandb sync {one_line(arguments.run_dir / 'wandb')}/offline-run-*")
    return 0


def _track(
    log: LogConfig,
    run_dir: Path,
    config: dict[str, Any],
    path: Path,
    evaluation: Evaluation,
    summary: Mapping[str, Any],
) -> None:
    """Track the evaluation that is stored at `path`, with the picture and the page beside it that are there."""
    beside = [p for p in (picture_path(path), page_path(path, config["evaluation"]["split"])) if p.is_file()]
    run_id, what = str(run.read_json(run_dir, run.FACTS)["run_id"]), path.stem.removeprefix("evaluation-")
    track_evaluation(log, run_dir, config, run_id, what, evaluation, summary, beside)


def after_evaluation(
    log: LogConfig,
    run_dir: Path,
    config: dict[str, Any],
    path: Path,
    evaluation: Evaluation,
    summary: Mapping[str, Any],
) -> None:
    """Track an evaluation that was just written, where the run is tracked; what W&B says is told, not raised."""
    if log.wandb == "disabled":
        return
    try:
        check(log)
        _track(log, run_dir, config, path, evaluation, summary)
    except (ConfigError, OSError) as error:
        note(f"W&B has no run of this evaluation: {one_line(error)}; `{command('track', run_dir)}` tries again")
