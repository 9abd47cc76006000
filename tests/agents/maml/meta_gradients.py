"""A small MAML agent in float64 with two tasks' data, and its meta-gradient by autograd and by finite differences."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agent import WorldSpec
from metarl.agents.maml.agent import MAML, MAMLConfig, MetaBatch
from metarl.agents.maml.trust_region import flatten, unflatten
from metarl.agents.nn.functional import Params
from metarl.seeding import generator
from tests.agents.synthetic import as_double, synthetic_rollout, trial_of

F64 = torch.float64
OBS = spaces.Box(-1, 1, (2,), np.float32)
ACTIONS = {
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "masked": spaces.Discrete(3, start=1),
    "multi": spaces.MultiDiscrete([2, 3]),
}


def setup(kind: str, **options: object) -> tuple[MAML, Params, MetaBatch]:
    """Return agent, parameters to differentiate at, and episodes of another policy."""
    spec = WorldSpec(OBS, ACTIONS[kind], 6)
    config = MAMLConfig(hidden=(3,), alpha=0.4, episodes_per_step=2, init_std=0.7, **options)  # type: ignore[arg-type]
    agent = config.build(spec, seed=1)
    sampler = as_double(agent.parameters())
    rollouts = [
        synthetic_rollout(agent.net, spec, sampler, n_tasks=2, seed=phase, masked=kind == "masked")
        for phase in range(config.inner_steps + 1)
    ]
    noise = generator(5)
    theta = {n: v + 0.1 * torch.randn(v.shape, generator=noise, dtype=F64) for n, v in sampler.items()}
    return agent, theta, agent.meta_batch(trial_of(*rollouts))


def surrogate(agent: MAML, like: Params, batch: MetaBatch, flat: Tensor, *, differentiable: bool) -> Tensor:
    """Return the objective at `flat`, or its gradient if `differentiable`."""
    parts = [p.detach().requires_grad_() for p in unflatten(flat, list(like.values()))]
    loss, _, _ = agent.objective(dict(zip(like, parts, strict=True)), batch, differentiable=differentiable)
    return flatten(torch.autograd.grad(loss, parts)) if differentiable else loss.detach()


def finite_differences(agent: MAML, theta: Params, batch: MetaBatch, width: float = 1e-5) -> Tensor:
    """Return the central differences of the objective at theta, one per number: [P]."""
    flat = flatten(list(theta.values()))
    slopes = []
    for i in range(len(flat)):
        nudge = torch.zeros_like(flat)
        nudge[i] = width
        up, down = (surrogate(agent, theta, batch, flat + s * nudge, differentiable=False) for s in (1, -1))
        slopes.append((up - down) / (2 * width))
    return torch.stack(slopes)
