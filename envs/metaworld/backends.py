"""Backends that step Meta-World's environments: the engine, or upstream's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from metarl.errors import ConfigError, nearest
from metarl.torch_settings import usable_cpus
from metarl.world import World

from .core_protocol import MOST_THREADS
from .core_selection import CORES
from .options import EpisodeRules
from .upstream import upstream_world

BACKENDS = ("engine", "upstream")


@dataclass(frozen=True)
class Backend:
    """How worlds are stepped. Every choice gives the same numbers, bit for bit, so none enters a fingerprint."""

    backend: str = "engine"
    """"engine", or "upstream": upstream's environments one by one, the oracle that the engine is held to."""
    core: str = "auto"
    """Of the engine: "compiled", "python" (needs no compiler, slower), or "auto": compiled where it can be."""
    n_threads: int | None = None
    """Of the engine: threads that step the envs, 1 to 1024; None: one per usable CPU."""
    n_workers: int | None = None
    """Of upstream: processes that step the envs, 0 (none) to 1024; None: one per usable CPU."""

    def __post_init__(self) -> None:
        """Check names and ranges; raises ConfigError."""
        for option, known in (("backend", BACKENDS), ("core", CORES)):
            value = getattr(self, option)
            if value not in known:
                raise ConfigError(f"metaworld: unknown {option} {value!r}; {nearest(str(value), known)}")
        for option, low in (("n_threads", 1), ("n_workers", 0)):
            value = getattr(self, option)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and low <= value <= MOST_THREADS):
                raise ConfigError(
                    f"metaworld: {option} must be a whole number from {low} to {MOST_THREADS}, got {value!r}"
                )

    def make_world(
        self, name: str, num_envs: int, rules: EpisodeRules, reward_version: str, device: torch.device | str
    ) -> World:
        """Build a world of `num_envs`; raises ConfigError if it cannot be built here."""
        common: dict[str, Any] = {"rules": rules, "reward_version": reward_version, "device": device}
        if self.backend == "upstream":
            n_workers = usable_cpus() if self.n_workers is None else self.n_workers
            return upstream_world(name, num_envs, n_workers=n_workers, **common)
        from .engine import EngineWorld

        return EngineWorld(name, num_envs, n_threads=self.n_threads or usable_cpus(), core=self.core, **common)
