"""What a policy does after a history, when another visitor takes the present one's place unseen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from metarl.envs.npc.family import NpcFamily
from metarl.envs.npc.reference import Policy
from metarl.seeding import generator


def actions_after(family: NpcFamily, make: Callable[[], Policy], swap: Callable[[Any], None] | None) -> Tensor:
    """Play 5 steps with 16 train visitors, let `swap` change what is hidden, and return the next actions."""
    world = family.make_world(16)
    world.set_tasks(family.sample("train", 16, generator(0)))
    world.reset(seed=1)
    policy = make()
    policy.start(world, generator(5))
    for _ in range(5):
        before, actions = world.state, policy.act()
        _, _, terminated, truncated, _ = world.step(actions)
        policy.see(before, actions, world.reached, terminated | truncated)
    if swap is not None:
        swap(world)
    return policy.act()
