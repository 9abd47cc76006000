"""Regret of playing one task with another's policy, and rank correlation."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr

from metarl.agents.metric.transfer_regret import others, rank_correlation, ranks, transfer_regret
from metarl.errors import ConfigError
from metarl.seeding import generator


def test_with_positive_values_regret_is_the_share_that_is_lost() -> None:
    values = torch.tensor([[4.0, 1.0, 5.0], [2.0, 8.0, 4.0]], dtype=torch.float64)
    regret, unit = transfer_regret(values, torch.tensor([0, 1]))
    assert unit == "ratio"
    assert regret.tolist() == [[0.0, 0.75, -0.25], [0.75, 0.0, 0.5]]


def test_with_negative_values_regret_is_a_share_of_the_range_of_the_task() -> None:
    """The ratio would call a worse policy better: 1 - (-40 / -10) is below 0."""
    values = torch.tensor([[-10.0, -40.0, -20.0], [-5.0, -5.0, -5.0]], dtype=torch.float64)
    regret, unit = transfer_regret(values, torch.tensor([0, 2]))
    assert unit == "range"
    torch.testing.assert_close(regret, torch.tensor([[0.0, 1.0, 1.0 / 3.0], [0.0, 0.0, 0.0]], dtype=torch.float64))


def test_ranks_and_correlation_are_those_of_scipy_ties_included() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]
    a = torch.randint(0, 5, (6, 9), generator=generator(0)).double()
    b = a + torch.randint(-2, 3, (6, 9), generator=generator(1))
    expected = [spearmanr(x, y).statistic for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    assert rank_correlation(a, b).tolist() == pytest.approx(expected)


def test_correlation_is_about_order_alone_and_0_without_any() -> None:
    x = torch.tensor([0.1, 0.5, 2.0, 9.0])
    assert float(rank_correlation(x, x.exp())) == pytest.approx(1.0)
    assert float(rank_correlation(x, -x)) == pytest.approx(-1.0)
    assert float(rank_correlation(x, torch.ones(4))) == 0.0
    with pytest.raises(ConfigError, match="at least 3"):
        rank_correlation(x[:2], x[:2])


def test_the_own_entry_of_each_row_is_left_out() -> None:
    assert others(torch.arange(6.0).reshape(2, 3), torch.tensor([2, 0])).tolist() == [[0.0, 1.0], [4.0, 5.0]]
