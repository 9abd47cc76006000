"""Checks of what a world returns: kinds, shapes, dtypes, bounds, the attributes Gymnasium expects."""

from __future__ import annotations

import inspect
from dataclasses import fields
from functools import reduce
from operator import getitem
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces as gym_spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from metarl.errors import ConfigError
from metarl.kinds import array_fault, kind_of, observation_fault
from metarl.seeding import derive
from metarl.spaces import entries
from metarl.spec import WorldSpec
from metarl.task_distribution import said_spec
from metarl.tasks import Tasks
from metarl.world import World

from .probe import Fault, Probe, random_action, usable_spec

METHODS: dict[str, tuple[int, tuple[str, ...]]] = {
    "set_tasks": (1, ()),
    "reset": (0, ("seed", "options")),
    "step": (1, ()),
    "state_dict": (0, ()),
    "load_state_dict": (1, ()),
    "privileged_info": (0, ()),
    "freeze": (1, ()),
    "close": (0, ()),
}
"""How a world's methods are called: how many positional arguments, which keywords."""


def check_calls(what: str, owner: object, methods: dict[str, tuple[int, tuple[str, ...]]]) -> None:
    """Raise Fault unless `owner` has these methods and they can be called as the contract calls them."""
    for name, (n_positional, keywords) in methods.items():
        method = getattr(owner, name, None)
        if not callable(method):
            raise Fault(f"{name} of the {what} is {kind_of(method)}; make it a method")
        try:
            signature = inspect.signature(method)
        except (TypeError, ValueError):
            continue  # some builtins have none; the call itself will tell
        try:
            signature.bind(*range(n_positional), **dict.fromkeys(keywords))
        except TypeError as error:
            called = ", ".join([*"abc"[:n_positional], *(f"{k}=..." for k in keywords)])
            raise Fault(f"{name}{signature} of the {what} cannot be called as {name}({called}): {error}") from error


def check_api(probe: Probe) -> str:
    """reset() and step() return what the World contract says: kinds, shapes, dtypes, device, bounds."""
    world = probe.world()
    _check_constants(world, probe)
    spec = usable_spec(world)
    world.set_tasks(probe.draw(None, "api"))
    obs, info = _several("reset()", world.reset(seed=derive(probe.seed, "api")), ("obs", "info"))
    _check_obs(world, "reset observation", world.single_observation_space, obs)
    _check_offers(world)
    mask = _check_mask(world, info)
    names = ("obs", "reward", "terminated", "truncated", "info")
    for noise in probe.noise(world, min(probe.n_steps, world.horizon + 1), "api"):
        answer = world.step(random_action(world, noise, mask))
        obs, reward, terminated, truncated, info = _several("step()", answer, names)
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


def _check_constants(world: object, probe: Probe) -> None:
    """Check what a world says of itself before it does anything."""
    if not isinstance(world, World):
        raise Fault(f"make_world() gave {kind_of(world)}; subclass metarl.world.World")
    missing = [n for n in ("num_envs", "horizon", "device", "single_action_space") if not hasattr(world, n)]
    if missing:
        raise Fault(f"the world lacks {', '.join(missing)}; call super().__init__(...) in its __init__")
    if world.num_envs != probe.num_envs:
        raise Fault(f"make_world({probe.num_envs}) gave {world.num_envs} envs; build as many as asked")
    if isinstance(world.horizon, bool) or not isinstance(world.horizon, int) or world.horizon < 1:
        raise Fault(f"horizon is {world.horizon!r}; give the longest episode in steps, a whole number of at least 1")
    if not isinstance(world.name, str) or not world.name:
        raise Fault(f"name is {world.name!r}; give the world a name")
    for flag in (
        "fixed_horizon",
        "has_success",
        "has_dense_reward",
        "has_cost",
        "reward_observable",
        "persists_across_episodes",
    ):
        if not isinstance(getattr(world, flag), bool):
            raise Fault(f"{flag} is {getattr(world, flag)!r}; set it to True or False")
    if isinstance(world.n_privileged, bool) or not isinstance(world.n_privileged, int) or world.n_privileged < 0:
        raise Fault(
            f"n_privileged is {world.n_privileged!r}; say how many numbers privileged_info() gives per env, 0 if none"
        )
    if torch.device(world.device).type != torch.device(probe.device).type:
        raise Fault(f"make_world(device={str(probe.device)!r}) gave a world on {world.device}; build it where asked")
    check_calls("world", world, METHODS)
    _check_spec(world, said_spec(probe.family))


def _check_spec(world: World, said: WorldSpec | None) -> None:
    """Check that world, its spec and that of its distribution agree: agents are built from the latter."""
    for name in ("observation_space", "action_space"):
        if getattr(world, f"single_{name}") != getattr(world.spec, name):
            raise Fault(f"single_{name} is {getattr(world, f'single_{name}')}, its spec's {getattr(world.spec, name)}")
    for name in (f.name for f in fields(said) if said != world.spec) if said else ():
        here, there = getattr(world.spec, name), getattr(said, name)
        if here != there:
            raise Fault(f"the distribution's spec says {name}={there}, its world's says {here}; override both, or none")


def _several(what: str, answer: Any, names: tuple[str, ...]) -> Any:
    """Return `answer`; raises Fault unless it is a tuple of as many things as `names`, the last of them a dict."""
    if not isinstance(answer, tuple) or len(answer) != len(names):
        got = f"{len(answer)} values" if isinstance(answer, tuple) else kind_of(answer)
        raise Fault(f"{what} gave {got}; return ({', '.join(names)})")
    if not isinstance(answer[-1], dict):
        raise Fault(f"info of {what} is {kind_of(answer[-1])}; return a dict")
    return answer


def check_tasks(probe: Probe) -> str:
    """set_tasks() takes one task per env, and the next reset gives them to the envs."""
    world = probe.world()
    for split in ("first", "second"):
        tasks = probe.draw(None, "tasks", split)
        world.set_tasks(tasks)
        world.reset(seed=derive(probe.seed, "tasks"))
        if not isinstance(world.tasks, Tasks) or world.tasks.keys() != tasks.keys():
            raise Fault("after set_tasks() and reset(), world.tasks does not hold the new tasks; set it")
    try:
        world.set_tasks(tasks[: world.num_envs - 1])
    except ConfigError:
        return f"one task for each of {world.num_envs} envs, from the next reset on"
    raise Fault("set_tasks() takes fewer tasks than envs; call World.check_tasks first")


def _check_offers(world: World) -> None:
    """Check what a world offers only if it says so: numbers that are hidden, envs that wait."""
    if world.n_privileged:
        _check_array(world, "privileged_info()", world.privileged_info(), torch.float32, (world.n_privileged,))
    if world.persists_across_episodes and not world.fixed_horizon:
        world.freeze(torch.zeros(world.num_envs, dtype=torch.bool, device=world.device))
        world.freeze(None)


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
    fault = array_fault(name, value, world.num_envs, dtype, shape, world.device)
    if fault:
        raise Fault(fault)


def _check_obs(world: World, name: str, space: gym.Space[Any], value: Any) -> None:
    """Check one observation against its space, entry by entry for Dict spaces."""
    fault = observation_fault(name, space, value, world.num_envs, world.device)
    if fault:
        raise Fault(fault)
    if isinstance(space, gym_spaces.Dict):
        for key, part in space.items():
            _check_obs(world, f"{name}[{key!r}]", part, value[key])
        return
    if not isinstance(space, gym_spaces.Box) or np.dtype(space.dtype).kind in "iub":
        _check_inside(name, space, value)


def _check_inside(name: str, space: gym.Space[Any], value: Any) -> None:
    for i, row in enumerate(value.cpu().numpy().astype(space.dtype)):
        if np.isfinite(row).all() and not space.contains(row if row.ndim else row[()]):
            raise Fault(f"{name} of env {i} is {row}, outside its space {space}; widen the space or mend the value")


def check_observation_bounds(probe: Probe) -> str:
    """Observations lie within the Boxes that they are declared for.

    No run is refused for it: nothing that learns uses those bounds, and well-known environments leave theirs.
    """
    world = probe.world()
    world.set_tasks(probe.draw(None, "bounds"))
    obs, info = world.reset(seed=derive(probe.seed, "observation bounds"))
    for noise in probe.noise(world, min(probe.n_steps, world.horizon + 1), "observation bounds"):
        for path, space in entries(world.single_observation_space):
            value = reduce(getitem, path, obs)
            _check_inside(f"observation{''.join(f'[{key!r}]' for key in path)}", space, value)
        obs, _, _, _, info = world.step(random_action(world, noise, info.get("action_mask")))
    return f"all of {min(probe.n_steps, world.horizon + 1)} observations of each env inside"


def _check_mask(world: World, info: dict[str, Any]) -> Tensor | None:
    mask = info.get("action_mask")
    if mask is None:
        return None
    space = world.single_action_space
    if not isinstance(space, gym_spaces.Discrete):
        raise Fault(f'info["action_mask"] is for Discrete actions only; this world has {space}')
    _check_array(world, 'info["action_mask"]', mask, torch.bool, (int(space.n),))
    if not bool(mask.any(dim=1).all()):
        raise Fault('info["action_mask"] leaves an env without any legal action; leave at least one')
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
    return f"VectorEnv of {world.num_envs}, SAME_STEP, horizon {world.horizon}"
