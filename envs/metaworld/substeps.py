"""One environment step of MuJoCo through its Python bindings, whole or without what is already known."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import mujoco

_DOWN = (1.0, 0.0, 1.0, 0.0)
"""The mocap quaternion that upstream writes before each step."""


@cache
def whole_step(frame_skip: int) -> Callable[[Any, Any], None]:
    """Return what upstream does with (model, data) once mocap position and ctrl are set."""
    step, forward = mujoco.mj_step, mujoco.mj_forward

    def run(model: Any, data: Any) -> None:
        data.mocap_quat[0] = _DOWN
        step(model, data, frame_skip)
        forward(model, data)

    return run


@cache
def fused_step(frame_skip: int) -> Callable[[Any, Any], None]:
    """Return the same for data that `whole_step` or `fused_step` left, with finite positions and velocities.

    The forward pass after the last step has computed everything for these; only ctrl and the mocap body have moved
    since. If that is `fusable`, the first substep needs only the constraint that ties the hand to that body, and the
    forces. The caller has written the new mocap position to the body's `xpos`, too.
    """
    make, reference, finish = mujoco.mj_makeConstraint, mujoco.mj_referenceConstraint, mujoco.mj_step2
    step, forward = mujoco.mj_step, mujoco.mj_forward

    def run(model: Any, data: Any) -> None:
        make(model, data)
        reference(model, data)
        finish(model, data)
        step(model, data, frame_skip - 1)
        forward(model, data)

    return run


def fusable(model: Any) -> bool:
    """Return whether a change of ctrl and mocap leaves all but constraints and forces as the last forward had it."""
    option = model.opt
    if option.integrator != mujoco.mjtIntegrator.mjINT_EULER or option.disableflags or option.enableflags:
        return False
    if option.solver == mujoco.mjtSolver.mjSOL_PGS or option.noslip_iterations:
        return False
    if model.nsensor or model.nplugin or model.ntendon or model.nflex or model.na or model.ngravcomp:
        return False
    if any(kind != mujoco.mjtObj.mjOBJ_BODY for kind in model.eq_objtype):
        return False
    mocap = {body for body in range(1, model.nbody) if model.body_mocapid[body] >= 0}
    if any(model.body_parentid[body] != 0 or body in set(model.body_parentid[1:]) for body in mocap):
        return False
    geoms = {geom for geom in range(model.ngeom) if model.geom_bodyid[geom] in mocap}
    if any(model.geom_contype[geom] or model.geom_conaffinity[geom] for geom in geoms):
        return False
    return geoms.isdisjoint([*model.pair_geom1, *model.pair_geom2])
