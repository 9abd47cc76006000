"""Random tabular MDPs of the RL² paper (Duan et al. 2016, arXiv:1611.02779, section 3.2).

10 states, 5 actions, 10 steps per episode, start in state 0. Per task: P(. | s, a) ~ Dirichlet(1, ..., 1) and the mean
reward of (s, a) ~ N(1, 1); each step pays that mean plus N(0, 1) noise. The observation is the state.
"""

from __future__ import annotations

import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.families import ContinuousFamily, check_count
from metarl.envs.tensor_world import EpisodeState, TensorWorld
from metarl.seeding import EnvStreams
from metarl.spec import WorldSpec
from metarl.tasks import Tasks

from . import tabular_mdp_references as known


class TabularMDPWorld(TensorWorld):
    """B MDPs; `params` are "transition" float32 [B, S, A, S] and "reward" float32 [B, S, A] (means)."""

    def __init__(
        self, num_envs: int, n_states: int, n_actions: int, horizon: int, *, device: torch.device | str = "cpu"
    ) -> None:
        """Build `num_envs` environments."""
        super().__init__(self.spec_for(n_states, n_actions, horizon), num_envs, device)
        self._start = {"state": torch.zeros(num_envs, dtype=torch.int64, device=self.device)}
        self._first_row = torch.arange(num_envs, device=self.device) * n_states

    @staticmethod
    def spec_for(n_states: int, n_actions: int, horizon: int) -> WorldSpec:
        """Return what such an MDP is."""
        return WorldSpec(spaces.Discrete(n_states), spaces.Discrete(n_actions), horizon, name="tabular-mdp")

    def initial(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Start in state 0."""
        return self._start

    def transition(
        self, state: EpisodeState, actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[EpisodeState, Tensor, Tensor | None, Tensor | None]:
        """Pay the noisy reward of (s, a) and draw the next state."""
        transition, mean = self.params["transition"], self.params["reward"]
        n_states, n_actions = mean.shape[1:]
        row = (self._first_row + state["state"]) * n_actions + actions
        where, radius, angle = streams.uniform(clock, 3).unbind(1)
        noise = (-2.0 * torch.log1p(-radius)).sqrt() * torch.cos(2.0 * torch.pi * angle)  # Box and Muller 1958
        reward = mean.reshape(-1).index_select(0, row) + noise
        after = draw(transition.reshape(-1, n_states).index_select(0, row), where)
        return {"state": after}, reward, None, None

    def observation(self, state: EpisodeState) -> Tensor:
        """Return the state's number, int64 [B]."""
        return state["state"].clone()


def draw(probabilities: Tensor, where: Tensor) -> Tensor:
    """Return, per row of `probabilities` [B, K], the entry in whose share of [0, 1) the number `where` [B] lies: int64.

    Sums are taken in whole 2**-30ths: exact in any order, and CUDA has no deterministic running sum of floats.
    """
    upper = (probabilities * 2**30).long().cumsum(1)
    # Rounding may leave the last sum a little below 1.
    return (upper <= (where * 2**30).long()[:, None]).sum(1).clamp(max=probabilities.shape[1] - 1)


class TabularMDPTasks(ContinuousFamily):
    """All MDPs with the given numbers of states and actions."""

    def __init__(
        self,
        n_states: int = 10,
        n_actions: int = 5,
        horizon: int = 10,
        n_validation: int = 200,
        n_test: int = 1000,
    ) -> None:
        """`horizon` is the length of an episode in steps."""
        name = "tabular-mdp"
        self.n_states = check_count(name, "n_states", n_states, 2, 1000)
        self.n_actions = check_count(name, "n_actions", n_actions, 2, 1000)
        self.horizon = check_count(name, "horizon", horizon, 1, 10_000)
        settings = {"n_states": n_states, "n_actions": n_actions, "horizon": horizon}
        super().__init__(name, settings, n_validation=n_validation, n_test=n_test)

    def draw(self, n: int, generator: torch.Generator) -> Tasks:
        """Draw transitions from the flat Dirichlet (normalised exponentials) and mean rewards from N(1, 1)."""
        shape, device = (n, self.n_states, self.n_actions), generator.device
        u = torch.rand((*shape, self.n_states), dtype=torch.float64, generator=generator, device=device)
        weight = -torch.log1p(-u)
        transition = (weight / weight.sum(-1, keepdim=True)).to(torch.float32)
        reward = 1.0 + torch.randn(shape, generator=generator, device=device)
        return Tasks.of("tabular-mdp", transition=transition, reward=reward)

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return TabularMDPWorld.spec_for(self.n_states, self.n_actions, self.horizon)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> TabularMDPWorld:
        """Build a world of `num_envs`."""
        return TabularMDPWorld(num_envs, self.n_states, self.n_actions, self.horizon, device=device)

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return the expected return of each episode on the split's list of tasks.

        "random" and "oracle" (the MDP is known) are exact by dynamic programming; "psrl" is simulated on it (seeded).
        """
        tasks = self.fixed_tasks(split)
        return {
            "random": [known.random_return(tasks, self.horizon)] * n_episodes,
            "oracle": [known.oracle_return(tasks, self.horizon)] * n_episodes,
            "psrl": list(known.psrl_returns(tasks, self.horizon, n_episodes)),
        }


def make(
    n_states: int = 10, n_actions: int = 5, horizon: int = 10, n_validation: int = 200, n_test: int = 1000
) -> TabularMDPTasks:
    """Build the tabular MDP family."""
    return TabularMDPTasks(n_states, n_actions, horizon, n_validation, n_test)
