"""What torch and the C allocator are told for speed and repeatability: in one place, undoable, for shell and Python.

Small networks gain nothing from a second thread and lose much when another process wants the core: the same world was
17 times slower under torch's own settings on two busy cores.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .errors import ConfigError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of <malloc.h>
_thresholds = (128 * 1024, 128 * 1024)
"""What glibc was told last, or begins with; it cannot be asked."""
MOST_THREADS = 1024


def usable_cpus() -> int:
    """Return how many CPUs this process may use: its affinity, and its container's quota where there is one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no quota, or no such file on this system
    return count


@dataclass
class FastDefaults:
    """Settings in force; `undo()`, or the end of a `with` block, puts back what was there before."""

    threads: int
    _before: dict[str, Any] = field(default_factory=dict)

    def undo(self) -> None:
        """Put back threads, determinism and cuDNN's precision, and glibc's thresholds; twice is once."""
        if not self._before:
            return
        torch.set_num_threads(self._before["threads"])
        torch.use_deterministic_algorithms(self._before["deterministic"], warn_only=self._before["warn_only"])
        torch.utils.deterministic.fill_uninitialized_memory = self._before["fill"]  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = self._before["benchmark"]
        torch.backends.cudnn.allow_tf32 = self._before["tf32"]
        _set_thresholds(*self._before["thresholds"])
        self._before = {}

    def __enter__(self) -> FastDefaults:
        """Return self: the settings are in force already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Undo."""
        self.undo()


def fast_defaults(threads: int | None = 1, device: torch.device | str = "cpu") -> FastDefaults:
    """Make this process fast and repeatable for worlds and agents like ours, and return what undoes it.

    `threads` of torch on the CPU (None: one per CPU that this process may use); memory that is freed stays with the
    process instead of going back to the system after each tensor; operations that give other bits at each call are
    refused. On a GPU products are in float32, as they are on the CPU: cuDNN would round its inputs to 10 bits.

    Raises: ConfigError for a number of threads out of range.
    """
    if threads is not None and not (type(threads) is int and 1 <= threads <= MOST_THREADS):
        raise ConfigError(f"threads must be 1 to {MOST_THREADS}, or None, got {threads!r}")
    kind = torch.device(device).type
    before = {
        "thresholds": _thresholds,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "benchmark": torch.backends.cudnn.benchmark,
        "tf32": torch.backends.cudnn.allow_tf32,
    }
    applied = FastDefaults(threads or usable_cpus(), before)
    keep_freed_memory()
    torch.set_num_threads(applied.threads)
    if kind == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only with this
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True)
    # Buffers are always written before they are read; filling them first would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return applied


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks instead of giving them back to the system after each tensor.

    An update frees and allocates the same hundreds of megabytes again and again; without this a fifth of MAML's time
    goes into page faults.
    """
    _set_thresholds(2**31 - 1, 1 << 30)


def give_back_freed_memory() -> None:
    """Give what is kept back to the system: among very many odd free blocks the next ones are slow to find."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def _set_thresholds(trim: int, mmap: int) -> None:
    """Tell glibc from which sizes on freed memory goes back to the system; nothing happens where there is no glibc."""
    global _thresholds
    _thresholds = (trim, mmap)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_MMAP_THRESHOLD, mmap)
    mallopt(_TRIM_THRESHOLD, trim)
