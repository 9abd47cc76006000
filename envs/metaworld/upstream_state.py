"""Mid-episode snapshots of upstream Meta-World environments, exact to the bit.

Three things decide what such an environment does next: MuJoCo's integration state (positions, velocities, mocap, warm
start), the body and site positions that tasks write into the model, and attributes of the Python object. Some of those
attributes are not values but views into MuJoCo's memory (`init_left_pad` in all classes, `_target_pos` in two, ...):
upstream's rewards read them live, so a snapshot keeps them as views.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from metarl.envs.gym.serial import Env

_MODEL_FIELDS = ("body_pos", "body_quat", "site_pos", "site_quat", "geom_pos")
_VIEWED_FIELDS = (
    "xpos", "xquat", "xmat", "xipos", "ximat", "site_xpos", "site_xmat", "geom_xpos", "geom_xmat", "qpos", "qvel",
    "mocap_pos", "mocap_quat", "ctrl", "qacc", "sensordata",
)  # fmt: skip
_PLAIN = (bool, int, float, str, type(None))


def snapshot(env: Env) -> dict[str, Any]:
    """Return the state of an upstream environment as tensors and plain values."""
    import mujoco

    upstream: Any = env.unwrapped
    spec = mujoco.mjtState.mjSTATE_INTEGRATION
    physics = np.zeros(mujoco.mj_stateSize(upstream.model, spec))
    mujoco.mj_getState(upstream.model, upstream.data, physics, spec)
    values: dict[str, Any] = {}
    views: dict[str, list[Any]] = {}
    for name, value in vars(upstream).items():
        if isinstance(value, np.ndarray):
            view = _find_view(upstream.data, value)
            if view is not None:
                views[name] = view
            else:
                values[name] = torch.from_numpy(value.copy())
        elif isinstance(value, np.generic):
            values[name] = torch.from_numpy(np.asarray(value).copy())
        elif isinstance(value, _PLAIN):
            values[name] = value
    return {
        "physics": torch.from_numpy(physics),
        "model": {field: torch.from_numpy(getattr(upstream.model, field).copy()) for field in _MODEL_FIELDS},
        "values": values,
        "views": views,
    }


def restore(env: Env, state: dict[str, Any]) -> None:
    """Put `state` back into an environment of the same class that has the same task."""
    import mujoco

    upstream: Any = env.unwrapped
    for field, stored in state["model"].items():
        getattr(upstream.model, field)[...] = stored.numpy()
    spec = mujoco.mjtState.mjSTATE_INTEGRATION
    physics = state["physics"].numpy()
    mujoco.mj_setState(upstream.model, upstream.data, physics, spec)
    mujoco.mj_forward(upstream.model, upstream.data)  # bodies and sites, for pictures and for the views below
    mujoco.mj_setState(upstream.model, upstream.data, physics, spec)  # forward has overwritten the warm start
    for name, stored in state["values"].items():
        if isinstance(stored, torch.Tensor):
            array = stored.numpy().copy()
            setattr(upstream, name, array if array.ndim else array[()])
        else:
            setattr(upstream, name, stored)
    for name, (field, start, shape) in state["views"].items():
        flat = getattr(upstream.data, field).reshape(-1)
        setattr(upstream, name, flat[start : start + int(np.prod(shape))].reshape(shape))


def _find_view(data: Any, value: np.ndarray[Any, Any]) -> list[Any] | None:
    """Return [field, first element, shape] if `value` lies in the memory of one of MuJoCo's arrays, else None."""
    if value.flags.owndata or not value.size:
        return None
    address = value.__array_interface__["data"][0]
    for field in _VIEWED_FIELDS:
        array = getattr(data, field)
        begin = array.__array_interface__["data"][0]
        if array.size and begin <= address < begin + array.nbytes:
            return [field, (address - begin) // array.itemsize, list(value.shape)]
    return None
