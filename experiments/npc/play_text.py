"""What a person at a terminal is told of an NPC world."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from metarl.envs.npc.world import NpcWorld

_MOST = 100
"""Longest value that is printed of a frame, in characters."""


def did(action: Tensor, world: NpcWorld) -> str:
    """Return what an action of one env is called."""
    names = world.action_names()
    numbers = [int(x) for x in action.reshape(-1)]
    return ", ".join(choice[i] for choice, i in zip(names, numbers, strict=True))


def scene(frame: dict[str, Any], world: NpcWorld) -> str:
    """Return what can be seen now, a line per thing; nothing hidden but which visitor a person plays."""
    episode = int(world.episode[0]) % world.n_episodes
    lines = [f"episode {episode + 1} of {world.n_episodes}"]
    if "encounters" in frame:
        lines.append(f"  you are visitor {'ABCDEFGH'[frame['hidden']['visitor']]}")
    elif "exhibits" in frame:
        lines += [f"  exhibit {i + 1}: {_exhibit(e)}" for i, e in enumerate(frame["exhibits"]) if e["there"]]
    elif "offers" in frame:
        lines.append(f"  offers, as {', '.join(frame['attributes'])} (0 is usual):")
        lines += [f"  {i + 1:>2} {_offer(o)}" for i, o in enumerate(frame["offers"])]
    else:
        lines += _plainly(frame)
    return "\n".join(lines)


def _exhibit(exhibit: dict[str, Any]) -> str:
    crowd = ("hardly anybody", "some people", "a crowd")[min(2, int(3 * exhibit["crowd"]))]
    return f"{' and '.join(exhibit['themes'])}, {crowd}{', seen' if exhibit['seen'] else ''}"


def _offer(offer: dict[str, Any]) -> str:
    values = " ".join(f"{v:+5.1f}" for v in offer["values"])
    return f"category {'ABCD'[offer['category']]} {values}{'  refused' if offer['refused'] else ''}"


def _plainly(frame: dict[str, Any]) -> list[str]:
    shown = {k: _rounded(v) for k, v in frame.items() if k not in ("hidden", "belief", "episode") and v is not None}
    texts = {k.replace("_", " "): json.dumps(v, ensure_ascii=False) for k, v in shown.items()}
    return [f"  {name}: {text}" for name, text in texts.items() if len(text) <= _MOST]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 2)
    return [_rounded(v) for v in value] if isinstance(value, list) else value
