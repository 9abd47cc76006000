"""A machine without OpenGL, or a MUJOCO_GL that leads nowhere: one line, every time it is asked, and no abort."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from metarl.envs.opengl import drawing, remedy
from metarl.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
META_WORLD = """
from metarl import envs
from metarl.errors import MetarlError
for _ in range(2):
    try:
        family = envs.make("metaworld/ML1", task="reach-v3", backend="engine", core="python")
        world = family.make_world(1)
        world.set_tasks(family.all("train")[0])
        world.reset(seed=0)
        world.render()
    except MetarlError as error:
        print(error)
"""
GYMNASIUM = """
import gymnasium as gym
import torch
from metarl.envs.gym.world import GymWorld
from metarl.errors import MetarlError
from metarl.tasks import Tasks
def make(task): return gym.make("InvertedPendulum-v5", render_mode="rgb_array")
tasks = Tasks.of("pole", x=torch.zeros(1))
for _ in range(2):  # a new world each time, as one film after another
    world = GymWorld(make, lambda env, task: None, 1, horizon=50, example=tasks)
    world.set_tasks(tasks)
    world.reset(seed=0)
    try:
        world.render()
    except MetarlError as error:
        print(error)
"""


def told(script: str, mujoco_gl: str | None) -> list[str]:
    """Return the lines that `script` prints on a machine without a screen; it must come to its end."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")}
    environment |= {"OMP_NUM_THREADS": "1"} | ({} if mujoco_gl is None else {"MUJOCO_GL": mujoco_gl})
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_pictures_of_meta_world_without_a_screen_are_refused_in_one_line_each_time() -> None:
    first, second = told(META_WORLD, "glfw")
    assert first == second
    assert "there is no display" in first
    assert "MUJOCO_GL=egl (`apt-get install" in first


def test_pictures_of_a_gymnasium_environment_without_a_screen_are_refused_in_one_line_each_time() -> None:
    first, second = told(GYMNASIUM, None)  # Gymnasium takes GLFW where MUJOCO_GL is not set
    assert first == second
    assert "no picture of env 0: FatalError" in first
    assert "MUJOCO_GL is 'unset': there is no display" in first


def test_an_environments_own_mistake_keeps_its_name() -> None:
    with pytest.raises(ZeroDivisionError), drawing("a world"):
        _ = 1 / 0
    with pytest.raises(ConfigError, match="not this"), drawing("a world"):
        raise ConfigError("not this")


@pytest.mark.parametrize(
    ("asked", "display", "expected"),
    [
        ("egl", "", "install that library with `apt-get install .*libegl1"),
        (" OSMesa ", ":0", "install that library with `apt-get install .*libosmesa6`"),
        ("glfw", ":0", "install that library with `apt-get install .*libglfw3`"),
        ("glfw", "", "there is no display .*; set MUJOCO_GL=egl .* or MUJOCO_GL=osmesa"),
        ("wrong", ":0", "^set MUJOCO_GL=egl"),
    ],
)
def test_the_remedy_fits_what_was_asked_for(
    asked: str, display: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", asked)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert re.search(expected, remedy())
