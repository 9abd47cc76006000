"""Can processes share locks on this machine? Pools and queues of multiprocessing need them."""

from __future__ import annotations

import multiprocessing


def lock_problem() -> str:
    """Return in one line why processes cannot share locks here and what to do, or "" if they can."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as error:  # no folder for them, or none that can be written; a libc without them
        return f"processes cannot share locks here ({error}); give this system a /dev/shm that can be written"
    return ""
