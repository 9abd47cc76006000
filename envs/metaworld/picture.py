"""Pictures of Meta-World environments, with whatever OpenGL this machine has."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from envs.gym_chunk import Env
from metarl.errors import ConfigError

SIZE = 480
"""Pixels of each side."""
CAMERA = "corner2"
APT = {
    "egl": "apt-get install -y --no-install-recommends libegl1 libgl1-mesa-dri libopengl0",
    "osmesa": "apt-get install -y --no-install-recommends libosmesa6",
    "glfw": "apt-get install -y --no-install-recommends xvfb libglfw3, and run under `xvfb-run -a`",
}

_cameras: WeakKeyDictionary[Env, _Camera] = WeakKeyDictionary()


def picture(env: Env) -> NDArray[np.uint8]:
    """Return an RGB picture of `env`, uint8 [480, 480, 3].

    Raises: ConfigError with the line that installs what is missing, if there is no OpenGL library.
    """
    if env not in _cameras:
        _cameras[env] = _Camera(env)
    return _cameras[env].shoot()


def forget(env: Env) -> None:
    """Free what pictures of `env` needed."""
    camera = _cameras.pop(env, None)
    if camera is not None:
        camera.close()


class _Camera:
    """One OpenGL context for one environment; the first picture takes a second, later ones hundredths."""

    def __init__(self, env: Env) -> None:
        import mujoco

        upstream: Any = env.unwrapped
        self.model, self.data = upstream.model, upstream.data
        # Shadows and multi-sampling cost six times the rest on a software renderer; physics does not see them.
        self.model.vis.quality.offsamples = 0
        self.model.vis.quality.shadowsize = 0
        self.model.vis.global_.offwidth = max(SIZE, self.model.vis.global_.offwidth)
        self.model.vis.global_.offheight = max(SIZE, self.model.vis.global_.offheight)
        self.context = _open_context()
        self.context.make_current()
        self.scene = mujoco.MjvScene(self.model, maxgeom=2000)
        self.gpu = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.gpu)
        self.option = mujoco.MjvOption()
        self.view = mujoco.MjvCamera()
        self.view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.view.fixedcamid = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_CAMERA, CAMERA)

    def shoot(self) -> NDArray[np.uint8]:
        """Draw the present state."""
        import mujoco

        self.context.make_current()
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, self.data, self.option, None, self.view, everything, self.scene)
        frame = mujoco.MjrRect(0, 0, SIZE, SIZE)
        mujoco.mjr_render(frame, self.scene, self.gpu)
        pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, frame, self.gpu)
        # OpenGL's rows run upwards and this camera hangs upside down, so the first turns out right; columns do not.
        return np.ascontiguousarray(pixels[:, ::-1])

    def close(self) -> None:
        """Free the context while its library is still loaded."""
        self.context.make_current()
        self.gpu.free()
        self.context.free()


def _open_context() -> Any:
    """Return an OpenGL context: MUJOCO_GL's if set, else EGL or OSMesa, whichever works."""
    asked = os.environ.get("MUJOCO_GL", "").lower()
    backends = (asked,) if asked in APT else ("egl", "osmesa")
    problems = []
    for backend in backends:
        try:
            make: Callable[[int, int], Any] = import_module(f"mujoco.{backend}").GLContext
            return make(SIZE, SIZE)
        except Exception as error:  # each backend fails in its own way when its library is missing
            os.environ.pop("PYOPENGL_PLATFORM", None)
            problems.append(f"{backend}: {type(error).__name__}")
    lines = "` or `".join(APT[b] for b in backends)
    raise ConfigError(f"no OpenGL library for pictures ({', '.join(problems)}); install one with `{lines}`")
