"""Does the Meta-World engine keep its memory? Steps, resets, new tasks, snapshots, worlds made and closed, for long."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from metarl.seeding import generator
from metarl.tasks import Tasks, concatenate

from .recording import draw_tasks
from .replay import make_engine

CLASSES = ("reach-v3", "pick-place-v3", "door-open-v3", "basketball-v3", "peg-insert-side-v3", "hammer-v3")
"""Classes whose tasks the envs take turns at: few and many contacts, several model sizes."""

N_ENVS, HORIZON, STEPS_PER_WORLD = 24, 100, 250
"""Envs of the worlds, env steps per episode, and world steps until a world is closed and another one built."""

FLAT_MB = 4.0
"""Growth, in MB of resident memory from half time to the end, that still counts as flat."""


def resident_mb() -> float:
    """Return this process's resident memory in MB (10^6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def n_threads_alive(expected: int | None = None, patience_s: float = 5.0) -> int:
    """Return how many threads this process has, native ones included.

    A thread that was joined is listed for a moment longer; with `expected`, wait for that number for a while.
    """
    deadline = time.monotonic() + patience_s
    while True:
        alive = len(os.listdir("/proc/self/task"))
        if expected is None or alive == expected or time.monotonic() > deadline:
            return alive
        time.sleep(0.01)


def measure_leak(
    core: str, n_steps: int, n_threads: int, classes: Sequence[str] = CLASSES, steps_per_world: int = STEPS_PER_WORLD
) -> dict[str, Any]:
    """Step worlds for `n_steps` env steps in all, and watch resident memory and threads.

    Each world lives for `steps_per_world` steps: random actions, new tasks at every other episode, a masked reset, a
    snapshot that is put back. Memory is read after each world is closed; the goals are the same ones over and over, so
    that the cache of first states is full early. Returns JSON-able figures; sizes are in MB.
    """
    tasks = concatenate([draw_tasks(name, 4, seed=1) for name in classes])
    threads_before = n_threads_alive()
    cpu, wall = time.process_time(), time.perf_counter()
    readings: list[float] = []
    done = n_worlds = 0
    while done < n_steps or len(readings) < 4:
        done += one_world(tasks, core, n_threads, seed=n_worlds, n_steps=steps_per_world)
        n_worlds += 1
        gc.collect()
        readings.append(resident_mb())
    half = len(readings) // 2
    growth = max(readings[half:]) - max(readings[len(readings) // 4 : half])
    return {
        "core": core,
        "n_threads": n_threads,
        "steps": done,
        "worlds": n_worlds,
        "copies": N_ENVS,
        "classes": list(classes),
        "rss_mb": [round(readings[i * (len(readings) - 1) // 15], 3) for i in range(16)],
        "growth_mb": round(growth, 3),
        "flat": growth <= FLAT_MB,
        "threads_before": threads_before,
        "threads_after": n_threads_alive(expected=threads_before),
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
    }


def one_world(tasks: Tasks, core: str, n_threads: int, seed: int, n_steps: int) -> int:
    """Build a world, use everything it can do, close it; return how many env steps that was."""
    draw = generator(seed, "leak")
    world = make_engine(N_ENVS, horizon=HORIZON, core=core, n_threads=n_threads, reward_version="v2")
    try:
        world.set_tasks(_some(tasks, draw))
        world.reset(seed=seed)
        for t in range(n_steps):
            if t % (2 * HORIZON) == HORIZON // 2:
                world.set_tasks(_some(tasks, draw))  # they begin at the next reset, in the middle of a step
            world.step(torch.rand(N_ENVS, 4, generator=draw) * 2 - 1)
            if t == HORIZON // 4:
                world.load_state_dict(world.state_dict())
                world.reset(options={"mask": torch.arange(N_ENVS) % 3 == 0})
    finally:
        world.close()
    return N_ENVS * n_steps


def _some(tasks: Tasks, draw: torch.Generator) -> Tasks:
    return tasks[torch.randint(len(tasks), (N_ENVS,), generator=draw)]
