"""From rounds to figures: medians and paired ratios with their intervals, and the targets they are held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from metarl.statistics import Array, Interval, median_interval

from .engine import LABELS
from .rounds import Cell

Clock = Literal["cpu", "wall"]


ABOUT_INTERVALS = "95 % for the median, between two of the rounds (sign test); null for fewer than 6 rounds"


def median_of_rounds(rounds: Sequence[float]) -> Interval:
    """Return the median over rounds and its 95 % interval, which takes 6 rounds; see `median_interval`."""
    return median_interval(np.asarray(rounds, dtype=np.float64))


def times(cell: Cell, clock: Clock) -> Array:
    """Return microseconds per env step, one per round."""
    return np.asarray(cell.cpu_us if clock == "cpu" else cell.wall_us, dtype=np.float64)


def speed_ratio(fast: Cell, slow: Cell, clock: Clock) -> Interval:
    """Return how many times the speed of `slow` the cell `fast` has: the median of the rounds' own ratios."""
    return median_of_rounds((times(slow, clock) / times(fast, clock)).tolist())


@dataclass(frozen=True)
class Target:
    """A ratio of speeds that has to be reached wherever it applies."""

    name: str
    at_least: float
    ours: str
    """Label of the contender that has to be fast."""
    other: str
    """Label of the one it is compared with."""
    scenarios: tuple[str, ...] = ()
    """Where it applies; (): everywhere."""
    least_envs: int = 8
    """Of ours."""
    clock: Clock = "cpu"
    n_threads: int = 1
    """Of ours."""
    other_envs: int | None = None
    """Envs of the other; None: as many as ours."""
    other_threads: int | None = 1
    """Threads of the other; None: any."""


@dataclass(frozen=True)
class Found:
    """A target in one scenario: the worst of the sizes to which it applies."""

    target: str
    scenario: str
    at_least: float
    num_envs: int
    """Size at which the ratio is lowest."""
    ratio: Interval
    by_envs: dict[int, float]
    """Median ratio per size."""

    @property
    def met(self) -> bool:
        """Whether even the worst size reaches the target."""
        return bool(self.ratio.value >= self.at_least)


COMPILED, PYTHON, RAW = LABELS["compiled"], LABELS["python"], "raw mj_step"

TARGETS = (
    Target("compiled core / raw mj_step, per CPU second", 0.85, COMPILED, RAW),
    Target("python core / raw mj_step, per CPU second", 0.65, PYTHON, RAW),
    Target("compiled / upstream serial, per CPU second", 2.6, COMPILED, "upstream serial", ("reach random",),
           other_envs=1),
    Target("compiled / upstream serial, per CPU second", 5.0, COMPILED, "upstream serial", ("pick-place random",),
           other_envs=1),
    Target("compiled / upstream serial, per CPU second", 3.0, COMPILED, "upstream serial", ("pick-place expert",),
           other_envs=1),
    Target("compiled / AsyncVectorEnv(20), per CPU second", 8.0, COMPILED, "AsyncVectorEnv", other_envs=20,
           other_threads=20),
    Target("compiled / envpool, per CPU second", 1.2, COMPILED, "envpool"),
    Target("compiled, 2 threads / 1 thread, wall", 1.8, COMPILED, COMPILED, least_envs=20, clock="wall",
           n_threads=2),
)  # fmt: skip
"""What was asked for: each for all sizes from `least_envs` on."""


def find(target: Target, scenario: str, cells: Sequence[Cell]) -> Found | None:
    """Return how far `target` is reached in `scenario`; None where it does not apply or was not measured."""
    if target.scenarios and scenario not in target.scenarios:
        return None
    ratios: dict[int, Interval] = {}
    for ours in cells:
        if ours.scenario != scenario or ours.label != target.ours or ours.num_envs < target.least_envs:
            continue
        other = _other(target, ours, cells)
        if ours.n_threads == target.n_threads and other is not None:
            ratios[ours.num_envs] = speed_ratio(ours, other, target.clock)
    if not ratios:
        return None
    worst = min(ratios, key=lambda n: float(ratios[n].value))
    by_envs = {n: float(ratio.value) for n, ratio in ratios.items()}
    return Found(target.name, scenario, target.at_least, worst, ratios[worst], by_envs)


def _other(target: Target, ours: Cell, cells: Sequence[Cell]) -> Cell | None:
    wanted = target.other_envs or ours.num_envs
    for cell in cells:
        same = (cell.scenario, cell.label, cell.num_envs) == (ours.scenario, target.other, wanted)
        if same and target.other_threads in (None, cell.n_threads):
            return cell
    return None


def find_all(cells: Sequence[Cell], targets: Sequence[Target] = TARGETS) -> list[Found]:
    """Return every target in every scenario that was measured."""
    scenarios = list(dict.fromkeys(cell.scenario for cell in cells))
    found = [find(target, scenario, cells) for target in targets for scenario in scenarios]
    return [one for one in found if one is not None]


def cell_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as JSON values, rounds and medians."""
    return {
        "scenario": cell.scenario,
        "contender": cell.label,
        "copies": cell.num_envs,
        "threads": cell.n_threads,
        "env_steps_per_round": cell.env_steps,
        "cpu_us": interval_json(median_of_rounds(cell.cpu_us)),
        "wall_us": interval_json(median_of_rounds(cell.wall_us)),
        "largest_difference_from_upstream": cell.difference,
        "rounds": {"cpu_us": _rounded(cell.cpu_us), "wall_us": _rounded(cell.wall_us)},
    }


def found_json(found: Found) -> dict[str, Any]:
    """Return a target and its verdict as JSON values."""
    return {
        "target": found.target,
        "scenario": found.scenario,
        "at_least": found.at_least,
        "copies": found.num_envs,
        "ratio": interval_json(found.ratio),
        "by_copies": {str(n): round(ratio, 4) for n, ratio in found.by_envs.items()},
        "met": found.met,
    }


def interval_json(interval: Interval) -> dict[str, float | None]:
    """Return a median over rounds with its 95 % interval as JSON values; None where there were too few rounds."""
    found = {name: float(getattr(interval, name)) for name in ("value", "low", "high")}
    return {name: None if np.isnan(x) else round(x, 4) for name, x in found.items()}


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(v, 3) for v in values]


def busy_share(cells: Sequence[Cell]) -> float:
    """Return by how much wall time exceeds CPU time in one-thread loops: above a few percent, others were working."""
    chosen = [c for c in cells if c.label == RAW and c.n_threads == 1]
    ratios = [w / c for cell in chosen for w, c in zip(cell.wall_us, cell.cpu_us, strict=True)]
    return float(np.median(ratios)) - 1.0 if ratios else 0.0
