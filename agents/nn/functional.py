"""Networks as functions on dicts of tensors, so that one set of weights and a stack of N adapted sets run alike.

Every function broadcasts over leading axes of the parameters: with weights [out, in] one network serves all rows, with
weights [N, out, in] task i's rows [i, :, in] go through task i's network, all in one batched matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from gymnasium import spaces
from torch import Tensor

from metarl import action_distributions
from metarl.agent import WorldSpec
from metarl.errors import ConfigError, nearest

from .fused_mlp import can_fuse, fused_mlp

Params = dict[str, Tensor]
"""Weights by name: "<prefix>.<layer>.weight" [..., out, in], "<prefix>.<layer>.bias" [..., out]."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}
INITS = ("xavier", "orthogonal")


def check_net(hidden: Sequence[int], activation: str, init: str) -> None:
    """Raise ConfigError for layer sizes below 1 or an unknown activation or initialisation."""
    if any(size < 1 for size in hidden):
        raise ConfigError(f"hidden is {tuple(hidden)}; every layer needs at least 1 unit")
    if activation not in ACTIVATIONS:
        raise ConfigError(f"unknown activation {activation!r}; {nearest(activation, ACTIVATIONS)}")
    if init not in INITS:
        raise ConfigError(f"unknown init {init!r}; {nearest(init, INITS)}")


def init_mlp(
    sizes: Sequence[int],
    generator: torch.Generator,
    *,
    prefix: str,
    init: str = "xavier",
    last_gain: float = 1.0,
    device: torch.device | str = "cpu",
) -> Params:
    """Return float32 weights of a network with layer sizes `sizes` (input, hidden ..., output); biases are 0.

    `init` is "xavier" (uniform, Glorot and Bengio 2010) or "orthogonal" (Saxe et al. 2014, gain √2 on hidden layers);
    the last layer's weights are multiplied by `last_gain`. Drawn on the generator's device, then moved to `device`.
    """
    params: Params = {}
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        weight = torch.empty(n_out, n_in, device=generator.device)
        is_last = i == len(sizes) - 2
        if init == "xavier":
            torch.nn.init.xavier_uniform_(weight, generator=generator)
        else:
            torch.nn.init.orthogonal_(weight, gain=1.0 if is_last else math.sqrt(2.0), generator=generator)
        params[f"{prefix}.{i}.weight"] = (weight * last_gain if is_last else weight).to(device)
        params[f"{prefix}.{i}.bias"] = torch.zeros(n_out, device=device)
    return params


def mlp(params: Params, x: Tensor, *, prefix: str, n_layers: int, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Run `n_layers` affine layers with `activation` between them: x [..., rows, in] -> [..., rows, out]."""
    weights = [params[f"{prefix}.{i}.weight"] for i in range(n_layers)]
    biases = [params[f"{prefix}.{i}.bias"] for i in range(n_layers)]
    if can_fuse(x, weights, activation):
        return fused_mlp(x, weights, biases, activation)
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if weight.dim() == x.dim() == 3:
            x = torch.baddbmm(bias.unsqueeze(-2), x, weight.mT)  # bias joins the product: one pass over rows less
        else:
            x = x @ weight.mT + bias.unsqueeze(-2)
        if i < n_layers - 1:
            x = activation(x)
    return x


class PolicyNet:
    """An MLP from flat observations to the parameters of the action distribution that fits the action space.

    For a Box the network gives the mean, and the log standard deviation "log_std" [..., a] is a parameter of its own
    that does not depend on the observation. Holds no tensors: parameters are passed in.
    """

    def __init__(
        self,
        spec: WorldSpec,
        *,
        hidden: Sequence[int],
        activation: str = "tanh",
        init: str = "xavier",
        last_gain: float = 1.0,
        init_std: float = 1.0,
        min_std: float = 1e-6,
        context: int = 0,
    ) -> None:
        """Fix the architecture; raises ConfigError for spaces, sizes or names that cannot work.

        With `context` > 0 the parameters may hold "context" [..., context], inputs that follow every observation; where
        they do not, these are 0.
        """
        check_net(hidden, activation, init)
        self.space = spec.action_space
        self.distribution = action_distributions.for_space(spec.action_space)
        self.is_gaussian = isinstance(self.distribution, action_distributions.DiagonalGaussian)
        n_out = self.distribution.n_params // 2 if self.is_gaussian else self.distribution.n_params
        self.sizes = (spec.obs_dim + context, *hidden, n_out)
        self.context = context
        self._activation, self._init, self._last_gain = ACTIVATIONS[activation], init, last_gain
        self._init_log_std, self._min_log_std = math.log(init_std), math.log(min_std)

    def init(self, generator: torch.Generator, device: torch.device | str = "cpu") -> Params:
        """Return fresh parameters without a task axis."""
        params = init_mlp(
            self.sizes, generator, prefix="policy", init=self._init, last_gain=self._last_gain, device=device
        )
        if self.is_gaussian:
            params["log_std"] = torch.full((self.sizes[-1],), self._init_log_std, device=device)
        return params

    def __call__(self, params: Params, obs: Tensor, action_mask: Tensor | None = None) -> Tensor:
        """Return distribution parameters [..., rows, n_params] for `obs` [..., rows, obs_dim].

        `action_mask` (bool [..., rows, n]) marks the legal actions of a Discrete space; others get probability 0.
        """
        if self.context:
            given = params["context"].unsqueeze(-2) if "context" in params else obs.new_zeros(self.context)
            obs = torch.cat([obs, given.expand(*obs.shape[:-1], self.context)], dim=-1)
        out = mlp(params, obs, prefix="policy", n_layers=len(self.sizes) - 1, activation=self._activation)
        if not self.is_gaussian:
            return action_distributions.mask_logits(out, action_mask)
        log_std = params["log_std"].clamp(min=self._min_log_std).unsqueeze(-2)
        return torch.cat([out, log_std.expand_as(out)], dim=-1)

    def flat_action(self, action: Tensor, batch_dims: int) -> Tensor:
        """Return actions of the world as the distribution wants them: a Box's own axes become one, others stay."""
        if not self.is_gaussian:
            return action
        return action.flatten(batch_dims) if action.dim() > batch_dims else action.unsqueeze(-1)

    def world_action(self, action: Tensor) -> Tensor:
        """Return [rows, ...] actions of the distribution in the shape of the world's action space."""
        return action.reshape(len(action), *(self.space.shape or ())) if isinstance(self.space, spaces.Box) else action
