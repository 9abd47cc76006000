"""Which core steps the envs: the compiled one, or the one in Python where there is no compiler."""

from __future__ import annotations

import logging
from typing import Any

from metarl.errors import ConfigError

from .core_protocol import Core

CORES = ("auto", "compiled", "python")
"""What the option `core` may be; "auto" is "compiled" where it can be built. Their results are equal, bit for bit."""

_LOG = logging.getLogger("metarl.metaworld")

_reported: set[str] = set()


def make_core(kind: str, num_envs: int, n_threads: int) -> Core:
    """Build a core of `num_envs` that steps on `n_threads` threads, the caller's among them.

    With "auto", a core that cannot be built is replaced by the one in Python, and one line (a log record, which goes to
    stderr unless told otherwise) says so, once per reason and process.

    Raises: ConfigError if "compiled" is asked for and cannot be built, naming what is missing.
    """
    if kind in ("auto", "compiled"):
        try:
            return _compiled(num_envs, n_threads)
        except ConfigError as missing:
            if kind == "compiled":
                raise
            return fall_back(missing, num_envs, n_threads)
    return _python(num_envs, n_threads)


def fall_back(problem: ConfigError, num_envs: int, n_threads: int) -> Core:
    """Build the core in Python and say in one line why it is not the compiled one."""
    _tell(str(problem))
    return _python(num_envs, n_threads)


def _compiled(num_envs: int, n_threads: int) -> Core:
    from .native.compiled import CompiledCore

    core: Any = CompiledCore(num_envs, n_threads)
    return core  # type: ignore[no-any-return]


def _python(num_envs: int, n_threads: int) -> Core:
    from .python_core import PythonCore

    core: Any = PythonCore(num_envs, n_threads)
    return core  # type: ignore[no-any-return]


def _tell(reason: str) -> None:
    if reason not in _reported:
        _reported.add(reason)
        _LOG.warning(
            "Meta-World steps in Python, with the same results but slower: %s; core='python' silences this line", reason
        )
