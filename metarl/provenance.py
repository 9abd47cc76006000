"""Where a result comes from: commit, package versions, kind of machine. Never a host name, user, path or variable."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("metarl-worlds", "torch", "numpy", "gymnasium", "metaworld", "mujoco", "safetensors", "wandb", "tyro")

RESULTS = "experiments/results"


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the installed versions of `names`, "not installed" where there is none; of torch the very build."""
    found: dict[str, str] = {}
    for name in names:
        try:
            # The index's CUDA build is 2.13.0+cu130 by its own word, and 2.13.0 by its metadata.
            found[name] = str(torch.__version__) if name == "torch" else version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_state(folder: Path | None = None) -> dict[str, Any]:
    """Return `{"commit": str | None, "dirty": bool | None}` of the checkout that holds `folder` (this package's own).

    None where there is no git or no checkout, as in an installed wheel. Stored results decide no number; new ones leave
    a checkout clean.
    """
    where = Path(__file__).resolve().parent if folder is None else folder

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(where), *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    tracked = git("ls-files", "--", str(where))  # a wheel may lie inside a checkout of something else
    if not tracked:
        return {"commit": None, "dirty": None}
    changes = git("status", "--porcelain", "--untracked-files=no", "--", ":/", f":(top,exclude){RESULTS}")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def provenance() -> dict[str, Any]:
    """Return what a reader needs to judge or repeat a run, as JSON-able values."""
    return {
        "git": git_state(),
        "packages": package_versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "kernels": kernels(),
    }


def kernels() -> dict[str, str]:
    """Return what decides how a matrix product rounds here: kind of CPU, its instructions, the library, its settings.

    Where all of these and the number of threads are equal, so are the bits of the same computation.
    """
    return {
        "cpu": cpu_kind(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "blas": "MKL" if torch.backends.mkl.is_available() else "other",  # type: ignore[no-untyped-call]
        **{name: os.environ[name] for name in _KERNEL_SETTINGS if name in os.environ},
    }


_KERNEL_SETTINGS = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE", "ONEDNN_MAX_CPU_ISA")
"""Environment variables by which a user may choose kernels."""


def cpu_kind() -> str:
    """Return the CPU's name with family and model where Linux tells, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.machine()
    known: dict[str, str] = {}
    for line in lines:  # the first CPU's, where there are several
        name, _, value = line.partition(":")
        known.setdefault(name.strip(), value.strip())
    words = [known[key] for key in ("vendor_id", "model name", "cpu family", "model") if key in known]
    return " ".join(words) or platform.machine()
