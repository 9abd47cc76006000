"""Training, evaluation and further commands of ours, run as a user would, and what they cost and left.

`table`, `reproduce` and `splits` carry out their runs here. A run that was stopped goes on where it stopped.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from metarl import run
from metarl.commandline import command
from metarl.errors import ConfigError
from metarl.experiments.evaluate import evaluation_path


class Plan(Protocol):
    """What is to be run."""

    @property
    def preset(self) -> str:
        """What `train` is called with; a name or package.module:function."""

    @property
    def train(self) -> tuple[str, ...]:
        """Further arguments of `train`."""

    @property
    def evaluate(self) -> tuple[str, ...]:
        """Further arguments of `evaluate`."""


@dataclass(frozen=True)
class Carried:
    """A run that was trained and evaluated."""

    evaluation: Path
    """Where the evaluation is stored."""
    costs: dict[str, dict[str, Any]]
    """What each command was called with, and the seconds it took."""
    records: list[dict[str, Any]]
    """The run's metrics, one record per iteration."""
    resumed: bool
    """Whether the run had been begun before, so that the costs are those of its last part."""


def run_command(arguments: list[str], *, caller: str) -> dict[str, Any]:
    """Run our command with `arguments` and return what it cost; raises ConfigError if it failed.

    `caller` is the command that a user called, and may call again.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    code = subprocess.run([sys.executable, "-m", "metarl", *arguments], check=False).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise ConfigError(
            f"`{command(*arguments)}` ended with code {code}; mend what it says and call "
            f"`{command(*caller.split())}` again: it goes on where it stopped"
        )
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"arguments": arguments, "wall_s": time.perf_counter() - began, "cpu_s": cpu}


def carry_out(
    plan: Plan, seed: int, folder: Path, *, caller: str, train: tuple[str, ...] = (), device: str | None = None
) -> Carried:
    """Train (with `train` as further arguments) and evaluate `plan` in `folder`; raises ConfigError if that fails."""
    resumed = (folder / "metrics.jsonl").exists()
    where = ["--device", device] if device else []
    words = ["train", plan.preset, "--seed", str(seed), *plan.train, *train, *where, "--run-dir", str(folder)]
    costs = {
        "train": run_command([*words, "--resume", "auto"], caller=caller),
        "evaluate": run_command(["evaluate", str(folder), *plan.evaluate, *where], caller=caller),
    }
    return Carried(evaluation_path(folder, plan.evaluate), costs, run.history(folder), resumed)
