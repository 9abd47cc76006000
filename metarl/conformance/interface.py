"""Checks of what a world returns: kinds, shapes, dtypes, bounds, the attributes Gymnasium expects."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces as gym_spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from metarl import spaces
from metarl.seeding import derive
from metarl.world import World

from .probe import (
    Fault,
    Probe,
    random_action,
    spec_of,
)


def check_api(probe: Probe) -> str:
    """reset() and step() return what the World contract says: kinds, shapes, dtypes, device, bounds."""
    world = probe.world()
    if not isinstance(world, World):
        raise Fault(f"make_world() gave a {type(world).__name__}; subclass metarl.world.World")
    if world.num_envs != probe.n_copies:
        raise Fault(f"make_world({probe.n_copies}) gave {world.num_envs} copies; build as many as asked")
    spec = spec_of(world)
    world.set_tasks(probe.draw(None, "api"))
    obs, info = world.reset(seed=derive(probe.seed, "api"))
    _check_obs(world, "reset observation", world.single_observation_space, obs)
    mask = _check_mask(world, info)
    for noise in probe.noise(world, min(probe.n_steps, world.horizon + 1), "api"):
        obs, reward, terminated, truncated, info = world.step(random_action(world, noise, mask))
        _check_obs(world, "step observation", world.single_observation_space, obs)
        if "final_obs" not in info:
            raise Fault('info lacks "final_obs": at every step give the observation reached before any reset')
        _check_obs(world, 'info["final_obs"]', world.single_observation_space, info["final_obs"])
        _check_array(world, "reward", reward, torch.float32, ())
        _check_array(world, "terminated", terminated, torch.bool, ())
        _check_array(world, "truncated", truncated, torch.bool, ())
        _check_extras(world, info)
        new_mask = _check_mask(world, info)
        if (mask is None) != (new_mask is None):
            raise Fault('info["action_mask"] comes at some steps only; give it at every reset and step, or never')
        mask = new_mask
    return f"observations of {spec.obs_dim}, actions of {spec.action_dim} numbers on {world.device}"


def _check_extras(world: World, info: dict[str, Any]) -> None:
    """Check what only some worlds say of a step."""
    for name, dtype in (("success", torch.bool), ("dense_reward", torch.float32), ("cost", torch.float32)):
        says = bool(getattr(world, f"has_{name}"))
        if says != (name in info):
            raise Fault(f"has_{name} is {says}, but info has {sorted(info)}; make them agree")
        if says:
            _check_array(world, name, info[name], dtype, ())
    if world.has_cost and bool((info["cost"] < 0.0).any()):
        raise Fault("a cost is negative; costs are what a step cost in safety, >= 0")


def _check_array(world: World, name: str, value: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    want = (world.num_envs, *shape)
    if not isinstance(value, Tensor):
        raise Fault(f"{name} is a {type(value).__name__}; return a torch tensor")
    if value.dtype != dtype or tuple(value.shape) != want:
        raise Fault(f"{name} is {value.dtype} {tuple(value.shape)}, expected {dtype} {want}")
    if value.device.type != torch.device(world.device).type:
        raise Fault(f"{name} is on {value.device}, expected the world's device {world.device}")


def _check_obs(world: World, name: str, space: gym.Space[Any], value: Any) -> None:
    """Check one observation against its space, entry by entry for Dict spaces."""
    if isinstance(space, gym_spaces.Dict):
        if not isinstance(value, dict) or set(value) != set(space.keys()):
            raise Fault(f"{name} is not a dict with the keys {sorted(space.keys())} of its Dict space")
        for key, part in space.items():
            _check_obs(world, f"{name}[{key!r}]", part, value[key])
        return
    _check_array(world, name, value, spaces.torch_dtype(space), tuple(space.shape or ()))
    for i, row in enumerate(value.cpu().numpy().astype(space.dtype)):
        if np.isfinite(row).all() and not space.contains(row if row.ndim else row[()]):
            raise Fault(f"{name} of copy {i} is {row}, outside its space {space}; widen the space or mend the value")


def _check_mask(world: World, info: dict[str, Any]) -> Tensor | None:
    mask = info.get("action_mask")
    if mask is None:
        return None
    space = world.single_action_space
    if not isinstance(space, gym_spaces.Discrete):
        raise Fault(f'info["action_mask"] is for Discrete actions only; this world has {space}')
    _check_array(world, 'info["action_mask"]', mask, torch.bool, (int(space.n),))
    if not bool(mask.any(dim=1).all()):
        raise Fault('info["action_mask"] leaves a copy without any legal action; leave at least one')
    assert isinstance(mask, Tensor)
    return mask


def check_gymnasium(probe: Probe) -> str:
    """The attributes that Gymnasium code expects of a VectorEnv are there and agree with each other."""
    world = probe.world()
    if not isinstance(world, VectorEnv):
        raise Fault(f"{type(world).__name__} is no gymnasium.vector.VectorEnv; subclass metarl.world.World")
    mode = world.metadata.get("autoreset_mode")
    if mode is not AutoresetMode.SAME_STEP:
        raise Fault(f'metadata["autoreset_mode"] is {mode}, expected AutoresetMode.SAME_STEP')
    for batch, single in (("observation_space", "single_observation_space"), ("action_space", "single_action_space")):
        want = batch_space(getattr(world, single), world.num_envs)
        if getattr(world, batch) != want:
            raise Fault(f"{batch} is {getattr(world, batch)}, expected {want}: the batch of {single}")
    if world.horizon < 1 or not world.name:
        raise Fault(f"name {world.name!r} and horizon {world.horizon}: give a name and a horizon of at least 1")
    return f"VectorEnv of {world.num_envs}, SAME_STEP, horizon {world.horizon}"
