"""Flat views of spaces: what each element becomes, and that nothing is lost."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim
from gymnasium.spaces.utils import flatten as gym_flatten

from metarl.errors import ConfigError
from metarl.spaces import flat_dim, flatten, torch_dtype, zeros

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
