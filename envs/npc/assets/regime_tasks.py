"""Task distributions of the market of moods: `npc/assets-regime` and `npc/assets-tiny`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch

from metarl.envs.families import check_options
from metarl.envs.npc.family import NpcFamily, settings_of
from metarl.envs.npc.reference import Policy
from metarl.spec import WorldSpec
from metarl.tasks import Tasks, check_split

from .market import market_spec
from .regime import RegimeConfig, RegimeWorld
from .regime_references import policies
from .tasks import HARDER_FEE


class RegimeTasks(NpcFamily):
    """Levels drawn per asset from the pairs left for training; `test-combinations` draws from the others.

    `test-worlds` has twice the fee, `test-all` both. Without held-out pairs there are no further splits.
    """

    def __init__(self, name: str, config: RegimeConfig) -> None:
        """Take the constants from `config`."""
        extra = ("test-worlds", "test-combinations", "test-all") if config.held_out else ()
        super().__init__(name, settings_of(config), n_episodes=config.n_episodes, extra_splits=extra)
        self.config = config

    def draw(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw levels and first moods."""
        check_split(self.name, split, self.splits)
        config, device = self.config, generator.device
        held_out = split in ("test-combinations", "test-all")
        pairs = torch.tensor([p for p in config.pairs if (p in config.held_out) == held_out], device=device)
        chosen = pairs[torch.randint(len(pairs), (n, config.n_assets), generator=generator, device=device)]
        drifts, switches = (torch.tensor(v, device=device) for v in (config.drifts, config.switches))
        start = torch.rand(n, config.n_assets, generator=generator, device=device)
        fee = config.fee * (HARDER_FEE if split in ("test-worlds", "test-all") else 1.0)
        return Tasks.of(
            self.name,
            drift=drifts[chosen[..., 0]],
            switch=switches[chosen[..., 1]],
            start=start,
            fee=torch.full((n,), fee, device=device),
        )

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return market_spec(self.name, self.config, has_signal=False)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> RegimeWorld:
        """Build `num_envs` markets."""
        return RegimeWorld(self.name, num_envs, self.config, device=device)

    def policies(self, split: str) -> dict[str, Callable[[], Policy]]:
        """Return makers of the reference policies."""
        return policies(self.config)


TINY: dict[str, Any] = {
    "n_assets": 1, "horizon": 12, "n_episodes": 5, "drifts": (0.02,), "switches": (0.05,), "held_out": (),
}  # fmt: skip


def make(**options: Any) -> RegimeTasks:
    """Build the market of moods; options are those of `RegimeConfig`."""
    return _build("npc/assets-regime", options)


def make_tiny(**options: Any) -> RegimeTasks:
    """Build the market of one asset and known levels, 5 episodes of 12 steps; options are those of `RegimeConfig`."""
    return _build("npc/assets-tiny", {**TINY, **options})


def _build(name: str, options: dict[str, Any]) -> RegimeTasks:
    check_options(name, options, (f.name for f in fields(RegimeConfig)))
    for key in ("drifts", "switches"):
        if key in options:
            options = {**options, key: tuple(options[key])}
    if "held_out" in options:
        options = {**options, "held_out": tuple((int(a), int(b)) for a, b in options["held_out"])}
    return RegimeTasks(name, RegimeConfig(**options))
