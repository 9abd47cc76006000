"""The outer step of ProMP: several clipped gradient steps on one batch of trials, held near the sampling policies.

Rothfuss et al. 2019 (arXiv:1810.06784), section 6: J^CLIP of the adapted policies (the clipped surrogate of Schulman et
al. 2017, with the ratio taken after re-adaptation) minus eta_k * KL(old || new) of the policies *before* each inner
step k, whose episodes the re-adaptation reuses. Each eta_k is doubled or halved as its divergence leaves a band about
the target (Schulman et al. 2017, section 4).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metarl.agents.nn.functional import Params
from metarl.checks import check_ranges
from metarl.distributed import ALONE, Group

Objective = Callable[[Params], tuple[Tensor, Tensor]]
"""Theta -> (loss, KL(old || new) of the policies before each inner step, in nats [K])."""


@dataclass(frozen=True)
class OuterPPOConfig:
    """Settings of the clipped outer step."""

    lr: float = 1e-3
    """Adam's step size, > 0."""
    epochs: int = 5
    """Optimiser steps per batch of trials, each on all of it, >= 1."""
    clip: float = 0.3
    """Largest useful change of the adapted policies' probability ratio, > 0."""
    inner_kl_coef: float = 5e-4
    """eta at the start: weight of a nat of divergence before an inner step, in units of standardised advantage, >= 0.
    """
    inner_kl_target: float | None = 0.01
    """Divergence per inner step that eta aims at, in nats (> 0); None leaves eta as it is."""

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        ranges = {
            "> 0 and finite": "lr clip", "> 0 and finite, or None": "inner_kl_target",
            ">= 0 and finite": "inner_kl_coef", ">= 1": "epochs",
        }  # fmt: skip
        check_ranges(self, "maml-trpo.ppo.", ranges)


def adapted_coef(coef: float, divergence: float, target: float) -> float:
    """Return eta after a step: half below target / 1.5, double above 1.5 target, else as it was."""
    if divergence < target / 1.5:
        return coef / 2
    return coef * 2 if divergence > target * 1.5 else coef


class OuterPPO:
    """Adam on theta and the penalties eta_k; what it holds goes into checkpoints."""

    def __init__(self, config: OuterPPOConfig, theta: Params, n_steps: int) -> None:
        """`theta` gives names and shapes, `n_steps` is K."""
        self.config, self.kl_coef = config, [config.inner_kl_coef] * n_steps
        self._leaves = {name: value.detach().clone().requires_grad_() for name, value in theta.items()}
        self._adam = torch.optim.Adam(self._leaves.values(), lr=config.lr)

    def step(self, theta: Params, objective: Objective, team: Group = ALONE) -> tuple[Params, dict[str, float]]:
        """Return theta after `epochs` steps down the penalised objective, and metrics of the whole step.

        The objective is the sum of what `objective` is in each process of `team`.

        `improvement`: fall of the loss. `gradient_norm`: at the first epoch. `support_kl`: KL(old || new) before
        adaptation, in nats, mean over inner steps. `kl_coef`: mean eta of the next step. `step_norm`.
        """
        leaves = self._leaves
        with torch.no_grad():
            for name, leaf in leaves.items():
                leaf.copy_(theta[name])
        first, norm = None, torch.zeros(())
        for _ in range(self.config.epochs):
            self._adam.zero_grad(set_to_none=True)
            loss, divergence = objective(leaves)
            penalty = (divergence * divergence.new_tensor(self.kl_coef)).sum()
            gradients = torch.autograd.grad(loss + penalty, list(leaves.values()), allow_unused=True)
            for leaf, gradient in zip(leaves.values(), gradients, strict=True):
                leaf.grad = torch.zeros_like(leaf) if gradient is None else gradient
            whole = team.total_gradients(list(leaves.values()), {"loss": loss.detach()})
            if first is None:
                first = whole["loss"]
                norm = torch.cat([leaf.grad.reshape(-1) for leaf in leaves.values() if leaf.grad is not None]).norm()
            self._adam.step()
        loss, divergence = team.total([value.detach() for value in objective(leaves)])
        if self.config.inner_kl_target is not None:
            pairs = zip(self.kl_coef, divergence.tolist(), strict=True)
            self.kl_coef = [adapted_coef(coef, kl, self.config.inner_kl_target) for coef, kl in pairs]
        new = {name: leaf.detach().clone() for name, leaf in leaves.items()}
        moved = torch.cat([(new[name] - theta[name]).reshape(-1) for name in new])
        return new, {
            "improvement": float(first - loss) if first is not None else 0.0,
            "gradient_norm": float(norm),
            "support_kl": float(divergence.mean()),
            "kl_coef": sum(self.kl_coef) / len(self.kl_coef),
            "step_norm": float(moved.norm()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return Adam's state and the penalties, copied."""
        return {"adam": copy.deepcopy(self._adam.state_dict()), "kl_coef": list(self.kl_coef)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        self._adam.load_state_dict(copy.deepcopy(dict(state["adam"])))
        self.kl_coef = [float(value) for value in state["kl_coef"]]
