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
from typing import ClassVar, cast

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from metarl import spaces as flat
from metarl.agent import State, WorldSpec
from metarl.agents.nn.contrastive import contrast
from metarl.checks import check_layers, check_ranges
from metarl.errors import ConfigError

from . import history
from .recurrent import CoreSize, empty_linear, orthogonal, step_by_step

_VIEWED = 2
"""Pictures per trial in the contrastive loss: few, for two of one visitor would count as different."""


@dataclass(frozen=True)
class MatchingConfig:
    """Settings of the matching memory; a step's evidence has the agent's `hidden` units."""

    recurrent: ClassVar[bool] = False

    identity: tuple[str, ...] = ("id", "glyph")
    """Entries of a Dict observation that say who is there; those that a world has are used, at least one must be. With
    (): the whole observation, where what matters is in which situation something was done (an MDP's state)."""
    key: int = 16
    """Numbers per key, >= 1."""
    key_channels: tuple[int, ...] = ()
    """Channels of 3 x 3 convolutions of stride 2 (ReLU) over an identity that is a picture; (): none."""
    key_hidden: tuple[int, ...] = ()
    """Units of ReLU layers between the identity and its key; (): one linear map."""
    evidence_hidden: int = 128
    """Units of the ReLU layer between a step and its evidence, >= 1."""
    readout: tuple[int, ...] = (128, 128)
    """Units of ReLU layers over what was found and this step's inputs, those about identity left out; at least one."""
    contrast_coef: float = 0.0
    """Weight of a contrastive loss on keys of pictures, >= 0: two views of one picture are alike, those of any two
    are not (`pictures.contrast`). Takes no label: who is who is never told."""
    contrast_temperature: float = 0.2
    """Of that loss's softmax, > 0."""
    sharpness: float = 10.0
    """At first: how steeply a match counts; learned from there, > 0."""
    threshold: float = 0.5
    """At first: cosine above which two keys rather belong to one visitor; learned from there."""
    pooled: bool = False
    """Also read the mean of all evidence, whoever was there, and how long the trial has lasted: what is to come in
    general, which a value function has to tell."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        positive = "key evidence_hidden contrast_temperature sharpness"
        check_ranges(self, "rl2.matching.", {"> 0": positive, ">= 0 and finite": "contrast_coef"})
        check_layers(self, "rl2.matching.", "key_channels", "key_hidden")
        check_layers(self, "rl2.matching.", "readout", some=True)

    def build(self, size: CoreSize) -> MatchingCore:
        """Return the memory with fresh weights; raises ConfigError for observations that do not say who is there."""
        layout = identity_layout(size.spec, self.identity)
        return MatchingCore(self, size.n_inputs, size.hidden, size.trial_steps, layout, size.generator, size.device)


@dataclass(frozen=True)
class Layout:
    """Which inputs say who is there."""

    columns: tuple[int, ...]
    shape: tuple[int, ...]
    """Of the one entry they are, for pictures; (columns,) otherwise."""


def identity_layout(spec: WorldSpec | None, names: tuple[str, ...]) -> Layout:
    """Return where a world's flat observations say who is there: in entries `names`, or everywhere if there are none.

    Raises: ConfigError if the observation space has no entry of these names.
    """
    space = None if spec is None else spec.observation_space
    if space is not None and not names:
        size = flat.flat_dim(space)
        shape = space.shape if isinstance(space, spaces.Box) and space.shape else (size,)
        return Layout(tuple(range(size)), shape)
    found, shapes, at = list[int](), list[tuple[int, ...]](), 0
    for name, part in space.items() if isinstance(space, spaces.Dict) else ():
        size = flat.flat_dim(part)
        if name in names:
            found += range(at, at + size)
            shapes.append(part.shape or (size,))
        at += size
    if not found:
        raise ConfigError(
            f"memory='matching' needs a Dict observation with one of {', '.join(names)}, got {space}; name the entries "
            f"that say who is there in rl2.matching.identity, or take memory='gru'"
        )
    return Layout(tuple(found), shapes[0] if len(shapes) == 1 else (len(found),))


class KeyNet(nn.Module):
    """From who is there [..., columns] to a key of length 1."""

    def __init__(
        self, config: MatchingConfig, layout: Layout, generator: torch.Generator, device: torch.device | str
    ) -> None:
        """Draw the weights from `generator`; raises ConfigError for convolutions over what is no picture."""
        super().__init__()
        self.shape, size = layout.shape, len(layout.columns)
        for name in ("key_channels", "contrast_coef"):
            if getattr(config, name) and len(layout.shape) != 2:
                raise ConfigError(
                    f"rl2.matching.{name}={getattr(config, name)} needs an identity that is one picture [height, "
                    f"width], got shape {layout.shape}; leave it at {MatchingConfig.__dataclass_fields__[name].default}"
                )
        channels = (1, *config.key_channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1, device="meta").to_empty(device=device)
            for a, b in pairwise(channels)
        )
        if config.key_channels:
            height, width = (-(-n // 2 ** len(config.key_channels)) for n in layout.shape)
            size = height * width * channels[-1]
        sizes = (size, *config.key_hidden, config.key)
        self.layers = nn.ModuleList(empty_linear(a, b, device) for a, b in pairwise(sizes))
        with torch.no_grad():
            for layer in (*self.convolutions, *self.layers):
                weight = cast(Tensor, layer.weight)
                orthogonal(weight.view(len(weight), -1), 2.0**0.5, generator)
                cast(Tensor, layer.bias).zero_()

    def forward(self, identity: Tensor) -> Tensor:
        """Return keys [rows, key] of `identity` [rows, columns]."""
        if self.convolutions:
            identity = identity.view(-1, 1, *self.shape)
            for layer in self.convolutions:
                identity = layer(identity).relu()
            identity = identity.flatten(1)
        *inner, last = self.layers
        for layer in inner:
            identity = layer(identity).relu()
        return F.normalize(last(identity), dim=-1)


class MatchingCore(nn.Module):
    """The memory: "h" [N, units], "count" [N] (steps seen), "who" [N, columns] and "key" [N, key] of the step before.

    What was filed is "keys" [N, context, key] and "evidence" [N, context, hidden], ring buffers as in `history`. What
    is seen now answers to the step before and is filed under who was there then.
    """

    keys: tuple[str, ...] = ("h", "count", "who", "key", "keys", "evidence")
    columns: Tensor
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
        self.config, self.hidden, self.context = config, hidden, context
        self.n_outputs, self.n_key = config.readout[-1], config.key
        columns = torch.tensor(layout.columns)
        rest = torch.ones(n_inputs, dtype=torch.bool)
        # Where the observation is the identity, the next one is also what came of the action.
        rest[columns] = not config.identity
        self.register_buffer("columns", columns.to(device), persistent=False)
        self.register_buffer("rest", rest.nonzero()[:, 0].to(device), persistent=False)
        self.key_net = KeyNet(config, layout, generator, device)
        n_rest = int(rest.sum())
        self.evidence_in = empty_linear(n_rest, config.evidence_hidden, device)
        self.evidence_out = empty_linear(config.evidence_hidden, hidden, device)
        n_found = (2 * hidden + 1) if config.pooled else hidden
        wide = (n_found + n_rest, *config.readout)
        self.readout = nn.ModuleList(empty_linear(a, b, device) for a, b in pairwise(wide))
        self.log_sharpness = nn.Parameter(torch.tensor(float(config.sharpness), device=device).log())
        self.threshold = nn.Parameter(torch.tensor(float(config.threshold), device=device))
        with torch.no_grad():
            for layer in (self.evidence_in, self.evidence_out, *self.readout):
                gain = 1.0 if layer is self.evidence_out else 2.0**0.5
                orthogonal(cast(Tensor, layer.weight), gain, generator)
                cast(Tensor, layer.bias).zero_()

    def start(self, n: int) -> State:
        """Return the memory before anything was seen: zeros."""
        like = self.evidence_out.weight
        shapes = {
            "h": (self.n_outputs,), "who": (len(self.columns),), "key": (self.n_key,),
            "keys": (self.context, self.n_key), "evidence": (self.context, self.hidden),
        }  # fmt: skip
        return {"count": like.new_zeros(n, dtype=torch.int64)} | {k: like.new_zeros(n, *v) for k, v in shapes.items()}

    def _evidence(self, rest: Tensor) -> Tensor:
        """Return what a step says about whom the step before was with."""
        return cast(Tensor, self.evidence_out(self.evidence_in(rest).relu()))

    def _match(self, cosine: Tensor) -> Tensor:
        return (self.log_sharpness.exp() * (cosine - self.threshold)).sigmoid()

    def _read(self, found: Tensor, rest: Tensor) -> Tensor:
        y = torch.cat([found, rest], dim=-1)
        for layer in self.readout:
            y = layer(y).relu()
        return y

    def step(self, x: Tensor, memory: State) -> State:
        """Take in one row per sequence, x [N, n_inputs]; `memory["h"]` is the output."""
        count, who, rest = memory["count"], x[:, self.columns], x[:, self.rest]
        # While everybody stays the keys do, and need not be made again; a GPU would have to be waited for to know.
        stays = who.device.type == "cpu" and bool((count > 0).all()) and torch.equal(who, memory["who"])
        key = memory["key"] if stays else self.key_net(who)
        begun = (count > 0)[:, None]  # the first step answers to nothing
        keys = history.append(memory["keys"], count, memory["key"])
        evidence = history.append(memory["evidence"], count, self._evidence(rest) * begun)
        weight = self._match((keys @ key[:, :, None]).squeeze(-1)) * history.filled(count, self.context)
        found = (weight[:, None, :] @ evidence).squeeze(1)
        if self.config.pooled:
            n_kept = (count + 1).clamp(max=self.context)[:, None].to(found.dtype)
            found = torch.cat([found, evidence.sum(1) / n_kept, n_kept / self.context], dim=-1)
        after = {"count": count + 1, "who": who, "key": key, "keys": keys, "evidence": evidence}
        return {"h": self._read(found, rest), **after}

    def unroll(self, x: Tensor, memory: State) -> tuple[Tensor, State]:
        """Take in sequences x [T, N, n_inputs]; return the outputs [T, N, units] and the last memory.

        From an empty memory this is one pass over all steps at once; from any other one it goes step by step.
        """
        if bool(memory["count"].any()):
            return step_by_step(self.step, x, memory)
        n_steps, rest = len(x), x[..., self.rest]
        begun = torch.ones(n_steps, 1, 1, device=x.device)
        begun[0] = 0.0
        now, evidence = self._keys(x[..., self.columns]), self._evidence(rest) * begun
        then = torch.cat([memory["key"][None], now[:-1]])
        mask = history.window(n_steps, self.context, x.device)
        causal = torch.ones(n_steps, n_steps, dtype=torch.bool, device=x.device).tril() if mask is None else mask
        weight = self._match(now.transpose(0, 1) @ then.permute(1, 2, 0)) * causal
        by_row = evidence.transpose(0, 1)
        found = weight @ by_row
        if self.config.pooled:
            n_kept = causal.sum(1).to(found.dtype)[None, :, None].expand(len(found), -1, 1)
            found = torch.cat([found, causal.to(found.dtype) @ by_row / n_kept, n_kept / self.context], dim=-1)
        outputs = self._read(found.transpose(0, 1), rest)
        filed = {k: history.to_ring(v.detach(), self.context) for k, v in (("keys", then), ("evidence", evidence))}
        last = {"count": memory["count"] + n_steps, "who": x[-1][:, self.columns], "key": now[-1].detach()}
        return outputs, {"h": outputs[-1], **last, **filed}

    def auxiliary_loss(self, x: Tensor, generator: torch.Generator) -> Tensor | None:
        """Return the contrast among pictures of `x` [T, N, n_inputs], `_VIEWED` of each sequence; None if it is off."""
        if not self.config.contrast_coef:
            return None
        n_steps, n_rows = x.shape[:2]
        at = torch.randint(n_steps, (_VIEWED, n_rows), generator=generator, device=generator.device).to(x.device)
        seen = x[at, torch.arange(n_rows, device=x.device)][..., self.columns].reshape(-1, *self.key_net.shape)
        loss = contrast(seen, lambda v: self.key_net(v.flatten(1)), generator, self.config.contrast_temperature)
        return self.config.contrast_coef * loss

    def _keys(self, identity: Tensor) -> Tensor:
        """Return the keys [T, N, key] of `identity` [T, N, columns]; while somebody stays, the key is made once."""
        new = torch.ones(identity.shape[:2], dtype=torch.bool, device=identity.device)
        new[1:] = (identity[1:] != identity[:-1]).any(dim=-1)
        made = self.key_net(identity[new])
        number = torch.zeros(new.shape, dtype=torch.int64, device=identity.device)
        number[new] = torch.arange(len(made), device=identity.device)
        return cast(Tensor, made[number.cummax(dim=0).values])
