"""Base of the NPC worlds: reward need not be observable, a safety cost is reported, latents are for evaluation.

A trial is a number of episodes with the same visitor (or visitors); where they meet is new in each. The NPC is shown
how the visitor reacts, never the reward itself, unless `reward_in_obs` says so.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.tensor_world import EpisodeState, TensorWorld
from metarl.errors import ConfigError
from metarl.spec import WorldSpec


def npc_spec(
    name: str,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    horizon: int,
    *,
    reward_in_obs: bool = False,
    **more: Any,
) -> WorldSpec:
    """Return what an NPC's world is; `reward_in_obs` tells an acting agent its last reward, in `TimeStep`."""
    return WorldSpec(
        observation_space, action_space, horizon, name=name, reward_observable=reward_in_obs,
        persists_across_episodes=True, has_cost=True, **more,
    )  # fmt: skip


class NpcWorld(TensorWorld):
    """A TensorWorld whose tasks are visitors.

    Besides the World contract, `info["cost"]` (float32 [B]) is what a step cost in safety: closeness that the visitor
    did not want, a question too sensitive, a drawdown. It is not part of the reward.
    """

    n_episodes: int
    """Episodes of a trial, K: where the number of an episode matters, episode K is like episode 0 again."""

    def __init__(self, spec: WorldSpec, num_envs: int, device: torch.device | str = "cpu", *, n_episodes: int) -> None:
        """See `World`; `npc_spec` gives the spec."""
        super().__init__(spec, num_envs, device)
        self.n_episodes = n_episodes
        self.reached: EpisodeState = {}
        """The state that the last step reached, before any reset."""
        self.spoken: int | None = None
        """What a person who plays the visitors says to the step that is being made, see `asks`."""
        self._begun = torch.zeros(num_envs, dtype=torch.bool, device=self.device)

    @abstractmethod
    def cost(self, state: EpisodeState) -> Tensor:
        """Return what the step that reached `state` cost in safety: float32 [B], >= 0."""

    @abstractmethod
    def latent(self) -> dict[str, Tensor]:
        """Return what is hidden of each env's present visitor, [B, ...] per name: for examiners, never for agents."""

    @property
    def state(self) -> EpisodeState:
        """The present state of all envs: for reference policies and pictures, never for agents. Not to be changed."""
        return self._state

    @property
    def episode(self) -> Tensor:
        """int64 [B]: number of the present episode, counted from the last reset with a seed."""
        return self._episode

    def extras(self, state: EpisodeState) -> dict[str, Tensor]:
        """Return the cost."""
        return {"cost": self.cost(state)}

    def _end_in_step(self, state: EpisodeState) -> Tensor:
        self.reached, before = state, self._episode
        truncated = super()._end_in_step(state)
        self._begun = self._episode != before
        return truncated

    def _end_one_by_one(self, state: EpisodeState, terminated: Tensor) -> Tensor:
        self.reached, before = state, self._episode
        truncated = super()._end_one_by_one(state, terminated)
        self._begun = self._episode != before
        return truncated

    def render(self) -> Any:
        """Return a picture (uint8 [H, W, 3]) of env 0; raises ConfigError before the first reset."""
        if not self._state:
            raise ConfigError(f"world {self.name!r} has nothing to draw before its first reset")
        return self.picture(0)

    def picture(self, env: int) -> Any:
        """Return an RGB picture (uint8 [H, W, 3]) of one env, drawn without a display."""
        return super().render()

    def action_names(self) -> list[list[str]]:
        """Return what the actions are called, a list for each choice that an action makes; numbers by default."""
        space = self.single_action_space
        sizes = space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else [int(getattr(space, "n", 0))]
        return [[str(i) for i in range(n)] for n in sizes]

    def asks(self, env: int, action: Tensor) -> list[str] | None:
        """Return the reactions that the visitor of `env` can show to an action; None if it would show none.

        A person can be the visitor: while the step is made, `spoken` holds the number of what they chose, and
        `transition` shows it in place of what the model would.
        """
        return None

    @contextmanager
    def as_reached(self) -> Iterator[None]:
        """Show, within, the state that the last step reached, also where a new episode has begun since."""
        kept = self._state, self._episode
        self._state, self._episode = self.reached, self._episode - self._begun.long()
        try:
            yield
        finally:
            self._state, self._episode = kept

    def frame(self, env: int) -> dict[str, Any]:
        """Return what a page needs to draw one env now, as JSON-able values; the keys are the family's own.

        Nothing hidden is in it, save under "hidden", which a page shows only when its reader asks for it.
        """
        raise ConfigError(f"world {self.name!r} cannot be watched")
