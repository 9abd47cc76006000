"""What an agent knows about N trials, and how rows of it are chosen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]
"""What an agent knows about N trials: tensors [N, ...]. Row i belongs to trial i alone, so one visitor's rows can be
saved, restored or deleted without touching the rest."""


def choose_rows(chosen: Tensor, new: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> State:
    """Return the rows of `new` where `chosen` (bool [N]) is True and those of `old` elsewhere, per key of `new`."""
    return {k: torch.where(chosen.reshape(-1, *[1] * (v.dim() - 1)), v, old[k]) for k, v in new.items()}


def marked(prefix: str, values: Mapping[str, Tensor]) -> State:
    """Return `values` under names that begin with `prefix`, so that several kinds of them fit into one state."""
    return {prefix + name: value for name, value in values.items()}


def unmarked(prefix: str, state: Mapping[str, Tensor]) -> State:
    """Return the entries of `state` that `marked` put there with `prefix`, by their own names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
