"""Pictures of Meta-World environments, with whatever OpenGL this machine has."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from metarl.envs.gym.serial import Env
from metarl.envs.opengl import APT, asked_for, drawing, has_display, remedy
from metarl.errors import ConfigError, nearest

SIZE = 480
"""Pixels of each side."""
CAMERAS = ("topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV")
"""Cameras in all of upstream's models."""
CAMERA = "corner2"
"""The one that shows most: table, hand and object from the front."""
_renderers: WeakKeyDictionary[Env, Renderer] = WeakKeyDictionary()


def picture(env: Env, camera: str = CAMERA) -> NDArray[np.uint8]:
    """Return an RGB picture of an upstream environment, uint8 [480, 480, 3].

    Raises: ConfigError with the line that installs what is missing, if there is no OpenGL library.
    """
    upstream: Any = env.unwrapped
    if env not in _renderers:
        _renderers[env] = Renderer(upstream.model)
    return _renderers[env].render(upstream.model, upstream.data, camera)


def forget(env: Env) -> None:
    """Free what pictures of `env` needed."""
    renderer = _renderers.pop(env, None)
    if renderer is not None:
        renderer.close()


class Renderer:
    """An OpenGL context with the shapes of one class; the first picture takes a second, later ones hundredths."""

    def __init__(self, model: Any) -> None:
        """Load the shapes of `model`, an MjModel; raises ConfigError if there is no OpenGL library."""
        import mujoco

        # Shadows and multi-sampling cost six times the rest on a software renderer; physics does not see them.
        model.vis.quality.offsamples = 0
        model.vis.quality.shadowsize = 0
        model.vis.global_.offwidth = max(SIZE, model.vis.global_.offwidth)
        model.vis.global_.offheight = max(SIZE, model.vis.global_.offheight)
        self.scene = mujoco.MjvScene(model, maxgeom=2000)
        with drawing("Meta-World"):
            self.context = _open_context()
            self.context.make_current()
            self.gpu = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.gpu)
        self.option = mujoco.MjvOption()
        self.view = mujoco.MjvCamera()
        self.view.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def render(self, model: Any, data: Any, camera: str = CAMERA) -> NDArray[np.uint8]:
        """Draw `data`, uint8 [480, 480, 3], the right way up; `model` is any model of the same class.

        Raises: ConfigError for an unknown camera.
        """
        import mujoco

        self.view.fixedcamid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if self.view.fixedcamid < 0:
            raise ConfigError(f"Meta-World has no camera {camera!r}; {nearest(camera, CAMERAS)}")
        self.context.make_current()
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, data, self.option, None, self.view, everything, self.scene)
        frame = mujoco.MjrRect(0, 0, SIZE, SIZE)
        mujoco.mjr_render(frame, self.scene, self.gpu)
        pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, frame, self.gpu)
        # OpenGL's rows run upwards. A camera that hangs upside down (upstream's corners do) turns them round once more,
        # and the columns with them.
        hangs = data.cam_xmat[self.view.fixedcamid].reshape(3, 3)[2, 1] < 0
        return np.ascontiguousarray(pixels[:, ::-1] if hangs else pixels[::-1])

    def close(self) -> None:
        """Free the context while its library is still loaded."""
        self.context.make_current()
        self.gpu.free()
        self.context.free()


def _open_context() -> Any:
    """Return an OpenGL context: MUJOCO_GL's if set, else EGL or OSMesa, whichever works."""
    asked = asked_for()
    backends = (asked,) if asked in APT else ("egl", "osmesa")
    problems = []
    for backend in backends:
        try:
            make: Callable[[int, int], Any] = import_module(f"mujoco.{backend}").GLContext
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # GLFW only warns that there is no display, and hands out nothing
                return make(SIZE, SIZE)
        except Exception as error:  # each backend fails in its own way when its library is missing
            os.environ.pop("PYOPENGL_PLATFORM", None)
            problems.append(f"{backend}: {type(error).__name__}")
    if asked == "glfw" and not has_display():
        raise ConfigError(f"no OpenGL for pictures ({', '.join(problems)}); {remedy()}")
    lines = "` or `".join(APT[b] for b in backends)
    raise ConfigError(f"no OpenGL library for pictures ({', '.join(problems)}); install one with `{lines}`")
