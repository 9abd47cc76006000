"""Soft actor-critic for a finite number of actions: expectations over actions are sums, nothing is drawn.

Christodoulou 2019 (arXiv:1910.07207): critics give the value of every action at once, the actor a probability of each;
V(s) = sum_a pi(a|s) (min over critics Q(s, a) - temperature log pi(a|s)), and the actor minimises -V.
Actions of several choices at once (MultiDiscrete) count as one action per combination.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from metarl.action_distributions import Categorical
from metarl.agent import WorldSpec
from metarl.agents.nn.functional import Params, mlp
from metarl.errors import ConfigError

from .sac import SAC, Batch, SACConfig

MOST_ACTIONS = 1024
"""Largest number of combinations of a MultiDiscrete space."""


class ChoiceScale:
    """Actions of a Discrete or MultiDiscrete space as one-hot combinations [A] and back."""

    def __init__(self, space: Any, device: torch.device | str) -> None:
        """Raises: ConfigError for another space, or one of more than `MOST_ACTIONS` combinations."""
        several = isinstance(space, spaces.MultiDiscrete)
        if isinstance(space, spaces.Discrete):
            sizes, start = [int(space.n)], [int(space.start)]
        elif isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
            sizes, start = space.nvec.tolist(), space.start.tolist()
        else:
            raise ConfigError(f"a choice needs a Discrete or flat MultiDiscrete space, got {space}")
        self.n = int(torch.tensor(sizes).prod())
        if self.n > MOST_ACTIONS:
            raise ConfigError(
                f"soft actor-critic weighs every combination of choices, at most {MOST_ACTIONS}, but {space} has "
                f"{self.n}; use rl2 or maml-trpo"
            )
        strides = [int(torch.tensor(sizes[i + 1 :]).prod()) for i in range(len(sizes))]
        self._sizes, self._strides, self._start = (torch.tensor(v, device=device) for v in (sizes, strides, start))
        self._several = several
        self.width, self.entropy_dims = self.n, 1
        self.log_volume = torch.zeros((), device=device)

    def to_world(self, action: Tensor) -> Tensor:
        """Return one-hot combinations [B, A] as int64 [B], or [B, k] of a MultiDiscrete space."""
        index = action.argmax(-1)
        parts = index[:, None] // self._strides % self._sizes + self._start
        return parts if self._several else parts.squeeze(1)

    def from_world(self, action: Tensor, batch_dims: int) -> Tensor:
        """Return the world's actions [*batch] or [*batch, k] as float32 one-hot combinations [*batch, A]."""
        parts = action if self._several else action.unsqueeze(-1)
        index = ((parts - self._start) * self._strides).sum(-1)
        return F.one_hot(index, self.n).float()


class DiscreteSAC(SAC):
    """`SAC` for choices; an action is a one-hot row [A], the actor's parameters are A logits."""

    def _make_scale(self, spec: WorldSpec) -> ChoiceScale:
        self.choices = ChoiceScale(spec.action_space, self.device)
        self._categorical = Categorical(self.choices.n)
        return self.choices

    def _widths(self, spec: WorldSpec) -> tuple[int, int, int, int]:
        return self.choices.n, self.choices.n, 0, self.choices.n

    def policy(self, obs: Tensor, z: Tensor) -> Tensor:
        """Return logits [..., rows, A] of obs and z [..., rows, .]."""
        x = torch.cat([obs, z], dim=-1)
        return mlp(self.actor, x, prefix="net", n_layers=self._n_layers, activation=torch.relu)

    def sample(self, params: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw one-hot actions [..., A] and their log-probabilities [...]; not differentiable."""
        index = self._categorical.sample(params, generator)
        return F.one_hot(index, self.choices.n).float(), self._categorical.log_prob(params, index)

    def mode(self, params: Tensor) -> Tensor:
        """Return the most likely actions, one-hot: [..., A]."""
        return F.one_hot(params.argmax(-1), self.choices.n).float()

    def all_q(self, critics: Params, obs: Tensor, z: Tensor) -> Tensor:
        """Return both critics' values of every action, [2, n, b, A], of rows [n, b, .]."""
        x = torch.cat([obs, z], dim=-1).flatten(0, 1)
        q = mlp(critics, x.expand(2, *x.shape), prefix="net", n_layers=self._n_layers, activation=torch.relu)
        return q.reshape(2, *obs.shape[:2], self.choices.n)

    def q_values(self, critics: Params, obs: Tensor, action: Tensor, z: Tensor) -> Tensor:
        """Return both critics' values [2, n, b] of one-hot actions [n, b, A]."""
        return (self.all_q(critics, obs, z) * action).sum(-1)

    @torch.no_grad()
    def target(self, batch: Batch, z: Tensor, generator: torch.Generator) -> Tensor:
        """Return r + gamma (1 - terminated) V'(s') [n, b], with the expectation over actions taken exactly."""
        log_p = self.policy(batch.next_obs, z).log_softmax(-1)
        q = self.all_q(self.targets, batch.next_obs, z).amin(0)
        value = (log_p.exp() * (q - self.temperature * log_p)).sum(-1)
        return batch.reward * self.config.reward_scale + self.config.gamma * (1.0 - batch.terminated) * value

    def actor_loss(self, obs: Tensor, z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the mean of sum_a pi (temperature log pi - min Q), and sum_a pi log pi [n, b]; z is cut off."""
        z = z.detach()
        log_p = self.policy(obs, z).log_softmax(-1)
        with torch.no_grad():
            q = self.all_q(self.critics, obs, z).amin(0)
        p = log_p.exp()
        return (p * (self.temperature * log_p - q)).sum(-1).mean(), (p * log_p).sum(-1)


def make_sac(config: SACConfig, spec: WorldSpec, latent: int, *, seed: int, device: torch.device | str = "cpu") -> SAC:
    """Return the actor-critic that fits the actions of `spec`; raises ConfigError if neither does."""
    choice = isinstance(spec.action_space, spaces.Discrete | spaces.MultiDiscrete)
    return (DiscreteSAC if choice else SAC)(config, spec, latent, seed=seed, device=device)
