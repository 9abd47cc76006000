"""Bernoulli bandits of the RL² paper (Duan et al. 2016, arXiv:1611.02779, section 3.1).

k arms with success probabilities p_i ~ U[0, 1], drawn per task; a pull pays 1 with probability p_i, else 0. A pull is
an episode of one step, so a trial of n episodes is n pulls. There is nothing to observe: the observation is a constant
0, and all an agent knows comes from its previous actions and rewards.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.beliefs import BetaBelief
from metarl.envs.families import ContinuousFamily, check_count
from metarl.envs.tensor_world import EpisodeState, TensorWorld
from metarl.seeding import EnvStreams
from metarl.spec import WorldSpec
from metarl.tasks import Tasks

from . import bandit_references as known


class BanditWorld(TensorWorld):
    """B bandits; `params["p"]` is float32 [B, k]."""

    def __init__(self, num_envs: int, n_arms: int, *, device: torch.device | str = "cpu") -> None:
        """Build `num_envs` environments with `n_arms` arms."""
        super().__init__(self.spec_for(n_arms), num_envs, device)
        self._nothing = {"nothing": torch.zeros(num_envs, 1, device=self.device)}

    @staticmethod
    def spec_for(n_arms: int) -> WorldSpec:
        """Return what such a bandit is: there is nothing to see, and an episode is one pull."""
        return WorldSpec(spaces.Box(0.0, 0.0, (1,), np.float32), spaces.Discrete(n_arms), 1, name="bandit")

    def initial(self, streams: EnvStreams, episode: Tensor) -> EpisodeState:
        """Nothing to prepare."""
        return self._nothing

    def transition(
        self, state: EpisodeState, actions: Tensor, streams: EnvStreams, clock: Tensor
    ) -> tuple[EpisodeState, Tensor, Tensor | None, Tensor | None]:
        """Pay 1 with the chosen arm's probability."""
        p = self.params["p"].gather(1, actions[:, None])
        return state, (streams.uniform(clock) < p).squeeze(1).to(torch.float32), None, None

    def observation(self, state: EpisodeState) -> Tensor:
        """Return zeros [B, 1]."""
        return state["nothing"].clone()


class BanditTasks(ContinuousFamily):
    """All k-armed Bernoulli bandits."""

    def __init__(self, n_arms: int = 5, n_pulls: int = 100, n_validation: int = 200, n_test: int = 1000) -> None:
        """`n_pulls` is the number of pulls (one-step episodes) a trial is meant to have."""
        self.n_arms = check_count("bandit", "n_arms", n_arms, 2, 1000)
        self.n_pulls = check_count("bandit", "n_pulls", n_pulls, 1, 10_000)
        settings = {"n_arms": n_arms, "n_pulls": n_pulls, "horizon": 1}
        super().__init__("bandit", settings, n_validation=n_validation, n_test=n_test)

    def draw(self, n: int, generator: torch.Generator) -> Tasks:
        """Draw success probabilities, uniform on [0, 1)."""
        return Tasks.of("bandit", p=torch.rand(n, self.n_arms, generator=generator, device=generator.device))

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return BanditWorld.spec_for(self.n_arms)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> BanditWorld:
        """Build a world of `num_envs`."""
        return BanditWorld(num_envs, self.n_arms, device=device)

    def task_features(self, tasks: Tasks) -> Tensor:
        """Return the success probabilities: float32 [N, k]; see `metarl.envs.revealed`."""
        return tasks.values["p"]

    def belief(self, device: torch.device | str = "cpu") -> BetaBelief:
        """Return beliefs over the success probabilities."""
        return BetaBelief(self.n_arms, device)

    def references(self, split: str, n_episodes: int) -> dict[str, list[float]]:
        """Return the expected reward of each pull.

        "random" and "oracle" are exact on the split's list. "gittins", "thompson", "ucb1" and "greedy" are simulated on
        it (seeded). Where the number of beliefs allows (two arms and some 30 pulls), "bayes_optimal" is exact for the
        distribution the tasks come from.
        """
        p = self.fixed_tasks(split).values["p"]
        found = {
            "random": [float(p.double().mean())] * n_episodes,
            "oracle": [float(p.double().amax(1).mean())] * n_episodes,
        }
        for policy in known.POLICIES:
            found[policy] = list(known.simulate(policy, self.fixed_tasks(split), n_episodes))
        if known.n_beliefs(self.n_arms, n_episodes) <= known.MAX_BELIEFS:
            found["bayes_optimal"] = list(known.bayes_optimal_rewards(self.n_arms, n_episodes))
        return found


def make(n_arms: int = 5, n_pulls: int = 100, n_validation: int = 200, n_test: int = 1000) -> BanditTasks:
    """Build the bandit family."""
    return BanditTasks(n_arms, n_pulls, n_validation, n_test)
