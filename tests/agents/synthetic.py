"""Made-up rollouts of any space, size and dtype, sampled by a given policy: small true inputs for gradient tests."""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.agent import TimeStep, WorldSpec
from metarl.agents.nn.functional import Params, PolicyNet
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator
from metarl.tasks import Tasks


def synthetic_rollout(
    net: PolicyNet,
    spec: WorldSpec,
    params: Params,
    *,
    n_tasks: int,
    envs_per_task: int = 2,
    n_steps: int = 6,
    seed: int = 0,
    masked: bool = False,
    early_end: bool = True,
) -> Rollout:
    """Return one episode per env of random observations and rewards, with actions of `params` ([...] or [N, ...]).

    With `early_end` the last env of each task ends one step early and then idles.
    """
    m = envs_per_task
    g, b = generator(seed, "synthetic"), n_tasks * m
    dtype = next(iter(params.values())).dtype
    obs = torch.randn(n_steps + 1, b, spec.obs_dim, generator=g, dtype=dtype)
    mask = None
    if masked:
        mask = torch.rand(n_steps, b, spec.action_dim, generator=g) < 0.6
        mask[..., 0] = True
    rows = obs[:n_steps].reshape(n_steps, n_tasks, m, -1).transpose(0, 1).reshape(n_tasks, n_steps * m, -1)
    grouped = None
    if mask is not None:
        grouped = mask.reshape(n_steps, n_tasks, m, -1).transpose(0, 1).reshape(n_tasks, n_steps * m, -1)
    out = net(params, rows, grouped).detach()
    drawn = net.distribution.sample(out, g)
    log_prob = net.distribution.log_prob(out, drawn)

    def by_time(value: Tensor) -> Tensor:
        split = value.reshape(n_tasks, n_steps, m, *value.shape[2:]).transpose(0, 1)
        return split.reshape(n_steps, b, *value.shape[2:])

    truncated = torch.zeros(n_steps, b, dtype=torch.bool)
    valid = torch.ones(n_steps, b, dtype=torch.bool)
    truncated[-1] = True
    if early_end:
        truncated[-2, m - 1 :: m] = True
        valid[-1, m - 1 :: m] = False
    zeros = torch.zeros(b)
    return Rollout(
        obs=obs[:-1],
        action=by_time(drawn),
        log_prob=by_time(log_prob),
        reward=torch.randn(n_steps, b, generator=g, dtype=dtype),
        terminated=torch.zeros_like(truncated),
        truncated=truncated,
        next_obs=obs[1:],
        episode=torch.zeros(n_steps, b, dtype=torch.int64),
        valid=valid,
        success=None,
        action_mask=mask,
        aux={},
        start=TimeStep(obs[0], torch.zeros(b, spec.action_dim), zeros, zeros.bool()),
        n_tasks=n_tasks,
        n_episodes=m,
    )


def trial_of(*rollouts: Rollout) -> Trial:
    """Return a trial of these phases on nameless tasks."""
    n = rollouts[0].n_tasks
    return Trial(Tasks.of("synthetic", index=torch.arange(n)), rollouts)


def as_double(params: Params) -> Params:
    """Return the parameters in float64."""
    return {name: value.double() for name, value in params.items()}
