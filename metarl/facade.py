"""What `metarl.train` and `metarl.evaluate` return."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .checkpoint import replace_file, writing
from .errors import ConfigError, nearest
from .registry import load_target
from .results import Evaluation
from .summary import summarise


@dataclass(frozen=True)
class TrainingRun:
    """Where `metarl.train` has come to."""

    history: list[dict[str, Any]]
    """One record per iteration since the run began: "iteration", "env_steps", "train/post_return", ..."""
    iteration: int
    """Completed iterations."""
    env_steps: int
    """Environment steps of training, all iterations together."""
    finished: bool
    """False if SIGTERM or Ctrl-C ended it early."""
    run_dir: Path | None = None
    """Its run directory, if it keeps one."""

    def series(self, key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the values of one entry of the records, float64 [iterations]; NaN where a record has none.

        Raises: ConfigError for an entry that no record has, with the nearest ones.
        """
        known = {name for record in self.history for name in record}
        if key not in known:
            raise ConfigError(f"no record has {key!r}; {nearest(key, known)}")
        return np.array([record.get(key, np.nan) for record in self.history], dtype=np.float64)


class Score(NamedTuple):
    """A mean and its 95 % interval; the ends are NaN where there is none."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return as tables print it."""
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True, eq=False)
class Result:
    """A strict evaluation, in returns: `before` and `after` adaptation, and the `curve` over the episodes of a trial.

    Everything that was counted is in `evaluation`; `scores("success_any")` gives the same of another measure.
    """

    evaluation: Evaluation

    @cached_property
    def summary(self) -> dict[str, Any]:
        """All numbers, as `metarl evaluate` stores them; its "intervals" say what the intervals are over."""
        return summarise(self.evaluation)

    @property
    def before(self) -> Score:
        """Mean return before any adaptation; of an agent with memory, which adapts at once, of its first episode."""
        return self.scores("return")[0]

    @property
    def after(self) -> Score:
        """Mean return of the scored episodes, after `adapt_episodes` of adaptation."""
        return self.scores("return")[1]

    @property
    def curve(self) -> list[Score]:
        """Mean return of each episode of a trial, in the order they were played; adaptation first."""
        return self.scores("return")[2]

    def scores(self, measure: str) -> tuple[Score, Score, list[Score]]:
        """Return before, after and curve of "return", "success_any", "success_last" or "cost".

        Raises: ConfigError for a measure that this world does not have.
        """
        if measure not in self.summary["pre"]:
            raise ConfigError(f"this world does not measure {measure!r}; {nearest(measure, self.summary['pre'])}")
        before, after = (_score(self.summary[part][measure]["mean"]) for part in ("pre", "query"))
        curve = self.summary["curve"][measure]["mean"]
        rows = zip(*(np.atleast_1d(curve[k]).tolist() for k in ("value", "low", "high")), strict=True)
        return before, after, [Score(*row) for row in rows]

    def plot(self, path: str | PathLike[str] | None = None, *, others: Sequence[tuple[str, Result]] = ()) -> Any:
        """Return the adaptation curve as a matplotlib Figure, and write it as PNG to `path` if one is given.

        `others` are drawn beside it, each under its label.
        """
        draw = load_target("metarl.experiments.api:plot", "function", ours=True)
        return draw([(str(self.evaluation.agent["name"]), self), *others], path)

    def save(self, path: str | PathLike[str]) -> None:
        """Write every episode and setting as JSON, as `metarl evaluate` does; `metarl.results` reads it back."""
        content = json.dumps(self.evaluation.to_json(self.summary), allow_nan=False) + "\n"
        with writing(path):
            replace_file(Path(path), content.encode())

    def __repr__(self) -> str:
        """Show before and after."""
        tasks, seeds = len(self.evaluation.task_names), self.evaluation.protocol.n_seeds
        return f"Result(before={self.before}, after={self.after}; {tasks} tasks x {seeds} seeds)"


def _score(estimate: dict[str, Any]) -> Score:
    return Score(*(float(estimate[k]) for k in ("value", "low", "high")))
