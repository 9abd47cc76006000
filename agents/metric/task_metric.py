"""The metric on tasks: which transitions it reads, how similar two tasks are by them, and how it learns that."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metarl import spaces
from metarl.agent import WorldSpec
from metarl.agents.nn.normaliser import Moments
from metarl.errors import CheckpointError, shortened
from metarl.rollout import Rollout

from .config import MetricSettings
from .encoder import Reader, cosines, distances, matching_loss, siamese_loss

_CLIP = 10.0
"""Largest standardised entry of a transition that the reader sees."""


def transitions(rollout: Rollout, spec: WorldSpec, *, next_obs: bool) -> tuple[Tensor, Tensor]:
    """Return each task's steps, env after env, those that count first and in order: [N, R, width], int64 [N] of them.

    A row is observation, action (one-hot for discrete spaces), reward and, with `next_obs`, the observation reached.
    """
    parts = [rollout.obs, spaces.flatten(spec.action_space, rollout.action, batch_dims=2), rollout.reward[..., None]]
    rows = torch.cat([*parts, rollout.next_obs] if next_obs else parts, dim=-1)
    n, n_steps = rollout.n_tasks, len(rows)
    rows = rows.transpose(0, 1).reshape(n, rollout.envs_per_task * n_steps, -1)
    valid = rollout.valid.T.reshape(n, -1)
    order = (~valid).long().argsort(dim=1, stable=True)
    return rows.gather(1, order[..., None].expand_as(rows)), valid.sum(1)


def spread_out(rows: Tensor, count: Tensor, size: int, begin: float, end: float, shift: Tensor | float = 0.5) -> Tensor:
    """Return `size` of the first `count` [N] rows, in order: one of each equal part of the share `begin` .. `end`.

    `shift`, in [0, 1) and of any shape that broadcasts to [N, size], says where in its part. Rows repeat where there
    are fewer of them. Shapes: rows [N, R, width] -> [N, size, width].
    """
    place = begin + (end - begin) * (torch.arange(size, device=rows.device) + shift) / size
    at = (place * count[:, None]).long().clamp(max=count[:, None] - 1).clamp(min=0)
    return rows.gather(1, at[..., None].expand(*at.shape, rows.shape[-1]))


class TaskMetric:
    """Reader, units of its inputs and optimiser."""

    def __init__(
        self, config: MetricSettings, spec: WorldSpec, generator: torch.Generator, device: torch.device
    ) -> None:
        """Draw the reader's weights."""
        self.config, self.spec = config, spec
        self.width = spec.obs_dim * (1 + config.see_next_obs) + spec.action_dim + 1
        self.reader = Reader(config.reader, self.width, config.reader_hidden, config.embedding, generator, device)
        self._adam = torch.optim.Adam(self.reader.parameters(), lr=config.metric_lr)
        self._moments = Moments(self.width, device)

    def context(self, rollout: Rollout) -> Tensor:
        """Return the context by which a phase is recognised: [N, context_size, width], raw."""
        rows, count = transitions(rollout, self.spec, next_obs=self.config.see_next_obs)
        return spread_out(rows, count, self.config.context_size, 0.0, 1.0)

    def training_contexts(self, rollout: Rollout, generator: torch.Generator) -> Tensor:
        """Return two contexts of each task, of the first and of the second half of a phase: [N, 2, k, width], raw."""
        rows, count = transitions(rollout, self.spec, next_obs=self.config.see_next_obs)
        size = self.config.context_size
        shifts = torch.rand(2, len(rows), size, generator=generator, device=rows.device)
        halves = [spread_out(rows, count, size, 0.5 * i, 0.5 * (i + 1), shifts[i]) for i in range(2)]
        return torch.stack(halves, dim=1)

    def embed(self, contexts: Tensor) -> Tensor:
        """Return embeddings [..., d] of raw contexts [..., k, width], whose entries become standard units."""
        moments = self._moments
        std = torch.where(moments.count > 0, moments.var.sqrt().clamp(min=1e-3), 1.0)
        x = ((contexts.to(torch.float64) - moments.mean) / std).clamp(-_CLIP, _CLIP).to(contexts.dtype)
        out: Tensor = self.reader(x.flatten(0, -3))
        return out.reshape(*contexts.shape[:-2], -1)

    def similarity(self, query: Tensor, known: Tensor, n_contexts: Tensor) -> Tensor:
        """Return how similar tasks are to known ones, in nats: [N, S]; the softmax over S is the attention they get.

        "siamese": minus the squared distance from the mean of a known task's embeddings, over the temperature.
        "matching": the log of the attention on all its contexts together, up to what is the same for all tasks.

        Args:
            query: embeddings [N, d].
            known: embeddings [S, P, d].
            n_contexts: int64 [S], how many of the P count.
        """
        counts = torch.arange(known.shape[1], device=known.device) < n_contexts[:, None]
        if self.config.encoder == "siamese":
            weight = counts.to(known.dtype)[..., None]
            centre = (known * weight).sum(1) / weight.sum(1).clamp(min=1.0)
            nats = -distances(query, centre).square() / self.config.temperature
        else:
            near = cosines(query, known.flatten(0, 1)).reshape(len(query), *known.shape[:2])
            nats = (near / self.config.temperature).masked_fill(~counts, -torch.inf).logsumexp(-1)
        return nats.masked_fill(n_contexts == 0, -torch.inf)

    def loss(self, contexts: Tensor, owner: Tensor) -> Tensor:
        """Return the loss of contexts [C, k, width] with the tasks `owner` (int64 [C]) that they belong to."""
        embedding = self.embed(contexts)
        if self.config.encoder == "siamese":
            return siamese_loss(embedding, owner, self.config.margin)
        return matching_loss(embedding, owner, self.config.temperature)

    def learn(self, contexts: Tensor, n_contexts: Tensor, generator: torch.Generator) -> Tensor:
        """Take `metric_steps` gradient steps on random tasks' contexts; return the mean loss.

        Args:
            contexts: [S, P, k, width].
            n_contexts: int64 [S], how many of the P count; tasks with fewer than 2 take no part.
            generator: draws the tasks of each step.
        """
        able = (n_contexts > 1).nonzero().squeeze(1)
        losses = [torch.zeros((), device=contexts.device)]
        for _ in range(self.config.metric_steps if len(able) > 1 else 0):
            drawn = torch.randperm(len(able), generator=generator, device=able.device)[: self.config.metric_tasks]
            chosen = able[drawn]
            counts = torch.arange(contexts.shape[1], device=able.device) < n_contexts[chosen, None]
            owner, which = counts.nonzero(as_tuple=True)
            with torch.enable_grad():
                loss = self.loss(contexts[chosen[owner], which], owner)
                self._adam.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
            self._adam.step()
            losses.append(loss.detach())
        return torch.stack(losses[1:] or losses).mean()

    def take_in(self, contexts: Tensor) -> None:
        """Let raw contexts [..., width] count for the units of the inputs; called once, at the end of an update."""
        self._moments.update(contexts, torch.ones(contexts.shape[:-1], dtype=torch.bool, device=contexts.device))

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser state and units, copied."""
        return {
            "reader": {k: v.detach().clone() for k, v in self.reader.state_dict().items()},
            "adam": copy.deepcopy(self._adam.state_dict()),
            "moments": self._moments.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` bit for bit; raises CheckpointError if it belongs to other settings."""
        try:
            self.reader.load_state_dict(state["reader"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"this checkpoint does not fit the metric agent of this config: {shortened(error)}"
            ) from error
        self._adam.load_state_dict(copy.deepcopy(state["adam"]))
        self._moments.load_state_dict(state["moments"])
