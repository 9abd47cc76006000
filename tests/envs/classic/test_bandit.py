"""Bandits: what a pull pays, and the reference policies against exact and published values."""

from functools import cache
from itertools import pairwise

import pytest
import torch
from scipy import stats

from metarl import envs
from metarl.envs.classic.bandit_references import gittins_indices
from metarl.tasks import Tasks


def test_an_arm_pays_with_its_own_probability():
    world = envs.make("bandit", n_arms=3).make_world(6000)
    world.set_tasks(Tasks.of("bandit", p=torch.tensor([[0.1, 0.5, 0.9]]).repeat(6000, 1)))
    world.reset(seed=0)
    for arm, p in enumerate((0.1, 0.5, 0.9)):
        wins = 0
        for _ in range(5):
            _, reward, terminated, truncated, _ = world.step(torch.full((6000,), arm))
            assert set(reward.unique().tolist()) == {0.0, 1.0}
            assert truncated.all()
            assert not terminated.any()
            wins += int(reward.sum())
        assert stats.binomtest(wins, 30_000, p).pvalue > 1e-4


def test_arms_with_probability_zero_and_one_are_certain():
    world = envs.make("bandit", n_arms=2).make_world(500)
    world.set_tasks(Tasks.of("bandit", p=torch.tensor([[0.0, 1.0]]).repeat(500, 1)))
    world.reset(seed=0)
    assert world.step(torch.zeros(500, dtype=torch.long))[1].sum() == 0
    assert world.step(torch.ones(500, dtype=torch.long))[1].sum() == 500


def test_there_is_nothing_to_observe():
    family = envs.make("bandit")
    world = family.make_world(50)
    world.set_tasks(family.all("test")[:50])
    obs, _ = world.reset(seed=0)
    for t in range(4):
        assert torch.equal(obs, torch.zeros(50, 1))
        obs, *_ = world.step(torch.full((50,), t))


def test_success_probabilities_are_uniform():
    p = envs.make("bandit").all("test").values["p"].flatten().numpy()
    assert stats.kstest(p, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("gamma", "wins", "losses", "published"),
    # Gittins, Glazebrook and Weber 2011, tables of the Bernoulli reward process
    [(0.9, 0, 0, 0.7029), (0.9, 1, 0, 0.8001), (0.9, 0, 1, 0.5001), (0.99, 0, 0, 0.8699), (0.99, 0, 1, 0.7005)],
)
def test_gittins_indices_agree_with_the_published_table(gamma, wins, losses, published):
    assert gittins_indices(10, gamma)[wins, losses] == pytest.approx(published, abs=2e-4)


def test_the_gittins_index_exceeds_the_mean_and_falls_towards_it_with_experience():
    index = gittins_indices(60)
    bonus = [index[n, n] - 0.5 for n in range(29)]
    assert all(a > b > 0 for a, b in pairwise(bonus))


def test_the_bayes_optimal_values_of_two_pulls_are_those_worked_by_hand():
    # The first pull is even; after a win (1/2) the same arm pays 2/3, after a loss the other one 1/2.
    known = envs.make("bandit", n_arms=2).references("test", 2)
    assert known["bayes_optimal"] == pytest.approx([1 / 2, (2 / 3 + 1 / 2) / 2])


def expectimax(n_arms, n_pulls):
    """Best expected sum of rewards, over all histories."""

    @cache
    def value(history):
        if len(history) == n_pulls:
            return 0.0
        best = 0.0
        for arm in range(n_arms):
            outcomes = [won for a, won in history if a == arm]
            p = (sum(outcomes) + 1) / (len(outcomes) + 2)
            win, loss = value((*history, (arm, 1))), value((*history, (arm, 0)))
            best = max(best, p * (1 + win) + (1 - p) * loss)
        return best

    return value(())


@pytest.mark.parametrize(("n_arms", "n_pulls"), [(2, 5), (3, 4)])
def test_bayes_optimal_values_agree_with_a_search_over_histories(n_arms, n_pulls):
    known = envs.make("bandit", n_arms=n_arms).references("test", n_pulls)["bayes_optimal"]
    assert sum(known) == pytest.approx(expectimax(n_arms, n_pulls))


def test_no_policy_beats_the_bayes_optimal_one():
    family = envs.make("bandit", n_arms=2, n_test=5000)
    known = {name: sum(values) for name, values in family.references("test", 12).items()}
    # The list of tasks is one sample of the law that "bayes_optimal" is exact for: 4 standard errors.
    spread = 4 * 12 * float(family.all("test").values["p"].amax(1).std()) / 5000**0.5
    best = known["bayes_optimal"]
    assert all(known[name] <= best + spread for name in ("random", "gittins", "thompson", "ucb1", "greedy"))
    assert known["gittins"] == pytest.approx(best, abs=spread)
    assert known["random"] + 1.0 < best < known["oracle"]


def test_references_agree_with_the_published_table_for_100_pulls_of_5_arms():
    known = {name: sum(values) for name, values in envs.make("bandit").references("test", 100).items()}
    # Duan et al. 2016, table 1, also 1000 tasks of their own: standard error 0.45.
    published = {"random": 49.9, "gittins": 78.3, "thompson": 74.7, "ucb1": 78.0, "greedy": 74.8}
    for name, value in published.items():
        assert known[name] == pytest.approx(value, abs=1.5), name
    assert known["oracle"] == pytest.approx(100 * 5 / 6, abs=1.5)
    assert known["gittins"] > max(known[name] for name in ("thompson", "ucb1", "greedy"))


def test_references_are_the_same_each_time():
    one, two = (envs.make("bandit", n_test=100).references("validation", 7) for _ in range(2))
    assert one == two
    assert one != envs.make("bandit", n_test=100).references("test", 7)
