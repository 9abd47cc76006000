"""Several runs side by side: runs that differ only in their training seed are one entry, with intervals over runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.experiments.figures.plots import Shown
from metarl.experiments.figures.text_tables import COMPARABLE
from metarl.summary import over_runs

_NOT_THE_METHOD = ("seed", "log", "device", "threads", "evaluation", "schema_version")
"""Parts of a config that may differ between runs of one method."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """Runs of equal settings, apart from the training seed."""

    label: str
    runs: tuple[Shown, ...]

    @property
    def train_env_steps(self) -> float | None:
        """Env steps of training, mean over runs; None if it is not known of all."""
        steps = [r.evaluation.provenance.get("train_env_steps") for r in self.runs]
        return None if None in steps else float(np.mean([s for s in steps if s is not None]))

    def scores(self, metric: str) -> Array:
        """Return [R, N]: each run's score per task, averaged over evaluation seeds and scored episodes."""
        columns = [r.evaluation.trials.metrics()[metric][..., r.evaluation.query] for r in self.runs]
        return np.stack([c.mean(axis=(0, -1)) for c in columns])

    def estimate(self, metric: str, part: str = "query") -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the means over runs of each run's mean and IQM, with intervals over runs; none for one run."""
        kinds = ("mean", "iqm")
        mean, iqm = (
            over_runs(np.array([float(r.summary[part][metric][kind]["value"]) for r in self.runs]), metric)
            for kind in kinds
        )
        return mean, iqm


def methods(
    shown: Sequence[Shown], configs: Sequence[Mapping[str, Any]], names: Sequence[str | None] = ()
) -> list[Method]:
    """Group runs by config and by what was evaluated, in the order they first appear.

    Runs that have one of `names` are grouped, and called, by it instead of by their config.
    """
    found: dict[str, list[Shown]] = {}
    called: dict[str, str] = {}
    for run, config, name in zip(shown, configs, names or [None] * len(shown), strict=True):
        kept = {k: v for k, v in config.items() if k not in _NOT_THE_METHOD}
        key = json.dumps([kept if name is None else name, _what(run)], sort_keys=True, default=str)
        found.setdefault(key, []).append(run)
        if name is not None:
            called[key] = name
    for name in set(called.values()):
        keys = [key for key, other in called.items() if other == name]
        if len(keys) > 1:  # evaluated in several ways
            called |= {key: f"{name} ({found[key][0].label} …)" for key in keys}
    return [Method(called.get(key) or _label(runs), tuple(runs)) for key, runs in found.items()]


def _label(runs: Sequence[Shown]) -> str:
    return runs[0].label if len(runs) == 1 else f"{runs[0].label} and {len(runs) - 1} more"


def settings_of(config: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Return what of a config makes the method, as dotted names and values in one line."""
    found: dict[str, str] = {}
    for key, value in config.items():
        name = f"{path}.{key}" if path else str(key)
        if not path and key in _NOT_THE_METHOD:
            continue
        if isinstance(value, Mapping) and value:
            found |= settings_of(value, name)
        else:
            found[name] = value if isinstance(value, str) else json.dumps(value, default=str)
    return found


def _what(run: Shown) -> list[Any]:
    """Return what makes two evaluations comparable: the tasks and the number of episodes."""
    protocol = run.evaluation.protocol
    return [run.evaluation.task_fingerprint, protocol.adapt_episodes, protocol.eval_episodes]


def comparable(shown: Sequence[Shown]) -> str:
    """Return "" if all runs were scored on the same tasks with the same protocol, else what differs."""
    if len({r.evaluation.task_fingerprint for r in shown}) > 1:
        return "The runs were scored on different tasks, so their scores cannot be compared directly."
    if len({str(_what(r)) for r in shown}) > 1:
        return "The runs had different numbers of adaptation or scored episodes."
    return ""


ALIKE = 1.05
"""Training budgets whose ratio is smaller count as equal: episodes may differ in length."""
_MOST_NAMED = 5
"""Of more different budgets the least and the most are named."""


def unequal(budgets: Sequence[tuple[str, float | None]], what: str, unit: str, tolerance: float = 1.0) -> str:
    """Return "" if all known budgets are equal up to a ratio of `tolerance`, else a warning that names them."""
    known = [(name, value) for name, value in budgets if value is not None]
    values = [value for _, value in known]
    if not known or max(values) <= tolerance * min(values):
        return ""
    by_value: dict[float, list[str]] = {}
    for name, value in sorted(known, key=lambda x: x[1]):
        by_value.setdefault(value, []).append(name)
    parts = [f"{', '.join(dict.fromkeys(names))}: {value:,.0f}" for value, names in by_value.items()]
    parts = parts if len(parts) <= _MOST_NAMED else [parts[0], "…", parts[-1]]
    return f"Unequal {what} side by side, in {unit}: {'; '.join(parts)}."


def warnings(compared: Sequence[Method]) -> list[str]:
    """Return what a reader must know before comparing scores: other tasks, unequal budgets, other kinds of agents.

    Seeds of one method may differ in env steps, where episodes differ in length, but not in iterations.
    """
    shown = [r for method in compared for r in method.runs]
    protocols = [(r.label, r.evaluation.protocol) for r in shown]
    iterations = [
        unequal([(r.label, r.evaluation.agent.get("iteration")) for r in method.runs], "training", "iterations")
        for method in compared
    ]
    found = [
        comparable(shown),
        unequal([(m.label, m.train_env_steps) for m in compared], "training", "env steps", ALIKE),
        *iterations,
        unequal([(n, p.adapt_episodes) for n, p in protocols], "adaptation", "episodes per task"),
        unequal([(n, p.eval_episodes) for n, p in protocols], "scoring", "episodes per task"),
    ]
    if len({p.greedy for _, p in protocols}) > 1:
        modes = ", ".join(f"{n} {'take the mode' if p.greedy else 'sample'}" for n, p in protocols)
        found.append(f"Scored episodes choose their actions differently: {modes}.")
    found += _other_origins(compared, shown)
    if len({r.adapts_within_episode for r in shown}) > 1:
        names = ", ".join(r.label for r in shown if r.adapts_within_episode)
        found.append(f"While an episode goes on adapt only: {names}. {COMPARABLE[0].upper()}{COMPARABLE[1:]}.")
    return [text for text in found if text]


def _other_origins(compared: Sequence[Method], shown: Sequence[Shown]) -> list[str]:
    """Return what is said where methods have other numbers of seeds, or runs come from other code."""
    found = [
        unequal([(m.label, len(m.runs)) for m in compared], "numbers of training seeds", "runs"),
        unequal([(r.label, r.evaluation.protocol.n_seeds) for r in shown], "scoring", "evaluation seeds"),
    ]
    codes: dict[str, list[str]] = {}
    for r in shown:
        git = r.evaluation.provenance.get("git") or {}
        if git.get("commit"):
            code = f"{git['commit'][:10]}{' with local changes' if git.get('dirty') else ''}"
            codes.setdefault(code, []).append(r.label)
    if len(codes) > 1:
        parts = [f"{', '.join(names)}: {code}" for code, names in list(codes.items())[:_MOST_NAMED]]
        found.append(f"The runs were evaluated by different code: {'; '.join(parts)}.")
    return found
