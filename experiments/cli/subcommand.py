"""Our own commands, run by other commands of ours as a user would, and what they cost."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from typing import Any

from metarl.commandline import command
from metarl.errors import ConfigError


def run_subcommand(arguments: list[str], *, caller: str) -> dict[str, Any]:
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
