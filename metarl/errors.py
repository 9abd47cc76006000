"""Errors a caller can cause, worded so that the reader knows what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MetarlError(Exception):
    """Anything the user can mend; the command line prints it as one line and exits with code 2."""


class ConfigError(MetarlError, ValueError):
    """A name, value or combination of settings that cannot work."""


class CheckpointError(MetarlError):
    """A checkpoint or run directory that is missing, corrupt, or of another schema version."""


class NumericalError(MetarlError, ArithmeticError):
    """NaN or Inf where the run depends on a finite number."""


class WorldError(MetarlError, RuntimeError):
    """A world that failed in the middle of its work: names env, task and step where known."""


class ProcessError(MetarlError, RuntimeError):
    """Processes of one run that do not find each other, or no longer compute the same."""


class LostProcess(ProcessError):
    """Another process of the same run ended or does not answer."""


MOST = 2**31 - 1
"""Largest count that a setting may ask for; a larger one is a slip and would run for years or overflow."""

MOST_SEED = 2**63 - 1
"""Largest root of random numbers."""

_SHORT_LIST = 15
"""Most names that fit into one line of an error message."""


def shortened(words: object, most: int = 300) -> str:
    """Return what a stranger's code says on one line of bounded length."""
    text = " ".join(str(words).split())
    return text if len(text) <= most else f"{text[:most]}..."


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """Return "did you mean ..." with the `n` closest names, or all names if they are few and none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=n, cutoff=0.5 if len(names) <= _SHORT_LIST else 0.0)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + (", ".join(names) or "none")
