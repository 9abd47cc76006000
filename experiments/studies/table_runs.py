"""One run of the table: trained, evaluated and boiled down to a small JSON file; or read back, if that was done before.

The file holds what the table needs and where it came from: the row's settings, the score of every task before and after
adaptation, known values of other policies, costs, and the commit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.agent import adapts_within_episode
from metarl.agents.memory.memories import Memory
from metarl.errors import CheckpointError, ConfigError
from metarl.experiments import codec
from metarl.experiments.build import build_agent, build_tasks
from metarl.experiments.cli.outputs import write_json
from metarl.experiments.presets import load_preset
from metarl.experiments.runs.stored import read_evaluation
from metarl.provenance import provenance
from metarl.reading import read_object
from metarl.results import Evaluation, plain

from .harness import carry_out, run_command
from .table_rows import Measure, Row

SCHEMA_VERSION = 2
_CALLER = "study table"
Array = NDArray[np.float64]


def result_path(into: Path, row: Row, seed: int) -> Path:
    """Return where the result of a row and training seed lies."""
    return into / "runs" / f"{row.name}-seed{seed}.json"


def settings(row: Row) -> dict[str, Any]:
    """Return what decides a run's numbers; the world's heading, the label and the published value do not."""
    return {k: v for k, v in plain(asdict(row)).items() if k not in ("world", "agent", "published")}


def preset_of(row: Row) -> dict[str, Any] | None:
    """Return the row's preset as JSON values, as far as it decides a run's numbers; None for a baseline."""
    return _deciding(codec.to_json(load_preset(row.preset))) if row.preset else None


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's JSON values without how it logs and without the settings of memories that it does not use."""
    agent = dict(config["agent"])
    unused = set(get_args(Memory)) - {agent.get("memory")} if "memory" in agent else set()
    return {k: v for k, v in config.items() if k != "log"} | {
        "agent": {k: v for k, v in agent.items() if k not in unused}
    }


def learns_within_episode(row: Row) -> bool:
    """Return whether the row's agent adapts while an episode goes on; a baseline learns on whole rollouts before."""
    if not row.preset:
        return False
    config = load_preset(row.preset)
    return adapts_within_episode(build_agent(config, build_tasks(config), torch.device("cpu")))


def same_preset(stored: Mapping[str, Any] | None, row: Row) -> bool:
    """Return whether `stored`, once written by `preset_of`, still is the row's preset.

    A setting that did not exist then counts as its default; one that no longer exists makes another preset.
    """
    if stored is None or not row.preset:
        return stored is None and not row.preset
    now = preset_of(row)
    assert now is not None  # the row has a preset
    try:
        return codec.from_json(_deciding(stored)) == codec.from_json(now)
    except (ConfigError, CheckpointError, KeyError, TypeError):
        return False


def read_result(into: Path, row: Row, seed: int) -> dict[str, Any] | None:
    """Return the stored result, or None if there is none or it was made with other settings of the row or its preset.

    Raises: CheckpointError if the file is damaged or of another schema version.
    """
    path = result_path(into, row, seed)
    if not path.exists():
        return None
    try:
        stored = read_object(path, remedy="delete it to run it again")
        if stored["schema_version"] != SCHEMA_VERSION:
            raise CheckpointError(f"{path} has schema version {stored['schema_version']!r}; delete it to run it again")
        valid = stored["settings"] == settings(row) and same_preset(stored["preset_config"], row)
        return dict(stored) if valid else None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}); delete it to run it again"
        ) from error


def run_row(row: Row, seed: int, runs: Path, into: Path) -> dict[str, Any]:
    """Carry out one run, write its result and return it. A run that was stopped goes on where it stopped.

    Raises: ConfigError if one of its commands fails.
    """
    began = provenance()
    return write_result(
        into, row, seed, _baseline(row, seed, runs) if row.baseline else _meta_run(row, seed, runs), began
    )


def write_result(
    into: Path, row: Row, seed: int, result: Mapping[str, Any], came_from: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the result of a row and seed, with what it was made with, and return it; `came_from` is its provenance."""
    full = {
        "kind": "metarl.table-run",
        "schema_version": SCHEMA_VERSION,
        "row": row.name,
        "settings": settings(row),
        "preset_config": preset_of(row),
        "seed": seed,
        "provenance": came_from,
        **result,
    }
    path = result_path(into, row, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, full, indent=None)
    return full


def _meta_run(row: Row, seed: int, runs: Path) -> dict[str, Any]:
    folder = _place(runs, row, seed)
    carried = carry_out(row, seed, folder, caller=_CALLER, train=("--wandb", "disabled"))
    evaluation = read_evaluation(carried.evaluation, folder)
    first, scored = slice(0, evaluation.pre_episodes), evaluation.query
    if row.measure == "trial":
        scored = slice(0, evaluation.protocol.n_episodes)
    return {
        **_found(row, evaluation, evaluation, first, scored),
        "train_env_steps": carried.records[-1]["env_steps"],
        "adapt_episodes": evaluation.protocol.adapt_episodes,
        "costs": list(carried.costs.values()),
        "resumed": carried.resumed,
    }


def _found(row: Row, before: Evaluation, after: Evaluation, first: slice, scored: slice) -> dict[str, Any]:
    """Return scores of the episodes `first` before adaptation and those `scored` after it, and what was played."""
    return {
        "before": _per_task(before, first, "episode" if before is after else row.measure),
        "after": _per_task(after, scored, row.measure),
        "references": _references(after, scored, row.measure),
        "task_groups": after.task_groups,
        "task_fingerprint": after.task_fingerprint,
        "protocol": asdict(after.protocol),
    }


def _place(runs: Path, row: Row, seed: int) -> Path:
    """Return where a run works; with other settings or another preset it works elsewhere, not on in the old run."""
    preset = _deciding(codec.first_spelling(load_preset(row.preset))) if row.preset else None
    decides = json.dumps([settings(row), preset], sort_keys=True)
    digest = hashlib.sha256(decides.encode()).hexdigest()[:8]
    return runs / f"{row.name}-{digest}-seed{seed}"


def _baseline(row: Row, seed: int, runs: Path) -> dict[str, Any]:
    runs.mkdir(parents=True, exist_ok=True)
    target = _place(runs, row, seed).with_suffix(".json")
    words = ["baseline", *row.baseline, "--seed", str(seed), "--into", str(target)]
    cost = run_command(words, caller=_CALLER)
    stored = read_object(target)
    before, after = (Evaluation.from_json(stored[k]) for k in ("before", "after"))
    everything = slice(0, after.protocol.eval_episodes)
    return {
        **_found(row, before, after, everything, everything),
        "train_env_steps": 0,  # no training tasks: what it learns from is each scored task itself
        "steps_per_task": stored["train_env_steps"][0],
        "adapt_episodes": 0,
        "costs": [cost],
    }


def _per_task(evaluation: Evaluation, columns: slice, measure: Measure) -> list[float]:
    """Return each task's score, averaged over evaluation seeds: a mean over `columns`, or their sum."""
    returns: Array = evaluation.trials.returns[..., columns]
    totals = returns.sum(-1) if measure == "trial" else returns.mean(-1)
    return [float(x) for x in totals.mean(0)]


def _references(evaluation: Evaluation, columns: slice, measure: Measure) -> dict[str, float]:
    """Return known policies' scores in the same measure, the uniform policy's measured one if none is computed."""
    known = {k: np.asarray(v, dtype=float)[columns] for k, v in evaluation.references.items()}
    out = {k: float(v.sum() if measure == "trial" else v.mean()) for k, v in known.items() if v.size}
    if evaluation.random_policy is not None:
        per_episode = float(evaluation.random_policy.returns.mean())
        n = columns.stop - columns.start
        out.setdefault("random", per_episode * n if measure == "trial" else per_episode)
    return out


def costs_of(result: Mapping[str, Any]) -> tuple[float, float]:
    """Return wall-clock and CPU seconds of a run (of its last part, if it was resumed), evaluation included."""
    return sum(c["wall_s"] for c in result["costs"]), sum(c["cpu_s"] for c in result["costs"])
