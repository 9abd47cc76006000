"""What a user is told when this machine has no OpenGL for MuJoCo's pictures, before MuJoCo ends the process over it."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from metarl.errors import ConfigError, MetarlError

APT = {
    "egl": "apt-get install -y --no-install-recommends libegl1 libgl1-mesa-dri libopengl0",
    "osmesa": "apt-get install -y --no-install-recommends libosmesa6",
    "glfw": "apt-get install -y --no-install-recommends libglfw3",
}
"""Line that installs what each value of MUJOCO_GL needs."""

_PLACES = ("mujoco", "OpenGL", "glfw", "gymnasium.envs.mujoco")
_lost: list[str] = []
"""Why no picture can be drawn in this process any more."""


@contextmanager
def drawing(what: str) -> Iterator[None]:
    """Draw inside; raises ConfigError, in one line, for whatever goes wrong in MuJoCo's way to OpenGL.

    MuJoCo reports the first context that is none, as one of GLFW without a display, and aborts the process at the
    second. So after the first there is no other.
    """
    if _lost:
        raise ConfigError(f"no picture of {what}: {_lost[0]}")
    try:
        yield
    except MetarlError:
        raise
    except Exception as error:
        if not _in_opengl(error):
            raise
        reason = _reason(error)
        if type(error).__name__ == "FatalError":
            _lost.append(reason)
        raise ConfigError(f"no picture of {what}: {reason}") from error


def asked_for() -> str:
    """Return MUJOCO_GL as MuJoCo reads it; "" if it is not set."""
    return os.environ.get("MUJOCO_GL", "").lower().strip()


def remedy() -> str:
    """Return what to do about OpenGL that does not work, for the present MUJOCO_GL."""
    asked = asked_for()
    if asked in ("egl", "osmesa") or (asked == "glfw" and has_display()):
        return f"install that library with `{APT[asked]}`"
    screen = "" if has_display() else "there is no display (DISPLAY and WAYLAND_DISPLAY are unset); "
    return f"{screen}set MUJOCO_GL=egl (`{APT['egl']}`) or MUJOCO_GL=osmesa (`{APT['osmesa']}`)"


def has_display() -> bool:
    """Say whether there is a screen that GLFW could ask for a window."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split()).partition(", this most likely")[0][:160]
    return f"{type(error).__name__}: {said}; MUJOCO_GL is {os.environ.get('MUJOCO_GL', 'unset')!r}: {remedy()}"


def _in_opengl(error: Exception) -> bool:
    """Say whether an error was raised on the way to a picture, rather than by an environment's own code."""
    frames = list(traceback.walk_tb(error.__traceback__))
    module = str(frames[-1][0].f_globals.get("__name__")) if frames else ""
    return any(f"{module}.".startswith(f"{place}.") for place in _PLACES) or type(error).__name__ == "FatalError"
