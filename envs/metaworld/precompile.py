"""`python -m metarl.envs.metaworld.precompile`: compile everything now, so that nobody waits for it later."""

from __future__ import annotations

import sys
import time

from metarl.errors import ConfigError

from .catalogue import task_class
from .native.build import core_library, find_compiler
from .native.programs import prepare
from .tasks import class_names


def main() -> int:
    """Compile the core and the programs of all classes, and say in one line what came of it; returns 1 for nothing."""
    start = time.monotonic()
    try:
        find_compiler()
        core_library()
        programs = [task_class(name).program for name in class_names()]
        prepare(programs)
    except ConfigError as problem:
        print(f"Meta-World will step in Python, slower but with the same results: {problem}")
        return 1
    print(f"Meta-World engine: core and {len(programs)} programs compiled ({time.monotonic() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
