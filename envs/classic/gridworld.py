"""The 5x5 gridworld of VariBAD (Zintgraf et al. 2020, arXiv:1910.08348, section 5.1).

Start at (0, 0); actions stay, up, right, down, left, clamped at the border; 15 steps per episode; +1 for each step that
ends on the hidden goal cell, -0.1 otherwise; the goal ends nothing. The goal is uniform over the 21 cells outside the
2x2 block around the start. The observation is the cell (x, y).
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.beliefs import FiniteBelief, Seen
from metarl.envs.families import FiniteFamily, check_count, shuffled_split_indices
from metarl.envs.tensor_world import EpisodeState, TensorWorld
from metarl.seeding import EnvStreams
from metarl.spec import WorldSpec
from metarl.tasks import Tasks

from .gridworld_references import (
    GOAL_REWARD,
    GOALS,
    HORIZON,
    MOVES,
    NEXT,
    SIZE,
    STEP_REWARD,
    bayes_optimal_returns,
    known_goal_returns,
    random_returns,
)


class GridWorld(TensorWorld):
    """B gridworlds; `params["goal"]` is int64 [B], the goal's cell number 5 x + y."""

    def __init__(self, num_envs: int, *, device: torch.device | str = "cpu") -> None:
        """Build `num_envs` environments."""
        super().__init__(self.spec_for(), num_envs, device)
        self._next = torch.from_numpy(NEXT.ravel()).to(self.device)
        self._corner = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        cells = torch.arange(SIZE * SIZE, device=self.device)
        self._xy = torch.stack([cells // SIZE, cells % SIZE], dim=1).to(torch.float32)

    @staticmethod
    def spec_for() -> WorldSpec:
        """Return what a gridworld is."""
        where = spaces.Box(0.0, SIZE - 1.0, (2,), np.float32)
        return WorldSpec(where, spaces.Discrete(len(MOVES)), HORIZON, name="gridworld")

    def initial(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Stand on (0, 0)."""
        return {"cell": self._corner}

    def transition(
        self, state: EpisodeState, actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[EpisodeState, Tensor, Tensor | None, Tensor | None]:
        """Move, stay inside, and pay by the cell reached."""
        cell = self._next.index_select(0, state["cell"] * len(MOVES) + actions)
        reward = torch.where(cell == self.params["goal"], GOAL_REWARD, STEP_REWARD)
        return {"cell": cell}, reward, None, None

    def observation(self, state: EpisodeState) -> Tensor:
        """Return (x, y) as float32 [B, 2]."""
        return self._xy.index_select(0, state["cell"])


class GridWorldTasks(FiniteFamily):
    """The 21 goals, or disjoint parts of them if `held_out` goals are kept from training."""

    def __init__(self, held_out: int = 0) -> None:
        """Keep `held_out` goals each for validation and test; with 0 every split is the whole family, as published."""
        check_count("gridworld", "held_out", held_out, 0, 6)
        goals = torch.tensor([x * SIZE + y for x, y in GOALS])
        tasks = Tasks.of("gridworld", [f"goal({x},{y})" for x, y in GOALS], goal=goals)
        settings = {"size": SIZE, "horizon": HORIZON, "n_goals": len(GOALS), "held_out": held_out}
        indices = shuffled_split_indices("gridworld", len(GOALS), held_out) if held_out else None
        super().__init__("gridworld", tasks, indices, settings)

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return GridWorld.spec_for()

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> GridWorld:
        """Build a gridworld of `num_envs`."""
        return GridWorld(num_envs, device=device)

    def task_features(self, tasks: Tasks) -> Tensor:
        """Return the goal's (x, y) as shares of the grid: float32 [N, 2]; see `metarl.envs.revealed`."""
        goal = tasks.values["goal"]
        return torch.stack([goal // SIZE, goal % SIZE], dim=1).to(torch.float32) / (SIZE - 1)

    def belief(self, device: torch.device | str = "cpu") -> FiniteBelief:
        """Return beliefs over all 21 goals: a cell that did not pay is none, one that did is it."""
        goals = torch.tensor([x * SIZE + y for x, y in GOALS], device=device)

        def likelihood(seen: Seen) -> Tensor:
            cell = (seen.next_obs[:, 0] * SIZE + seen.next_obs[:, 1]).long()
            return ((cell[:, None] == goals) == (seen.reward > 0)[:, None]).to(torch.float32)

        return FiniteBelief(len(GOALS), likelihood, device)

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return exact values: uniformly random moves, known goal, and the Bayes-optimal policy where it is known.

        The Bayes-optimal value is for the uniform prior over all 21 goals, so it is left out when goals are held out.
        """
        every = self.all(split)
        found = {
            "random": random_returns(every.values["goal"], n_episodes),
            "oracle": known_goal_returns(every.values["goal"], n_episodes),
        }
        if self.exhaustive:
            found["bayes_optimal"] = list(bayes_optimal_returns(n_episodes))
        return found


def make(held_out: int = 0) -> GridWorldTasks:
    """Build the gridworld family."""
    return GridWorldTasks(held_out)
