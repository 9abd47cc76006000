"""What a grid will cost, before it is launched: from what runs of its presets took, or from one timed iteration."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from metarl import run
from metarl.errors import ConfigError
from metarl.experiments.overrides import parse
from metarl.reading import read_object

from .grid import NOWHERE, Job

_KNOWN = Path(__file__).with_name("costs.json")
_NO_LOOKS = (
    "--train.n-iterations", "2", "--train.validate-every-iters", "0", "--log.wandb", "disabled",
    "--log.progress", "off",
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """What one run will cost, about."""

    train_cpu_s: float
    evaluate_cpu_s: float

    @property
    def cpu_s(self) -> float:
        """CPU seconds of training and evaluation."""
        return self.train_cpu_s + self.evaluate_cpu_s


@cache
def known_costs() -> dict[str, dict[str, float]]:
    """Return, per preset, CPU seconds per iteration and task and of its evaluation, as committed runs took them."""
    return dict(read_object(_KNOWN)["presets"])


def estimate(job: Job, *, time_one: bool = False) -> Estimate | None:
    """Return what a run will cost; None if its preset was never timed and `time_one` does not time it now.

    A committed cost is scaled by the number of iterations and of tasks; other settings are taken not to matter, which
    they do: `time_one` trains two iterations of the very run.

    Raises: ConfigError if the timed run fails.
    """
    train = parse(job.train_words(NOWHERE / job.name)[1:]).config.train
    known = known_costs().get(job.preset)
    later = known["evaluate_cpu_s"] * len(job.evaluate) if known else 0.0
    if time_one:
        return Estimate(_timed_iteration_s(job) * train.n_iterations, later)
    if known is None:
        return None
    each = known["cpu_s_per_iteration_and_task"]
    return Estimate(each * train.n_iterations * train.n_tasks, later)


def _timed_iteration_s(job: Job) -> float:
    with tempfile.TemporaryDirectory() as folder:
        words = job.train_words(Path(folder) / "run")
        command = [sys.executable, "-m", "metarl", *words, *_NO_LOOKS]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            told = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ConfigError(f"run {job.name}, timed for its cost, fails: {told}")
        last = run.history(Path(folder) / "run")[-1]
        return float(last["time/collect_s"] + last["time/update_s"])


def wall_clock_s(costs: Sequence[float], n_jobs: int) -> float:
    """Return how long runs of these CPU seconds take, `n_jobs` side by side, each beginning as soon as one ends."""
    ends = [0.0] * n_jobs
    for cost in costs:
        ends[ends.index(min(ends))] += cost
    return max(ends)


def write_known(presets: dict[str, dict[str, float]], into: Path = _KNOWN) -> None:
    """Write what `known_costs` reads."""
    into.write_text(json.dumps({"kind": "metarl.preset-costs", "presets": presets}, indent=1) + "\n")
