"""The linear feature baseline: one least-squares value function per task, fitted on the very batch it is used on.

Features of Duan et al. 2016 (arXiv:1604.06778, section 5): observation, its square, time, time squared and cubed, and a
constant. A fit takes no gradient steps, so each task of each inner step gets its own; sharing one across tasks, or
using one that was never fitted, silently costs MAML most of its signal.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 1e-8
"""Weight of the penalty, relative to features of mean square 1."""
LARGE = 1e15
"""Observations from here on are given in larger units."""
TIME_SCALE = 100.0
"""Env steps per unit of the time feature."""


def episode_age(last: Tensor) -> Tensor:
    """Return how many env steps of its episode precede each step: float [T, B], from `last` (bool [T, B])."""
    n_steps = len(last)
    index = torch.arange(n_steps, device=last.device)[:, None].expand_as(last)
    first = torch.zeros_like(index)
    if n_steps > 1:
        first[1:] = torch.where(last[:-1], index[1:], 0).cummax(dim=0).values
    return (index - first).to(torch.get_default_dtype())


def features(obs: Tensor, age: Tensor) -> Tensor:
    """Return [..., 2 * obs_dim + 4] features of observations [..., obs_dim] and their ages [...] in env steps.

    Entries of an observation that reach 1e15 are taken in units of 2^70, so that float32 holds their squares. A power
    of two changes no digit of a fit, which scales all features anyway.
    """
    rows = obs.detach().reshape(-1, obs.shape[-1])
    obs = obs * torch.where(rows.abs().amax(dim=0) < LARGE, 1.0, 2.0**-70).to(obs.dtype)
    time = (age / TIME_SCALE).unsqueeze(-1)
    return torch.cat([obs, obs.square(), time, time.square(), time**3, torch.ones_like(time)], dim=-1)


def fit_predict(x: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Fit one ridge regression per task and return its predictions on the same rows.

    Args:
        x: features [N, R, F].
        target: [N, R], in the unit of a return.
        valid: bool [N, R]; other rows take no part in the fit.

    Returns:
        Predictions [N, R] in `target`'s dtype.

    Features are scaled to mean square 1 per task before the penalty, in float64: the normal equations then have a
    condition number below F / RIDGE whatever the observations are, so that collinear or constant features (one-hot
    observations equal their squares) need no special care.
    """
    weight = valid.to(torch.float64)
    count = weight.sum(dim=1).clamp(min=1.0)[:, None, None]
    wide = x.to(torch.float64) * weight.unsqueeze(-1)
    scale = (wide.square().sum(dim=1, keepdim=True) / count).sqrt()
    scaled = wide / torch.where(scale > 0, scale, 1.0)
    gram = scaled.mT @ scaled / count + RIDGE * torch.eye(x.shape[-1], dtype=torch.float64, device=x.device)
    moment = scaled.mT @ (target.to(torch.float64) * weight).unsqueeze(-1) / count
    coefficients = torch.cholesky_solve(moment, torch.linalg.cholesky(gram))
    return (scaled @ coefficients).squeeze(-1).to(target.dtype)
