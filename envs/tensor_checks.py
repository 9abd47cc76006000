"""What a subclass of `TensorWorld` returned, held against what it should have; kinds only, so no GPU is waited for.

A world asks during the steps of its first episode, for a tenth of a millisecond a step or so, and never afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from metarl.errors import WorldError
from metarl.kinds import array_fault, kind_of, observation_fault, state_fault
from metarl.world import World


def check_state(world: World, method: str, state: Any, like: Mapping[str, Tensor] | None) -> None:
    """Raise WorldError unless `state` is a dict of tensors [B, ...], of the kinds that `like` has if there is one."""
    _refuse(world, method, state_fault("the state", state, like, world.num_envs, world.device))


def check_observation(world: World, obs: Any) -> None:
    """Raise WorldError unless `obs` is what the observation space says, one row per env."""
    space = world.single_observation_space
    _refuse(world, "observation", observation_fault("the observation", space, obs, world.num_envs, world.device))


def check_mask(world: World, mask: Any) -> None:
    """Raise WorldError unless `mask` is None or bool [B, n]."""
    space = world.single_action_space
    if mask is not None and isinstance(space, spaces.Discrete):
        shape = (int(space.n),)
        _refuse(world, "action_mask", array_fault("the mask", mask, world.num_envs, torch.bool, shape, world.device))


def check_extras(world: World, extras: Any) -> None:
    """Raise WorldError unless `extras` is a dict."""
    _refuse(world, "extras", "" if isinstance(extras, dict) else f"it gave {kind_of(extras)}, expected a dict")


def checked_transition(
    world: World,
    transition: Callable[..., Any],
    params: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    actions: Tensor,
    *rest: Any,
) -> Any:
    """Return what `transition` does; raises WorldError unless state, reward, ends and successes are of the right kind.

    And unless it left alone what it was given, the tasks' `params` included.
    """
    given = {f"state[{k!r}]": v for k, v in state.items()} | {f"params[{k!r}]": v for k, v in params.items()}
    given |= {"actions": actions}
    given = {name: value for name, value in given.items() if not value.is_inference()}  # those count no writes
    versions = [value._version for value in given.values()]
    answer = transition(state, actions, *rest)
    for (name, value), version in zip(given.items(), versions, strict=True):
        if value._version != version:
            _refuse(world, "transition", f"it wrote into {name}; return new tensors and leave alone what you are given")
    if not isinstance(answer, tuple) or len(answer) != 4:
        got = f"{len(answer)} values" if isinstance(answer, tuple) else kind_of(answer)
        _refuse(world, "transition", f"it gave {got}; return (state, reward, terminated or None, success or None)")
    check_state(world, "transition", answer[0], state)
    _check_numbers(world, *answer[1:])
    return answer


def _check_numbers(world: World, reward: Any, terminated: Any, success: Any) -> None:
    kinds: Mapping[str, tuple[Any, torch.dtype]] = {
        "the reward": (reward, torch.float32),
        "terminated": (terminated, torch.bool),
        "success": (success, torch.bool),
    }
    for name, (value, dtype) in kinds.items():
        if value is not None or name == "the reward":
            _refuse(world, "transition", array_fault(name, value, world.num_envs, dtype, (), world.device))
    if (success is not None) != world.has_success:
        got = "None" if success is None else "a tensor"
        _refuse(world, "transition", f"success is {got}, but has_success is {world.has_success}; make them agree")


def _refuse(world: World, method: str, fault: str) -> None:
    if fault:
        raise WorldError(f"world {world.name!r}, {method}(): {fault}")
