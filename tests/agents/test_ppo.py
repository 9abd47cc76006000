"""The parts of PPO against hand-worked values."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from metarl.agents.ppo import (
    Optimiser,
    PPOConfig,
    RunningMoments,
    Targets,
    ValueScale,
    explained_variance,
    minibatches,
    ppo_loss,
    surrogate,
    value_error,
)
from metarl.errors import CheckpointError, ConfigError
from metarl.seeding import generator


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [(1.5, 1.0, 1.2), (1.5, -1.0, -1.5), (0.5, 1.0, 0.5), (0.5, -1.0, -0.8), (1.1, 2.0, 2.2), (1.0, -3.0, -3.0)],
)
def test_the_surrogate_is_the_pessimistic_one_of_clipped_and_plain(
    ratio: float, advantage: float, expected: float
) -> None:
    old = torch.tensor(-0.7)
    got = surrogate(old + math.log(ratio), old, torch.tensor(advantage), clip=0.2)
    assert float(got) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("ratio", "advantage", "moves"), [(1.5, 1.0, False), (1.5, -1.0, True), (0.5, -1.0, False)])
def test_beyond_the_clip_only_harmful_changes_have_a_gradient(ratio: float, advantage: float, moves: bool) -> None:
    log_prob = torch.tensor(math.log(ratio), requires_grad=True)
    surrogate(log_prob, torch.tensor(0.0), torch.tensor(advantage), clip=0.2).backward()
    assert log_prob.grad is not None
    assert bool(log_prob.grad != 0) == moves


def test_value_errors_match_hand_worked_numbers() -> None:
    value, target = torch.tensor([0.5, 3.0, -2.0]), torch.zeros(3)
    assert value_error(value, target, "huber").tolist() == [0.125, 2.5, 1.5]
    assert value_error(value, target, "mse").tolist() == [0.125, 4.5, 2.0]


def _targets() -> Targets:
    return Targets(
        log_prob=torch.zeros(3), advantage=torch.tensor([1.0, -2.0, 50.0]), value=torch.tensor([1.0, 0.0, 9.0]),
        valid=torch.tensor([True, True, False]),
    )  # fmt: skip


def test_the_loss_adds_its_three_terms_over_valid_steps() -> None:
    log_prob = torch.tensor([math.log(1.5), 0.0, 3.0])
    config = PPOConfig(clip=0.2, value_coef=0.5, value_loss="mse")
    loss, metrics = ppo_loss(
        log_prob, torch.tensor([0.3, 0.5, 7.0]), torch.tensor([3.0, 1.0, -8.0]), _targets(), config, entropy_coef=0.1
    )
    # policy: 1.2 - 2.0; value: 0.5 * (2.0 + 0.5); entropy: 0.8
    assert float(loss) == pytest.approx(0.8 + 0.5 * 2.5 - 0.1 * 0.8, rel=1e-6)
    assert float(metrics["policy_loss"]) == pytest.approx(0.8, rel=1e-6)
    assert float(metrics["entropy"]) == pytest.approx(0.8, rel=1e-6)
    assert float(metrics["clip_fraction"]) == 1.0
    assert float(metrics["kl"]) == pytest.approx(0.5 - math.log(1.5), rel=1e-6)


def test_steps_that_are_not_valid_send_no_gradient() -> None:
    parts = [torch.full((3,), x, requires_grad=True) for x in (0.1, 0.5, 2.0)]
    loss, _ = ppo_loss(*parts, _targets(), PPOConfig(), entropy_coef=0.1)
    loss.backward()
    for part in parts:
        assert part.grad is not None
        assert (part.grad != 0).tolist() == [True, True, False]


def test_minibatches_hold_every_row_once_per_epoch_and_follow_the_generator_alone() -> None:
    def drawn(seed: int) -> list[list[list[int]]]:
        config = PPOConfig(epochs=3, minibatches=4)
        return [
            [p.tolist() for p in shares] for shares in minibatches(10, config, generator(seed), torch.device("cpu"))
        ]

    torch.manual_seed(1)
    first = drawn(5)
    torch.manual_seed(2)
    assert drawn(5) == first
    assert drawn(6) != first
    assert len(first) == 3
    for shares in first:
        assert sorted(row for share in shares for row in share) == list(range(10))
        assert [len(s) for s in shares] == [3, 3, 2, 2]
    assert first[0] != first[1]


def test_there_are_never_more_minibatches_than_rows() -> None:
    config = PPOConfig(epochs=1, minibatches=8)
    (shares,) = minibatches(3, config, generator(0), torch.device("cpu"))
    assert [len(s) for s in shares] == [1, 1, 1]


def test_explained_variance_is_one_for_truth_zero_for_a_constant_and_blind_to_invalid_steps() -> None:
    target, valid = torch.tensor([1.0, 2.0, 3.0, 100.0]), torch.tensor([True, True, True, False])
    assert float(explained_variance(target + 5, target, valid)) == pytest.approx(1.0)
    assert float(explained_variance(torch.full((4,), 7.0), target, valid)) == pytest.approx(0.0)
    assert float(explained_variance(-target, target, valid)) == pytest.approx(-3.0)


def test_the_first_batch_sets_the_running_moments_and_later_ones_mix_in_exactly() -> None:
    a, b = torch.randn(50, 4, 3, generator=generator(0)) * 3 + 1000, torch.randn(50, 4, 3, generator=generator(1)) - 5
    valid = torch.ones(50, 4, dtype=torch.bool)
    moments = RunningMoments((3,), rate=0.01, device="cpu")
    moments.update(a, valid)
    flat = a.flatten(0, 1)
    torch.testing.assert_close(moments.mean, flat.mean(0))
    torch.testing.assert_close(moments.var, flat.var(0, unbiased=False), rtol=1e-3, atol=1e-3)
    moments.update(b, valid)
    both = torch.cat([a, b]).flatten(0, 1)
    torch.testing.assert_close(moments.mean, both.mean(0))
    torch.testing.assert_close(moments.var, both.var(0, unbiased=False), rtol=1e-3, atol=1e-3)


def test_running_moments_ignore_invalid_rows() -> None:
    values, valid = torch.randn(6, 4, generator=generator(0)), torch.rand(6, 4, generator=generator(1)) < 0.5
    moments, other = (RunningMoments((), rate=0.1, device="cpu") for _ in range(2))
    moments.update(values, valid)
    other.update(torch.where(valid, values, 1e6), valid)
    assert torch.equal(moments.mean, other.mean)
    assert torch.equal(moments.var, other.var)
    assert float(moments.mean) == pytest.approx(float(values[valid].mean()), rel=1e-5)


@pytest.mark.parametrize("size", [1e20, 1e30])
def test_statistics_of_numbers_whose_squares_float32_does_not_hold_stay_finite(size: float) -> None:
    """An idle row holds one too, and must leave no trace."""
    values, valid = torch.tensor([[1.0], [-1.0], [0.0], [9.0]]) * size, torch.tensor([[1], [1], [1], [0]]).bool()
    moments, scale, head = RunningMoments((), 0.1, "cpu"), ValueScale(PPOConfig(), "cpu"), nn.Linear(5, 1)
    for _ in range(3):
        moments.update(values, valid)
        scale.update(values, valid, head.weight.data, head.bias.data)
    assert moments.mean == scale.mean == 0.0
    for spread in (moments.std, moments.rms, scale.std):
        assert 1e18 < float(spread) < size
    assert explained_variance(torch.zeros(4, 1), values, valid) == 0.0


def test_a_change_of_units_leaves_deviations_from_the_mean_where_they_were() -> None:
    scale, head = ValueScale(PPOConfig(), "cpu"), nn.Linear(5, 1)
    h, valid = torch.randn(4, 20, 5, generator=generator(0)), torch.ones(8, 2, dtype=torch.bool)
    before = scale.to_return(head(h).squeeze(-1))
    returns = torch.randn(8, 2, generator=generator(1)) * 30 + 200
    scale.update(returns, valid, head.weight[0], head.bias[0])
    torch.testing.assert_close(scale.to_return(head(h).squeeze(-1)), before + returns.mean(), rtol=1e-4, atol=1e-4)
    assert float(scale.std) == pytest.approx(float(returns.std(correction=0)), rel=1e-5)
    torch.testing.assert_close(scale.to_head(scale.to_return(h[..., 0])), h[..., 0], rtol=1e-3, atol=1e-4)


def test_each_time_step_has_its_own_mean_and_steps_that_no_trial_reached_keep_theirs() -> None:
    scale = ValueScale(PPOConfig(), "cpu", n_times=4)
    returns = torch.tensor([[3.0, 5.0], [2.0, 99.0], [7.0, 7.0]])
    valid = torch.tensor([[True, True], [True, False], [False, False]])
    weight, bias = torch.ones(2), torch.ones(())
    scale.update(returns, valid, weight, bias)
    assert scale.mean[:, 0].tolist() == [4.0, 2.0, 0.0, 0.0]
    assert float(scale.var) == pytest.approx(2 / 3)  # deviations -1, 1 and 0
    scale.update(torch.tensor([[8.0, 8.0]]), torch.ones(1, 2, dtype=torch.bool), weight, bias)
    assert scale.mean[:, 0].tolist() == [6.0, 2.0, 0.0, 0.0]
    assert scale.to_return(torch.zeros(2, 1))[:, 0].tolist() == [6.0, 2.0]


def test_without_normalised_values_the_head_speaks_in_returns() -> None:
    scale, head = ValueScale(PPOConfig(normalise_values=False), "cpu"), nn.Linear(5, 1)
    kept = head.weight.detach().clone()
    scale.update(torch.full((4, 1), 9.0), torch.ones(4, 1, dtype=torch.bool), head.weight[0], head.bias[0])
    assert torch.equal(head.weight, kept)
    assert float(scale.to_head(torch.tensor(3.0))) == 3.0


def test_annealing_is_linear_and_stays_at_its_end() -> None:
    config = PPOConfig(anneal_iters=10, anneal_to=0.2)
    assert [config.annealing(i) for i in (0, 5, 10, 99)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert replace(config, anneal_iters=None).annealing(7) == 1.0


def _quadratic(optimiser: Optimiser, weight: nn.Parameter, n: int) -> None:
    for _ in range(n):
        optimiser.zero_grad()
        (1e3 * weight.square().sum()).backward()
        optimiser.step()
        optimiser.end_update()


def test_the_optimiser_bounds_the_gradient_and_reports_its_norm_before() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimiser = Optimiser([weight], PPOConfig(max_grad_norm=0.5))
    (weight.square().sum() * 0.5).backward()
    assert float(optimiser.step()) == pytest.approx(5.0)
    assert weight.grad is not None
    assert float(weight.grad.norm()) == pytest.approx(0.5, rel=1e-4)


def test_the_optimiser_goes_on_bit_for_bit_from_its_state() -> None:
    config = PPOConfig(anneal_iters=8, lr=0.1)
    weight = nn.Parameter(torch.tensor([3.0, -4.0]))
    optimiser = Optimiser([weight], config)
    _quadratic(optimiser, weight, 3)
    copy_weight = nn.Parameter(weight.detach().clone())
    other = Optimiser([copy_weight], config)
    other.load_state_dict(optimiser.state_dict())
    _quadratic(optimiser, weight, 3)
    _quadratic(other, copy_weight, 3)
    assert torch.equal(weight, copy_weight)
    assert other.lr == optimiser.lr == pytest.approx(0.1 * (1 - 0.9 * 6 / 8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0.0},
        {"clip": -1.0},
        {"gamma": 1.5},
        {"lam": -0.1},
        {"epochs": 0},
        {"minibatches": 0},
        {"entropy_coef": -1.0},
        {"value_loss": "l1"},
        {"anneal_iters": 0},
        {"max_grad_norm": 0.0},
        {"lr": math.nan},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"ppo.{next(iter(wrong))}"):
        PPOConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kept", [RunningMoments((3,), rate=0.1, device="cpu"), ValueScale(PPOConfig(), "cpu", 4)])
@pytest.mark.parametrize(
    "change", [{"mean": torch.zeros(5)}, {"var": torch.ones(2)}, {"var": None}, {"count": -1}, {"count": "1"}]
)
def test_moments_of_another_shape_are_refused(kept: RunningMoments | ValueScale, change: dict[str, object]) -> None:
    before = kept.state_dict()
    with pytest.raises(CheckpointError, match="expected") as caught:
        kept.load_state_dict(before | change)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(before[k])) for k, v in kept.state_dict().items())
