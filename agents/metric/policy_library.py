"""A library of task policies: who owns which slot, all slots' weights in one stack, and what the tasks looked like.

Row `average` of the stack, the last one, is the average-task policy: it belongs to no task and learns from all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metarl.agents.nn.batched_adam import adam_rows
from metarl.agents.nn.functional import Params
from metarl.errors import CheckpointError
from metarl.state import choose_rows

NO_SLOT = -1


class PolicyLibrary:
    """Weights, moments of Adam and the latest contexts of a fixed number of tasks, known by `Tasks.keys()`."""

    def __init__(
        self,
        n_slots: int,
        start: Params,
        context_shape: Sequence[int],
        *,
        lr: float,
        max_grad_norm: float,
        device: torch.device,
    ) -> None:
        """`start` are the weights that every row begins with, `context_shape` is (contexts, transitions, width)."""
        self.n_slots, self.average, self.lr, self.max_grad_norm = n_slots, n_slots, lr, max_grad_norm
        self.device = device
        self.keys: list[str] = []
        """The key of the task in each slot taken so far."""
        self.params = {k: v.detach().expand(n_slots + 1, *v.shape).clone() for k, v in start.items()}
        """[n_slots + 1, ...]."""
        self._first = {k: torch.zeros_like(v) for k, v in self.params.items()}
        self._second = {k: torch.zeros_like(v) for k, v in self.params.items()}
        self._steps = torch.zeros(n_slots + 1, device=device)
        self.contexts = torch.zeros(n_slots, *context_shape, device=device)
        """[n_slots, contexts, transitions, width]."""
        self._written = [0] * n_slots

    @property
    def n_contexts(self) -> Tensor:
        """How many contexts each slot holds: int64 [n_slots]."""
        held = [min(n, self.contexts.shape[1]) for n in self._written]
        return torch.tensor(held, dtype=torch.int64, device=self.device)

    def rows(self, index: Tensor) -> Params:
        """Return the policies in rows `index` (int64, any shape): [*index.shape, ...]."""
        return {k: v[index] for k, v in self.params.items()}

    def assign(self, keys: Sequence[str]) -> Tensor:
        """Return each task's slot, int64 [N]; a task met for the first time gets the next free one.

        Its policy starts as the average-task policy. Once all slots are taken new tasks get `NO_SLOT`: policies are
        worth more than the tasks met last, and an endless family brings no task back that could be trained on.
        """
        where = {key: slot for slot, key in enumerate(self.keys)}
        for key in keys:
            if key not in where and len(self.keys) < self.n_slots:
                where[key] = len(self.keys)
                self.keys.append(key)
                self._follow_average(slice(where[key], where[key] + 1))
        return torch.tensor([where.get(key, NO_SLOT) for key in keys], dtype=torch.int64, device=self.device)

    def follow_average(self) -> None:
        """Make all policies copies of the average-task policy, as if never trained."""
        self._follow_average(slice(0, self.n_slots))

    def _follow_average(self, rows: slice) -> None:
        for name, value in self.params.items():
            value[rows] = value[self.average]
            self._first[name][rows] = 0.0
            self._second[name][rows] = 0.0
        self._steps[rows] = 0.0

    def remember(self, slots: Tensor, contexts: Tensor) -> None:
        """Store new contexts [N, P, transitions, width] of the tasks in `slots`, in place of the oldest ones.

        Tasks without a slot are left out; of a task that is in the batch twice the last contexts stay.
        """
        ring = self.contexts.shape[1]
        for slot, fresh in zip(slots.tolist(), contexts, strict=True):
            if slot == NO_SLOT:
                continue
            for context in fresh[-ring:]:
                self.contexts[slot, self._written[slot] % ring] = context
                self._written[slot] += 1

    def learn(self, index: Tensor, n_steps: int, loss_of: Callable[[Params, Params], tuple[Tensor, Tensor]]) -> None:
        """Take `n_steps` steps of Adam, all policies in one batch; those of other slots stay as they are.

        Args:
            index: slots that learn from their task's episodes, int64 [N]; the same one may stand there twice.
            n_steps: gradient steps.
            loss_of: (policies [N, ...] of `index`, the average-task policy without a task axis) -> the losses of the
                former, [N], and the loss of the latter, [].
        """
        learns = torch.zeros(self.n_slots + 1, dtype=torch.bool, device=self.device)
        learns[index] = True
        learns[self.average] = True
        share = 1.0 / torch.bincount(index, minlength=1)[index] if len(index) else torch.zeros(0, device=self.device)
        for _ in range(n_steps):
            with torch.enable_grad():
                leaves = {k: v.detach().requires_grad_() for k, v in self.params.items()}
                own, average = loss_of(
                    {k: v[index] for k, v in leaves.items()}, {k: v[self.average] for k, v in leaves.items()}
                )
                loss = (own * share).sum() + average
                grads = torch.autograd.grad(loss, list(leaves.values()))
            self._steps = self._steps + learns
            moved = adam_rows(
                self.params, dict(zip(leaves, grads, strict=True)), self._first, self._second,
                self._steps.clamp(min=1.0), lr=self.lr, max_grad_norm=self.max_grad_norm,
            )  # fmt: skip
            kept = (self.params, self._first, self._second)
            self.params, self._first, self._second = (
                choose_rows(learns, new, old) for new, old in zip(moved, kept, strict=True)
            )

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, copied; contexts of the slots taken only."""
        stacks = {"params": self.params, "first": self._first, "second": self._second}
        return {
            "keys": list(self.keys),
            **{name: {k: v.clone() for k, v in stack.items()} for name, stack in stacks.items()},
            "steps": self._steps.clone(),
            "contexts": self.contexts[: len(self.keys)].clone(),
            "written": list(self._written),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError if it belongs to other settings."""
        shapes, expected = ({k: tuple(v.shape) for k, v in params.items()} for params in (state["params"], self.params))
        kept: Tensor = state["contexts"]
        if shapes != expected or kept.shape[1:] != self.contexts.shape[1:]:
            raise CheckpointError(
                f"this checkpoint's library does not fit the metric agent of this config: policies {shapes}, expected "
                f"{expected}; contexts {tuple(kept.shape[1:])}, expected {tuple(self.contexts.shape[1:])}"
            )
        self.keys = list(state["keys"])
        self.params, self._first, self._second = (
            {k: state[name][k].to(self.device, copy=True) for k in self.params}
            for name in ("params", "first", "second")
        )
        self._steps = state["steps"].to(self.device, copy=True)
        self.contexts = torch.zeros_like(self.contexts)
        self.contexts[: len(kept)] = kept.to(self.device)
        self._written = list(state["written"])
