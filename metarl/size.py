"""An agent that is too large to build is refused before its memory is taken."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .errors import ConfigError

_MOST_TENSORS = 10_000
"""Most tensors that building an agent may make: a network of a thousand layers makes a few thousand."""
_FREE_BYTES = 2**30
"""What any agent may take, however small its file is."""
_DRAWN_BYTES = 4 * 2**30
"""Most that networks may take, a thousand million parameters; buffers may fill the machine."""
_MATRIX = 2
"""Most axes of a weight; replay buffers have more."""
_MAKES = ("zeros", "new_zeros", "empty", "ones", "full", "rand", "randn", "new_empty", "new_ones", "new_full")
"""Functions of torch whose result has the size that they are told."""


@contextmanager
def bounded(what: str, spare_bytes: int | None = None) -> Iterator[None]:
    """Raise ConfigError, beginning with `what`, if the tensors built inside would not fit into this machine's memory.

    With `spare_bytes`, a gibibyte and that many bytes are the most, if they are less.
    """
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with _Bounded(what, most if spare_bytes is None else min(most, _FREE_BYTES + spare_bytes)):
        yield


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what torch is asked to make, before it makes it."""

    def __init__(self, what: str, most_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.what, self.most_bytes, self.n_bytes, self.n_tensors = what, most_bytes, 0, 0
        self.n_drawn = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if name in _MAKES:
            size = next(a for a in (*args, kwargs.get("size")) if isinstance(a, list | tuple | torch.Size))
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            self.n_bytes += math.prod(size) * dtype.itemsize
            self.n_drawn += math.prod(size) * dtype.itemsize if len(size) <= _MATRIX else 0
            self.n_tensors += 1
            self._check(tuple(size))
        return func(*args, **kwargs)

    def _check(self, size: tuple[int, ...]) -> None:
        for n_bytes, most in ((self.n_bytes, self.most_bytes), (self.n_drawn, _DRAWN_BYTES)):
            if n_bytes > most:
                raise ConfigError(
                    f"{self.what} needs {n_bytes / 2**30:.3g} GiB or more (a tensor of shape {size}), and at most "
                    f"{most / 2**30:.3g} GiB are possible here; choose smaller layers or a smaller space"
                )
        if self.n_tensors > _MOST_TENSORS:
            raise ConfigError(f"{self.what} needs more than {_MOST_TENSORS} tensors; choose fewer layers")
