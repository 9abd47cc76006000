"""An inner rule that is itself learned: an LSTM that reads gradients and losses and writes parameters.

Ravi and Larochelle 2017 (Optimization as a model for few-shot learning, ICLR), section 3. Every adapted number is the
cell of a second LSTM, whose candidate is the gradient:

    phi_k = f_k * phi_{k-1} - i_k * grad_k
    i_k = sigmoid(w_i · [h_k, phi_{k-1}, i_{k-1}] + b_i),   f_k = sigmoid(w_f · [h_k, phi_{k-1}, f_{k-1}] + b_f)

where h_k is the output of a first LSTM on the preprocessed gradient and loss (appendix A of the same paper, after
Andrychowicz et al. 2016). All weights are shared by all numbers, so that their count does not depend on the policy's;
each number has a memory of its own, which lives in the trial's state. The gradient counts as a constant, as there
(section 3.3: without second derivatives through the loss); what the outer step learns through is the rule.

At the start the weights on phi and on the gates are 0, i is the plain step size and f is 1 - `FORGET`: the first outer
step sees gradient descent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.agents.nn.functional import Params
from metarl.checks import check_ranges

from .inner_rule import Loss

FORGET = 1e-4
"""1 - f at the start."""


@dataclass(frozen=True)
class LSTMRuleConfig:
    """Settings of the learned inner rule."""

    hidden: int = 8
    """Units of the LSTM that reads gradients, >= 1; memory per task is 2 * hidden + 2 numbers per adapted number."""
    log_range: float = 10.0
    """p of the preprocessing: gradients and losses below exp(-p) are read on a linear scale, > 0."""
    init_scale: float = 0.1
    """Standard deviation of the LSTM's weights at the start, > 0; the gates' weights on its output get 0.1 of it."""

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        check_ranges(self, "maml-trpo.lstm.", {">= 1": "hidden", "> 0 and finite": "log_range init_scale"})


def preprocess(x: Tensor, p: float) -> Tensor:
    """Return size and sign of numbers of any magnitude as two inputs of order 1: [...] -> [..., 2].

    (log|x| / p, sign x) where |x| >= exp(-p), else (-1, exp(p) x).
    """
    large = x.abs() >= math.exp(-p)
    safe = torch.where(large, x.abs(), torch.ones_like(x))
    first = torch.where(large, safe.log() / p, -torch.ones_like(x))
    return torch.stack([first, torch.where(large, x.sign(), math.exp(p) * x)], dim=-1)


class LSTMRule:
    """The learned rule; the same members as `inner_rule.GradientRule`."""

    prefix = "lstm."

    def __init__(self, names: Sequence[str], config: LSTMRuleConfig, *, alpha: float) -> None:
        """Fix which parameters move; `alpha` in (0, 1) is the step size to start from."""
        self.names, self.config, self.alpha = tuple(names), config, alpha

    def init(self, phi: Params, generator: torch.Generator) -> Params:
        """Return the rule's own meta-parameters."""
        h, scale = self.config.hidden, self.config.init_scale
        like = next(iter(phi.values()))

        def normal(rows: int, columns: int, std: float) -> Tensor:
            return (std * torch.randn(rows, columns, generator=generator, device=generator.device)).to(like.device)

        gates = torch.zeros(2, h + 2, device=like.device)
        gates[:, :h] = normal(2, h, 0.1 * scale)
        bias = torch.tensor([self.alpha, 1.0 - FORGET], dtype=torch.float64).logit().to(like.device, torch.float32)
        return {
            f"{self.prefix}reader.weight": normal(4 * h, 4 + h, scale),
            f"{self.prefix}reader.bias": torch.zeros(4 * h, device=like.device),
            f"{self.prefix}gates.weight": gates,
            f"{self.prefix}gates.bias": bias,
        }

    def start(self, phi: Params) -> Params:
        """Return the memory before the first step: per adapted number h, c [H each] and the gates i, f, all 0."""
        size = 2 * self.config.hidden + 2
        return {name: torch.zeros(*phi[name].shape, size, dtype=phi[name].dtype, device=phi[name].device)
                for name in self.names}  # fmt: skip

    def step(
        self, theta: Params, phi: Params, memory: Params, loss_of: Loss, k: Tensor | int, *, create_graph: bool
    ) -> tuple[Params, Params]:
        """Return the parameters [N, ...] after one step, and the memory; `k` and `create_graph` change nothing."""
        moving = [phi[name] for name in self.names]
        losses = loss_of(phi)
        gradients = [g.detach() for g in torch.autograd.grad(losses.sum(), moving)]
        n = len(losses)
        read_loss = preprocess(losses.detach(), self.config.log_range)[:, None]
        moved, kept = dict(phi), {}
        for name, value, gradient in zip(self.names, moving, gradients, strict=True):
            flat = gradient.reshape(n, -1)
            inputs = torch.cat([preprocess(flat, self.config.log_range), read_loss.expand(n, flat.shape[1], 2)], dim=-1)
            new, state = self._move(
                theta, value.reshape(n, -1), flat, inputs, memory[name].reshape(n, flat.shape[1], -1)
            )
            moved[name], kept[name] = new.reshape(value.shape), state.reshape(memory[name].shape)
        return moved, kept

    def _move(
        self, theta: Params, value: Tensor, gradient: Tensor, inputs: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return numbers `value` [N, P] moved along `gradient`, and their memory [N, P, 2 H + 2]."""
        h, c, gates = memory.split([self.config.hidden, self.config.hidden, 2], dim=-1)  # type: ignore[no-untyped-call]
        weight, bias = theta[f"{self.prefix}reader.weight"], theta[f"{self.prefix}reader.bias"]
        admit, forget, candidate, emit = (torch.cat([inputs, h], dim=-1) @ weight.mT + bias).chunk(4, dim=-1)
        c = forget.sigmoid() * c + admit.sigmoid() * candidate.tanh()
        h = emit.sigmoid() * c.tanh()
        weight, bias = theta[f"{self.prefix}gates.weight"], theta[f"{self.prefix}gates.bias"]
        own = torch.stack([gates, value.unsqueeze(-1).expand_as(gates)], dim=-1)  # [N, P, gate, (before, phi)]
        shared = h @ weight[:, :-2].mT
        gates = (shared + own[..., 1] * weight[:, -2] + own[..., 0] * weight[:, -1] + bias).sigmoid()
        return gates[..., 1] * value - gates[..., 0] * gradient, torch.cat([h, c, gates], dim=-1)
