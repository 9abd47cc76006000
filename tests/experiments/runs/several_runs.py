"""`torchrun -m tests.experiments.runs.several_runs FOLDER KIND...`: small runs of agents, one after another.

`maml@2` is the kind `maml` that takes two tasks at once. A program of its own, because starting several processes takes
longer than these runs.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from metarl.distributed import joined
from metarl.experiments.overrides import Request
from metarl.experiments.train import start
from metarl.run import is_run
from metarl.signals import StopSignals
from tests.experiments.every_agent import config_of


def train_all(folder: Path, *kinds: str, n_iterations: int | None = None) -> None:
    """Train the runs `kinds` in folders of their names."""
    for kind in kinds:
        name, _, at_once = kind.partition("@")
        config = config_of(name)
        if at_once:
            config = replace(config, agent=replace(config.agent, tasks_at_once=int(at_once)))
        if n_iterations is not None:
            config = replace(config, train=replace(config.train, n_iterations=n_iterations))
        going_on = is_run(folder / kind)
        assert start(Request(config, folder / kind, going_on=going_on), StopSignals()) == 0


if __name__ == "__main__":
    with joined():
        train_all(Path(sys.argv[1]), *sys.argv[2:])
