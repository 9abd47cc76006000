"""The latest whole trials in preallocated tensors, for models that learn from sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from metarl.errors import CheckpointError, ConfigError


class TrialBuffer:
    """A ring of `capacity` trials of up to `n_steps` steps; a new trial takes the place of the oldest one.

    What is stored is whatever `add` is given, under the same names at each call: tensors [T, B, ...], time first. Rows
    beyond a trial's end are zero (False).
    """

    def __init__(self, capacity: int, n_steps: int, device: torch.device | str) -> None:
        """Start empty; memory is taken at the first `add`. Raises ConfigError for a size below 1."""
        if capacity < 1 or n_steps < 1:
            raise ConfigError(f"a trial buffer needs room for 1 trial of 1 step at least, got {capacity} of {n_steps}")
        self.capacity, self.n_steps, self.device = capacity, n_steps, torch.device(device)
        self.size, self._next = 0, 0
        self._rows: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, rows: Mapping[str, Tensor]) -> None:
        """Store B trials [T, B, ...]; of more than `capacity` only the last ones stay.

        Raises: ConfigError for trials longer than `n_steps`.
        """
        length, n = next(iter(rows.values())).shape[:2]
        if length > self.n_steps:
            raise ConfigError(f"a trial of {length} steps does not fit a buffer of {self.n_steps}; build it longer")
        kept = min(n, self.capacity)
        at = (torch.arange(kept, device=self.device) + self._next) % self.capacity
        for name, value in rows.items():
            trials = value[:, n - kept :].transpose(0, 1)  # [B, T, ...]: a trial's steps side by side
            if name not in self._rows:
                self._rows[name] = trials.new_zeros((self.capacity, self.n_steps, *trials.shape[2:]))
            self._rows[name][at] = F.pad(trials, (*[0] * 2 * (trials.dim() - 2), 0, self.n_steps - length))
        self._next = (self._next + kept) % self.capacity
        self.size = min(self.size + kept, self.capacity)

    def sample(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return min(n, size) different trials, [n_steps, n, ...] per name; raises ConfigError if there is none."""
        if not self.size:
            raise ConfigError("the trial buffer is empty; add trials before sampling")
        at = torch.randperm(self.size, generator=generator, device=generator.device)[:n].to(self.device)
        return {name: value[at].transpose(0, 1) for name, value in self._rows.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the stored trials (no empty places) and where the next one goes, copied."""
        rows = {name: value[: self.size].clone() for name, value in self._rows.items()}
        return {"rows": rows, "size": self.size, "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError if it is of another capacity or length."""
        size = int(state["size"])
        for name, value in state["rows"].items():
            if len(value) > self.capacity or value.shape[1] != self.n_steps:
                raise CheckpointError(
                    f"the checkpoint's trial buffer has {len(value)} trials of {value.shape[1]} steps in {name!r}, "
                    f"expected at most {self.capacity} of {self.n_steps}; load it with the settings it was written with"
                )
        self._rows = {}
        for name, value in state["rows"].items():
            stored = torch.zeros((self.capacity, *value.shape[1:]), dtype=value.dtype, device=self.device)
            stored[:size] = value.to(self.device)
            self._rows[name] = stored
        self.size, self._next = size, int(state["next"])
