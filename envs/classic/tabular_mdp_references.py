"""Known policies on random tabular MDPs: random, the best one for a known MDP, and posterior sampling."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from metarl.seeding import derive
from metarl.tasks import Tasks

Array = NDArray[np.float64]


def _arrays(tasks: Tasks) -> tuple[Array, Array]:
    """Return transitions [N, S, A, S] and mean rewards [N, S, A] in float64."""
    transition, reward = (tasks.values[k].cpu().double().numpy() for k in ("transition", "reward"))
    return transition, reward


def plan(transition: Array, reward: Array, horizon: int) -> tuple[Array, NDArray[np.int64]]:
    """Return the value of each state at the start [N, S] and the best action by step [horizon, N, S].

    Finite-horizon dynamic programming, without discount.
    """
    value = np.zeros(reward.shape[:2])
    policy = np.zeros((horizon, *value.shape), np.int64)
    for step in range(horizon - 1, -1, -1):
        worth = reward + np.einsum("nsat,nt->nsa", transition, value, optimize=True)
        policy[step], value = worth.argmax(-1), worth.max(-1)
    return value, policy


def policy_value(transition: Array, reward: Array, policy: NDArray[np.int64]) -> Array:
    """Return the value of each state [N, S] at the start under `policy` [horizon, N, S]."""
    value = np.zeros(reward.shape[:2])
    for action in policy[::-1]:
        chosen = action[..., None]
        after = np.take_along_axis(transition, chosen[..., None], axis=2)[:, :, 0]
        value = np.take_along_axis(reward, chosen, axis=2)[..., 0] + np.einsum("nst,nt->ns", after, value)
    return value


def random_return(tasks: Tasks, horizon: int) -> float:
    """Return the expected return of one episode of uniformly random actions, averaged over `tasks`."""
    transition, reward = _arrays(tasks)
    return float(plan(transition.mean(2, keepdims=True), reward.mean(2, keepdims=True), horizon)[0][:, 0].mean())


@lru_cache(maxsize=16)
def oracle_return(tasks: Tasks, horizon: int) -> float:
    """Return the expected return of one episode of the best policy for the known MDP, averaged over `tasks`."""
    return float(plan(*_arrays(tasks), horizon)[0][:, 0].mean())


@lru_cache(maxsize=16)
def psrl_returns(tasks: Tasks, horizon: int, n_episodes: int) -> tuple[float, ...]:
    """Return the expected return per episode of posterior sampling (Strens 2000; Osband et al. 2013).

    Each episode draws an MDP from the posterior (Dirichlet(1) on transitions, N(1, 1) on mean rewards, unit noise: the
    true prior), plans for it, and follows that plan. One seeded run per task; an episode counts with its policy's exact
    value in the true MDP, not with the rewards that came out.
    """
    rng = np.random.default_rng(derive(0, "tabular-mdp", "psrl"))
    transition, reward = _arrays(tasks)
    rows, n = np.arange(len(reward)), len(reward)
    alpha = np.ones_like(transition)
    reward_sum, visits = np.ones_like(reward), np.ones_like(reward)  # the prior counts like one reward of 1
    returns = []
    for _ in range(n_episodes):
        drawn = rng.standard_gamma(alpha)
        drawn /= drawn.sum(-1, keepdims=True)
        mean = reward_sum / visits + rng.standard_normal(reward.shape) / np.sqrt(visits)
        _, policy = plan(drawn, mean, horizon)
        returns.append(float(policy_value(transition, reward, policy)[:, 0].mean()))
        state = np.zeros(n, np.int64)
        for step in range(horizon):
            action = policy[step, rows, state]
            reward_sum[rows, state, action] += reward[rows, state, action] + rng.standard_normal(n)
            visits[rows, state, action] += 1
            cumulative = transition[rows, state, action].cumsum(-1)
            after = np.minimum((cumulative <= rng.random(n)[:, None]).sum(-1), transition.shape[-1] - 1)
            alpha[rows, state, action, after] += 1
            state = after
    return tuple(returns)
