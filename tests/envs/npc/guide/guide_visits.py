"""Worlds of the guide, ready to be stepped."""

from __future__ import annotations

from typing import Any

from metarl.envs.npc.guide.tasks import GuideTasks
from metarl.seeding import generator


def world_of(family: GuideTasks, n: int, *, split: str = "train", seed: int = 0, **values: Any) -> Any:
    """Return a world that was reset, with `n` visitors of `split` whose parameters are `values` where given."""
    tasks = family.sample(split, n, generator(seed, "visitors"))
    for name, value in values.items():
        tasks.values[name][:] = value  # type: ignore[index]
    world = family.make_world(n)
    world.set_tasks(tasks)
    world.reset(seed=seed)
    return world
