"""Notice when a program waits for the GPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def _notice(mode: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it may overlook some
        torch.cuda.set_sync_debug_mode(mode)


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raise RuntimeError within it where a number comes back from the GPU, or goes there from pageable memory."""
    _notice("error")
    try:
        yield
    finally:
        _notice("default")
