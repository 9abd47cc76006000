"""Checks that what a Gymnasium environment returns lies in its declared spaces; one sentence says what does not.

Nothing is broadcast, cut, rounded or truth-tested: an array of the wrong shape, a flag that is a list, a mask of minus
infinities would all train, on something else. Held to the declaration are shapes, keys, kinds of numbers (those of an
integer space are integers, and in range), flags, masks and finiteness. Not held to it is the width of a number's dtype,
for a World hands over float32 and int64 in any case; nor, at each step, the bounds of a Box of floats: nothing that
learns uses them, and well-known environments leave theirs now and then.
"""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from metarl.errors import ConfigError, shortened
from metarl.spaces import entries

Path = tuple[str, ...]
"""Keys that lead to one leaf of a (nested) Dict space; () for a plain space."""

_MOST_SAID = 120
"""Characters that an error spends on one value."""
MOST = float(np.finfo(np.float32).max)
"""Largest number that a World can hand over."""
_NUMBERS = frozenset({float, int, bool, np.float64, np.float32, np.bool_, np.int64, np.int32})
_FLAGS = frozenset({bool, np.bool_})
_AS_DECLARED = "return what observation_space declares, or declare what is returned"


class Breach(Exception):
    """An environment handed over what it did not declare: what, got, expected, remedy."""


class Leaf:
    """One plain part of an observation: what it is called and what may stand there."""

    def __init__(self, path: Path, space: gym.Space[Any]) -> None:
        self.path, self.space, self.shape = path, space, tuple(space.shape or ())
        self.name = f"observation entry {'/'.join(map(str, path))!r}" if path else "the observation"
        self.dtype = np.dtype(space.dtype)
        self.wide = self.dtype.kind == "f" and self.dtype.itemsize > 4
        self.whole = not isinstance(space, spaces.Box) or self.dtype.kind in "iub"
        self.low: Any
        self.high: Any
        self.low, self.high = _range(space) if self.whole else (None, None)
        self.any_will_do = not self.whole or _is_whole_dtype(space, self.dtype)

    def read(self, value: Any) -> Any:
        """Return `value` as what may be written into an array of float32 or int64; raises Breach."""
        # Most come as declared, at every step; dtypes that are equal are nearly always one object.
        if type(value) is np.ndarray and value.dtype is self.dtype and value.shape == self.shape:
            if self.any_will_do:
                return _narrow(value) if self.wide else value
        elif type(value) is not int or self.shape or not self.whole:
            value = self._plain(value)
        if self.whole and (np.any(value < self.low) or np.any(value > self.high)):
            raise Breach(f"{self.name} is {describe(value)}, which lies outside {self.space}; {_AS_DECLARED}")
        return value

    def _plain(self, value: Any) -> NDArray[Any]:
        """Return the numbers of a value that is no array of the declared dtype."""
        array = as_array(value)
        if array is None or array.dtype.kind not in "fiub":
            raise Breach(f"{self.name} is {describe(value)}, expected the numbers of {self.space}; {_AS_DECLARED}")
        if array.shape != self.shape:
            raise Breach(
                f"{self.name} is {describe(value)}, expected shape {self.shape} of {self.space}; {_AS_DECLARED}"
            )
        if self.whole and array.dtype.kind == "f":
            raise Breach(f"{self.name} is {describe(value)}, expected integers of {self.space}; {_AS_DECLARED}")
        return array if self.whole or array.dtype.itemsize <= 4 else _narrow(array)


def _is_whole_dtype(space: gym.Space[Any], dtype: np.dtype[Any]) -> bool:
    """Return True for a Box of integers, such as an image, that every array of its dtype lies in."""
    if not isinstance(space, spaces.Box) or dtype.kind not in "iu":
        return False
    limits = np.iinfo(dtype)
    return bool((space.low == limits.min).all() and (space.high == limits.max).all())


def _range(space: gym.Space[Any]) -> tuple[Any, Any]:
    """Return least and largest value of a space."""
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start) + int(space.n) - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if isinstance(space, spaces.Box):
        return space.low, space.high
    return 0, 1  # MultiBinary


def _narrow(value: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows becomes infinite, which the look at all numbers finds
        return value.astype(np.float32)


def observation_leaves(space: gym.Space[Any]) -> list[Leaf]:
    """Return the plain parts of an observation space."""
    return [Leaf(path, part) for path, part in entries(space)]


def check_keys(space: spaces.Dict, value: Any, path: Path = ()) -> None:
    """Raise Breach unless `value` has the entries of `space`, no more and no fewer, at every depth."""
    at = f"observation entry {'/'.join(map(str, path))!r}" if path else "the observation"
    if not isinstance(value, Mapping):
        raise Breach(
            f"{at} is {describe(value)}, expected a dict with the entries {list(space.spaces)}; {_AS_DECLARED}"
        )
    if value.keys() != space.spaces.keys():
        missing, more = ([k for k in a if k not in b] for a, b in ((space.spaces, value), (value, space.spaces)))
        told = " and ".join(f"{verb} {keys}" for verb, keys in (("lacks", missing), ("has undeclared", more)) if keys)
        raise Breach(f"{at} {told}, expected the entries {list(space.spaces)}; {_AS_DECLARED}")
    for key, part in space.spaces.items():
        if isinstance(part, spaces.Dict):
            check_keys(part, value[key], (*path, key))


def unpack(result: Any, n: int, call: str, what: str, hint: str) -> tuple[Any, ...]:
    """Return the tuple of `n` values that `call` of an environment must give; the last one is the info."""
    if not isinstance(result, tuple) or len(result) != n:
        got = f"{len(result)} values" if isinstance(result, tuple) else describe(result)
        raise Breach(f"{call}() returned {got}, expected the {what}; {hint}")
    if not isinstance(result[-1], Mapping):
        raise Breach(f"{call}() returned {describe(result[-1])} as info, expected a dict; return {{}} if there is none")
    return result


def read_reward(value: Any) -> float:
    """Return a reward; raises Breach unless it is one finite number."""
    if type(value) not in _NUMBERS:
        array = as_array(value)
        if array is None or array.shape != () or array.dtype.kind not in "fiub":
            raise Breach(f"the reward is {describe(value)}, expected one number; return float(reward)")
        value = array.item()
    if not -MOST <= value <= MOST:
        raise Breach(f"the reward is {describe(value)}, expected a finite number (float32); mend it at its source")
    return value  # type: ignore[no-any-return]


def read_flag(value: Any, what: str, floats: bool = False) -> bool:
    """Return a flag that is a bool, 0 or 1 (also 0.0 or 1.0 with `floats`); raises Breach for anything else."""
    if type(value) in _FLAGS:
        return bool(value)
    array = as_array(value)
    if (
        array is None
        or array.shape != ()
        or array.dtype.kind not in ("fiub" if floats else "iub")
        or array not in (0, 1)
    ):
        raise Breach(f"{what} is {describe(value)}, expected one bool (or {'0.0 or 1.0' if floats else '0 or 1'}); "
                     f"return bool(...) of one value")  # fmt: skip
    return bool(array)


def read_success(info: Mapping[str, Any]) -> bool:
    """Return whether a step's info says "success"."""
    if "success" not in info:
        raise Breach(
            f"step() gave info with {sorted(map(str, info))}, expected 'success' among it at every step; give it, or "
            f"build the world with has_success=False"
        )
    return read_flag(info["success"], "info['success']", floats=True)


def read_mask(info: Mapping[str, Any], n: int) -> NDArray[Any]:
    """Return which of `n` actions are legal, as info says."""
    if "action_mask" not in info:
        raise Breach(
            f"info has {sorted(map(str, info))}, expected 'action_mask' among it at every reset and step; give it, or "
            f"build the world with has_action_mask=False"
        )
    value = info["action_mask"]
    mask = as_array(value)
    if mask is None or mask.shape != (n,) or mask.dtype.kind not in "fiub" or not ((mask == 0) | (mask == 1)).all():
        raise Breach(
            f"info['action_mask'] is {describe(value)}, expected {n} bools (or 0 and 1), True where an action is "
            f"legal; a mask to be added to logits is another thing"
        )
    if not mask.any():
        raise Breach(f"info['action_mask'] is {describe(value)}, expected at least one legal action; end the episode")
    return mask


def early_end(how: str, age: int, horizon: int, env: gym.Env[Any, Any]) -> Breach:
    """Return the complaint about an episode that ended before the horizon of a world with `fixed_horizon`."""
    limit = time_limit(env)
    why = f" (its max_episode_steps is {limit})" if limit is not None and limit <= age else ""
    return Breach(
        f"the environment {how} its episode{why} after {age} steps, expected {horizon} of a world with "
        f"fixed_horizon=True; build the world with fixed_horizon=False" + (f" or horizon={limit}" if why else "")
    )


def time_limit(env: Any) -> int | None:
    """Return the number of steps after which an environment says that it truncates, or None."""
    limit = getattr(getattr(env, "spec", None), "max_episode_steps", None)
    return int(limit) if limit is not None else None


def check_env(env: Any, action_space: gym.Space[Any] | None = None, *, least_steps: int = 0) -> None:
    """Raise Breach unless `env` is one Gymnasium environment whose actions are those of `action_space`.

    `least_steps`: env steps that its own time limit must grant.
    """
    if isinstance(env, VectorEnv) or not all(callable(getattr(env, verb, None)) for verb in ("reset", "step", "close")):
        kind = "a VectorEnv" if isinstance(env, VectorEnv) else describe(env)
        raise Breach(f"make_env() returned {kind}, expected one gymnasium.Env; a World makes the envs itself")
    if not _takes_seed(env.reset):
        raise Breach(
            "reset() of the environment takes no keyword seed, expected reset(seed=..., options=...); the old gym API "
            "had none, wrap such an environment"
        )
    held = getattr(env, "action_space", None)
    if action_space is not None and not _same(held, action_space):
        raise Breach(
            f"make_env() returned an environment with the action space {shortened(held, _MOST_SAID)}, expected "
            f"{shortened(action_space, _MOST_SAID)} of the world; give all environments the world's action space"
        )
    limit = time_limit(env)
    if limit is not None and limit < least_steps:
        raise Breach(
            f"the environment's max_episode_steps is {limit}, expected at least the horizon {least_steps} of a world "
            f"with fixed_horizon=True; build the world with fixed_horizon=False or horizon={limit}"
        )


def _takes_seed(reset: Any) -> bool:
    parameters = inspect.signature(reset).parameters
    return "seed" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _same(own: Any, declared: gym.Space[Any]) -> bool:
    """Return True if an environment's action space is the one declared, to the bit and the dtype."""
    if type(own) is not type(declared) or own.shape != declared.shape or own.dtype != declared.dtype:
        return False
    return all(np.array_equal(a, b) for a, b in zip(_range(own), _range(declared), strict=True))


_TAKES = {
    "make_env": ("task",), "apply_task": ("env", "task"), "env_key": ("task",), "snapshot": ("env",),
    "restore": ("env", "state"), "render": ("env",),
}  # fmt: skip


def check_hooks(name: str, hooks: Mapping[str, object]) -> None:
    """Raise ConfigError unless the hooks of a world `name` can be called with what they get, none of a pair alone."""
    if (hooks["snapshot"] is None) != (hooks["restore"] is None):
        raise ConfigError(f"world {name!r} needs both of snapshot and restore, or neither")
    for field, hook in hooks.items():
        if hook is not None or field in ("make_env", "apply_task"):
            _check_hook(name, field, hook, ", ".join(_TAKES[field]))


def _check_hook(name: str, field: str, hook: object, takes: str) -> None:
    if not callable(hook):
        raise ConfigError(
            f"world {name!r}: {field} is {describe(hook)}, expected a function of {takes}; write `lambda {takes}: ...`"
        )
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):
        return  # some callables have none; the call itself will tell
    first = next(iter(signature.parameters.values()), None)
    if isinstance(hook, type) and issubclass(hook, gym.Env) and (first is None or first.default is not first.empty):
        raise ConfigError(
            f"world {name!r}: {field} is the class {hook.__name__}, whose constructor asks for no task, expected a "
            f"function of {takes}; write `lambda {takes}: {hook.__name__}()`"
        )
    try:
        signature.bind(*takes.split(", "))
    except TypeError as error:
        raise ConfigError(
            f"world {name!r}: {field} has the arguments {signature}, expected a function of {takes} ({error})"
        ) from error


def as_array(value: Any) -> NDArray[Any] | None:
    """Return `value` as an array, or None if it is no regular one; a masked one has entries that are no numbers."""
    if isinstance(value, np.ma.MaskedArray):
        return None
    try:
        return np.asarray(value)
    except Exception:  # whatever a foreign type raises when it is asked for its numbers
        return None


def describe(value: Any) -> str:
    """Return what an error says of a value: its kind, shape and, if they are few, its numbers; one short line."""
    if isinstance(value, np.ndarray | np.generic):
        few = f"{value.tolist()!r}, " if value.size <= 4 else ""
        return shortened(f"{few}{value.dtype} of shape {value.shape}", _MOST_SAID)
    return shortened(f"{reprlib.repr(value)} ({type(value).__name__})", _MOST_SAID)
