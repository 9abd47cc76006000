"""Mixtures of a few policies per task, all in one batched product: N tasks, K policies each, R rows."""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.action_distributions import Distribution
from metarl.agents.nn.functional import Params, PolicyNet


def mixture_outputs(net: PolicyNet, phi: Params, obs: Tensor, action_mask: Tensor | None) -> Tensor:
    """Return what each policy says: phi [N, K, ...], obs [N, R, d] -> distribution parameters [N, K, R, p]."""
    n_mixed = next(iter(phi.values())).shape[1]

    def for_all(x: Tensor) -> Tensor:
        return x[:, None].expand(-1, n_mixed, *x.shape[1:]).flatten(0, 1)

    flat = {name: value.flatten(0, 1) for name, value in phi.items()}
    out = net(flat, for_all(obs), None if action_mask is None else for_all(action_mask))
    return out.reshape(len(obs), n_mixed, *out.shape[1:])


def mixture_log_prob(distribution: Distribution, out: Tensor, log_weight: Tensor, action: Tensor) -> Tensor:
    """Return log sum_k w_k p_k(action): [N, R].

    Args:
        distribution: of one policy.
        out: [N, K, R, p].
        log_weight: log w, [N, K].
        action: [N, R, ...], as the distribution wants it.
    """
    n_mixed = out.shape[1]
    if n_mixed == 1:
        return distribution.log_prob(out[:, 0], action)
    each = distribution.log_prob(out, action[:, None].expand(-1, n_mixed, *action.shape[1:]))
    return (each + log_weight[..., None]).logsumexp(1)


def mixture_action(
    distribution: Distribution, out: Tensor, log_weight: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Return one action per row [N, R, ...]: of a policy drawn by the weights, anew for every row.

    Without a generator it is the mode of the weightiest policy.
    """
    n_mixed, n_rows = out.shape[1], out.shape[2]
    if n_mixed == 1:
        return distribution.mode(out[:, 0]) if generator is None else distribution.sample(out[:, 0], generator)
    if generator is None:
        chosen = log_weight.argmax(1)
        return distribution.mode(out[torch.arange(len(out), device=out.device), chosen])
    # A product with ones in place of a cumulative sum, which a GPU does not add up in a fixed order.
    bounds = log_weight.exp() @ torch.ones(n_mixed, n_mixed - 1, device=out.device).triu()
    u = torch.rand(len(out), n_rows, generator=generator, device=out.device)
    picked = (u[..., None] >= bounds[:, None]).sum(-1)
    at = picked[:, None, :, None].expand(-1, 1, -1, out.shape[-1])
    return distribution.sample(out.gather(1, at)[:, 0], generator)
