"""The success rate that Meta-World's own evaluation would have printed, computed from strictly counted episodes.

Meta-World 3.1.1 (`metaworld/evaluation.py`) steps all goals of a class side by side, ends an episode at its first
success, restarts it, and takes the first three episodes *to finish in the class*. A solved goal finishes early and is
counted again before an unsolved one has finished once, so the number is too high. It is reproduced here only to be set
beside the strict one, under the label "upstream-counting".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ConfigError

LABEL = "upstream-counting"


@dataclass(frozen=True)
class UpstreamCount:
    """Success as Meta-World 3.1.1 counts it, and what a strict count of the same episodes says."""

    success_rate: float
    """Mean over rounds of the mean over classes, in [0, 1]: too high whenever some goals are solved and some not."""
    per_group: dict[str, float]
    """Mean over rounds, per class."""
    strict_success_rate: float
    """Each goal's first evaluation episode counted once, mean over goals, mean over classes."""
    episodes_per_group: int
    """Episodes counted per class and round."""
    n_rounds: int
    label: str = field(default=LABEL, init=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "label": self.label,
            "success_rate": self.success_rate,
            "strict_success_rate": self.strict_success_rate,
            "per_group": dict(self.per_group),
            "episodes_per_group": self.episodes_per_group,
            "n_rounds": self.n_rounds,
        }


def upstream_counting(
    groups: Sequence[str],
    first_success: ArrayLike,
    length: ArrayLike,
    *,
    episodes_per_group: int = 3,
    goals_per_round: int | None = None,
) -> UpstreamCount:
    """Return what Meta-World's evaluation would have counted.

    Args:
        groups: class of each of the N goals; goals in the order of upstream's environments.
        first_success: [N, E] env steps up to and including an episode's first success, 0 if it had none.
        length: [N, E] env steps of the episode, were it not cut at its first success.
        episodes_per_group: finished episodes that upstream counts per class.
        goals_per_round: goals of each class that run side by side; the others follow in further rounds (upstream's
            meta_batch_size / number of classes, and num_evals). None: all of a class at once.

    Raises: ConfigError if an episode is malformed, fewer than `episodes_per_group` episodes of a goal are known (a goal
    may be counted that often), or a class's goals do not fill its rounds.
    """
    first, full = np.asarray(first_success, dtype=np.int64), np.asarray(length, dtype=np.int64)
    _check(groups, first, full, episodes_per_group)
    duration = np.where(first > 0, first, full)
    # finish[i, e]: step at which episode e of goal i ends when each follows the one before without a pause.
    finish = duration.cumsum(axis=1)
    per_group: dict[str, float] = {}
    strict: list[float] = []
    n_rounds = 0
    for group in dict.fromkeys(groups):
        rows = np.array([i for i, g in enumerate(groups) if g == group])
        size = len(rows) if goals_per_round is None else goals_per_round
        if size < 1 or len(rows) % size:
            raise ConfigError(f"class {group!r} has {len(rows)} goals, which do not fill rounds of {size}")
        rounds = [rows[k : k + size] for k in range(0, len(rows), size)]
        rates = [_first_finished(finish[r], first[r] > 0, episodes_per_group) for r in rounds]
        if n_rounds and len(rounds) != n_rounds:
            raise ConfigError(
                f"class {group!r} has {len(rounds)} rounds, others have {n_rounds}; give all equally many"
            )
        n_rounds = len(rounds)
        per_group[group] = float(np.mean(rates))
        strict.append(float((first[rows, 0] > 0).mean()))
    return UpstreamCount(
        success_rate=float(np.mean(list(per_group.values()))),
        per_group=per_group,
        strict_success_rate=float(np.mean(strict)),
        episodes_per_group=episodes_per_group,
        n_rounds=n_rounds,
    )


def _first_finished(finish: NDArray[np.int64], success: NDArray[np.bool_], count: int) -> float:
    """Return the share of successes among the first `count` episodes [goals, E] to finish.

    Episodes that finish at the same step are counted in the order of the goals, as upstream's loop does.
    """
    n_goals, n_episodes = finish.shape
    goal = np.repeat(np.arange(n_goals), n_episodes)
    order = np.lexsort((goal, finish.ravel()))[:count]
    return float(success.ravel()[order].mean())


def _check(groups: Sequence[str], first: NDArray[np.int64], full: NDArray[np.int64], count: int) -> None:
    if first.ndim != 2 or first.shape != full.shape or len(groups) != len(first) or not len(groups):
        raise ConfigError(
            f"upstream counting needs one row per goal in first_success and length, got {len(groups)} goals and shapes "
            f"{first.shape} and {full.shape}"
        )
    if count < 1 or first.shape[1] < count:
        raise ConfigError(
            f"upstream counting of {count} episodes per class needs as many evaluation episodes per goal, got "
            f"{first.shape[1]}; evaluate with eval_episodes={max(count, 1)} or more"
        )
    if (full < 1).any() or (first < 0).any() or (first > full).any():
        raise ConfigError("upstream counting needs length >= 1 and first_success from 0 to length in every episode")
