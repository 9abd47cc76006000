"""The numbers of an evaluation: means and interquartile means with intervals; overall, per class, task and episode.

Every number comes with a statement of what its interval was resampled from. Two readings of the same file give the
same digits: the bootstrap's generator is named by the quantity it serves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import statistics
from .results import Evaluation
from .seeding import derive
from .upstream_counting import upstream_counting

N_RESAMPLES = 2000
LEVEL = 0.95

Array = NDArray[np.float64]


class Resampler:
    """Intervals of one evaluation, all made in the same stated way."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.groups = np.asarray(evaluation.task_groups)
        self.seed = evaluation.protocol.seed
        self.over: Literal["seeds", "tasks"] = "seeds" if evaluation.protocol.n_seeds > 1 else "tasks"
        self.n_seeds, self.n_tasks = evaluation.protocol.n_seeds, len(self.groups)
        sizes = np.unique(self.groups, return_counts=True)[1]
        # A class of one task cannot be resampled within itself: its interval would have no width.
        self.within_class = bool(len(sizes) > 1 and sizes.min() > 1)

    def describe(self) -> dict[str, Any]:
        """Return how the intervals were made, in fields and in a sentence."""
        percent = f"{LEVEL:.0%}"
        if self.over == "seeds":
            strata = "task"
            text = (
                f"{percent} percentile bootstrap, {N_RESAMPLES} resamples of the {self.n_seeds} evaluation seeds of "
                f"this one trained agent within each of {self.n_tasks} tasks; training seeds are not covered"
            )
        else:
            strata = "class" if self.within_class else "none"
            text = (
                f"{percent} percentile bootstrap, {N_RESAMPLES} resamples of the {self.n_tasks} tasks"
                f"{' within their classes' if self.within_class else ''}, because there is one evaluation seed; "
                f"training seeds are not covered"
            )
        return {
            "resampled": self.over,
            "n_seeds": self.n_seeds,
            "n_tasks": self.n_tasks,
            "stratified_by": strata,
            "n_resamples": N_RESAMPLES,
            "level": LEVEL,
            "text": text,
        }

    def estimate(self, name: str, scores: Array, members: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        """Return mean and IQM of scores [..., S, N], each with its interval; `members` restricts the tasks.

        The mean gives every class the same weight; the IQM takes all (seed, task) scores alike.
        """
        groups = self.groups
        if members is not None:
            scores, groups = scores[..., members], groups[members]
        _, which, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        # Classes of one size: the plain mean is the same number, and exact where the scores are all 0 or 1.
        weights = None if len(set(sizes.tolist())) == 1 else 1.0 / (len(sizes) * sizes[which])
        return {
            "mean": self._interval(f"{name}/mean", scores, groups, lambda x: statistics.mean(x, weights)),
            "iqm": self._interval(f"{name}/iqm", scores, groups, statistics.iqm),
        }

    def per_task(self, name: str, scores: Array) -> dict[str, Any]:
        """Return the mean of each task over seeds [N], with intervals if there is more than one seed."""
        value = scores.mean(axis=0)
        if self.n_seeds == 1:
            return {"value": value, "low": None, "high": None}
        return self._interval(name, scores.T[:, :, None], self.groups[:1], statistics.mean)

    def _interval(
        self, name: str, scores: Array, groups: NDArray[np.str_], statistic: Callable[[Array], Array]
    ) -> dict[str, Any]:
        generator = np.random.default_rng(derive(self.seed, "bootstrap", name))
        strata = list(groups) if self.within_class else None
        return statistics.stratified_bootstrap(
            scores, statistic, generator, resample=self.over, strata=strata, n_resamples=N_RESAMPLES, level=LEVEL
        )._asdict()


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """Return the numbers of `evaluation` as nested dicts of floats and arrays.

    `pre` is before any adaptation, `query` after A episodes, `gain` their difference task by task and seed by seed,
    `without_adaptation` the same agent with every episode a trial of its own.
    """
    resampler = Resampler(evaluation)
    pre, query = slice(0, evaluation.pre_episodes), evaluation.query
    trials = evaluation.trials.metrics()
    out: dict[str, Any] = {
        "bootstrap": resampler.describe(),
        "pre": _scores(resampler, "pre", trials, pre),
        "query": _scores(resampler, "query", trials, query),
        "gain": {
            k: resampler.estimate(f"gain/{k}", v[..., query].mean(-1) - v[..., pre].mean(-1)) for k, v in trials.items()
        },
        "without_adaptation": _scores(resampler, "without", evaluation.without_adaptation.metrics(), slice(None)),
        "references": {k: float(np.mean(v[query])) for k, v in evaluation.references.items()},
        "curve": {k: resampler.estimate(f"curve/{k}", np.moveaxis(v, -1, 0)) for k, v in trials.items()},
        "phases": _phases(evaluation, resampler, trials),
        "groups": _groups(evaluation, resampler, trials),
        "tasks": _tasks(evaluation, resampler, trials),
    }
    if evaluation.random_policy is not None:
        out["random_policy"] = _scores(resampler, "random", evaluation.random_policy.metrics(), slice(None))
    if evaluation.trials.first_success is not None:
        out["upstream_counting"] = _upstream_counting(evaluation)
    return out


def _upstream_counting(evaluation: Evaluation) -> dict[str, Any]:
    """Return the success rate as Meta-World 3.1.1 counts it, mean over seeds, with all goals of a class side by side.

    It needs three scored episodes per goal; with fewer the rate is None and `text` says so.
    """
    first, length = evaluation.trials.first_success, evaluation.trials.length
    assert first is not None  # the caller looked
    needed = 3
    if evaluation.protocol.eval_episodes < needed:
        return {"success_rate": None, "text": f"needs eval_episodes >= {needed}"}
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


def _scores(resampler: Resampler, name: str, metrics: dict[str, Array], columns: slice) -> dict[str, Any]:
    """Return each metric's estimate, averaged over the episodes in `columns`."""
    return {k: resampler.estimate(f"{name}/{k}", v[..., columns].mean(-1)) for k, v in metrics.items()}


def _phases(evaluation: Evaluation, resampler: Resampler, metrics: dict[str, Array]) -> list[dict[str, Any]]:
    """Return one row per phase: its episodes [start, stop) and their scores."""
    rows, start = [], 0
    for i, n_episodes in enumerate(evaluation.phases):
        columns = slice(start, start + n_episodes)
        rows.append({"start": start, "stop": columns.stop, **_scores(resampler, f"phase/{i}", metrics, columns)})
        start = columns.stop
    return rows


def _groups(evaluation: Evaluation, resampler: Resampler, metrics: dict[str, Array]) -> dict[str, Any]:
    """Return pre and query scores of each class, in the order the classes first appear."""
    pre, query = slice(0, evaluation.pre_episodes), evaluation.query
    out: dict[str, Any] = {}
    for group in dict.fromkeys(evaluation.task_groups):
        members = resampler.groups == group
        out[group] = {"n_tasks": int(members.sum())}
        for part, columns in (("pre", pre), ("query", query)):
            out[group][part] = {
                k: resampler.estimate(f"{group}/{part}/{k}", v[..., columns].mean(-1), members)
                for k, v in metrics.items()
            }
    return out


def _tasks(evaluation: Evaluation, resampler: Resampler, metrics: dict[str, Array]) -> dict[str, Any]:
    """Return pre and query scores of each task: {part: {metric: {"value", "low", "high"}}}, each a list over tasks."""
    pre, query = slice(0, evaluation.pre_episodes), evaluation.query
    return {
        part: {k: resampler.per_task(f"tasks/{part}/{k}", v[..., columns].mean(-1)) for k, v in metrics.items()}
        for part, columns in (("pre", pre), ("query", query))
    }
