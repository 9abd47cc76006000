"""The numbers of an evaluation: means and interquartile means with intervals; overall, per class, task and episode.

Every evaluation comes with a statement of what its intervals are over. Nothing here is random: two readings of the same
file give the same digits.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import statistics
from .results import Evaluation
from .statistics import LEVEL
from .upstream_counting import upstream_counting

Array = NDArray[np.float64]

NOT_COMPUTED = "[–]: no interval, because there is one score only, or all are alike, which says nothing of their spread"
"""Why an interval may be missing, for captions; in JSON its ends are null."""


def bounds(metric: str, *, difference: bool = False) -> tuple[float, float]:
    """Return what a mean of `metric` cannot leave: a success rate lies between 0 and 1."""
    return (-1.0 * difference, 1.0) if metric.startswith("success") else (-np.inf, np.inf)


def over_runs(scores: Array, metric: str = "return", *, difference: bool = False) -> dict[str, float | None]:
    """Return the mean of one score per training run [R] and its interval over runs; no interval where there is none.

    The one way in which anything here speaks over training seeds, the run being what was drawn: Student's t, and of
    what lies between two bounds, as success does, `statistics.rates_over_runs`.
    """
    found = run_interval(np.asarray(scores, dtype=np.float64), metric, difference=difference)
    return {k: float(v) if np.isfinite(v) else None for k, v in found._asdict().items()}


def run_interval(scores: Array, metric: str = "return", *, difference: bool = False) -> statistics.Interval:
    """Return the mean over training runs [..., R], and its interval over them; NaN where there is none."""
    limits = bounds(metric, difference=difference)
    if metric.startswith("success"):
        return statistics.rates_over_runs(scores, bounds=limits)
    return statistics.over_runs(scores, bounds=limits)


def runs_text(level: float = LEVEL) -> str:
    """Return the caption of intervals over training runs."""
    return (
        f"{level:.0%} intervals (Student's t) over training seeds, one score per run: its mean over tasks, or its IQM "
        f"over (task, seed) scores; of success rates the wider of Student's and Wilson's. {NOT_COMPUTED}"
    )


class Intervals:
    """Intervals of one evaluation, all made in the same stated way."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.groups = np.asarray(evaluation.task_groups)
        self.over: Literal["seeds", "tasks"] = "seeds" if evaluation.protocol.n_seeds > 1 else "tasks"
        self.n_seeds, self.n_tasks = evaluation.protocol.n_seeds, len(self.groups)
        sizes = np.unique(self.groups, return_counts=True)[1]
        # A class of one task has no spread within itself.
        self.within_class = bool(len(sizes) > 1 and sizes.min() > 1)

    def describe(self) -> dict[str, Any]:
        """Return what the intervals are over, in fields and in a sentence."""
        how = f"{LEVEL:.0%} intervals (Student's t)"
        if self.over == "seeds":
            strata = "task"
            text = (
                f"{how} over the {self.n_seeds} evaluation seeds of each of these {self.n_tasks} tasks: what playing "
                f"the same tasks again would give; other tasks and other training seeds are not covered"
            )
        elif self.n_tasks == 1:
            strata, text = "none", "no intervals: one task was played with one evaluation seed"
        else:
            strata = "class" if self.within_class else "none"
            text = (
                f"{how} over the {self.n_tasks} tasks{' within their classes' if self.within_class else ''}, played "
                f"with one evaluation seed: what other tasks of the kind give; other training seeds are not covered"
            )
        return {
            "over": self.over,
            "n_seeds": self.n_seeds,
            "n_tasks": self.n_tasks,
            "stratified_by": strata,
            "level": LEVEL,
            "text": f"{text}. {NOT_COMPUTED}",
        }

    def estimate(
        self, scores: Array, metric: str, members: NDArray[np.bool_] | None = None, *, difference: bool = False
    ) -> dict[str, Any]:
        """Return mean and IQM of scores [..., S, N], each with its interval; `members` restricts the tasks.

        The mean gives every class the same weight; the IQM takes all (seed, task) scores alike.
        """
        groups = self.groups
        if members is not None:
            scores, groups = scores[..., members], groups[members]
        limits = bounds(metric, difference=difference)
        strata = list(groups) if self.within_class else None
        weights = statistics.class_weights(list(groups))
        return {
            "mean": statistics.student(scores, over=self.over, strata=strata, weights=weights, bounds=limits)._asdict(),
            "iqm": statistics.student(scores, "iqm", over=self.over, strata=strata, bounds=limits)._asdict(),
        }

    def per_task(self, scores: Array, metric: str) -> dict[str, Any]:
        """Return the mean of each task over seeds [N], with intervals if there is more than one seed."""
        return statistics.student(scores.T[:, :, None], bounds=bounds(metric))._asdict()


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """Return the numbers of `evaluation` as nested dicts of floats and arrays.

    `pre` is before any adaptation (of an agent that adapts within an episode: its first episode, see
    `adapts_within_episode`), `query` after A episodes, `gain` their difference task by task and seed by seed.
    `without_adaptation` is the same agent with every scored episode a trial of its own: no earlier episode of the task
    was seen, which is one thing for all kinds of agents, and so is `gain_from_episodes`, what `query` is beyond it.
    """
    how = Intervals(evaluation)
    pre, query = slice(0, evaluation.pre_episodes), evaluation.query
    trials, alone = evaluation.trials.metrics(), evaluation.without_adaptation.metrics()
    out: dict[str, Any] = {
        "intervals": how.describe(),
        "adapts_within_episode": evaluation.adapts_within_episode,
        "pre": _scores(how, trials, pre),
        "query": _scores(how, trials, query),
        "gain": _gain(how, trials, query, trials, pre),
        "without_adaptation": _scores(how, alone, slice(None)),
        "gain_from_episodes": _gain(how, trials, query, alone, slice(None)),
        "references": {k: float(np.mean(v[query])) for k, v in evaluation.references.items()},
        "curve": {k: how.estimate(np.moveaxis(v, -1, 0), k) for k, v in trials.items()},
        "phases": _phases(evaluation, how, trials),
        "groups": _groups(evaluation, how, trials),
        "tasks": _tasks(evaluation, how, trials),
    }
    if evaluation.random_policy is not None:
        out["random_policy"] = _scores(how, evaluation.random_policy.metrics(), slice(None))
    if evaluation.counts_upstream:
        out["upstream_counting"] = _upstream_counting(evaluation)
    return out


def _gain(
    how: Intervals, after: dict[str, Array], scored: slice, before: dict[str, Array], first: slice
) -> dict[str, Any]:
    """Return each metric's estimate of what `after` has beyond `before`, task by task and seed by seed."""
    return {
        k: how.estimate(v[..., scored].mean(-1) - before[k][..., first].mean(-1), k, difference=True)
        for k, v in after.items()
    }


def _upstream_counting(evaluation: Evaluation) -> dict[str, Any]:
    """Return the success rate as Meta-World 3.1.1 counts it, mean over seeds, with all goals of a class side by side.

    It needs three scored episodes per goal; with fewer the rate is None and `text` says so.
    """
    first, length = evaluation.trials.first_success, evaluation.trials.length
    assert first is not None  # the caller looked
    needed = 3
    if evaluation.protocol.eval_episodes < needed:
        return {"success_rate": None, "text": f"upstream-counting needs eval_episodes >= {needed}"}
    query = evaluation.query
    counts = [
        upstream_counting(evaluation.task_groups, f[:, query], n[:, query], episodes_per_group=needed)
        for f, n in zip(first, length, strict=True)
    ]
    return {
        "success_rate": float(np.mean([c.success_rate for c in counts])),
        "text": (
            f"upstream-counting: the first {needed} episodes to finish per class, all its goals side by side, each cut "
            f"at its first success, as in Meta-World 3.1.1; counts solved goals more often than others"
        ),
    }


def _scores(how: Intervals, metrics: dict[str, Array], columns: slice) -> dict[str, Any]:
    """Return each metric's estimate, averaged over the episodes in `columns`."""
    return {k: how.estimate(v[..., columns].mean(-1), k) for k, v in metrics.items()}


def _phases(evaluation: Evaluation, how: Intervals, metrics: dict[str, Array]) -> list[dict[str, Any]]:
    """Return one row per phase: its episodes [start, stop) and their scores."""
    rows, start = [], 0
    for n_episodes in evaluation.phases:
        columns = slice(start, start + n_episodes)
        rows.append({"start": start, "stop": columns.stop, **_scores(how, metrics, columns)})
        start = columns.stop
    return rows


def _groups(evaluation: Evaluation, how: Intervals, metrics: dict[str, Array]) -> dict[str, Any]:
    """Return pre and query scores of each class, in the order the classes first appear."""
    pre, query = slice(0, evaluation.pre_episodes), evaluation.query
    out: dict[str, Any] = {}
    for group in dict.fromkeys(evaluation.task_groups):
        members = how.groups == group
        out[group] = {"n_tasks": int(members.sum())}
        for part, columns in (("pre", pre), ("query", query)):
            out[group][part] = {k: how.estimate(v[..., columns].mean(-1), k, members) for k, v in metrics.items()}
    return out


def _tasks(evaluation: Evaluation, how: Intervals, metrics: dict[str, Array]) -> dict[str, Any]:
    """Return pre and query scores of each task: {part: {metric: {"value", "low", "high"}}}, each a list over tasks."""
    pre, query = slice(0, evaluation.pre_episodes), evaluation.query
    return {
        part: {k: how.per_task(v[..., columns].mean(-1), k) for k, v in metrics.items()}
        for part, columns in (("pre", pre), ("query", query))
    }
