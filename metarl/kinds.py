"""What kind of tensor a world hands over where: one set of words for the checks and for the worlds themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces as gym_spaces
from torch import Tensor

from . import spaces


def array_fault(
    name: str, value: Any, n: int, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device | str
) -> str:
    """Return what is wrong with `value` as a tensor [n, *shape], or "". Reads no number, so no GPU is waited for."""
    want = (n, *shape)
    if not isinstance(value, Tensor):
        return f"{name} is {kind_of(value)}; return a torch tensor"
    if value.dtype != dtype or tuple(value.shape) != want:
        return f"{name} is {value.dtype} {tuple(value.shape)}, expected {dtype} {want}"
    if value.device.type != torch.device(device).type:
        return f"{name} is on {value.device}, expected the world's device {device}"
    if value.requires_grad:
        return f"{name} carries a gradient; detach it, agents differentiate their own numbers only"
    return ""


def observation_fault(name: str, space: gym.Space[Any], value: Any, n: int, device: torch.device | str) -> str:
    """Return what is wrong with `value` as `n` elements of `space`, entry by entry for Dict spaces, or ""."""
    if isinstance(space, gym_spaces.Dict):
        if not isinstance(value, dict) or set(value) != set(space.keys()):
            got = f"a dict with {sorted(map(str, value))}" if isinstance(value, dict) else kind_of(value)
            return f"{name} is {got}, expected a dict with the keys {sorted(space.keys())} of its Dict space"
        parts = (observation_fault(f"{name}[{k!r}]", part, value[k], n, device) for k, part in space.items())
        return next(filter(None, parts), "")
    return array_fault(name, value, n, spaces.torch_dtype(space), tuple(space.shape or ()), device)


def state_fault(name: str, state: Any, like: Mapping[str, Tensor] | None, n: int, device: torch.device | str) -> str:
    """Return what is wrong with `state` as tensors by name, `n` rows each, of the kinds that `like` has, or ""."""
    if not isinstance(state, dict) or not state:
        return f"{name} is {kind_of(state)}, expected a dict of tensors with one row per env"
    if like is not None and state.keys() != like.keys():
        return f"{name} has the entries {sorted(state)}, expected {sorted(like)} as in a state of begin()"
    for key, value in state.items():
        known = None if like is None else like[key]
        if known is None and (not isinstance(value, Tensor) or not value.dim()):
            return f"{name}[{key!r}] is {kind_of(value)}, expected a torch tensor with one row per env ({n})"
        model = value if known is None else known
        fault = array_fault(f"{name}[{key!r}]", value, n, model.dtype, tuple(model.shape[1:]), device)
        if fault:
            return fault
    return ""


def kind_of(value: Any) -> str:
    """Return a few words for what `value` is."""
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    if isinstance(value, dict | list | tuple) and not value:
        return f"an empty {type(value).__name__}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
