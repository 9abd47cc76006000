"""Flat views of spaces: what each element becomes, and that nothing is lost."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim
from gymnasium.spaces.utils import flatten as gym_flatten

from metarl.envs.tensor_world import TensorWorld
from metarl.errors import ConfigError
from metarl.spaces import check_spaces, entry_at, flat_dim, flatten, torch_dtype, zeros
from metarl.spec import WorldSpec
from tests.metarl.line_world import LineWorld

SPACES = {
    "box": spaces.Box(-1, 1, (3,), np.float32),
    "image": spaces.Box(0, 255, (2, 4, 3), np.uint8),
    "discrete": spaces.Discrete(5),
    "shifted": spaces.Discrete(4, start=-1),
    "multi": spaces.MultiDiscrete([3, 2, 4]),
    "binary": spaces.MultiBinary(4),
    "dict": spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Box(-1, 1, (2, 2), np.float32)}),
}


def _tensor(element: object) -> torch.Tensor | dict[str, torch.Tensor]:
    if isinstance(element, dict):
        return {k: torch.as_tensor(np.asarray(v))[None] for k, v in element.items()}
    return torch.as_tensor(np.asarray(element))[None]


@pytest.mark.parametrize("name", SPACES)
def test_flatten_agrees_with_gymnasium_on_every_space(name: str) -> None:
    space = SPACES[name]
    space.seed(3)
    for _ in range(20):
        element = space.sample()
        ours = flatten(space, _tensor(element))
        assert ours.dtype == torch.float32
        assert ours.shape == (1, flat_dim(space)) == (1, flatdim(space))
        np.testing.assert_array_equal(ours[0].numpy(), gym_flatten(space, element).astype(np.float32))


def test_leading_axes_are_kept() -> None:
    space = SPACES["multi"]
    value = torch.tensor([[[0, 1, 3]] * 2] * 5)
    assert flatten(space, value).shape == (5, 2, 9)
    assert flatten(SPACES["image"], torch.zeros(5, 2, 2, 4, 3), batch_dims=2).shape == (5, 2, 24)


def test_a_scalar_box_gets_one_column() -> None:
    space = spaces.Box(-1, 1, (), np.float32)
    assert flat_dim(space) == 1
    assert flatten(space, torch.zeros(7)).shape == (7, 1)


def test_zero_actions_have_the_worlds_dtype_and_shape() -> None:
    for name, shape, dtype in [
        ("box", (2, 3), torch.float32),
        ("discrete", (2,), torch.int64),
        ("multi", (2, 3), torch.int64),
    ]:
        z = zeros(SPACES[name], 2, torch.device("cpu"))
        assert z.shape == shape
        assert z.dtype == dtype == torch_dtype(SPACES[name])


def test_an_unsupported_space_is_refused_with_the_supported_ones() -> None:
    with pytest.raises(ConfigError, match="use Box, Discrete"):
        flat_dim(spaces.Text(5))
    with pytest.raises(ConfigError, match="needs a tensor, got ndarray"):
        flatten(SPACES["box"], np.zeros((2, 3)))  # type: ignore[arg-type]


def test_a_number_of_the_flat_view_is_called_by_its_entry_and_place() -> None:
    space = spaces.Dict(
        {
            "eye": spaces.Box(0, 1, (2, 3)),
            "hand": spaces.Dict({"mood": spaces.Discrete(3), "warmth": spaces.Box(0, 1, ())}),
        }
    )
    names = [entry_at(space, i) for i in range(flat_dim(space))]
    assert names[:4] == [
        "entry 'eye' at [0, 0]",
        "entry 'eye' at [0, 1]",
        "entry 'eye' at [0, 2]",
        "entry 'eye' at [1, 0]",
    ]
    assert names[8:] == ["entry 'hand/mood' at [2]", "entry 'hand/warmth' at [0]"]
    assert entry_at(SPACES["image"], 23) == "entry [1, 3, 2]"


BOX, THREE = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)


class SeveralAgents:
    """PettingZoo's parallel environments give a space per agent."""

    def observation_space(self, agent: str) -> spaces.Space:
        return BOX


def damaged(low: float, high: float) -> spaces.Box:
    """Return a Box whose bounds were changed after it was built, which gymnasium would not have let in."""
    box = spaces.Box(-1, 1, (2,), np.float32)
    box.low, box.high = np.full(2, low, np.float32), np.full(2, high, np.float32)
    return box


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (SeveralAgents().observation_space, THREE, "observation space is a method.*PettingZoo"),
        ({"a": BOX}, THREE, "observation space is a dict, and a gymnasium space is needed"),
        (None, THREE, "observation space is a NoneType"),
        (spaces.Dict({}), THREE, "no entries"),
        (spaces.Dict({"a": THREE, "b": spaces.Dict({})}), THREE, "entry 'b' of the observation space is Dict.*no entr"),
        (spaces.Dict({"a": spaces.Dict({"b": spaces.Text(3)})}), THREE, "entry 'a/b' of the observation space is Text"),
        (spaces.Tuple([BOX]), THREE, "Tuple.*is not supported"),
        (spaces.Sequence(BOX), THREE, "Sequence.*is not supported"),
        (spaces.Graph(BOX, None), THREE, "Graph.*is not supported"),
        (spaces.MultiDiscrete([[2, 2], [2, 2]]), THREE, r"observation space is .*needs one axis, not 2; flatten it$"),
        (BOX, spaces.MultiDiscrete([[2, 2], [2, 2]]), r"action space is MultiDiscrete\(\[\[2 2\] \[2 2\]\]\)"),
        (spaces.Box(-1, 1, (0,)), THREE, "holds no number"),
        (damaged(np.nan, 1), THREE, "bound is NaN"),
        (damaged(1, -1), THREE, "exchange them"),
        (damaged(np.inf, np.inf), THREE, "exchange them"),
        (spaces.Discrete(10**9), THREE, "1,000,000,000 numbers"),
        (BOX, spaces.MultiBinary(3), r"use MultiDiscrete\(\[2\] \* 3\)"),
        (BOX, spaces.Dict({"a": THREE}), "action space is a Dict"),
        (BOX, spaces.Box(-3e38, 3e38, (1,)), "range overflows float32"),
        (BOX, spaces.Box(-1e308, 1e308, (1,), np.float64), "range overflows float32"),
        (BOX, spaces.Box(np.array([0.0, 1.0]), np.array([1.0, 1.0]), dtype=np.float64), r"action \[1\] has one value"),
        (BOX, None, "action space is a NoneType"),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_played_is_refused_in_one_line_that_names_it(observation, action, message) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_spaces("w", observation, action)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (BOX, spaces.Box(-np.inf, np.inf, (2,))),
        (spaces.Discrete(np.int64(3)), spaces.Discrete(np.int32(3), start=np.int64(-1))),
        (spaces.MultiBinary((2, 2)), spaces.Box(0, 255, (3,), np.uint8)),
        (spaces.Dict({"a": THREE, "b": spaces.Box(-1e308, 1e308, (2,), np.float64)}), spaces.Box(-1, 1, ())),
        (spaces.Box(0, 1, (2,), np.bool_), spaces.Box(0.0, np.inf, (2,), np.float64)),
        (spaces.Dict({0: BOX, 1: THREE}), spaces.MultiDiscrete([2, 3], start=[-1, 4])),
    ],
)
def test_every_other_space_may_be_used(observation, action) -> None:
    check_spaces("w", observation, action)


class Small(LineWorld):
    """A world whose constructor passes its observation space on."""

    def __init__(self, observation_space: spaces.Space) -> None:
        TensorWorld.__init__(self, WorldSpec(observation_space, THREE, 3, name="small"), 1)


def test_a_world_of_such_a_space_is_refused_where_it_is_built() -> None:
    Small(BOX)
    with pytest.raises(ConfigError, match=r"world 'small': the observation space is Box.* holds no number"):
        Small(spaces.Box(-1, 1, (0,)))
