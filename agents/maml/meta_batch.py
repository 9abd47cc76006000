"""The episodes that an outer step of the gradient-based family learns from, and parts of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.distributed import group

from .inner_loop import Batch
from .trust_region import Product


@dataclass(frozen=True)
class MetaBatch:
    """The stored episodes of one batch of trials, ready for the outer objective."""

    supports: tuple[Batch, ...]
    query: Batch
    credit: Tensor | None = None
    """float [N]: what the actions before adaptation get for the return after it; None if they get none."""

    @property
    def n_tasks(self) -> int:
        """N."""
        return len(self.query.obs)

    def tasks(self, some: slice) -> MetaBatch:
        """Return some tasks only; their credit stays what it is among all of them."""
        credit = None if self.credit is None else self.credit[some]
        return MetaBatch(tuple(support.tasks(some) for support in self.supports), self.query.tasks(some), credit)


@dataclass(frozen=True)
class Share:
    """Some tasks of a batch. A mean over all tasks is the sum over shares of `weight` times the share's mean."""

    tasks: slice
    """Which tasks."""
    weight: float
    """What part of all tasks they are."""
    batch: MetaBatch
    """Their episodes."""


def shares(batch: MetaBatch, tasks_at_once: int | None) -> list[Share]:
    """Return the batch in shares of `tasks_at_once` tasks, the last one smaller if need be.

    None: all at once, or as many as fall to each of several processes.
    """
    n = batch.n_tasks
    size = min(tasks_at_once or -(-n // group().size), n)
    some = [slice(i, min(i + size, n)) for i in range(0, n, size)]
    return [Share(s, (s.stop - s.start) / n, batch.tasks(s)) for s in some]


def sum_of_products(held: Sequence[Share], product_of: Callable[[Share], Product], *, keep: bool) -> Product:
    """Return the product with the weighted sum of the shares' matrices, each share's by one process.

    With `keep` a share's matrix is made once, else anew at every product, so that one graph is in memory at a time.
    """
    kept: dict[int, Product] = {}

    def of(share: Share) -> Product:
        found = kept.get(share.tasks.start) or product_of(share)
        if keep:
            kept[share.tasks.start] = found
        return found

    def product(v: Tensor) -> Tensor:
        with torch.enable_grad():
            parts = group().map(held, lambda share: (share.weight * of(share)(v),))
        total = torch.zeros_like(v)
        for (part,) in parts:
            total += part
        return total

    return product
