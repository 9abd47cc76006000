"""A small MuJoCo scene of Meta-World's kind: a hand that hangs on a mocap body, two fingers, something to push."""

from __future__ import annotations

import copy

import mujoco
import numpy as np

from metarl.envs.metaworld.core_protocol import EnvState, ModelEntry, TaskClass
from metarl.envs.metaworld.program import Program

SPEC = mujoco.mjtState.mjSTATE_INTEGRATION
SCENE = """
<mujoco>
  <option timestep="0.0025" cone="elliptic" {option}/>
  <size {size}/>
  <worldbody>
    <geom type="plane" size="1 1 .1"/>
    <body name="mocap" mocap="true" pos="0 0 .2"><geom type="sphere" size=".01" {mocap_geom}/></body>
    <body name="hand" pos="0 0 .2">
      <freejoint/>
      <geom type="box" size=".03 .02 .02" mass=".5"/>
      <body pos="-.03 0 -.04"><joint name="left" type="slide" axis="1 0 0" range="0 .02" limited="true" damping="9"/>
        <geom type="box" size=".004 .01 .03" mass=".05"/></body>
      <body pos=".03 0 -.04"><joint name="right" type="slide" axis="1 0 0" range="-.02 0" limited="true" damping="9"/>
        <geom type="box" size=".004 .01 .03" mass=".05"/></body>
    </body>
    <body name="cube" pos=".02 .01 .03"><freejoint/><geom type="box" size=".012 .012 .02" mass=".02"/></body>
    <site name="goal" pos="0 0 .1"/>
  </worldbody>
  <equality><weld body1="mocap" body2="hand"/></equality>
  <actuator>
    <position joint="left" kp="400" ctrllimited="true" ctrlrange="-1 1"/>
    <position joint="right" kp="400" ctrllimited="true" ctrlrange="-1 1"/>
  </actuator>
  {more}
</mujoco>
"""


def scene(option="", size="", mocap_geom='contype="0" conaffinity="0"', more="") -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(SCENE.format(option=option, size=size, mocap_geom=mocap_geom, more=more))


def toy_class(model: mujoco.MjModel | None = None, name: str = "toy", n_slots: int = 2, **changes) -> TaskClass:
    model = model or scene()
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "hand")
    values = {
        "name": name,
        "program": Program(name, "v2", (), (), (), n_slots, (), 0, (), ()),
        "model": model,
        "action_scale": 0.01,
        "mocap_low": np.array([-0.1, -0.1, 0.05]),
        "mocap_high": np.array([0.1, 0.1, 0.3]),
        "frame_skip": 5,
        "entries": (ModelEntry("site_pos", 0, 3), ModelEntry("body_pos", 3 * body, 3), ModelEntry("body_pos", 0, 3)),
        "n_state": mujoco.mj_stateSize(model, SPEC),
    }
    return TaskClass(**(values | changes))


def first_state(task_class: TaskClass, seed: int = 0) -> EnvState:
    """Return a state in motion, with model values of its own."""
    model, generator = task_class.model, np.random.default_rng(seed)
    data = mujoco.MjData(model)
    data.qvel[:] = 0.2 * generator.standard_normal(model.nv)
    mujoco.mj_step(model, data, nstep=3)
    physics = np.empty(task_class.n_state)
    mujoco.mj_getState(model, data, physics, SPEC)
    n_model = sum(entry.size for entry in task_class.entries)
    return EnvState(physics, generator.standard_normal(n_model), generator.standard_normal(task_class.program.n_slots))


def actions(n_steps: int, n: int, seed: int = 0) -> np.ndarray:
    """Return actions that press the hand down onto the cube, float32 [n_steps, n, 4], some beyond the bounds."""
    out = np.random.default_rng(seed).uniform(-1.5, 1.5, (n_steps, n, 4)).astype(np.float32)
    out[..., 2] -= 0.7
    return out


class Reference:
    """Upstream's sequence of calls, through MuJoCo's Python bindings."""

    def __init__(self, task_class: TaskClass, state: EnvState) -> None:
        self.task_class, self.state = task_class, state
        self.model = copy.copy(task_class.model)
        start = 0
        for entry in task_class.entries:
            flat = getattr(self.model, entry.field).reshape(-1)
            flat[entry.start : entry.start + entry.size] = state.model[start : start + entry.size]
            start += entry.size
        self.data = mujoco.MjData(self.model)
        mujoco.mj_setState(self.model, self.data, state.physics, SPEC)

    def step(self, action: np.ndarray) -> np.ndarray:
        """Return the physics state after one environment step."""
        model, data, task_class = self.model, self.data, self.task_class
        shift = np.clip(action[:3], -1, 1) * task_class.action_scale
        assert shift.dtype == np.float32
        data.mocap_pos[0] = np.clip(data.mocap_pos[0] + shift, task_class.mocap_low, task_class.mocap_high)
        data.mocap_quat[0] = [1, 0, 1, 0]
        data.ctrl[:] = [action[3], -action[3]]
        mujoco.mj_step(model, data, nstep=task_class.frame_skip)
        mujoco.mj_rnePostConstraint(model, data)
        mujoco.mj_forward(model, data)
        physics = np.empty(task_class.n_state)
        mujoco.mj_getState(model, data, physics, SPEC)
        return physics
