"""What an agent knows about N trials: rows chosen one by one, and several kinds of entries in one state."""

from __future__ import annotations

import torch

from metarl.state import choose_rows, marked, unmarked


def test_chosen_rows_are_the_new_ones_and_all_others_the_old_ones_whatever_their_shape() -> None:
    new = {"h": torch.arange(6.0).reshape(3, 2), "count": torch.tensor([7, 8, 9])}
    old = {"h": -torch.ones(3, 2), "count": torch.zeros(3, dtype=torch.int64), "other": torch.ones(3)}
    found = choose_rows(torch.tensor([True, False, True]), new, old)
    assert found["h"].tolist() == [[0.0, 1.0], [-1.0, -1.0], [4.0, 5.0]]
    assert found["count"].tolist() == [7, 0, 9]
    assert list(found) == ["h", "count"]


def test_entries_marked_as_one_kind_come_back_by_their_own_names_and_others_stay_away() -> None:
    phi, memory = {"w": torch.ones(2), "b": torch.zeros(2)}, {"w": torch.full((2,), 3.0)}
    state = marked("param/", phi) | marked("rule/", memory) | {"k": torch.zeros(2)}
    assert set(state) == {"param/w", "param/b", "rule/w", "k"}
    assert unmarked("param/", state) == phi
    assert unmarked("rule/", state) == memory
