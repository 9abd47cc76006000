"""A memory of whom as well as what: what was learned with one visitor is found again when that visitor comes back.

Every step of the trial leaves a key, an embedding of who was there, and evidence, an embedding of what was done and how
it was taken. What is read at step t with the key k_t is a sum over all earlier steps, each as much as its key matches,

    h_t = sum over s <= t of sigmoid(sharpness (cos(k_t, k_s) - threshold)) evidence_s,

which is how log-likelihoods of independent observations add up to a posterior, per visitor: the metric and the
attention over a support set are those of matching networks (Vinyals et al. 2016, arXiv:1606.04080), the sum in place of
their mean keeps how much evidence there is. Nothing is carried from step to step, so that an answer given forty steps
ago is no harder to learn from than the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from metarl import spaces as flat
from metarl.agent import State, WorldSpec
from metarl.errors import ConfigError

from . import history
from .recurrent import empty_linear, orthogonal, step_by_step


@dataclass(frozen=True)
class MatchingConfig:
    """Settings of the matching memory; what it reads has the agent's `hidden` units."""

    identity: tuple[str, ...] = ("id", "glyph")
    """Entries of a Dict observation that say who is there; those that a world has are used, at least one must be."""
    key: int = 16
    """Numbers per key, >= 1."""
    key_hidden: tuple[int, ...] = ()
    """Units of ReLU layers between the identity and its key; (): one linear map."""
    evidence_hidden: int = 64
    """Units of the ReLU layer between a step and its evidence, >= 1."""
    sharpness: float = 10.0
    """At first: how steeply a match counts; learned from there, > 0."""
    threshold: float = 0.5
    """At first: cosine above which two keys rather belong to one visitor; learned from there."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("key", "evidence_hidden", "sharpness"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"rl2.matching.{name} must be > 0, got {getattr(self, name)}")
        if any(n < 1 for n in self.key_hidden):
            raise ConfigError(f"rl2.matching.key_hidden layers need at least 1 unit each, got {self.key_hidden}")


@dataclass(frozen=True)
class Layout:
    """Where the inputs of `see_transition` say who is there."""

    now: tuple[int, ...]
    """Columns about whom the coming action is for."""
    then: tuple[int, ...]
    """The same of the step before, whose action the reaction answers."""


def identity_layout(spec: WorldSpec | None, names: tuple[str, ...]) -> Layout:
    """Return where a world's flat observations say who is there, and those of the step before beside them.

    Raises: ConfigError if the observation space has no entry of these names.
    """
    space = None if spec is None else spec.observation_space
    found, at = list[int](), 0
    for name, part in space.items() if isinstance(space, spaces.Dict) else ():
        size = flat.flat_dim(part)
        found += range(at, at + size) if name in names else ()
        at += size
    if not found:
        raise ConfigError(
            f"memory='matching' needs a Dict observation with one of {', '.join(names)}, got {space}; name the entries "
            f"that say who is there in rl2.matching.identity, or take memory='gru'"
        )
    return Layout(tuple(found), tuple(c + at for c in found))


class MatchingCore(nn.Module):
    """The memory: "h" [N, hidden], "count" [N] (steps seen), "keys" [N, context, key], "evidence" [N, context, hidden].

    The inputs must be those of `see_transition`: this step's observation, then that of the step before.
    """

    keys: tuple[str, ...] = ("h", "count", "keys", "evidence")
    now: Tensor
    then: Tensor
    rest: Tensor

    def __init__(
        self,
        config: MatchingConfig,
        n_inputs: int,
        hidden: int,
        context: int,
        layout: Layout,
        generator: torch.Generator,
        device: torch.device | str,
    ) -> None:
        """Draw the weights from `generator`."""
        super().__init__()
        self.n_outputs, self.context, self.n_key = hidden, context, config.key
        now, then = torch.tensor(layout.now), torch.tensor(layout.then)
        rest = torch.ones(n_inputs, dtype=torch.bool)
        rest[now] = rest[then] = False
        for name, value in (("now", now), ("then", then), ("rest", rest.nonzero()[:, 0])):
            self.register_buffer(name, value.to(device), persistent=False)
        sizes = (len(now), *config.key_hidden, config.key)
        self.key_layers = nn.ModuleList(empty_linear(a, b, device) for a, b in pairwise(sizes))
        n_rest = int(rest.sum())
        self.evidence_in = empty_linear(n_rest, config.evidence_hidden, device)
        self.evidence_out = empty_linear(config.evidence_hidden, hidden, device)
        self.log_sharpness = nn.Parameter(torch.tensor(float(config.sharpness), device=device).log())
        self.threshold = nn.Parameter(torch.tensor(float(config.threshold), device=device))
        with torch.no_grad():
            for layer in (*self.key_layers, self.evidence_in, self.evidence_out):
                orthogonal(cast(Tensor, layer.weight), 1.0, generator)
                cast(Tensor, layer.bias).zero_()

    def start(self, n: int) -> State:
        """Return the memory before anything was seen: zeros."""
        like, width = self.evidence_out.weight, self.n_key
        return {
            "h": like.new_zeros(n, self.n_outputs), "count": like.new_zeros(n, dtype=torch.int64),
            "keys": like.new_zeros(n, self.context, width), "evidence": like.new_zeros(n, self.context, self.n_outputs),
        }  # fmt: skip

    def _key(self, identity: Tensor) -> Tensor:
        """Return the unit key [..., key] of who is there."""
        *inner, last = self.key_layers
        for layer in inner:
            identity = layer(identity).relu()
        return F.normalize(last(identity), dim=-1)

    def _evidence(self, x: Tensor) -> Tensor:
        """Return what a step says about whom it was with."""
        return cast(Tensor, self.evidence_out(self.evidence_in(x[..., self.rest]).relu()))

    def _match(self, cosine: Tensor) -> Tensor:
        return (self.log_sharpness.exp() * (cosine - self.threshold)).sigmoid()

    def step(self, x: Tensor, memory: State) -> State:
        """Take in one row per sequence, x [N, n_inputs]; `memory["h"]` is the output."""
        count = memory["count"]
        begun = (count > 0)[:, None]  # the first step answers to nothing
        keys = history.append(memory["keys"], count, self._key(x[:, self.then]))
        evidence = history.append(memory["evidence"], count, self._evidence(x) * begun)
        weight = self._match((keys @ self._key(x[:, self.now])[:, :, None]).squeeze(-1))
        weight = weight * history.filled(count, self.context)
        read = (weight[:, None, :] @ evidence).squeeze(1)
        return {"h": read, "count": count + 1, "keys": keys, "evidence": evidence}

    def unroll(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Take in sequences x [T, N, n_inputs]; return the outputs [T, N, hidden] and the last memory.

        From an empty memory this is one pass over all steps at once; from any other one it goes step by step.
        """
        if bool(memory["count"].any()):
            return step_by_step(self.step, x, memory)
        n_steps = len(x)
        begun = torch.ones(n_steps, 1, 1, device=x.device)
        begun[0] = 0.0
        now, then, evidence = self._key(x[..., self.now]), self._key(x[..., self.then]), self._evidence(x) * begun
        cosine = now.transpose(0, 1) @ then.permute(1, 2, 0)
        mask = history.window(n_steps, self.context, x.device)
        causal = torch.ones(n_steps, n_steps, dtype=torch.bool, device=x.device).tril() if mask is None else mask
        read = (self._match(cosine) * causal) @ evidence.transpose(0, 1)
        outputs = read.transpose(0, 1)
        last = {"keys": history.to_ring(then.detach(), self.context)}
        last["evidence"] = history.to_ring(evidence.detach(), self.context)
        return outputs, {"h": outputs[-1], "count": memory["count"] + n_steps, **last}
