"""An agent that keeps nothing about those who asked to be forgotten.

Wrapped round a trained agent with memory. When somebody with a ring comes, the agent plays that encounter from an empty
state, as if it were a trial of its own; when it is over, the state is what it was before. So nothing that a ring-wearer
did can change what happens in any other encounter, whatever the agent's memory is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from metarl.agent import ActOutput, Agent, State, TimeStep
from metarl.state import choose_rows, marked, unmarked

_NOW, _KEPT = "now/", "kept/"


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
        state = marked(_NOW, fresh) | marked(_KEPT, fresh)
        device = next(iter(fresh.values())).device if fresh else torch.device("cpu")
        return state | {"ringed": torch.zeros(n_tasks, dtype=torch.bool, device=device)}

    def act(
        self, state: State, step: TimeStep, *, generator: torch.Generator, greedy: bool = False
    ) -> tuple[State, ActOutput]:
        """Act as the agent does; undo what the last visitor taught, if that one wore a ring."""
        now, kept = unmarked(_NOW, state), unmarked(_KEPT, state)
        new, ring = step.obs[:, self.first] > 0.5, step.obs[:, self.ring] > 0.5
        undo, alone = new & state["ringed"], new & ring
        now = choose_rows(undo, kept, now)
        kept, ringed = choose_rows(new, now, kept), torch.where(new, ring, state["ringed"])
        now = choose_rows(alone, self.agent.init(len(new)), now)
        # What was done last was done to a ring-wearer, or is no business of one.
        cut = undo | alone
        seen = replace(
            step,
            prev_action=torch.where(cut[:, None], 0.0, step.prev_action),
            prev_reward=torch.where(cut, 0.0, step.prev_reward),
            prev_done=step.prev_done & ~cut,
        )
        after, decision = self.agent.act(now, seen, generator=generator, greedy=greedy)
        return marked(_NOW, after) | marked(_KEPT, kept) | {"ringed": ringed}, decision
