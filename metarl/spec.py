"""What a world is, in one value: its spaces, how long its episodes last, and what it reports."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

import gymnasium as gym

from . import spaces
from .deprecated import OldName, deprecated, renamed

P = ParamSpec("P")
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class WorldSpec:
    """One environment of a world, as agents and worlds are built from it. It holds no size and no device.

    WorldSpec(spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Discrete(4), horizon=20, name="wind")
    """

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    horizon: int
    """Longest possible episode, in env steps."""
    has_dense_reward: bool = False
    """True if `info`, and so a rollout, carries "dense_reward"."""
    reward_observable: bool = True
    """False if an agent that acts is not told the reward (say, a visitor's satisfaction, which only reactions show):
    agents learn from it, but `TimeStep.prev_reward` is 0, and so is what a memory or a belief takes in."""
    n_privileged: int = 0
    """Numbers per env that `World.privileged_info` gives; 0: this world does not say what is hidden."""
    name: str = "world"
    """For messages and results."""
    fixed_horizon: bool = True
    """True if every episode lasts exactly `horizon` steps, so that unmasked envs stay in step."""
    has_success: bool = False
    """True if `info` carries "success"."""
    has_cost: bool = False
    """True if `info` carries "cost"."""
    persists_across_episodes: bool = False
    """True if something outlives an episode: the first observation after its end also shows something of it (say, the
    last reaction, which agents with memory would not see otherwise), or the number of an episode matters. A plain reset
    shows nothing of the kind, so a trial is never reset halfway; `World.freeze` keeps envs in step instead."""

    shows_reward = OldName("reward_observable")
    n_hidden = OldName("n_privileged")

    @classmethod
    def of(cls, world: Any) -> WorldSpec:
        """Return `world.spec`; deprecated."""
        deprecated("WorldSpec.of(world) is now world.spec, and tasks.spec needs no world")
        spec: WorldSpec = world.spec
        return spec

    @property
    def obs_dim(self) -> int:
        """Length of a flat observation."""
        return spaces.flat_dim(self.observation_space)

    @property
    def action_dim(self) -> int:
        """Length of a flat action (one-hot for discrete spaces)."""
        return spaces.flat_dim(self.action_space)


OLD_ENTRIES = {"shows_reward": "reward_observable", "n_hidden": "n_privileged", "carries": "persists_across_episodes"}
WorldSpec.__init__ = renamed(**OLD_ENTRIES)(WorldSpec.__init__)  # type: ignore[method-assign]


class FromSpec(Generic[Entry]):
    """An entry of a world's spec as an attribute of the world, to read: `world.horizon` is `world.spec.horizon`.

    Worlds written before there was a spec assign some of them, to the class or to a world; for one release that changes
    the spec instead, with a DeprecationWarning.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, world: None, owner: type) -> FromSpec[Entry]: ...
    @overload
    def __get__(self, world: Any, owner: type) -> Entry: ...
    def __get__(self, world: Any, owner: type) -> FromSpec[Entry] | Entry:
        if world is None:
            return self
        value: Entry = getattr(world.spec, self._name)
        return value

    def __set__(self, world: Any, value: Entry) -> None:
        deprecated(f"{type(world).__name__} sets {self._name}={value!r}; say so in its WorldSpec")
        world.spec = replace(world.spec, **{self._name: value})


def with_class_entries(spec: WorldSpec, world: type) -> WorldSpec:
    """Return `spec` with the entries that the class `world` assigns, as worlds did before there was a spec."""
    names = {f.name: f.name for f in fields(spec) if not f.name.endswith("_space")} | OLD_ENTRIES
    found = [(new, getattr(world, name)) for name, new in names.items()]
    said: dict[str, Any] = {k: v for k, v in found if not hasattr(v, "__get__")}  # no FromSpec, OldName or property
    if not said:
        return spec
    deprecated(f"{world.__name__} sets {', '.join(f'{k}={v!r}' for k, v in said.items())}; say so in its WorldSpec")
    return replace(spec, **said)


def takes_old_form(
    init: Callable[Concatenate[Any, WorldSpec, int, P], None],
) -> Callable[Concatenate[Any, WorldSpec, int, P], None]:
    """Let a world's constructor `init(spec, num_envs, device)` be called as before there was a spec, for one release.

    That was `init(name, n_copies, observation_space, action_space, horizon=..., device=...)`.
    """

    @functools.wraps(init)
    def either(self: Any, *args: Any, **kwargs: Any) -> None:
        if (args and isinstance(args[0], WorldSpec)) or "spec" in kwargs:
            init(self, *args, **kwargs)
            return
        deprecated(f"{type(self).__name__} calls __init__(name, n_copies, ...) of World; pass (spec, num_envs, device)")
        old = dict(zip(("name", "n_copies", "observation_space", "action_space"), args, strict=False)) | kwargs
        device, num_envs = old.pop("device", "cpu"), old.pop("n_copies")
        init(self, WorldSpec(**old), num_envs, device)  # type: ignore[call-arg]

    return cast("Callable[Concatenate[Any, WorldSpec, int, P], None]", either)
