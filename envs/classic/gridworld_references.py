"""Exact values of the gridworld: random moves, known goal, and the Bayes-optimal policy by dynamic programming."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

SIZE, HORIZON = 5, 15
GOAL_REWARD, STEP_REWARD = 1.0, -0.1
MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
GOALS = tuple((x, y) for x in range(SIZE) for y in range(SIZE) if x > 1 or y > 1)

_CELLS = SIZE * SIZE
NEXT = np.array(
    [
        [min(max(x + dx, 0), SIZE - 1) * SIZE + min(max(y + dy, 0), SIZE - 1) for dx, dy in MOVES]
        for x in range(SIZE)
        for y in range(SIZE)
    ]
)
"""Cell reached from each cell by each move, int64 [25, 5]; cell (x, y) has number 5 x + y."""
_BIT = np.zeros(_CELLS, np.int64)
_BIT[[x * SIZE + y for x, y in GOALS]] = 1 << np.arange(len(GOALS))


def _found_at(step: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the return of an episode that reaches the goal at `step` (from 1) and stays there."""
    before = np.asarray(step) - 1
    return before * STEP_REWARD + (HORIZON - before) * GOAL_REWARD


_KNOWN = _found_at(np.array([max(x + y, 1) for x in range(SIZE) for y in range(SIZE)]))
"""Return of an episode that walks straight to each cell, float64 [25]."""
_MISSED = HORIZON * STEP_REWARD


def random_returns(goals: Tensor, n_episodes: int) -> list[float]:
    """Return the expected return of uniformly random moves, averaged over `goals` (cell numbers [n]), per episode."""
    step = np.zeros((_CELLS, _CELLS))
    np.add.at(step, (np.repeat(np.arange(_CELLS), len(MOVES)), NEXT.ravel()), 1 / len(MOVES))
    where = np.zeros(_CELLS)
    where[0] = 1.0
    cells = goals.cpu().numpy()
    total = 0.0
    for _ in range(HORIZON):
        where = where @ step
        total += float((STEP_REWARD + (GOAL_REWARD - STEP_REWARD) * where[cells]).mean())
    return [total] * n_episodes


def known_goal_returns(goals: Tensor, n_episodes: int) -> list[float]:
    """Return the mean return of walking straight to the goal and staying: the oracle."""
    cells = goals.cpu().numpy()
    return [float(_KNOWN[cells].mean())] * n_episodes


@cache
def bayes_optimal_returns(n_episodes: int) -> tuple[float, ...]:
    """Return the return per episode of the policy that maximises the total over `n_episodes`, goal uniform over all 21.

    Nothing is learnt before the goal is found except which cells it is not on, and afterwards the best is to stay on
    it: a policy is one walk that opens unseen cells until the reward comes. The search goes forward over that walk's
    steps and keeps, per (cell, set of cells ruled out), the best value so far; a lower bound from a narrow search
    prunes it. The sum is exact, as no state is dropped whose optimistic completion reaches the bound. Of walks with
    equal totals, which may share the sum out differently, the one with the earlier returns is taken.
    """
    bound, _ = _search(n_episodes, -np.inf, width=500)
    _, returns = _search(n_episodes, bound - 1e-9, width=None)
    return tuple(returns)


_Frontier = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Cell [S], set of goals ruled out [S] (bits), and summed return over goals found or missed, per episode [S, E]."""


def _search(n_episodes: int, bound: float, width: int | None) -> tuple[float, list[float]]:
    """Return the best total found and its returns per episode, per goal on average.

    States that cannot reach `bound` are dropped; `width` keeps only the best so many, for a quick lower bound.
    """
    n = len(GOALS)
    seen = np.zeros(1, np.int64)
    gain = np.zeros((1, n_episodes))
    for episode in range(n_episodes):
        cell = np.zeros_like(seen)
        for step in range(1, HORIZON + 1):
            cell, seen, gain = _best_per_state(_extend(cell, seen, gain, episode, step))
            hope = gain.sum(1) + _optimistic(seen, gain, episode, step)
            kept = np.flatnonzero(hope >= bound * n)
            if width is not None:
                kept = kept[np.argsort(-hope[kept])[:width]]
            cell, seen, gain = cell[kept], seen[kept], gain[kept]
        gain[:, episode] += _MISSED * (n - np.bitwise_count(seen))
        # The next episode starts at (0, 0), wherever this one ended.
        _, seen, gain = _best_per_state((np.zeros_like(seen), seen, gain))
    best = gain[np.argmax(_rank(gain))]
    return float(best.sum() / n), (best / n).tolist()


def _extend(
    cell: NDArray[np.int64], seen: NDArray[np.int64], gain: NDArray[np.float64], episode: int, step: int
) -> _Frontier:
    """Return all states one move on; a goal on a cell not seen before is found now and known from then on."""
    cell = NEXT[cell].ravel()
    seen, gain = np.repeat(seen, len(MOVES)), np.repeat(gain, len(MOVES), axis=0)
    opened = (_BIT[cell] & ~seen) != 0
    gain[opened, episode] += _found_at(step)
    gain[opened, episode + 1 :] += _KNOWN[cell[opened], None]
    return cell, seen | _BIT[cell], gain


def _rank(gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the total, with ties (the totals are multiples of 0.1) broken in favour of earlier returns."""
    rank: NDArray[np.float64] = gain.sum(1) + gain @ (1e-6 * 0.1 ** np.arange(gain.shape[1]))
    return rank


def _best_per_state(states: _Frontier) -> _Frontier:
    """Return one row per (cell, set): the best."""
    cell, seen, gain = states
    key = seen * _CELLS + cell
    order = np.lexsort((-_rank(gain), key))
    first = order[np.r_[True, np.diff(key[order]) > 0]]
    return cell[first], seen[first], gain[first]


def _optimistic(seen: NDArray[np.int64], gain: NDArray[np.float64], episode: int, step: int) -> NDArray[np.float64]:
    """Return at least what any walk can still gain: one new cell opened at each step from now on."""
    later = gain.shape[1] - 1 - episode
    times = [(0, t) for t in range(step + 1, HORIZON + 1)]
    times += [(e, t) for e in range(1, later + 1) for t in range(2, HORIZON + 1)]
    farthest_first = np.sort(_KNOWN[_BIT > 0])
    table = np.zeros(len(GOALS) + 1)
    for left in range(1, len(GOALS) + 1):
        # A goal found e episodes from now is missed e times and known in e episodes fewer; one never found, in none.
        chances = (times + [(later + 1, 0)] * left)[:left]
        table[left] = sum(e * _MISSED + (_found_at(t) if t else 0.0) for e, t in chances)
        late = [min(e, later) for e, _ in chances if e]
        table[left] -= np.dot(late, farthest_first[: len(late)])
    # All goals found so far are known in each later episode, so the next column says what is known.
    unknown = _KNOWN[_BIT > 0].sum() - gain[:, episode + 1] if later else np.zeros(len(seen))
    hope: NDArray[np.float64] = table[len(GOALS) - np.bitwise_count(seen)] + later * unknown
    return hope
