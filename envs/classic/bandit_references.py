"""Known policies on Bernoulli bandits with a uniform prior: Gittins, Thompson, UCB1, greedy, and Bayes-optimal.

All start from the prior Beta(1, 1), as in the RL² paper's comparison (Duan et al. 2016, arXiv:1611.02779, table 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import combinations, pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

from metarl.seeding import derive
from metarl.tasks import Tasks

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
POLICIES = ("gittins", "thompson", "ucb1", "greedy")
GAMMA = 0.99
"""Discount of the Gittins index. The index is optimal for the discounted, endless bandit, hence only nearly so here."""
UCB_SCALE = 0.2
"""Factor on UCB1's bonus sqrt(2 ln t / n). 1 is the constant of the theorem (Auer et al. 2002), which explores far too
much over 100 pulls; 0.2 does best on these tasks."""
MAX_BELIEFS = 50_000
_REPEATS = 10


@lru_cache(maxsize=64)
def simulate(policy: str, tasks: Tasks, n_pulls: int) -> tuple[float, ...]:
    """Return the expected reward of each of `n_pulls` pulls of `policy`, averaged over `tasks` and ten seeded runs.

    A pull counts with the probability of the chosen arm, not with the 0 or 1 that came out, which only adds noise.
    """
    rng = np.random.default_rng(derive(0, "bandit", policy))
    p = np.repeat(tasks.values["p"].cpu().double().numpy(), _REPEATS, axis=0)
    rows = np.arange(len(p))
    wins, losses = np.zeros(p.shape, np.int64), np.zeros(p.shape, np.int64)
    means = []
    for pull in range(n_pulls):
        score = _score(policy, wins, losses, pull, n_pulls, rng)
        # Ties are broken at random; the noise is far below any difference between two scores.
        arm = np.argmax(score + 1e-9 * rng.random(p.shape), axis=1)
        chance = p[rows, arm]
        means.append(float(chance.mean()))
        won = rng.random(len(p)) < chance
        wins[rows, arm] += won
        losses[rows, arm] += ~won
    return tuple(means)


def _score(policy: str, wins: Counts, losses: Counts, pull: int, n_pulls: int, rng: np.random.Generator) -> Array:
    """Return what `policy` maximises: [rows, arms]."""
    if policy == "gittins":
        return gittins_indices(n_pulls)[wins, losses]
    if policy == "thompson":
        return rng.beta(wins + 1, losses + 1)
    mean: Array = (wins + 1) / (wins + losses + 2)
    if policy == "greedy":
        return mean
    # UCB1 pulls each arm once before its bonus is defined.
    pulls = wins + losses
    bonus = UCB_SCALE * np.sqrt(2.0 * np.log(pull + 1) / np.maximum(pulls, 1))
    return np.where(pulls == 0, np.inf, mean + bonus)


@cache
def gittins_indices(n_pulls: int, gamma: float = GAMMA) -> Array:
    """Return the Gittins index of an arm by (wins, losses): float64 [n_pulls, n_pulls], for wins + losses < n_pulls.

    Calibration (Gittins 1979): an arm's index is the sure wage per pull, paid for ever, that is worth as much as
    pulling the arm as long as one likes and then taking the wage. The value is found by backward induction from beliefs
    300 pulls further on, where the arm's chance is taken as known, on 501 wages with linear interpolation.
    """
    wages = np.linspace(0.0, 1.0, 501)
    retire = wages / (1.0 - gamma)
    index = np.zeros((n_pulls, n_pulls))
    depth = n_pulls + 300
    mean = (np.arange(depth + 1) + 1.0) / (depth + 2.0)
    value = np.maximum(retire, mean[:, None] / (1.0 - gamma))  # [wins, wage] after `depth` pulls
    for n in range(depth - 1, -1, -1):
        p = ((np.arange(n + 1) + 1.0) / (n + 2.0))[:, None]
        go_on = p * (1.0 + gamma * value[1 : n + 2]) + (1.0 - p) * gamma * value[: n + 1]
        if n < n_pulls:
            wins = np.arange(n + 1)
            index[wins, n - wins] = _crossing(wages, go_on - retire)
        value = np.maximum(retire, go_on)
    return index


def _crossing(wages: Array, surplus: Array) -> Array:
    """Return where `surplus` [states, wages], falling in the wage, crosses zero."""
    rows = np.arange(len(surplus))
    last = np.clip((surplus > 1e-12).sum(1) - 1, 0, len(wages) - 2)
    left, right = surplus[rows, last], surplus[rows, last + 1]
    share = np.clip(left / np.maximum(left - right, 1e-300), 0.0, 1.0)
    crossing: Array = wages[last] + share * (wages[1] - wages[0])
    return crossing


def n_beliefs(n_arms: int, n_pulls: int) -> int:
    """Return how many beliefs `n_pulls` pulls of `n_arms` arms can lead to."""
    return comb(n_pulls + 2 * n_arms, 2 * n_arms)


def _counts(parts: int, total: int) -> Iterator[tuple[int, ...]]:
    """Yield all tuples of `parts` counts that sum to `total`."""
    for bars in combinations(range(total + parts - 1), parts - 1):
        edges = (-1, *bars, total + parts - 1)
        yield tuple(b - a - 1 for a, b in pairwise(edges))


@cache
def bayes_optimal_rewards(n_arms: int, n_pulls: int) -> tuple[float, ...]:
    """Return the expected reward of each pull under the policy that maximises their sum, arms uniform on [0, 1].

    Exact dynamic programming over beliefs, which are counts (wins, losses) per arm: backward for the policy, forward
    for how likely it meets each belief.
    """
    value: dict[tuple[int, ...], float] = dict.fromkeys(_counts(2 * n_arms, n_pulls), 0.0)
    choice: dict[tuple[int, ...], int] = {}
    for pulls in range(n_pulls - 1, -1, -1):
        now = {}
        for belief in _counts(2 * n_arms, pulls):
            worth = [_worth(belief, arm, value) for arm in range(n_arms)]
            now[belief] = max(worth)
            choice[belief] = worth.index(now[belief])
        value = now
    reach, rewards = {(0,) * (2 * n_arms): 1.0}, []
    for _ in range(n_pulls):
        after: dict[tuple[int, ...], float] = {}
        total = 0.0
        for belief, chance in reach.items():
            p, win, loss = _outcomes(belief, choice[belief])
            total += chance * p
            after[win] = after.get(win, 0.0) + chance * p
            after[loss] = after.get(loss, 0.0) + chance * (1.0 - p)
        reach = after
        rewards.append(total)
    return tuple(rewards)


def _outcomes(belief: tuple[int, ...], arm: int) -> tuple[float, tuple[int, ...], tuple[int, ...]]:
    """Return the arm's expected reward and the beliefs after a win and after a loss."""
    at = 2 * arm
    wins, losses = belief[at], belief[at + 1]
    win = (*belief[:at], wins + 1, *belief[at + 1 :])
    loss = (*belief[: at + 1], losses + 1, *belief[at + 2 :])
    return (wins + 1) / (wins + losses + 2), win, loss


def _worth(belief: tuple[int, ...], arm: int, value: dict[tuple[int, ...], float]) -> float:
    """Return the expected reward from now on of pulling `arm` and acting best afterwards."""
    p, win, loss = _outcomes(belief, arm)
    return p * (1.0 + value[win]) + (1.0 - p) * value[loss]
