"""The replay: what goes in comes out of its own task's buffer, newest rows stay, and a restored one is the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.agents.pearl.replay import TaskReplay, TaskSlots
from metarl.errors import CheckpointError, ConfigError
from metarl.seeding import generator


def numbered(first: int, n_steps: int, n_columns: int = 1) -> Tensor:
    """Return rows [T, B, 1] that count on from `first` down each column."""
    return torch.arange(float(first), first + n_steps * n_columns).reshape(n_columns, n_steps, 1).transpose(0, 1)


def every(rows: Tensor) -> Tensor:
    return torch.ones(rows.shape[:2], dtype=torch.bool)


def held(replay: TaskReplay, slot: int) -> list[float]:
    """Return the rows of a slot, oldest first."""
    return replay.oldest(torch.tensor([slot]), int(replay.size[slot]))[0, :, 0].tolist()


def test_each_column_goes_to_its_own_slot_in_order() -> None:
    replay = TaskReplay(3, 10, 1, "cpu")
    rows = numbered(0, 4, 2)
    replay.add(torch.tensor([2, 0]), rows, every(rows))
    assert held(replay, 2) == [0, 1, 2, 3]
    assert held(replay, 0) == [4, 5, 6, 7]
    assert replay.size.tolist() == [4, 0, 4]


def test_the_oldest_rows_make_room_for_the_newest() -> None:
    replay = TaskReplay(1, 5, 1, "cpu")
    for first in (0, 3, 6):
        rows = numbered(first, 3)
        replay.add(torch.tensor([0]), rows, every(rows))
    assert held(replay, 0) == [4, 5, 6, 7, 8]


def test_steps_that_are_not_valid_are_left_out() -> None:
    replay = TaskReplay(1, 5, 1, "cpu")
    replay.add(torch.tensor([0]), numbered(0, 4), torch.tensor([[True], [True], [False], [False]]))
    replay.add(torch.tensor([0]), numbered(10, 2), torch.ones(2, 1, dtype=torch.bool))
    assert held(replay, 0) == [0, 1, 10, 11]


@pytest.mark.parametrize("capacity", [20, 5, 3])
def test_columns_of_one_task_follow_each_other_and_overflow_like_any_rows(capacity: int) -> None:
    replay = TaskReplay(2, capacity, 1, "cpu")
    rows = numbered(0, 4, 3)
    replay.add(torch.tensor([1, 0, 1]), rows, every(rows))
    assert held(replay, 1) == [0.0, 1, 2, 3, 8, 9, 10, 11][-capacity:]
    assert held(replay, 0) == [4.0, 5, 6, 7][-capacity:]


def test_draws_are_uniform_over_what_a_slot_holds_and_nothing_else() -> None:
    replay = TaskReplay(2, 100, 1, "cpu")
    rows = numbered(0, 10, 2)
    replay.add(torch.tensor([0, 1]), rows, every(rows))
    drawn = replay.sample(torch.tensor([1, 0]), 10_000, generator(0, "draws"))[..., 0]
    for row, first in zip(drawn, (10, 0), strict=True):
        counts = torch.bincount(row.long() - first, minlength=10)
        assert len(counts) == 10
        assert 850 < int(counts.min()) <= int(counts.max()) < 1150  # 1000 +- 5 standard deviations


def test_a_cleared_slot_is_empty_and_the_others_keep_theirs() -> None:
    replay = TaskReplay(2, 4, 1, "cpu")
    rows = numbered(0, 3, 2)
    replay.add(torch.tensor([0, 1]), rows, every(rows))
    replay.clear([0])
    assert replay.size.tolist() == [0, 3]
    assert replay.oldest(torch.tensor([0]), 2)[0, :, 0].tolist() == [0, 0]
    assert held(replay, 1) == [3, 4, 5]


def test_a_restored_replay_holds_the_used_rows_only_and_goes_on_alike() -> None:
    one, other = TaskReplay(3, 4, 1, "cpu"), TaskReplay(3, 4, 1, "cpu")
    for first in (0, 100):
        rows = numbered(first, 3, 2)
        one.add(torch.tensor([0, 2]), rows, every(rows))
    state = one.state_dict()
    assert len(state["rows"]) == 8
    other.load_state_dict(state)
    rows = numbered(200, 3, 2)
    for replay in (one, other):
        replay.add(torch.tensor([1, 2]), rows, every(rows))
    slots = torch.arange(3)
    assert torch.equal(one.size, other.size)
    assert torch.equal(one.oldest(slots, 4), other.oldest(slots, 4))
    assert torch.equal(one.sample(slots, 50, generator(1)), other.sample(slots, 50, generator(1)))
    with pytest.raises(CheckpointError, match="does not fit"):
        TaskReplay(3, 3, 1, "cpu").load_state_dict(state)


def test_a_task_keeps_its_slot_and_the_one_unseen_for_longest_gives_way() -> None:
    slots = TaskSlots(3)
    assert slots.take(["a", "b", "a"]) == ([0, 1, 0], [])
    assert slots.take(["c", "a"]) == ([2, 0], [])
    assert slots.take(["d"]) == ([1], [1])
    assert slots.take(["a", "c", "b"]) == ([0, 2, 1], [1])
    restored = TaskSlots(3)
    restored.load_state_dict(slots.state_dict())
    assert restored.take(["e"]) == slots.take(["e"])


def test_a_batch_of_more_tasks_than_slots_is_refused() -> None:
    slots = TaskSlots(2)
    with pytest.raises(ConfigError, match="replay_tasks"):
        slots.take(["a", "b", "c"])
    full = TaskSlots(2)
    full.take(["a", "b"])
    with pytest.raises(CheckpointError, match="holds 2 tasks"):
        TaskSlots(1).load_state_dict(full.state_dict())
