"""Small training runs for `crash_points`: begin or go on in a warm process, and what must be equal afterwards."""

from __future__ import annotations

import gc
import json
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch

from metarl import run
from metarl.checkpoint import TENSORS, VALUES
from metarl.experiments import train
from metarl.experiments.build import build_tasks
from metarl.experiments.cli.main import main
from metarl.experiments.config import AnyConfig, LogConfig, WorldConfig
from metarl.experiments.overrides import Request
from metarl.log import WALL_CLOCK_KEYS
from metarl.loop import LoopSettings
from metarl.provenance import provenance
from metarl.signals import StopSignals
from tests.experiments.crash.crash_points import Trial, patched
from tests.experiments.tiny_presets import tiny
from tests.metarl.tiny import TinyConfig


def tiny_config() -> AnyConfig:
    """Return a run that comes to everything: validation, the best of two, checkpoints that are forgotten, a sink."""
    loop = LoopSettings(
        n_iterations=4, n_tasks=1, validate_every_iters=2, n_validation_tasks=1, checkpoint_every_iters=1
    )
    log = LogConfig(wandb="disabled", progress="off", tensorboard=True)
    world = WorldConfig("bandit", {"n_arms": 3, "n_pulls": 2, "n_validation": 2, "n_test": 2})
    return replace(tiny(), world=world, agent=TinyConfig(episodes=1), train=loop, log=log)


class Writer:
    """Stands in for torch.utils.tensorboard.SummaryWriter, an extra: what is pending when killed is lost."""

    def __init__(self, folder: str, purge_step: int) -> None:
        place = Path(folder)
        place.mkdir(exist_ok=True)
        self.file = (place / f"events.out.tfevents.{len(list(place.glob('events*'))):03d}").open("a")
        self.file.write(json.dumps(["purge", 0, purge_step]) + "\n")

    def add_scalar(self, key: str, value: float, step: int) -> None:
        self.file.write(json.dumps([key, value, step]) + "\n")
        if key.startswith("validation/"):
            self.file.flush()

    def close(self) -> None:
        self.file.close()


def scalars(folder: Path) -> list[tuple[str, float, int]]:
    """Return what TensorBoard would show: a file hides what earlier ones say of its steps and later ones."""
    shown = list[tuple[str, float, int]]()
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                key, value, step = json.loads(line)
                shown = [s for s in shown if s[2] < step] if key == "purge" else [*shown, (key, value, step)]
    return [s for s in shown if s[0] not in WALL_CLOCK_KEYS]


def outcome(folder: Path) -> dict[str, Any]:
    """Return everything of a run that may not depend on how often it was interrupted, by name."""
    names = sorted(str(p.relative_to(folder.parent)) for p in folder.parent.rglob("*"))
    found: dict[str, Any] = {"names": [n for n in names if "events.out" not in n]}
    for path in (folder / run.CHECKPOINTS).glob(f"*/[{TENSORS[0]}{VALUES[0]}]*"):
        found[f"{path.parent.name}/{path.name}"] = path.read_bytes()
    found["best"] = (folder / run.CHECKPOINTS / "best.json").read_bytes()
    found["history"] = [{k: v for k, v in r.items() if k not in WALL_CLOCK_KEYS} for r in run.history(folder)]
    found["scalars"] = scalars(folder / "tensorboard")
    return found


@contextmanager
def warm(config: AnyConfig, place: Path) -> Iterator[Trial]:
    """Prepare what every process of a run would do first: words, tasks, versions. Only the rest is forked."""
    folder = place / "run"
    tasks, about = build_tasks(config, torch.device("cpu")), provenance()

    def request(argv: list[str]) -> Request:
        return Request(config, folder, going_on=run.is_run(folder))

    def command() -> int:
        return main(["train", "it"])

    board, extra = types.ModuleType("torch.utils.tensorboard"), types.ModuleType("tensorboard")
    board.SummaryWriter = Writer  # type: ignore[attr-defined]
    extra.__spec__ = ModuleSpec("tensorboard", None)
    modules = {"torch.utils.tensorboard": board, "tensorboard": extra}
    ready: dict[str, Callable[..., Any]] = {
        "parse": request, "build_tasks": lambda *_: tasks, "provenance": lambda: about,
    }  # fmt: skip
    with patched(train, **ready):
        before = {name: sys.modules.get(name) for name in modules}
        sys.modules.update(modules)
        try:
            train.start(Request(config, place.with_name("first"), going_on=False), StopSignals())  # imports the rest
            gc.freeze()  # or the first collection in every fork copies all memory
            yield Trial(place, command, lambda: outcome(folder))
        finally:
            gc.unfreeze()
            for name, module in before.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module
