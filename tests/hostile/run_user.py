"""A user of the command line on a run directory, as a `user.User`; after a success a digest of the numbers is told."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import experiments.evaluate
import experiments.report
import experiments.splits
import experiments.train  # noqa: F401  # imported once for all
from experiments.__main__ import main
from metarl import run
from metarl.checkpoint import state_fingerprint
from metarl.log import WALL_CLOCK_KEYS

from .user import serve

NUMBERS = ("trials", "without_adaptation", "random_policy", "references", "task_fingerprint")


def answer(words: list[str]) -> str:
    """Return a digest of what a command has measured: of an evaluation, a run as it is now, or what was printed."""
    folder = Path(words[1])
    if words[0] == "evaluate":
        newest = max(folder.glob("results/evaluation-*.json"), key=lambda path: path.stat().st_mtime_ns)
        stored = json.loads(newest.read_bytes())
        found: Any = {key: stored[key] for key in NUMBERS}
    elif words[0] == "train":
        folder = Path(words[words.index("--run-dir") + 1])
        records = [{k: v for k, v in r.items() if k not in WALL_CLOCK_KEYS} for r in run.history(folder)]
        found = [records, state_fingerprint(run.newest_point(folder).agent_state)]
    else:
        found = folder.name
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]


def act(surroundings: dict[str, Any]) -> int:
    """Run the command as a process that has just begun would."""
    words = surroundings["arguments"]
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    sys.stdout = sys.__stdout__
    if code == 0:
        print("answer:", answer(words), file=sys.stderr)
    return code


if __name__ == "__main__":
    serve(act)
