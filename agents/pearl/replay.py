"""Replay for many tasks: ring buffers side by side in one preallocated tensor, and who owns which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metarl.errors import CheckpointError, ConfigError


class TaskSlots:
    """Which of a fixed number of slots belongs to which task.

    Tasks are known by `Tasks.keys()`, so a task of a finite split finds its slot again whatever its name. A task
    without a slot takes a free one or, if there is none, that of the task seen longest ago: for an endless split the
    slots are those of the most recent tasks.
    """

    def __init__(self, n_slots: int) -> None:
        """Start with free slots only."""
        self.n_slots = n_slots
        self.keys: list[str] = []
        """The key of the task in each slot taken so far."""
        self._seen: list[int] = []
        self._clock = 0

    def take(self, keys: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the slot of each task, and the slots that were taken from other tasks and must be emptied.

        Raises: ConfigError if `keys` alone are more different tasks than there are slots.
        """
        wanted = dict.fromkeys(keys)
        if len(wanted) > self.n_slots:
            raise ConfigError(
                f"a batch of {len(wanted)} different tasks does not fit into a replay of {self.n_slots}; set "
                f"agent.replay_tasks to at least train.n_tasks"
            )
        self._clock += 1
        where = {key: slot for slot, key in enumerate(self.keys)}
        for key in wanted:
            if key in where:
                self._seen[where[key]] = self._clock
        taken = []
        for key in wanted:
            if key in where:
                continue
            if len(self.keys) < self.n_slots:
                slot = len(self.keys)
                self.keys.append(key)
                self._seen.append(self._clock)
            else:
                slot = min(range(self.n_slots), key=lambda s: self._seen[s])
                self.keys[slot], self._seen[slot] = key, self._clock
                taken.append(slot)
            where[key] = slot
        return [where[key] for key in keys], taken

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, copied."""
        return {"keys": list(self.keys), "seen": list(self._seen), "clock": self._clock}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`; raises CheckpointError for more tasks than there are slots."""
        if len(state["keys"]) > self.n_slots:
            raise CheckpointError(
                f"the checkpoint's replay holds {len(state['keys'])} tasks and this agent's {self.n_slots}; load it "
                f"with the configuration it was written with"
            )
        self.keys, self._seen, self._clock = list(state["keys"]), list(state["seen"]), int(state["clock"])


class TaskReplay:
    """One ring buffer per slot: float32 [n_slots, capacity, width] on one device, oldest rows overwritten first.

    The memory is reserved at once and used as rows come in (the operating system gives pages when they are written).
    """

    def __init__(self, n_slots: int, capacity: int, width: int, device: torch.device | str) -> None:
        """Start empty."""
        self.capacity = capacity
        self.rows = torch.empty(n_slots, capacity, width, device=device)
        self.size = torch.zeros(n_slots, dtype=torch.int64, device=device)
        """Rows in each slot, int64 [n_slots]."""
        self._next = torch.zeros(n_slots, dtype=torch.int64, device=device)

    def add(self, slots: Tensor, rows: Tensor, valid: Tensor) -> None:
        """Append column b of `rows` [T, B, width], where `valid` [T, B], to slot `slots[b]` (int64 [B]).

        Columns of one slot follow each other in their order in the batch.
        """
        order, count = valid.long().cumsum(0) - 1, valid.sum(0)
        same = slots[:, None] == slots
        earlier, total = (same.tril(-1) * count).sum(1), (same * count).sum(1)
        # Rows that later ones of the same call would overwrite are left out, so that no place is written twice.
        kept = valid & (total - earlier - order <= self.capacity)
        at = (self._next[slots] + earlier + order) % self.capacity
        self.rows[slots.expand_as(at)[kept], at[kept]] = rows[kept]
        self._next[slots] = (self._next[slots] + total) % self.capacity
        self.size[slots] = (self.size[slots] + total).clamp(max=self.capacity)

    def clear(self, slots: Tensor | Sequence[int]) -> None:
        """Empty some slots."""
        at = torch.as_tensor(slots, dtype=torch.int64, device=self.size.device)
        self.size[at] = 0
        self._next[at] = 0

    def sample(self, slots: Tensor, n_rows: int, generator: torch.Generator) -> Tensor:
        """Draw rows of each slot uniformly, with replacement: [len(slots), n_rows, width]; the slots hold some."""
        size = self.size[slots][:, None]
        drawn = torch.rand(len(slots), n_rows, generator=generator, device=size.device)
        # float32 rounds a draw next to 1 up to `size` once there are 2^24 rows.
        at = (drawn * size).long().clamp(max=size - 1)
        return self.rows[slots[:, None], at]

    def oldest(self, slots: Tensor, n_rows: int) -> Tensor:
        """Return the first rows of each slot, oldest first: [len(slots), n_rows, width], 0 behind its last one."""
        rank = torch.arange(n_rows, device=self.size.device)
        size = self.size[slots][:, None]
        at = (self._next[slots][:, None] - size + rank) % self.capacity
        return torch.where((rank < size)[..., None], self.rows[slots[:, None], at], 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows in use, slot after slot [sum of sizes, width], and where they are."""
        return {"rows": self.rows[self._used()], "size": self.size.clone(), "next": self._next.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError for buffers of another shape."""
        size, rows = state["size"], state["rows"]
        if size.shape != self.size.shape or rows.shape[1] != self.rows.shape[2] or int(size.max()) > self.capacity:
            raise CheckpointError(
                f"the checkpoint's replay ({len(size)} tasks, up to {int(size.max())} rows of {rows.shape[1]}) does "
                f"not fit this agent's {tuple(self.rows.shape)}; load it with the configuration it was written with"
            )
        self.size = size.to(self.size.device, copy=True)
        self._next = state["next"].to(self.size.device, copy=True)
        self.rows[self._used()] = rows.to(self.rows.device)

    def _used(self) -> Tensor:
        """Return which rows are in use, bool [n_slots, capacity]: the first ones until a slot is full, then all."""
        return torch.arange(self.capacity, device=self.size.device) < self.size[:, None]
