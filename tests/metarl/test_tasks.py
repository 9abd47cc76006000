"""Tasks are values: they index, compare, hash and serialise by their parameters."""

import json

import pytest
import torch

from metarl.errors import ConfigError
from metarl.tasks import Tasks, check_split, concatenate


@pytest.fixture
def tasks() -> Tasks:
    goal = torch.tensor([[0.1, 0.2], [0.3, -0.0], [float("inf"), 1e-45]])
    return Tasks.of("nav", goal=goal, arm=torch.tensor([3, 1, 2]))


def test_an_int_index_gives_a_batch_of_one(tasks: Tasks) -> None:
    one = tasks[1]
    assert len(one) == 1
    assert one.names == ("nav/1",)
    assert torch.equal(one.values["goal"], torch.tensor([[0.3, -0.0]]))


def test_negative_slice_and_tensor_indices_agree(tasks: Tasks) -> None:
    assert tasks[-1] == tasks[2:3]
    assert tasks[torch.tensor([2, 0])].names == ("nav/2", "nav/0")
    assert tasks[[2, 0]] == concatenate([tasks[2], tasks[0]])


def test_repeat_keeps_the_copies_of_a_task_together(tasks: Tasks) -> None:
    assert tasks.repeat(2).names == ("nav/0", "nav/0", "nav/1", "nav/1", "nav/2", "nav/2")
    assert tasks.repeat(2).values["arm"].tolist() == [3, 3, 1, 1, 2, 2]


def test_json_round_trip_is_bit_exact_for_awkward_floats(tasks: Tasks) -> None:
    back = Tasks.from_json(json.loads(json.dumps(tasks.to_json())))
    assert back == tasks
    assert back.values["goal"].view(torch.int32).equal(tasks.values["goal"].view(torch.int32))


def test_equality_sees_one_flipped_bit(tasks: Tasks) -> None:
    other = {k: v.clone() for k, v in tasks.values.items()}
    other["goal"][0, 0] = torch.nextafter(other["goal"][0, 0], torch.tensor(1.0))
    assert Tasks(other, tasks.names, tasks.groups) != tasks
    assert Tasks.of("nav", goal=tasks.values["goal"].clone(), arm=tasks.values["arm"].clone()) == tasks


def test_keys_ignore_names_so_renamed_tasks_are_recognised(tasks: Tasks) -> None:
    renamed = Tasks(tasks.values, ("a", "b", "c"), tasks.groups)
    assert renamed.keys() == tasks.keys()
    assert len(set(tasks.keys())) == 3
    assert hash(renamed) != hash(tasks)


def test_parts_of_unequal_length_are_refused_with_their_sizes() -> None:
    with pytest.raises(ConfigError, match="'names': 2"):
        Tasks({"goal": torch.zeros(3, 2)}, ("a", "b"), ("f", "f", "f"))


def test_the_tensors_of_an_indexed_batch_are_not_views(tasks: Tasks) -> None:
    part = tasks[0:2]
    part.values["arm"][0] = 99
    assert tasks.values["arm"][0] == 3


def test_unknown_split_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'nav' has no split 'tset'; choose one of train, test"):
        check_split("nav", "tset", ("train", "test"))
