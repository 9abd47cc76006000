"""A reference filter run along another policy's trajectory: the posterior over the visitor at each frame."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metarl.envs.tensor_world import EpisodeState, choose_rows

from .reference import Policy
from .world import NpcWorld

DIGITS = 4


class Onlooker:
    """Lets `policy` see every step of a trial without acting; with None there is nobody, and no belief.

    At each step: `ready()`, the world's step, `see(...)`, then `belief` within `NpcWorld.as_reached()` is about the
    state that was reached, before a filter forgets, drifts or turns to the next visitor; after `move_on(...)` it is
    about the present state. Envs that stand still (`World.freeze`) teach nothing.
    """

    def __init__(self, policy: Policy | None) -> None:
        """Look on with the eyes of `policy`, whose method `act` is never called."""
        self._policy = policy

    def start(self, world: NpcWorld, generator: torch.Generator) -> None:
        """Begin a trial in every env; `world` was just reset."""
        if self._policy is not None:
            self._policy.start(world, generator)

    def ready(self) -> None:
        """Look at the present state, before a step."""
        if self._policy is not None:
            self._policy.ready()

    def see(self, before: EpisodeState, actions: Tensor, reached: EpisodeState, idle: Tensor) -> None:
        """Learn from a step of the envs that are not `idle` (bool [B])."""
        if self._policy is None:
            return
        self._before_step, self._step = self._policy.learned(), (before, actions, reached)
        self._learn(torch.zeros_like(idle), idle)

    def move_on(self, ended: Tensor, idle: Tensor) -> None:
        """Let the policy know in which envs that step ended an episode (bool [B])."""
        if self._policy is None or not bool(ended.any()):
            return
        self._policy.put_back(self._before_step)
        self._learn(ended, idle)

    def _learn(self, ended: Tensor, idle: Tensor) -> None:
        """Learn from the last step; idle envs know what they knew."""
        assert self._policy is not None
        before, actions, reached = self._step
        self._policy.see(before, actions, reached, ended)
        if bool(idle.any()):
            self._policy.put_back(choose_rows(idle, self._before_step, self._policy.learned()))

    def belief(self, env: int) -> dict[str, Any]:
        """Return {"belief": what is believed of an env's visitor, rounded}, or nothing where nobody believes."""
        found = None if self._policy is None else self._policy.believes(env)
        return {} if found is None else {"belief": _rounded(found)}


def _rounded(value: Any) -> Any:
    """Round all numbers of a tree of dicts and lists."""
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, DIGITS) if isinstance(value, float) else value
