"""Soft actor-critic on batches of several tasks at once, each row with the latent of its task.

Haarnoja et al. 2018 (arXiv:1801.01290, arXiv:1812.05905): two critics with target networks, a tanh-Gaussian actor, a
temperature that is fixed or tuned. Both critics run as one stack of weights [2, ...] in one batched product.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from metarl.action_distributions import DiagonalGaussian
from metarl.agent import WorldSpec
from metarl.agents.nn.functional import Params, init_mlp, mlp
from metarl.checks import check_layers, check_ranges
from metarl.distributed import ALONE, Group
from metarl.errors import CheckpointError, ConfigError
from metarl.seeding import generator as stream

LOG_STD_RANGE = (-20.0, 2.0)
"""Least and largest log standard deviation of an action before it goes through tanh."""


@dataclass(frozen=True)
class SACConfig:
    """Settings of the actor-critic; the defaults are those of the PEARL paper's code."""

    hidden: tuple[int, ...] = (300, 300, 300)
    """Units of the ReLU layers of actor and critics, >= 1 each."""
    lr: float = 3e-4
    """Adam's step size for all networks, > 0."""
    gamma: float = 0.99
    """Discount per env step, in [0, 1)."""
    tau: float = 0.005
    """Share by which the target critics move to the critics at each gradient step, in (0, 1]."""
    batch_size: int = 256
    """Transitions per task and gradient step, >= 1."""
    reward_scale: float = 5.0
    """Factor on the reward in the objective, > 0: what a unit of reward weighs against a nat of entropy."""
    temperature: float = 1.0
    """Weight of the entropy, or where it starts if `target_entropy` is set, > 0."""
    initial_gain: float = 0.01
    """Scale of the actor's last layer before training, as far as the mean is concerned, > 0. Small: it hardly moves but
    for its noise. Several: it walks off another way for each latent, which meets reward where that is rare."""
    target_entropy: float | None = None
    """Entropy that the temperature is tuned to, in nats: per dimension of actions in [-1, 1], or of all choices
    together (None: the temperature stays as it is)."""

    def __post_init__(self) -> None:
        """Check the ranges; raises ConfigError."""
        check_layers(self, "sac.", "hidden", some=True)
        positive = "lr reward_scale temperature initial_gain"
        check_ranges(self, "sac.", {">= 1": "batch_size", "> 0 and finite": positive, "in (0, 1]": "tau"})
        if not 0 <= self.gamma < 1:
            raise ConfigError(
                f"sac.gamma must lie in [0, 1), got {self.gamma}; without a discount the value of a task that never "
                f"terminates has no bound"
            )
        if self.target_entropy is not None and not math.isfinite(self.target_entropy):
            raise ConfigError(f"sac.target_entropy must be finite or None, got {self.target_entropy}")


@dataclass(frozen=True)
class Batch:
    """Transitions of n tasks, b of each. Float32; observations as the networks see them, actions in [-1, 1]."""

    obs: Tensor
    """[n, b, obs_dim]."""
    action: Tensor
    """[n, b, a]."""
    reward: Tensor
    """[n, b], not scaled."""
    next_obs: Tensor
    """[n, b, obs_dim], the observation reached, before any reset."""
    terminated: Tensor
    """[n, b], 1 where the task ended. A time limit is no end: it leaves 0 here and keeps the bootstrap."""


class ActionScale(Protocol):
    """How the world's actions are stored, flat, and back."""

    width: int
    """Numbers per stored action, a."""
    entropy_dims: int
    """Dimensions that `SACConfig.target_entropy` is meant for each of."""
    log_volume: Tensor
    """log |d world action / d stored action|: to be subtracted from a log density of stored actions."""

    def to_world(self, action: Tensor) -> Tensor:
        """Return stored actions [B, a] as the world takes them."""
        ...

    def from_world(self, action: Tensor, batch_dims: int) -> Tensor:
        """Return the world's actions [*batch, ...] as they are stored, [*batch, a]."""
        ...


class BoxScale:
    """Actions of a bounded Box as [-1, 1]^a and back."""

    def __init__(self, space: Any, device: torch.device | str) -> None:
        """Raises: ConfigError for any other space."""
        if not isinstance(space, spaces.Box) or not space.is_bounded("both"):
            raise ConfigError(
                f"soft actor-critic needs a Box with finite bounds, Discrete or MultiDiscrete actions, got {space}; "
                f"bound the world's actions, or use rl2 or maml-trpo"
            )
        low, high = (torch.as_tensor(v, dtype=torch.float32, device=device).flatten() for v in (space.low, space.high))
        if not bool((high > low).all()):
            raise ConfigError(f"soft actor-critic needs low < high in every action dimension, got {space}")
        self._half, self._middle, self._shape = 0.5 * (high - low), 0.5 * (high + low), space.shape
        self.width = self.entropy_dims = len(low)
        self.log_volume = self._half.log().sum()

    def to_world(self, action: Tensor) -> Tensor:
        """Return [B, a] actions in the world's shape and units."""
        return (self._middle + self._half * action).reshape(len(action), *self._shape)

    def from_world(self, action: Tensor, batch_dims: int) -> Tensor:
        """Return the world's actions [*batch, ...] as [*batch, a] in [-1, 1], clipped as the world clips them."""
        flat = action.flatten(batch_dims) if action.dim() > batch_dims else action.unsqueeze(-1)
        return ((flat - self._middle) / self._half).clamp(-1.0, 1.0)


def squash(noise_free: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return a = tanh(u) and log pi(a), where u [..., a] was drawn from the Gaussian of `noise_free` [..., 2 a].

    log pi(a) = log N(u) - sum log(1 - tanh(u)²), the latter as 2 (log 2 - u - softplus(-2 u)), which keeps its digits
    for large |u| (arXiv:1812.05905, appendix C).
    """
    log_prob = DiagonalGaussian(u.shape[-1]).log_prob(noise_free, u)
    return u.tanh(), log_prob - 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u)).sum(-1)


def bellman_target(
    reward: Tensor, terminated: Tensor, next_q: Tensor, next_log_prob: Tensor, temperature: Tensor, gamma: float
) -> Tensor:
    """Return r + gamma (1 - terminated) (min over critics Q'(s', a') - temperature log pi(a' | s')).

    `next_q` is [2, ...], the rest [...].
    """
    soft_value = next_q.amin(0) - temperature * next_log_prob
    return reward + gamma * (1.0 - terminated) * soft_value


def expand_latent(z: Tensor, like: Tensor) -> Tensor:
    """Return the latents z [n, d] of n tasks, one per row of `like` [n, b, ...]: [n, b, d]."""
    return z[:, None].expand(-1, like.shape[1], -1)


def make_adam(params: Sequence[Tensor], lr: float) -> torch.optim.Adam:
    """Return Adam with one fused kernel for all parameters."""
    return torch.optim.Adam(params, lr=lr, fused=True)


class SAC:
    """Actor, critics and target critics as functions of (observation, latent); holds their weights and optimisers."""

    def __init__(
        self, config: SACConfig, spec: WorldSpec, latent: int, *, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        """Draw the weights from `seed`; raises ConfigError for an action space that is no bounded Box."""
        self.config, self.device = config, torch.device(device)
        self.scale: ActionScale = self._make_scale(spec)
        self._gaussian = DiagonalGaussian(spec.action_dim)
        self._n_layers = len(config.hidden) + 1
        n_in = spec.obs_dim + latent
        n_out, n_gained, n_action_in, n_q = self._widths(spec)
        self.actor = init_mlp(
            (n_in, *config.hidden, n_out), stream(seed, "sac", "actor"),
            prefix="net", init="orthogonal", last_gain=0.01, device=device,
        )  # fmt: skip
        self.actor[f"net.{len(config.hidden)}.weight"][:n_gained] *= config.initial_gain / 0.01
        twins = [
            init_mlp(
                (n_in + n_action_in, *config.hidden, n_q), stream(seed, "sac", "critic", i),
                prefix="net", init="orthogonal", device=device,
            )
            for i in range(2)
        ]  # fmt: skip
        self.critics: Params = {k: torch.stack([t[k] for t in twins]) for k in twins[0]}
        """Weights of both critics, [2, ...] each."""
        self.targets: Params = {k: v.clone() for k, v in self.critics.items()}
        self.log_temperature = torch.tensor(math.log(config.temperature), device=self.device)
        for leaf in (*self.actor.values(), *self.critics.values(), self.log_temperature):
            leaf.requires_grad_()
        self._actor_adam = make_adam(list(self.actor.values()), config.lr)
        self._temperature_adam = make_adam([self.log_temperature], config.lr)

    def _make_scale(self, spec: WorldSpec) -> ActionScale:
        """Return how actions are stored; raises ConfigError for a space that this actor cannot act in."""
        return BoxScale(spec.action_space, self.device)

    def _widths(self, spec: WorldSpec) -> tuple[int, int, int, int]:
        """Return the actor's outputs, those that `initial_gain` scales, and a critic's action inputs and outputs."""
        return 2 * spec.action_dim, spec.action_dim, spec.action_dim, 1

    @property
    def optimisers(self) -> tuple[torch.optim.Optimizer, ...]:
        """Those of actor and temperature; the critics' is their owner's, who may train more with them."""
        return self._actor_adam, self._temperature_adam

    @property
    def temperature(self) -> Tensor:
        """The weight of the entropy, without gradient."""
        return self.log_temperature.detach().exp()

    def policy(self, obs: Tensor, z: Tensor) -> Tensor:
        """Return mean and log standard deviation before the tanh, [..., rows, 2 a], of obs and z [..., rows, .]."""
        x = torch.cat([obs, z], dim=-1)
        mean, log_std = mlp(self.actor, x, prefix="net", n_layers=self._n_layers, activation=torch.relu).chunk(
            2, dim=-1
        )
        return torch.cat([mean, log_std.clamp(*LOG_STD_RANGE)], dim=-1)

    def sample(self, params: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw actions in [-1, 1] [..., a] and their log-probabilities [...], differentiable in `params`."""
        return squash(params, self._gaussian.sample(params, generator))

    def mode(self, params: Tensor) -> Tensor:
        """Return the squashed means: [..., a]."""
        return self._gaussian.mode(params).tanh()

    def q_values(self, critics: Params, obs: Tensor, action: Tensor, z: Tensor) -> Tensor:
        """Return both critics' values [2, n, b] of rows [n, b, .]."""
        x = torch.cat([obs, action, z], dim=-1).flatten(0, 1)
        x = x.expand(2, *x.shape)
        q = mlp(critics, x, prefix="net", n_layers=self._n_layers, activation=torch.relu)
        return q.reshape(2, *obs.shape[:2])

    @torch.no_grad()
    def target(self, batch: Batch, z: Tensor, generator: torch.Generator) -> Tensor:
        """Return the Bellman target [n, b]; no gradient, not even to z [n, b, d]."""
        action, log_prob = self.sample(self.policy(batch.next_obs, z), generator)
        next_q = self.q_values(self.targets, batch.next_obs, action, z)
        reward = batch.reward * self.config.reward_scale
        return bellman_target(reward, batch.terminated, next_q, log_prob, self.temperature, self.config.gamma)

    def critic_loss(self, batch: Batch, z: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared Bellman error, summed over both critics; differentiable in z."""
        q = self.q_values(self.critics, batch.obs, batch.action, z)
        return (q - target).square().mean((1, 2)).sum()

    def actor_loss(self, obs: Tensor, z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the mean of temperature · log pi - min Q, and log pi [n, b]; z [n, b, d] is cut off."""
        z = z.detach()
        action, log_prob = self.sample(self.policy(obs, z), generator)
        frozen = {k: v.detach() for k, v in self.critics.items()}
        q = self.q_values(frozen, obs, action, z).amin(0)
        return (self.temperature * log_prob - q).mean(), log_prob

    def update_actor(
        self, obs: Tensor, z: Tensor, generator: torch.Generator, *, team: Group = ALONE, weight: float = 1.0
    ) -> dict[str, Tensor]:
        """Take one step on the actor, and on the temperature if it is tuned; return metrics.

        Each process of `team` has rows of its own, which are the part `weight` of all.
        """
        loss, log_prob = self.actor_loss(obs, z, generator)
        self._actor_adam.zero_grad()
        (weight * loss).backward()  # type: ignore[no-untyped-call]
        mine = {"loss": weight * loss.detach(), "entropy": weight * -log_prob.detach().mean()}
        whole = team.total_gradients(list(self.actor.values()), mine)
        self._actor_adam.step()
        entropy = whole["entropy"]
        if self.config.target_entropy is not None:
            # The gradient of -log_temperature · (log pi + target entropy), arXiv:1812.05905, section 5.
            self.log_temperature.grad = entropy - self.config.target_entropy * self.scale.entropy_dims
            self._temperature_adam.step()
        return {"actor_loss": whole["loss"], "entropy": entropy}

    @torch.no_grad()
    def polyak_update(self) -> None:
        """Move the target critics towards the critics."""
        for name, target in self.targets.items():
            target.lerp_(self.critics[name], self.config.tau)

    def state_dict(self) -> dict[str, Any]:
        """Return weights and the actor's and temperature's optimiser states, copied."""
        nets = {"actor": self.actor, "critics": self.critics, "targets": self.targets}
        return {
            **{name: {k: v.detach().clone() for k, v in params.items()} for name, params in nets.items()},
            "log_temperature": self.log_temperature.detach().clone(),
            "actor_adam": copy.deepcopy(self._actor_adam.state_dict()),
            "temperature_adam": copy.deepcopy(self._temperature_adam.state_dict()),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError for weights of another shape."""
        for name, params in (("actor", self.actor), ("critics", self.critics), ("targets", self.targets)):
            found, wanted = ({k: tuple(v.shape) for k, v in p.items()} for p in (state.get(name, {}), params))
            if found != wanted:
                raise CheckpointError(
                    f"the checkpoint's {name} {found} is not this agent's {wanted}; load it with the configuration "
                    f"and world it was written with"
                )
            for key, value in params.items():
                value.copy_(state[name][key])
        self.log_temperature.copy_(state["log_temperature"])
        self._actor_adam.load_state_dict(copy.deepcopy(state["actor_adam"]))
        self._temperature_adam.load_state_dict(copy.deepcopy(state["temperature_adam"]))
