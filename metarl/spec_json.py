"""What an agent knows of its worlds as JSON, spaces included, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from .errors import MOST, CheckpointError
from .spec import WorldSpec


def spec_to_json(spec: WorldSpec) -> dict[str, Any]:
    """Return `spec` as JSON-able values; `spec_from_json` gives an equal one."""
    values = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    return {k: space_to_json(v) if isinstance(v, gym.Space) else v for k, v in values.items()}


def spec_from_json(stored: Any, what: object) -> WorldSpec:
    """Return the spec that `spec_to_json` wrote; raises CheckpointError that begins with `what` for anything else."""
    try:
        kinds: dict[str, Any] = {"observation_space": space_from_json, "action_space": space_from_json}
        values: dict[str, Any] = {k: kinds[k](v) if k in kinds else v for k, v in stored.items()}
        for field in dataclasses.fields(WorldSpec):
            if field.name in values and field.name not in kinds:
                _check_plain(field.name, field.type, values[field.name])
        return WorldSpec(**values)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, OverflowError) as error:
        raise CheckpointError(f"{what} does not say what worlds the agent is for ({error}); save it again") from error


def _check_plain(name: str, kind: Any, value: Any) -> None:
    """Raise TypeError or ValueError unless a number, truth value or text is what its field says."""
    if type(value).__name__ != kind:
        raise TypeError(f"{name} is {value!r}, expected {kind}")
    if kind == "int" and not (name == "horizon") <= value <= MOST:
        raise ValueError(f"{name} is {value}")


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """Return a Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these as JSON-able values."""
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": [[key, space_to_json(part)] for key, part in space.spaces.items()]}
    if isinstance(space, spaces.Box):
        ends = {"low": _numbers(space.low), "high": _numbers(space.high)}
        return {"kind": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **ends}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    assert isinstance(space, spaces.MultiBinary)  # `check_spaces` lets no other through
    return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else [int(n) for n in space.n]}


def space_from_json(stored: Mapping[str, Any]) -> gym.Space[Any]:
    """Return the space that `space_to_json` wrote; raises ValueError, TypeError or KeyError for anything else."""
    kind = stored["kind"]
    if kind == "Dict":
        return spaces.Dict({key: space_from_json(part) for key, part in stored["spaces"]})
    if kind == "Box":
        dtype, shape = np.dtype(stored["dtype"]), tuple(stored["shape"])
        read = float if dtype.kind == "f" else int
        low, high = (np.array([read(v) for v in stored[end]], dtype=dtype) for end in ("low", "high"))
        return spaces.Box(low.reshape(shape), high.reshape(shape), dtype=dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(stored["n"], start=stored["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(stored["nvec"], start=stored["start"])
    if kind == "MultiBinary":
        return spaces.MultiBinary(stored["n"])
    raise ValueError(f"no space is a {kind!r}")


def _numbers(values: Any) -> list[float | int | str]:
    """Return bounds as plain numbers, infinite ones as text, which `float` reads back."""
    return [v if isinstance(v, int) or np.isfinite(v) else str(v) for v in values.reshape(-1).tolist()]
