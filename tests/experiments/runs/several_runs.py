"""`torchrun -m tests.experiments.runs.several_runs FOLDER KIND...`: small runs of agents, one after another.

`maml@2` is the kind `maml` that takes two tasks at once. A program of its own, because starting several processes takes longer than these runs.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from metarl.distributed import joined
from metarl.experiments.overrides import Request
from metarl.experiments.train import start
from metarl.signals import StopSignals
from tests.experiments.every_agent import config_of


def main(folder: Path, *kinds: str) -> None:
    with joined():
        for kind in kinds:
            name, _, at_once = kind.partition("@")
            config = config_of(name)
            if at_once:
                config = dataclasses.replace(
                    config, agent=dataclasses.replace(config.agent, tasks_at_once=int(at_once))
                )
            assert start(Request(config, folder / kind, going_on=False), StopSignals()) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
