"""A user of the command line, as a `user.User`: the surroundings' arguments are the words."""

from __future__ import annotations

import sys
from typing import Any

import metarl.experiments.doctor
import metarl.experiments.train
import metarl.experiments.worlds  # noqa: F401  # imported once for all
from metarl.experiments.cli.main import main
from tests.hostile.user import serve


def act(surroundings: dict[str, Any]) -> int:
    """Run the command as a process that has just begun would."""
    try:
        return main(surroundings["arguments"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout = sys.__stdout__


if __name__ == "__main__":
    serve(act)
