"""The per-task baseline: really fitted, on its own task only, and steady on awkward features."""

import pytest
import torch
from torch import Tensor

from metarl.agents.maml.linear_baseline import episode_age, features, fit_predict


def _data(n_tasks: int = 3, n_rows: int = 40, obs_dim: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = features(torch.randn(n_tasks, n_rows, obs_dim, generator=g), torch.arange(float(n_rows)).expand(n_tasks, -1))
    return x, torch.randn(n_tasks, n_rows, generator=g), torch.ones(n_tasks, n_rows, dtype=torch.bool)


def test_features_are_those_of_the_paper() -> None:
    x = features(torch.tensor([[2.0, -3.0]]), torch.tensor([50.0]))
    torch.testing.assert_close(x, torch.tensor([[2.0, -3.0, 4.0, 9.0, 0.5, 0.25, 0.125, 1.0]]))


def test_age_counts_from_each_episodes_own_start() -> None:
    last = torch.tensor([[0, 0, 1, 0, 1], [1, 0, 0, 0, 0]], dtype=torch.bool).T
    assert episode_age(last).T.tolist() == [[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]]


def test_age_of_a_single_step_is_zero() -> None:
    assert episode_age(torch.ones(1, 2, dtype=torch.bool)).tolist() == [[0, 0]]


def test_the_fit_agrees_with_least_squares() -> None:
    x, y, valid = _data()
    solution = torch.linalg.lstsq(x.double(), y.double().unsqueeze(-1)).solution
    expected = (x.double() @ solution).squeeze(-1).float()
    torch.testing.assert_close(fit_predict(x, y, valid), expected, rtol=1e-2, atol=2e-3)


def test_trap_5_6_the_baseline_is_really_fitted() -> None:
    """A value that is linear in the features must come back; an untrained baseline would answer zero."""
    x, _, valid = _data()
    true = x @ torch.tensor([1.0, -2.0, 0.5, 0.1, 3.0, -1.0, 2.0, 7.0])
    torch.testing.assert_close(fit_predict(x, true, valid), true, rtol=1e-3, atol=5e-3)
    assert float(true.abs().mean()) > 1


def test_trap_5_6_each_task_has_its_own_fit() -> None:
    """Changing the data of task 2 leaves the other tasks' predictions untouched, bit for bit."""
    x, y, valid = _data()
    before = fit_predict(x, y, valid)
    changed = y.clone()
    changed[2] += 100.0
    after = fit_predict(x, changed, valid)
    assert torch.equal(before[:2], after[:2])
    assert float((after[2] - before[2]).mean()) == pytest.approx(100, rel=1e-3)


def test_permuting_tasks_permutes_predictions() -> None:
    x, y, valid = _data()
    order = torch.tensor([2, 0, 1])
    assert torch.equal(fit_predict(x[order], y[order], valid[order]), fit_predict(x, y, valid)[order])


def test_rows_that_do_not_count_do_not_count() -> None:
    x, y, valid = _data()
    valid[:, 30:] = False
    spoiled_x, spoiled_y = x.clone(), y.clone()
    spoiled_x[:, 30:] *= -5
    spoiled_y[:, 30:] = 1e4
    alone = fit_predict(x[:, :30], y[:, :30], valid[:, :30])
    torch.testing.assert_close(fit_predict(spoiled_x, spoiled_y, valid)[:, :30], alone, rtol=1e-5, atol=1e-5)


def test_collinear_and_constant_features_are_no_trouble() -> None:
    """One-hot observations equal their squares and sum to the constant feature; the fit is the mean per category."""
    category = torch.tensor([0, 1, 1, 2, 0, 2])
    one_hot = torch.nn.functional.one_hot(category, 4).float()[None]
    y = torch.tensor([[1.0, 2.0, 4.0, -1.0, 3.0, -3.0]])
    fitted = fit_predict(features(one_hot, torch.zeros(1, 6)), y, torch.ones(1, 6, dtype=torch.bool))
    torch.testing.assert_close(fitted, torch.tensor([[2.0, 3.0, 3.0, -2.0, 2.0, -2.0]]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_the_fit_does_not_depend_on_the_unit_of_the_observation(scale: float) -> None:
    g = torch.Generator().manual_seed(1)
    obs, y, age = torch.randn(2, 50, 3, generator=g), torch.randn(2, 50, generator=g), torch.arange(50.0).expand(2, -1)
    valid = torch.ones(2, 50, dtype=torch.bool)
    expected = fit_predict(features(obs, age), y, valid)
    torch.testing.assert_close(fit_predict(features(obs * scale, age), y, valid), expected, rtol=1e-4, atol=1e-4)


def test_a_task_without_any_valid_row_gets_a_finite_answer() -> None:
    x, y, valid = _data()
    valid[1] = False
    assert bool(fit_predict(x, y, valid).isfinite().all())


@pytest.mark.parametrize("size", [1e20, 1e38])
def test_observations_whose_squares_float32_does_not_hold_are_fitted_as_any_others(size: float) -> None:
    """The features are scaled in any case, so the unit of an observation cannot matter."""
    g = torch.Generator().manual_seed(0)
    obs, age = torch.randn(3, 40, 2, generator=g).clamp(-3, 3), torch.arange(40.0).expand(3, -1)
    _, y, valid = _data()
    plain = fit_predict(features(obs, age), y, valid)
    assert torch.equal(fit_predict(features(obs * 2.0**40, age), y, valid), plain)
    large = fit_predict(features(obs * (size / 3), age), y, valid)
    torch.testing.assert_close(large, plain, rtol=1e-3, atol=1e-4)
    assert float(plain.abs().mean()) > 0.1
