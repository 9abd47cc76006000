"""Tasks as values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import ConfigError
from .moved import moved

__getattr__ = moved(__name__, "metarl.task_distribution", ("TaskDistribution", "check_distribution"))


@dataclass(frozen=True, eq=False)
class Tasks:
    """A frozen batch of N tasks of one distribution: each named parameter is a tensor [N, ...].

    `names` labels each task for tables ("reach-v3/12"); `groups` is the class a task belongs to, over which evaluation
    averages ("reach-v3"). Tasks compare by value, index like a sequence and never change.
    """

    values: Mapping[str, Tensor]
    names: tuple[str, ...]
    groups: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that every part has the same length."""
        sizes = {k: len(v) for k, v in self.values.items()} | {"names": len(self.names), "groups": len(self.groups)}
        if len(set(sizes.values())) != 1:
            raise ConfigError(f"Tasks parts differ in length: {sizes}; each must hold one row per task")

    @classmethod
    def of(cls, family: str, names: Sequence[str] | None = None, **values: Tensor) -> Tasks:
        """Return tasks of one class `family`, named `family/0`, `family/1`, ... unless `names` are given."""
        n = len(next(iter(values.values())))
        return cls(
            values, tuple(names) if names is not None else tuple(f"{family}/{i}" for i in range(n)), (family,) * n
        )

    def __len__(self) -> int:
        """Return N."""
        return len(self.names)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Tasks:
        """Return the chosen tasks; an int gives a batch of one."""
        rows = list(range(len(self)))
        picked = (
            [rows[index]]
            if isinstance(index, int)
            else rows[index]
            if isinstance(index, slice)
            else [int(i) for i in index]
        )
        at = torch.tensor(picked, dtype=torch.long)
        values = {k: v[at.to(v.device)] for k, v in self.values.items()}
        return Tasks(values, tuple(self.names[i] for i in picked), tuple(self.groups[i] for i in picked))

    def __eq__(self, other: object) -> bool:
        """Compare by value: same parameters, bit for bit, and same labels."""
        if not isinstance(other, Tasks):
            return NotImplemented
        same_labels = self.names == other.names and self.groups == other.groups
        return same_labels and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        """Hash by value, in step with equality."""
        return hash((self.names, self.groups, self.fingerprint()))

    def repeat(self, times: int) -> Tasks:
        """Return N * times tasks, each one `times` times in a row (those of one task are neighbours)."""
        return self[[i for i in range(len(self)) for _ in range(times)]]

    def to(self, device: torch.device | str) -> Tasks:
        """Return the same tasks with their tensors on `device`."""
        return Tasks({k: v.to(device) for k, v in self.values.items()}, self.names, self.groups)

    def keys(self) -> list[str]:
        """Return one digest per task over its parameters: equal digests mean equal tasks, whatever their names."""
        digests = [hashlib.sha256() for _ in range(len(self))]
        for name in sorted(self.values):
            value = self.values[name].detach().cpu().contiguous()
            head = f"{name}:{value.dtype}:{tuple(value.shape[1:])};".encode()
            raw = value.reshape(len(self), -1).view(torch.uint8).numpy() if value.numel() else None
            for i, digest in enumerate(digests):
                digest.update(head + (raw[i].tobytes() if raw is not None else b""))
        return [d.hexdigest() for d in digests]

    def fingerprint(self) -> str:
        """Return a digest over all parameters in order."""
        return hashlib.sha256("".join(self.keys()).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form; `from_json` gives equal tasks back, bit for bit."""
        values = {
            k: {
                "dtype": str(v.dtype).removeprefix("torch."),
                "shape": list(v.shape),
                "data": v.cpu().flatten().tolist(),
            }
            for k, v in self.values.items()
        }
        return {"values": values, "names": list(self.names), "groups": list(self.groups)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Tasks:
        """Rebuild tasks written by `to_json`."""
        values = {
            k: torch.tensor(v["data"], dtype=getattr(torch, v["dtype"])).reshape(v["shape"])
            for k, v in stored["values"].items()
        }
        return cls(values, tuple(stored["names"]), tuple(stored["groups"]))


def concatenate(parts: Sequence[Tasks]) -> Tasks:
    """Return all tasks of `parts` in order; the parts must have the same parameters."""
    values = {k: torch.cat([p.values[k] for p in parts]) for k in parts[0].values}
    return Tasks(values, sum((p.names for p in parts), ()), sum((p.groups for p in parts), ()))


def check_split(name: str, split: str, splits: Sequence[str]) -> None:
    """Raise ConfigError if `split` is not one of `splits` of the distribution `name`."""
    if split not in splits:
        raise ConfigError(f"{name!r} has no split {split!r}; choose one of {', '.join(splits)}")
