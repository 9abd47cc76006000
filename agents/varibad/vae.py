"""The variational auto-encoder of VariBAD: a belief after every step, and decoders that say what it is worth.

Zintgraf et al. 2020 (arXiv:1910.08348), section 3. q(m | history up to t) is a diagonal Gaussian over a latent m. From
*every* prefix of a trial the decoders must explain *all* of its transitions, past and future:

    ELBO_t = E_{m ~ q_t}[ sum_i log p(r_i | s_i, a_i, s_{i+1}, m) + log p(s_{i+1} | s_i, a_i, m) ] - KL(q_t || q_{t-1})

with q_{-1} = N(0, I) (equations 7 to 9). The trained objective is the mean of ELBO_t over t, that is, the paper's sum
divided by the number of terms, with a factor on the KL as in the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metarl.agent import State
from metarl.agents.memory.recurrent import RecurrentCore, empty_linear, orthogonal
from metarl.agents.nn.functional import ACTIVATIONS
from metarl.checks import check_choices, check_layers, check_ranges
from metarl.errors import ConfigError
from metarl.returns import masked_mean

Likelihood = Literal["gaussian", "bernoulli"]
RewardFrom = Literal["next_obs", "transition"]
MIN_LOG_VAR, MAX_LOG_VAR = -12.0, 4.0
"""Bounds of a belief's log variance."""


@dataclass(frozen=True)
class VAEConfig:
    """Settings of the belief model; defaults follow the authors' gridworld run where it has them."""

    latent: int = 5
    """Length of the latent m, >= 1."""
    embedding: tuple[int, ...] = (32,)
    """Units of ReLU layers between a transition and the memory."""
    hidden: int = 64
    """Units of the GRU, >= 1."""
    decoder: tuple[int, ...] = (32, 32)
    """Units of each decoder's ReLU layers, at least one layer."""
    reward_from: RewardFrom = "transition"
    """What the reward decoder sees beside m: "transition" (s, a, s'), or "next_obs" (s') where that is enough."""
    reward_likelihood: Likelihood = "gaussian"
    """Of rewards: "gaussian" (unit variance, in units of their running root mean square), or "bernoulli" (whether the
    reward is positive, for worlds with two rewards of different sign)."""
    reward_coef: float = 1.0
    """Weight of the reward decoder's log-likelihood, >= 0."""
    state_coef: float = 0.0
    """Weight of the state decoder's, >= 0; for tasks that differ in dynamics. 0: there is no state decoder."""
    kl_weight: float = 0.01
    """Weight of KL(q_t || q_{t-1}), >= 0; the bound is exact at 1."""
    horizons: int = 64
    """Prefixes decoded per trial and gradient step, >= 1; drawn at random (the same for all trials of a batch) if a
    trial has more."""
    decodes: int = 64
    """Transitions decoded per prefix, >= 1; drawn at random if a trial has more, and weighted up."""
    lr: float = 1e-3
    """Adam's step size, > 0."""
    max_grad_norm: float = 10.0
    """Longest gradient, Euclidean over all parameters, > 0."""
    updates: int = 3
    """Gradient steps per meta-update, >= 1."""
    batch_trials: int = 25
    """Trials per gradient step, >= 1."""
    buffer_trials: int = 1000
    """Latest trials to learn from, >= `batch_trials`."""

    def __post_init__(self) -> None:
        """Check the settings; raises ConfigError."""
        self._check_ranges()
        if not self.decoder:
            raise ConfigError("vae.decoder is (); it needs a layer, for m and transition to meet in; try (32, 32)")
        if self.reward_coef == self.state_coef == 0:
            raise ConfigError("vae.reward_coef and vae.state_coef are both 0, so the belief learns nothing; raise one")
        if self.buffer_trials < self.batch_trials:
            raise ConfigError(
                f"vae.buffer_trials={self.buffer_trials} holds less than vae.batch_trials={self.batch_trials}; raise it"
            )
        choices = {"reward_from": ("next_obs", "transition"), "reward_likelihood": ("gaussian", "bernoulli")}
        check_choices(self, "vae.", choices)

    def _check_ranges(self) -> None:
        ranges = {
            ">= 1": "latent hidden horizons decodes updates batch_trials buffer_trials",
            "> 0 and finite": "lr max_grad_norm", ">= 0 and finite": "reward_coef state_coef kl_weight",
        }  # fmt: skip
        check_ranges(self, "vae.", ranges)
        check_layers(self, "vae.", "embedding", "decoder")


class Mlp(nn.Module):
    """Affine layers with an activation between them, orthogonal weights (gain √2, the last layer's as given)."""

    def __init__(
        self,
        sizes: Sequence[int],
        generator: torch.Generator,
        device: torch.device | str,
        *,
        activation: str = "relu",
        last_gain: float = 1.0,
    ) -> None:
        """`sizes` is (inputs, hidden ..., outputs)."""
        super().__init__()
        self._activation = ACTIVATIONS[activation]
        self.layers = nn.ModuleList(empty_linear(a, b, device) for a, b in pairwise(sizes))
        for i, layer in enumerate(self.layers):
            is_last = i == len(self.layers) - 1
            orthogonal(cast(Tensor, layer.weight), last_gain if is_last else math.sqrt(2.0), generator)
            nn.init.zeros_(cast(Tensor, layer.bias))

    @property
    def last(self) -> nn.Linear:
        """The last affine layer."""
        return cast(nn.Linear, self.layers[-1])

    def forward(self, x: Tensor) -> Tensor:
        """x [..., inputs] -> [..., outputs]."""
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else self._activation(x))
        return x


class Belief(NamedTuple):
    """A diagonal Gaussian over m per row."""

    mean: Tensor
    """[..., latent]."""
    log_var: Tensor
    """[..., latent], log of the variance."""

    def flat(self) -> Tensor:
        """Return both side by side, as the policy sees them: [..., 2 latent]."""
        return torch.cat([self.mean, self.log_var], dim=-1)

    def sample(self, noise: Tensor) -> Tensor:
        """Return m for standard normal `noise` [..., latent], differentiable."""
        return self.mean + (0.5 * self.log_var).exp() * noise


def kl_divergence(q: Belief, p: Belief) -> Tensor:
    """Return KL(q || p) in nats, summed over the last axis: [...]."""
    ratio = (q.log_var - p.log_var).exp() + (q.mean - p.mean).square() * (-p.log_var).exp()
    return 0.5 * (p.log_var - q.log_var + ratio - 1.0).sum(-1)


def belief_kl(beliefs: Belief) -> Tensor:
    """Return KL(q_t || q_{t-1}) of beliefs [T, B, latent] with q_{-1} = N(0, I): [T, B]. Gradients reach both sides."""
    before = Belief(*(torch.cat([torch.zeros_like(x[:1]), x[:-1]]) for x in beliefs))
    return kl_divergence(beliefs, before)


class BeliefEncoder(nn.Module):
    """Transitions -> GRU -> belief. Memory 0 is the belief before any transition."""

    def __init__(
        self, config: VAEConfig, n_inputs: int, generator: torch.Generator, device: torch.device | str
    ) -> None:
        """`n_inputs` is the length of what is seen of a transition."""
        super().__init__()
        sizes = (n_inputs, *config.embedding)
        self.embedding = Mlp(sizes, generator, device) if config.embedding else None
        self.core = RecurrentCore("gru", sizes[-1], config.hidden, generator, device)
        self.head = Mlp((config.hidden, 2 * config.latent), generator, device)

    def _embed(self, x: Tensor) -> Tensor:
        return x if self.embedding is None else cast(Tensor, self.embedding(x)).relu()

    def start(self, n: int) -> State:
        """Return the memory before any transition: zeros."""
        return self.core.start(n)

    def step(self, x: Tensor, memory: State) -> State:
        """Take in one transition per row, x [N, n_inputs]."""
        return self.core.step(self._embed(x), memory)

    def belief(self, h: Tensor) -> Belief:
        """Return the belief that a memory [..., hidden] stands for."""
        mean, log_var = self.head(h).chunk(2, dim=-1)
        return Belief(mean, log_var.clamp(MIN_LOG_VAR, MAX_LOG_VAR))

    def beliefs(self, x: Tensor) -> Belief:
        """Return the beliefs at T + 1 decisions of trials with transitions x [T, B, n_inputs] between them."""
        h = self.start(x.shape[1])["h"]
        if not len(x):
            return self.belief(h[None])
        outputs, _ = self.core.unroll(self._embed(x), {"h": h})
        return self.belief(torch.cat([h[None], outputs]))


class Decoder(nn.Module):
    """An MLP on (x, m) for all pairs of S transitions and K samples of m; the first layer works on each apart."""

    def __init__(
        self, config: VAEConfig, n_inputs: int, n_outputs: int, generator: torch.Generator, device: torch.device | str
    ) -> None:
        """Draw the weights."""
        super().__init__()
        self._n_inputs = n_inputs
        self.mlp = Mlp((n_inputs + config.latent, *config.decoder, n_outputs), generator, device)

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        """x [S, B, n_inputs], m [K, B, latent] -> [K, S, B, n_outputs]."""
        first = cast(nn.Linear, self.mlp.layers[0])
        of_x, of_m = first.weight[:, : self._n_inputs], first.weight[:, self._n_inputs :]
        y = F.linear(x, of_x, first.bias)[None] + F.linear(m, of_m)[:, None]
        for layer in list(self.mlp.layers)[1:]:
            y = layer(y.relu())
        return y


def log_likelihood(predicted: Tensor, target: Tensor, kind: Likelihood) -> Tensor:
    """Return log p(target), summed over the last axis: unit-variance normals, or coins whose logits are predicted."""
    if kind == "gaussian":
        return (-0.5 * (predicted - target).square() - 0.5 * math.log(2 * math.pi)).sum(-1)
    return -F.binary_cross_entropy_with_logits(predicted, target.expand_as(predicted), reduction="none").sum(-1)


def reconstruction(log_prob: Tensor, valid: Tensor, weight: float = 1.0) -> Tensor:
    """Return the log-likelihood of whole trials, [K, B], from that of S of their transitions, log_prob [K, S, B].

    `valid` (bool [S, B]) marks the transitions that exist. With S of T transitions drawn evenly, `weight` T / S makes
    the estimate unbiased.
    """
    return weight * torch.where(valid, log_prob, 0.0).sum(1)


def negative_elbo(reconstructed: Tensor, kl: Tensor, valid: Tensor, kl_weight: float) -> Tensor:
    """Return minus the mean of ELBO_t over the valid prefixes of all trials; all are [K, B]."""
    return masked_mean(kl_weight * kl - reconstructed, valid)
