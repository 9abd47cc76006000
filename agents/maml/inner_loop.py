"""MAML's inner loop for all tasks at once: advantages of a stored batch, and a differentiable gradient step on it.

Finn et al. 2017 (arXiv:1703.03400), equation 1 and section 5.3: phi_{k+1} = phi_k - alpha * grad L(phi_k), with L the
policy-gradient loss on episodes that phi_k itself collected. Everything here has a task axis N in front; no Python loop
runs over tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from metarl.agents.nn.functional import Params, PolicyNet
from metarl.returns import discounted_returns, gae, masked_mean, standardise
from metarl.rollout import Rollout

from .linear_baseline import episode_age, features, fit_predict

Objective = Literal["likelihood-ratio", "log-likelihood", "dice"]


@dataclass(frozen=True)
class Batch:
    """One phase, regrouped by task: R = T * M rows each. What the loss needs and nothing that depends on phi."""

    obs: Tensor
    """float [N, R, obs_dim]."""
    action: Tensor
    """[N, R, ...], as the distribution wants it."""
    log_prob: Tensor
    """float [N, R]: log-probability at sampling time, the denominator of every importance ratio."""
    advantage: Tensor
    """float [N, R]: standardised per task; 0 in rows that do not count."""
    valid: Tensor
    """bool [N, R]."""
    action_mask: Tensor | None
    """bool [N, R, n], or None."""
    began: Tensor | None = None
    """int64 [N, T, M]: the time step, of T, at which a row's episode began; R = T * M. None where nothing asks."""

    def rows(self, index: Tensor) -> Batch:
        """Return the batch with the rows at `index` (int64 [r]) of each task only."""
        return Batch(
            obs=self.obs[:, index],
            action=self.action[:, index],
            log_prob=self.log_prob[:, index],
            advantage=self.advantage[:, index],
            valid=self.valid[:, index],
            action_mask=None if self.action_mask is None else self.action_mask[:, index],
        )

    def tasks(self, some: slice) -> Batch:
        """Return the rows of some tasks only."""
        parts = ((f.name, getattr(self, f.name)) for f in fields(self))
        chosen: dict[str, Any] = {name: None if value is None else value[some] for name, value in parts}
        return Batch(**chosen)


def by_task(value: Tensor, n_tasks: int) -> Tensor:
    """Regroup [T, N * M, ...] as [N, T * M, ...]."""
    n_steps, envs_per_task = value.shape[0], value.shape[1] // n_tasks
    grouped = value.reshape(n_steps, n_tasks, envs_per_task, *value.shape[2:]).transpose(0, 1)
    return grouped.reshape(n_tasks, n_steps * envs_per_task, *value.shape[2:])


def advantages(rollout: Rollout, obs: Tensor, gamma: float, lam: float) -> Tensor:
    """Return each step's standardised advantage against its own task's baseline: [N, R].

    The baseline is fitted to the discounted returns of this rollout. Both returns and advantages stop where an episode
    stops, be it terminated or truncated: the time limit is part of the task (finite horizon), and the baseline sees the
    time, so that it can learn that little is left to earn near the limit. Bootstrapping there instead would need the
    value of states the baseline never saw.
    """
    n = rollout.n_tasks
    valid, last = rollout.valid, rollout.last
    reward = torch.where(valid, rollout.reward, 0.0).to(obs.dtype)
    returns = discounted_returns(reward, last, gamma)
    valid_rows = by_task(valid, n)
    x = features(obs, by_task(episode_age(last), n).to(obs.dtype))
    fitted = fit_predict(x, by_task(returns, n), valid_rows)
    value = fitted.reshape(n, len(reward), -1).transpose(0, 1).reshape(reward.shape)
    next_value = torch.cat([value[1:], torch.zeros_like(value[:1])])
    # An env that idles after its last episode has `last` set at that episode's end, so nothing leaks back from there.
    advantage = gae(reward, value, next_value, last, last, gamma, lam)
    return standardise(by_task(advantage, n), valid_rows, dims=(1,))


def make_batch(net: PolicyNet, rollout: Rollout, gamma: float, lam: float, *, episodes: bool = False) -> Batch:
    """Return what the losses need of one phase; `episodes` adds what `dice_loss` needs."""
    n = rollout.n_tasks
    valid = by_task(rollout.valid, n)
    # Rows that do not count may hold anything; zeros keep 0 * NaN out of the sums.
    obs = torch.where(valid.unsqueeze(-1), by_task(rollout.obs, n), 0.0)
    return Batch(
        obs=obs,
        action=by_task(net.flat_action(rollout.action, batch_dims=2), n),
        log_prob=torch.where(valid, by_task(rollout.log_prob, n), 0.0),
        advantage=advantages(rollout, obs, gamma, lam),
        valid=valid,
        action_mask=None if rollout.action_mask is None else by_task(rollout.action_mask, n),
        began=_beginnings(rollout) if episodes else None,
    )


def _beginnings(rollout: Rollout) -> Tensor:
    """Return the time step at which each step's episode began: int64 [N, T, M]."""
    n_steps = len(rollout.obs)
    now = torch.arange(n_steps, device=rollout.obs.device)[:, None]
    return by_task(now - episode_age(rollout.last).long(), rollout.n_tasks).reshape(rollout.n_tasks, n_steps, -1)


def task_scores(rollout: Rollout, gamma: float) -> Tensor:
    """Return each task's mean discounted return per episode, standardised over tasks (0 where all are alike): [N]."""
    age = episode_age(rollout.last)
    valid = by_task(rollout.valid, rollout.n_tasks)
    earned = by_task(gamma**age * torch.where(rollout.valid, rollout.reward, 0.0), rollout.n_tasks).sum(1)
    n_episodes = (valid & (by_task(age, rollout.n_tasks) == 0)).sum(1).clamp(min=1)
    return standardise(earned / n_episodes, torch.ones_like(earned, dtype=torch.bool), dims=(0,))


def ratio_loss(net: PolicyNet, dist_params: Tensor, batch: Batch) -> Tensor:
    """Return minus the importance-weighted advantage, averaged over each task's valid rows: [N].

    The ratio is 1 at the parameters that sampled, where the gradient is the policy gradient and the second derivative
    has no more variance than it must (Rothfuss et al. 2019, arXiv:1810.06784: the low-variance curvature estimator, in
    its "likelihood ratio" form). It is unbiased for a single decision; over several it leaves out the
    term in which a change of policy changes later advantages, which `dice_loss` has.
    """
    log_prob = net.distribution.log_prob(dist_params, batch.action)
    ratio = torch.where(batch.valid, log_prob - batch.log_prob, 0.0).exp()
    return -masked_mean(ratio * batch.advantage, batch.valid, dims=(1,))


def log_likelihood_loss(net: PolicyNet, dist_params: Tensor, batch: Batch) -> Tensor:
    """Return minus the advantage-weighted log-likelihood, averaged over each task's valid rows: [N].

    The form of the original MAML code: same gradient as `ratio_loss` at the sampling parameters, another Hessian.
    """
    log_prob = net.distribution.log_prob(dist_params, batch.action)
    return -masked_mean(torch.where(batch.valid, log_prob, 0.0) * batch.advantage, batch.valid, dims=(1,))


def dice_loss(net: PolicyNet, dist_params: Tensor, batch: Batch) -> Tensor:
    """Return a loss of value 0 whose derivatives of any order are those of minus the expected return, unbiased: [N].

    Foerster et al. 2018 (arXiv:1802.05098) with the advantage in place of reward and baseline (Farquhar et al. 2019,
    arXiv:1909.10549): sum_t (W_{<=t} - W_{<t}) A_t, where W is the magic box exp(x - stop_gradient(x)) of
    the episode's log-probabilities up to a step. The ratio form gives each action its own probability only, and so
    leaves out that a change of policy changes the advantages of other steps. With gae's lambda at 1 any baseline, and
    any constant added to the advantages, drops out of the expectation. Averaged over valid rows, as the other losses.
    """
    if batch.began is None:
        raise ValueError("dice_loss needs Batch.began; make the batch with episodes=True")
    log_prob = torch.where(batch.valid, net.distribution.log_prob(dist_params, batch.action), 0.0)
    own = (log_prob - log_prob.detach()).reshape(batch.began.shape)
    # A product with ones below the diagonal: `cumsum` of floats is not deterministic on a GPU.
    before = own.new_ones(own.shape[1], own.shape[1]).tril(-1) @ own
    before = before - before.gather(1, batch.began)
    weight = (before + own).exp() - before.exp()
    return -masked_mean(weight.reshape(log_prob.shape) * batch.advantage, batch.valid, dims=(1,))


_LOSSES = {"likelihood-ratio": ratio_loss, "log-likelihood": log_likelihood_loss, "dice": dice_loss}


def inner_loss(net: PolicyNet, phi: Params, batch: Batch, objective: Objective) -> Tensor:
    """Return each task's loss at its own parameters `phi` [N, ...]: [N]."""
    loss_of = _LOSSES[objective]
    return loss_of(net, net(phi, batch.obs, batch.action_mask), batch)


def gradient_step(
    phi: Params,
    loss_of: Callable[[Params], Tensor],
    step_size: Tensor | float | Mapping[str, Tensor | float],
    *,
    create_graph: bool,
) -> Params:
    """Return phi - step_size * grad, task by task.

    Args:
        phi: parameters [N, ...]; those that move require grad.
        loss_of: phi -> losses [N]; loss i depends on row i alone, so the gradient of the sum is each task's own.
        step_size: alpha, one for all tasks or float [N]; or one per name, of any shape that broadcasts to that
            parameter's, in which case parameters without one stay as they are.
        create_graph: keep the graph of the gradient, so that the result can be differentiated through the step
            (second-order MAML). Without it the gradient counts as a constant (first-order MAML).
    """
    if not isinstance(step_size, Mapping):
        step_size = {name: _per_row(step_size, value) for name, value in phi.items()}
    moving = [phi[name] for name in step_size]
    grads = torch.autograd.grad(loss_of(phi).sum(), moving, create_graph=create_graph)
    moved = {
        # A plain number joins the sum: one pass over all tasks' parameters less, here and in the derivative.
        name: value - size * grad if isinstance(size, Tensor) else torch.add(value, grad, alpha=-size)
        for (name, size), value, grad in zip(step_size.items(), moving, grads, strict=True)
    }
    return {name: moved.get(name, value) for name, value in phi.items()}


def _per_row(step_size: Tensor | float, value: Tensor) -> Tensor | float:
    return step_size.reshape(-1, *[1] * (value.dim() - 1)) if isinstance(step_size, Tensor) else step_size
