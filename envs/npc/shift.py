"""Unannounced change within a trial: what changes, and when."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.errors import ConfigError, nearest
from metarl.seeding import EnvStreams

KINDS = ("visitor", "drift", "world", "interface", "economy", "sensor")
"""Another visitor; one taste redrawn; streets, crowds, exhibits; permuted actions; prices, fees; noisier reactions."""


@dataclass(frozen=True)
class Shift:
    """One kind of change, from a given episode on or with a chance before every episode but the first."""

    kind: str
    episode: int | None = None
    """Number of the first changed episode, >= 1."""
    hazard: float = 0.0
    """Chance of a (further) change before each episode, in (0, 1]."""

    def __post_init__(self) -> None:
        """Raise ConfigError for an unknown kind, or unless there is exactly one of `episode` and `hazard`."""
        if self.kind not in KINDS:
            raise ConfigError(f"unknown shift {self.kind!r}; {nearest(self.kind, KINDS)}")
        if (self.episode is None) == (self.hazard == 0.0):
            raise ConfigError(f"shift {self.kind!r} needs either an episode or a hazard; write it as 'visitor@3' or "
                              f"'visitor~0.1'")  # fmt: skip
        if self.episode is not None and self.episode < 1:
            raise ConfigError(f"shift {self.kind!r} at episode {self.episode}: the first that can change is 1")
        if not 0.0 <= self.hazard <= 1.0:
            raise ConfigError(f"shift {self.kind!r} has hazard {self.hazard}; choose a chance in (0, 1]")

    @classmethod
    def parse(cls, text: str, kinds: tuple[str, ...] = KINDS) -> Shift | None:
        """Return the shift that "kind@episode" or "kind~hazard" names; None for "".

        Raises: ConfigError for another form, or a kind that is not among `kinds`, those that a family has.
        """
        if not text:
            return None
        for mark, name, number in (("@", "episode", int), ("~", "hazard", float)):
            kind, found, value = text.partition(mark)
            if not found:
                continue
            if kind not in kinds:
                raise ConfigError(f"shift {text!r}: {kind!r} is not one of {', '.join(kinds)}")
            try:
                when = {name: number(value)}
            except ValueError:
                break
            return cls(kind, **when)  # type: ignore[arg-type]
        raise ConfigError(f"shift {text!r} is not of the form 'kind@episode' or 'kind~hazard', as in 'visitor@3'")

    def count(self, streams: EnvStreams, episode: Tensor, n_episodes: int) -> Tensor:
        """Return how many changes there have been by `episode` (int64 [B]; episodes repeat after `n_episodes`).

        A function of the env's streams and the episode alone, so that nothing has to be remembered.
        """
        number = episode % n_episodes
        if self.episode is not None:
            return (number >= self.episode).long()
        chances = torch.stack([streams.uniform(10_000_019 + e).squeeze(1) for e in range(1, n_episodes)], dim=1)
        at = torch.arange(1, n_episodes, device=episode.device)
        return ((chances < self.hazard) & (at <= number[:, None])).long().sum(1)
