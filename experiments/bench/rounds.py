"""Interleaved rounds: every contender once per round, in a rotating order, so that all share the machine's moods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .clock import Sample, no_garbage_collection
from .contenders import Contender
from .trajectories import Recording


@dataclass
class Cell:
    """What one contender of one size needed in one scenario."""

    scenario: str
    label: str
    num_envs: int
    n_threads: int
    env_steps: int
    """Env steps per round, over all envs."""
    wall_us: list[float] = field(default_factory=list)
    """Microseconds per env step, one entry per round."""
    cpu_us: list[float] = field(default_factory=list)
    """CPU microseconds per env step, all threads and child processes, one entry per round."""
    difference: float | None = None
    """Largest difference of a final observation from upstream's over all rounds; None if it cannot be compared."""

    def add(self, sample: Sample) -> None:
        """Store a round."""
        self.wall_us.append(1e6 * sample.wall_s / self.env_steps)
        self.cpu_us.append(1e6 * sample.cpu_s / self.env_steps)

    def compare(self, difference: float) -> None:
        """Store how far the observations are from upstream's; NaN counts as infinitely far."""
        difference = float("inf") if np.isnan(difference) else difference
        self.difference = max(self.difference or 0.0, difference)


def run_rounds(
    contenders: Sequence[Contender],
    recording: Recording,
    n_rounds: int,
    *,
    on_round: Callable[[int], None] = lambda _: None,
) -> list[Cell]:
    """Measure all contenders `n_rounds` times; round r replays window r, from the first again after the last.

    One more round comes first and is not kept: it fills caches and grows pools.
    """
    length = recording.windows.length
    cells = [
        Cell(recording.scenario.name, c.label, c.num_envs, c.n_threads, length * c.num_envs * c.n_repeats)
        for c in contenders
    ]
    for contender in contenders:
        contender.measure(0, 0)
    for r in range(n_rounds):
        window = r % recording.windows.n
        with no_garbage_collection():
            for i in rotation(len(contenders), r, n_rounds):
                _measure(contenders[i], cells[i], recording, window)
        on_round(r)
    return cells


def rotation(n: int, r: int, n_rounds: int) -> list[int]:
    """Return the order of n contenders in round r: it starts elsewhere each time, and every other round goes backwards.

    Going backwards gives each contender another neighbour before it.
    """
    start = r * n // n_rounds
    order = [(start + i) % n for i in range(n)]
    return order[::-1] if r % 2 else order


def _measure(contender: Contender, cell: Cell, recording: Recording, window: int) -> None:
    total = Sample(0.0, 0.0)
    for repeat in range(contender.n_repeats):
        total += contender.measure(window, repeat)
        reached = contender.reached()
        if reached is not None:
            expected = recording.reached(contender.num_envs, window, repeat).astype(reached.dtype)
            cell.compare(float(np.abs(reached - expected).max()))
    cell.add(total)
