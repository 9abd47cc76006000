"""An agent that keeps nothing about those who asked to be forgotten.

Wrapped round a trained agent with memory. When somebody with a ring comes, the agent plays that encounter from an empty
state, as if it were a trial of its own; when it is over, the state is what it was before. So nothing that a ring-wearer
did can change what happens in any other encounter, whatever the agent's memory is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from metarl.agent import Agent, Decision, State, Step


def _choose(where: Tensor, a: State, b: State) -> State:
    """Return rows of `a` where `where` [N], else those of `b`."""
    return {k: torch.where(where.reshape(-1, *[1] * (v.dim() - 1)), v, b[k]) for k, v in a.items()}


class Forgetting:
    """The agent, for acting only. A trial's state: "now/..." and "kept/...", states of the agent, and "ringed" [N]."""

    def __init__(self, agent: Agent, *, first: int, ring: int) -> None:
        """Wrap `agent`; `first` and `ring` are columns of the flat observation.

        Column `first` is 1 in an encounter's first turn, `ring` while somebody is there who wears one.
        """
        self.agent, self.first, self.ring = agent, first, ring

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def init(self, n_tasks: int) -> State:
        """Return the state before anything is known."""
        fresh = self.agent.init(n_tasks)
        state = {f"{part}/{k}": v for part in ("now", "kept") for k, v in fresh.items()}
        device = next(iter(fresh.values())).device if fresh else torch.device("cpu")
        return state | {"ringed": torch.zeros(n_tasks, dtype=torch.bool, device=device)}

    def act(
        self, state: State, step: Step, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, Decision]:
        """Act as the agent does; undo what the last visitor taught, if that one wore a ring."""
        now, kept = (
            {k.removeprefix(f"{part}/"): v for k, v in state.items() if k.startswith(f"{part}/")}
            for part in ("now", "kept")
        )
        new, ring = step.obs[:, self.first] > 0.5, step.obs[:, self.ring] > 0.5
        undo, alone = new & state["ringed"], new & ring
        now = _choose(undo, kept, now)
        kept, ringed = _choose(new, now, kept), torch.where(new, ring, state["ringed"])
        now = _choose(alone, self.agent.init(len(new)), now)
        # What was done last was done to a ring-wearer, or is no business of one.
        cut = undo | alone
        seen = replace(
            step,
            prev_action=torch.where(cut[:, None], 0.0, step.prev_action),
            prev_reward=torch.where(cut, 0.0, step.prev_reward),
            prev_done=step.prev_done & ~cut,
        )
        after, decision = self.agent.act(now, seen, generator=generator, greedy=greedy)
        both = {f"{part}/{k}": v for part, s in (("now", after), ("kept", kept)) for k, v in s.items()}
        return both | {"ringed": ringed}, decision
