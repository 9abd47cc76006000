"""What happened so far, as tensors of fixed size: ring buffers [N, context, ...] whose rows stand at their own step.

Memories that look back at past steps themselves (attention, convolutions over time) keep them here while acting. A row
has seen `count` steps; step t lies in slot t mod context, so that a trial longer than the context forgets its oldest
steps first, as a sliding window over the whole sequence does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.errors import ConfigError


def checked_context(asked: int | None, trial_steps: int, name: str) -> int:
    """Return the context in env steps: `asked`, or the length of a training trial.

    Raises: ConfigError if what is asked for is shorter than a trial, whose first steps would be forgotten in it.
    """
    if asked is not None and asked < trial_steps:
        raise ConfigError(
            f"rl2.{name}.context must hold a whole training trial, {trial_steps} env steps (episodes_per_trial x the "
            f"world's horizon), got {asked}; leave it at None, or take fewer or shorter episodes"
        )
    return trial_steps if asked is None else asked


def append(ring: Tensor, count: Tensor, value: Tensor) -> Tensor:
    """Return a copy of `ring` [N, context, ...] with `value` [N, ...] in slot count mod context; `count` is [N]."""
    new = ring.clone()
    new[torch.arange(len(ring), device=ring.device), count % ring.shape[1]] = value
    return new


def look_back(ring: Tensor, count: Tensor, steps: int) -> Tensor:
    """Return what was appended `steps` >= 1 steps before step `count`, [N, ...]; zeros where there was no such step."""
    found = ring[torch.arange(len(ring), device=ring.device), (count - steps) % ring.shape[1]]
    return torch.where((count >= steps).reshape(-1, *[1] * (found.dim() - 1)), found, 0.0)


def filled(count: Tensor, context: int) -> Tensor:
    """Return which slots hold a step once step `count` was appended: bool [N, context]."""
    return torch.arange(context, device=count.device) <= count[:, None]


def window(n_steps: int, context: int, device: torch.device) -> Tensor | None:
    """Return which steps see which earlier ones, bool [T, T]; None where plain causality says it."""
    if n_steps <= context:
        return None
    t = torch.arange(n_steps, device=device)
    ago = t[:, None] - t[None, :]
    return (ago >= 0) & (ago < context)


def to_ring(sequence: Tensor, context: int) -> Tensor:
    """Return the ring buffer [N, context, ...] after all of `sequence` [T, N, ...] was appended to an empty one."""
    n_steps = len(sequence)
    ring = sequence.new_zeros(sequence.shape[1], context, *sequence.shape[2:])
    kept = range(max(0, n_steps - context), n_steps)
    slots = torch.tensor([t % context for t in kept], dtype=torch.int64, device=sequence.device)
    return ring.index_copy(1, slots, sequence[kept.start :].transpose(0, 1))
