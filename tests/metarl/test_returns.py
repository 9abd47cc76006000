"""Returns and advantages against hand-worked numbers."""

import pytest
import torch
from torch import Tensor

from metarl.errors import ConfigError
from metarl.returns import discounted_returns, gae, masked_mean, standardise


def _column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def _flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)[:, None]


def test_discounted_returns_by_hand_stop_at_episode_ends() -> None:
    """gamma 1/2, episodes (1, 2, 4) and (8, 16): 1 + 1 + 1, 2 + 2, 4 | 8 + 8, 16."""
    got = discounted_returns(_column(1, 2, 4, 8, 16), _flags(0, 0, 1, 0, 1), 0.5)
    assert got[:, 0].tolist() == [3, 4, 4, 16, 16]


def test_a_constant_reward_approaches_one_over_one_minus_gamma() -> None:
    got = discounted_returns(torch.ones(2000, 1, dtype=torch.float64), torch.zeros(2000, 1, dtype=torch.bool), 0.99)
    assert float(got[0]) == pytest.approx(1 / (1 - 0.99), rel=1e-6)


def test_gae_is_worked_by_hand() -> None:
    """gamma 1/2, lam 1/2, one terminated episode of three steps.

    delta_2 = 3 + 0 - 2 = 1; delta_1 = 2 + 1 - 4 = -1; delta_0 = 1 + 2 - 6 = -3.
    A_2 = 1; A_1 = -1 + 1/4 = -3/4; A_0 = -3 + 1/4 * -3/4 = -51/16.
    """
    got = gae(_column(1, 2, 3), _column(6, 4, 2), _column(4, 2, 100), _flags(0, 0, 1), _flags(0, 0, 1), 0.5, 0.5)
    assert got[:, 0].tolist() == [-51 / 16, -3 / 4, 1]


def test_truncation_keeps_the_bootstrap_and_termination_drops_it() -> None:
    """Same data, only the kind of end differs: the bootstrap of 1/2 * 100 must appear in one case only."""
    arguments = (_column(1, 2, 3), _column(6, 4, 2), _column(4, 2, 100))
    terminated = gae(*arguments, _flags(0, 0, 1), _flags(0, 0, 1), 0.5, 0.5)[:, 0]
    truncated = gae(*arguments, _flags(0, 0, 0), _flags(0, 0, 1), 0.5, 0.5)[:, 0]
    assert (truncated - terminated).tolist() == [50 / 16, 50 / 4, 50]


def test_gae_does_not_leak_from_the_next_episode() -> None:
    long = gae(_column(1, 2, 50), _column(6, 4, 7), _column(4, 2, 0), _flags(0, 0, 1), _flags(0, 1, 1), 0.5, 0.5)
    alone = gae(_column(1, 2), _column(6, 4), _column(4, 2), _flags(0, 0), _flags(0, 1), 0.5, 0.5)
    assert torch.equal(long[:2], alone)


def test_gae_with_lam_1_is_the_return_minus_the_value() -> None:
    g = torch.Generator().manual_seed(0)
    reward, value = (torch.randn(7, 3, generator=g, dtype=torch.float64) for _ in range(2))
    last = torch.zeros(7, 3, dtype=torch.bool)
    last[3, 0] = last[5, 1] = last[6] = True
    next_value = torch.cat([value[1:], torch.zeros(1, 3, dtype=torch.float64)])
    got = gae(reward, value, next_value, last, last, 0.9, 1.0)
    torch.testing.assert_close(got, discounted_returns(reward, last, 0.9) - value)


def test_gae_with_lam_0_is_the_one_step_error() -> None:
    got = gae(_column(1, 2), _column(3, 5), _column(5, 7), _flags(0, 0), _flags(0, 1), 0.5, 0.0)
    assert got[:, 0].tolist() == [1 + 2.5 - 3, 2 + 3.5 - 5]


def test_trap_0_6_advantages_are_divided_by_the_std_not_the_variance() -> None:
    """Scaling rewards by 10 must change nothing; dividing by the variance would shrink the step by 10."""
    value, valid = torch.tensor([[1.0, 3.0, 5.0, 7.0]]), torch.ones(1, 4, dtype=torch.bool)
    got = standardise(value, valid, dims=(1,))
    assert got[0].tolist() == pytest.approx([-3 / 5**0.5, -1 / 5**0.5, 1 / 5**0.5, 3 / 5**0.5])
    torch.testing.assert_close(standardise(10 * value, valid, dims=(1,)), got)


def test_trap_5_10_standardisation_is_per_task() -> None:
    """Each task has mean 0 and std 1 by itself, however different their scales; over both at once it has not."""
    value = torch.stack([torch.arange(5.0), 1000 * torch.arange(5.0)])
    valid = torch.ones(2, 5, dtype=torch.bool)
    each = standardise(value, valid, dims=(1,))
    torch.testing.assert_close(each[0], each[1])
    jointly = standardise(value, valid, dims=(0, 1))
    assert float(jointly[0].std()) < 0.01 < float(jointly[1].std())


def test_standardise_counts_valid_rows_only() -> None:
    value = torch.tensor([[1.0, 3.0, 99.0]])
    got = standardise(value, torch.tensor([[True, True, False]]), dims=(1,))
    assert got.tolist() == [pytest.approx([-1, 1, 0])]


def test_standardise_of_equal_values_is_zero() -> None:
    assert standardise(torch.full((1, 3), 4.0), torch.ones(1, 3, dtype=torch.bool), dims=(1,)).tolist() == [[0, 0, 0]]


def test_masked_mean_by_hand() -> None:
    value, valid = torch.tensor([[1.0, 3.0], [5.0, 100.0]]), torch.tensor([[True, True], [True, False]])
    assert masked_mean(value, valid).item() == 3
    assert masked_mean(value, valid, dims=(1,)).tolist() == [2, 5]
    assert masked_mean(value, torch.zeros_like(valid)).item() == 0


@pytest.mark.parametrize(("gamma", "lam"), [(1.1, 0.5), (-0.1, 0.5), (0.5, 2.0), (0.5, -1.0)])
def test_factors_outside_0_to_1_are_refused(gamma: float, lam: float) -> None:
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\]"):
        gae(_column(1), _column(1), _column(1), _flags(1), _flags(1), gamma, lam)


@pytest.mark.parametrize("size", [1e20, 1e38])
def test_standardise_holds_values_whose_squares_float32_does_not(size: float) -> None:
    value, valid = torch.tensor([[1.0, 2.0, 3.0, 6.0]]), torch.ones(1, 4, dtype=torch.bool)
    small = standardise(value, valid, dims=(1,))
    torch.testing.assert_close(standardise(value * (size / 3), valid, dims=(1,)), small)
    assert float(small.abs().max()) > 1
