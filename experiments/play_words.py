"""What a person at a terminal is told of an NPC world."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from envs.npc.world import NpcWorld


def did(action: Tensor, world: NpcWorld) -> str:
    """Return what an action of one copy is called."""
    names = world.action_names()
    numbers = [int(x) for x in action.reshape(-1)]
    return ", ".join(choice[i] for choice, i in zip(names, numbers, strict=True))


def scene(frame: dict[str, Any], world: NpcWorld) -> str:
    """Return what can be seen now, a line per thing; nothing hidden."""
    lines = [f"episode {frame.get('episode', 0) % world.n_episodes + 1} of {world.n_episodes}"]
    for key, value in frame.items():
        if key in ("hidden", "belief", "episode") or value is None:
            continue
        text = json.dumps(_rounded(value), ensure_ascii=False, default=str)
        if len(text) <= 100:
            lines.append(f"  {key.replace('_', ' ')}: {text}")
    return "\n".join(lines)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 2)
    return [_rounded(v) for v in value] if isinstance(value, list) else value
