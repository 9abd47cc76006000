"""Measuring in a process of its own, whose memory and allocator have seen no other work."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from metarl.errors import ConfigError


def measured_in_a_process(module: str, *arguments: str, what: str) -> dict[str, Any]:
    """Run `python -m module arguments` and return the JSON object in its last line.

    Raises: ConfigError if that process fails, with `what` and the last line it printed.
    """
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"{what} failed: {reason}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
