"""The trial buffer: whole trials in, the same trials out, the oldest give way, and a restored one is the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.agents.varibad.trial_buffer import TrialBuffer
from metarl.checkpoint import join_state, split_state, state_fingerprint
from metarl.errors import CheckpointError, ConfigError
from metarl.seeding import generator


def trials(first: int, n: int, n_steps: int = 3) -> dict[str, Tensor]:
    """Return trials numbered from `first`: "x" [T, B, 2] holds (number, step), "valid" is True."""
    number = torch.arange(float(first), first + n).expand(n_steps, n)
    step = torch.arange(float(n_steps))[:, None].expand(n_steps, n)
    return {"x": torch.stack([number, step], dim=-1), "valid": torch.ones(n_steps, n, dtype=torch.bool)}


def held(buffer: TrialBuffer) -> list[float]:
    """Return the numbers of the stored trials, sorted."""
    return sorted(buffer.sample(100, generator(0))["x"][0, :, 0].tolist())


def test_a_trial_comes_out_as_it_went_in() -> None:
    buffer = TrialBuffer(10, 3, "cpu")
    buffer.add(trials(5, 4))
    rows = buffer.sample(4, generator(0))
    assert rows["x"].shape == (3, 4, 2)
    for b in range(4):
        assert rows["x"][:, b, 0].unique().numel() == 1
        assert rows["x"][:, b, 1].tolist() == [0.0, 1.0, 2.0]
    assert held(buffer) == [5, 6, 7, 8]


def test_the_oldest_trials_give_way_to_the_newest() -> None:
    buffer = TrialBuffer(5, 3, "cpu")
    for first in (0, 3, 6):
        buffer.add(trials(first, 3))
    assert held(buffer) == [4, 5, 6, 7, 8]
    buffer.add(trials(20, 9))
    assert held(buffer) == [24, 25, 26, 27, 28]


def test_steps_beyond_a_trials_end_are_not_valid() -> None:
    buffer = TrialBuffer(5, 4, "cpu")
    buffer.add(trials(1, 2, n_steps=4))
    buffer.add(trials(7, 5, n_steps=2))  # in place of longer ones: nothing of them is left
    rows = buffer.sample(5, generator(0))
    assert rows["valid"].sum(0).tolist() == [2] * 5
    assert not rows["x"][2:].any()


def test_a_sample_holds_no_trial_twice_and_no_empty_place() -> None:
    buffer = TrialBuffer(50, 3, "cpu")
    buffer.add(trials(1, 6))
    for seed in range(20):
        drawn = buffer.sample(4, generator(seed))["x"][0, :, 0].tolist()
        assert len(set(drawn)) == 4
        assert set(drawn) <= set(range(1, 7))
    assert buffer.sample(60, generator(0))["x"].shape[1] == 6


def test_every_trial_is_drawn_as_often_as_any_other() -> None:
    buffer, g = TrialBuffer(5, 1, "cpu"), generator(0)
    buffer.add(trials(0, 5, n_steps=1))
    drawn = torch.cat([buffer.sample(2, g)["x"][0, :, 0] for _ in range(2000)])
    share = torch.bincount(drawn.long(), minlength=5) / len(drawn)
    assert share.tolist() == pytest.approx([0.2] * 5, abs=0.025)  # 4 standard deviations


@pytest.mark.parametrize("n", [2, 5, 8])
def test_a_restored_buffer_goes_on_bit_for_bit(n: int) -> None:
    buffer = TrialBuffer(5, 3, "cpu")
    buffer.add(trials(0, n))
    tensors, tree = split_state(buffer.state_dict())
    other = TrialBuffer(5, 3, "cpu")
    other.load_state_dict(join_state(tensors, tree))
    for one in (buffer, other):
        one.add(trials(50, 2))
    assert state_fingerprint(buffer.state_dict()) == state_fingerprint(other.state_dict())
    first, second = (one.sample(3, generator(4))["x"] for one in (buffer, other))
    assert torch.equal(first, second)


def test_only_places_in_use_are_saved_and_later_trials_leave_them_alone() -> None:
    buffer = TrialBuffer(100, 3, "cpu")
    buffer.add(trials(0, 2))
    state = buffer.state_dict()
    assert state["rows"]["x"].shape == (2, 3, 2)
    before = state_fingerprint(state)
    buffer.add(trials(0, 100))
    assert state_fingerprint(state) == before


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_an_impossible_size_is_refused(sizes: Any) -> None:
    with pytest.raises(ConfigError, match="room"):
        TrialBuffer(*sizes, "cpu")


def test_what_cannot_be_stored_drawn_or_restored_is_refused() -> None:
    buffer = TrialBuffer(4, 3, "cpu")
    with pytest.raises(ConfigError, match="empty"):
        buffer.sample(1, generator(0))
    with pytest.raises(ConfigError, match="does not fit"):
        buffer.add(trials(0, 1, n_steps=4))
    buffer.add(trials(0, 4))
    for other in (TrialBuffer(3, 3, "cpu"), TrialBuffer(4, 2, "cpu")):
        with pytest.raises(CheckpointError, match="trial buffer"):
            other.load_state_dict(buffer.state_dict())
