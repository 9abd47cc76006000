"""Worlds of the engine come and go: no memory or thread stays behind, and nothing hangs or crashes on the way out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metarl.envs.metaworld.core_selection import make_core
from metarl.errors import ConfigError

pytestmark = pytest.mark.metaworld

ROOT = Path(__file__).resolve().parents[3]
TIME_LIMIT_S = 90

PREAMBLE = """
import ctypes, gc, os, signal, sys, threading, time
import numpy as np
import torch
torch.set_num_threads(1)
from metarl.experiments.parity.leak import measure_leak, n_threads_alive
from metarl.experiments.parity.recording import draw_tasks
from metarl.experiments.parity.replay import make_engine
from metarl.errors import WorldError

CORE = {core!r}
TASKS = draw_tasks("push-v3", 4, seed=0)[[0, 1, 2, 3] * 2]
ACTIONS = torch.rand(50, 8, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1

def build():
    world = make_engine(8, horizon=500, core=CORE, n_threads=2, reward_version="v2")
    world.set_tasks(TASKS)
    world.reset(seed=0)
    return world

def play(world, start=0, stop=50):
    return np.stack([(world.step(a), world.core.obs.copy())[1] for a in ACTIONS[start:stop]])

def forever():
    while True:
        try:
            play(world)
        except WorldError:  # the interpreter is ending and has closed the world
            return

def say(word):
    print(word, flush=True)
"""


@pytest.fixture(params=["compiled", "python"])
def core(request: pytest.FixtureRequest) -> str:
    try:
        make_core(request.param, 1, 1).close()
    except ConfigError as missing:
        pytest.skip(f"no compiled core here: {missing}")
    return str(request.param)


def start(core: str, script: str) -> subprocess.Popen[str]:
    """Start a Python process that runs `script` after the preamble, every warning an error as in these tests."""
    code = PREAMBLE.format(core=core) + script
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-c", code]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Return exit code and printed lines; a process that hangs or complains fails the test."""
    try:
        out, err = process.communicate(timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler then shows where it hangs
        _, err = process.communicate()
        pytest.fail(f"still running after {TIME_LIMIT_S} s\n{err}")
    assert err == "", err
    return process.returncode, out.splitlines()


def test_memory_and_threads_stay_flat_over_many_steps_tasks_and_worlds(core: str) -> None:
    script = """
found = measure_leak(CORE, 20_000, n_threads=2, classes=("reach-v3", "pick-place-v3"), steps_per_world=84)
say(found["steps"]); say(found["worlds"]); say(found["growth_mb"]); say(found["flat"])
say(found["threads_after"] - found["threads_before"])
"""
    code, (steps, worlds, growth, flat, threads) = outcome(start(core, script))
    assert code == 0
    assert int(steps) >= 20_000
    assert int(worlds) >= 9
    assert flat == "True", f"grew by {growth} MB"
    assert int(threads) == 0


def test_threads_end_with_the_world_and_a_forked_child_steps_or_leaves_on_its_own(core: str) -> None:
    script = """
import warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # that is the point
before = n_threads_alive()
world = build()
expected = play(world)
say(n_threads_alive() - before)  # two threads: the caller and one more
world.close()
world.close()
say(n_threads_alive(expected=before) - before)
try:
    world.step(ACTIONS[0])
except WorldError as error:
    say("closed" in str(error))
world = build()
del world
gc.collect()
say(n_threads_alive(expected=before) - before)  # a world that is forgotten ends its threads too

world = build()
play(world, 0, 20)

def child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def go_on():
    return 0 if np.array_equal(play(world, 20), expected[20:]) else 3

def leave_properly():
    world.close()
    return 0

def build_anew():
    other = build()
    same = np.array_equal(play(other), expected)
    other.close()
    return 0 if same else 4

say([child(go_on), child(leave_properly), child(build_anew), child(lambda: 0)])
say(np.array_equal(play(world, 20), expected[20:]))  # nothing of that reached the parent
"""
    code, lines = outcome(start(core, script))
    assert code == 0
    assert lines == ["1", "0", "True", "0", "[0, 0, 0, 0]", "True"]


def test_interrupts_and_errors_in_mid_step_leave_a_world_that_works(core: str) -> None:
    script = """
world = build()
expected = play(world)

armed = False

def interrupted(signum, frame):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupted)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.0017)
caught, deadline = 0, time.monotonic() + 2.0
while time.monotonic() < deadline:
    try:
        armed = True
        while True:
            world.reset()
            play(world)
    except KeyboardInterrupt:
        caught += 1
    world.reset()  # no thread may still be inside an env
    assert np.array_equal(play(world, 0, 2), expected[:2]), caught
signal.setitimer(signal.ITIMER_REAL, 0)
say(caught > 10)
world.reset()
say(np.array_equal(play(world), expected))

world.reset()
head = play(world, 0, 10)
bad = ACTIONS[10].clone()
bad[3, 1] = float("nan")
try:
    world.step(bad)
except WorldError as error:
    say("env 3" in str(error))
say(np.array_equal(play(world, 10), expected[10:]))  # the refused step changed nothing
world.close()
"""
    code, lines = outcome(start(core, script))
    assert code == 0
    assert lines == ["True", "True", "True", "True"]


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("pass", 0),  # the interpreter ends while threads wait
        ("threading.Timer(0.2, os._exit, (5,)).start()\nwhile True: play(world)", 5),  # in the middle of a step
        ("threading.Thread(target=forever, daemon=True).start()\ntime.sleep(0.1)", 0),  # another thread is stepping
    ],
)
def test_a_process_ends_at_once_however_it_is_left(core: str, way: str, expected: int) -> None:
    process = start(core, f"world = build()\nplay(world)\nsay('ready')\nsay(time.monotonic())\n{way}\n")
    code, lines = outcome(process)
    assert lines[0] == "ready"
    assert time.monotonic() - float(lines[1]) < 20
    assert code == expected


def test_sigterm_ends_a_process_that_is_stepping(core: str) -> None:
    process = start(
        core, "world = build()\nplay(world)\nsay('ready')\nwhile True:\n    world.reset()\n    play(world)\n"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    began = time.monotonic()
    code, _ = outcome(process)
    assert code == -signal.SIGTERM
    assert time.monotonic() - began < 20
