"""A user of the command line on a run directory, as a `user.User`; after a success a digest of the numbers is told.

`evaluate` draws only where HOSTILE_DRAW is set: figures take most of its time, and read nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401  # imported once for all, as the rest: else it takes most of a case's time

import metarl.agents.rl2.agent
import metarl.envs.classic.gridworld
import metarl.experiments.evaluate
import metarl.experiments.report
import metarl.experiments.studies.splits
import metarl.experiments.train
from metarl import run
from metarl.checkpoint import state_fingerprint
from metarl.experiments.cli.main import main
from metarl.log import WALL_CLOCK_KEYS
from tests.hostile.user import serve

NUMBERS = ("trials", "without_adaptation", "random_policy", "references", "task_fingerprint")


def answer(words: list[str]) -> str:
    """Return a digest of what a command has measured: of an evaluation, a run as it is now, or what was printed."""
    if words[0] == "train":
        folder = Path(words[words.index("--run-dir") + 1])
        records = [{k: v for k, v in r.items() if k not in WALL_CLOCK_KEYS} for r in run.history(folder)]
        found: Any = [records, state_fingerprint(run.newest_point(folder).agent_state)]
    else:
        stored = json.loads(max(Path(words[1]).glob("results/evaluation-*.json"), key=_changed).read_bytes())
        found = [stored["agent"]["iteration"], *(stored[key] for key in NUMBERS)]
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


def act(surroundings: dict[str, Any]) -> int:
    """Run the command as a process that has just begun would."""
    words = surroundings["arguments"]
    if "HOSTILE_DRAW" not in os.environ:
        metarl.experiments.evaluate.save_png = lambda *_: None
        metarl.experiments.evaluate.write_report = lambda _, target, **__: target
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    sys.stdout = sys.__stdout__
    if code == 0 and words[0] in ("evaluate", "train", "report"):
        print("answer:", answer(words), file=sys.stderr)
    return code


if __name__ == "__main__":
    serve(act)
