"""Task distributions of the linear market: `npc/assets` and `npc/assets-held`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metarl.envs.families import check_options
from metarl.envs.npc.family import NpcFamily, settings_of
from metarl.envs.npc.reference import Policy
from metarl.envs.npc.shift import Shift
from metarl.errors import ConfigError
from metarl.spec import WorldSpec
from metarl.tasks import Tasks, check_split

from .linear import AssetsConfig, AssetsWorld
from .market import market_spec
from .references import policies

HARDER_FEE = 2.0
"""Factor on the fee in `test-worlds`."""


class AssetsTasks(NpcFamily):
    """Markets drawn from the prior, but for those where every signal misleads: these are `test-combinations`.

    Splits beside train, validation and test: `test-combinations`, all effects negative (each asset's effect is negative
    in half of the training tasks, never all of them); `test-worlds`, twice the fee and heavy tails (Student's t, 3
    degrees of freedom); `test-all`, both.
    """

    def __init__(self, name: str, config: AssetsConfig) -> None:
        """Take the constants from `config`; raises ConfigError for a single asset, which leaves nothing to combine."""
        if config.n_assets < 2:
            raise ConfigError(f"{name} option n_assets is {config.n_assets}; with one asset there is nothing to choose")
        super().__init__(
            name,
            settings_of(config),
            n_episodes=config.n_episodes,
            extra_splits=("test-worlds", "test-combinations", "test-all"),
        )
        self.config = config

    def draw(self, split: str, n: int, generator: torch.Generator) -> Tasks:
        """Draw drifts and effects, for each version of the market that a shift leads through."""
        check_split(self.name, split, self.splits)
        config, contrary = self.config, split in ("test-combinations", "test-all")
        hard = split in ("test-worlds", "test-all")
        device = generator.device
        shape = (n, config.versions, config.n_assets)
        mu = config.mu_sd * torch.randn(shape, generator=generator, device=device)
        size = config.alpha_sd * torch.randn(shape, generator=generator, device=device).abs()
        # Pattern 0 is "all negative": bit j of the pattern says that asset j's effect is positive.
        pattern = torch.randint(1, 2**config.n_assets, shape[:2], generator=generator, device=device)
        bits = (pattern[..., None] >> torch.arange(config.n_assets, device=device)) & 1
        alpha = -size if contrary else size * (2.0 * bits - 1.0)
        order = torch.rand(n, config.versions, config.n_assets + 1, generator=generator, device=device).argsort(2)
        kind = None if not config.shift else Shift.parse(config.shift)
        mu, alpha, order = self._versions(kind.kind if kind else "", mu, alpha, order, generator)
        return Tasks.of(
            self.name,
            mu=mu,
            alpha=alpha,
            order=order,
            fee=torch.full((n,), config.fee * (HARDER_FEE if hard else 1.0), device=device),
            heavy=torch.full((n,), hard, device=device),
        )

    @staticmethod
    def _versions(
        kind: str, mu: Tensor, alpha: Tensor, order: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what changes from version to version as `kind` says; all else stays as in version 0."""
        versions, assets = mu.shape[1:]
        plain = torch.arange(assets + 1, device=mu.device).expand(len(mu), versions, -1)
        order = torch.cat([plain[:, :1], order[:, 1:]], dim=1) if kind == "interface" else plain.clone()
        if kind == "drift":
            changed = torch.randint(assets, mu.shape[:2], generator=generator, device=mu.device)
            fresh = torch.nn.functional.one_hot(changed, assets).bool()
            rows_mu, rows_alpha = [mu[:, 0]], [alpha[:, 0]]
            for v in range(1, versions):
                rows_mu.append(torch.where(fresh[:, v], mu[:, v], rows_mu[-1]))
                rows_alpha.append(torch.where(fresh[:, v], alpha[:, v], rows_alpha[-1]))
            mu, alpha = torch.stack(rows_mu, 1), torch.stack(rows_alpha, 1)
        elif kind != "visitor":
            mu, alpha = mu[:, :1].expand_as(mu).clone(), alpha[:, :1].expand_as(alpha).clone()
        return mu, alpha, order

    @property
    def spec(self) -> WorldSpec:
        """What its worlds are."""
        return market_spec(self.name, self.config)

    def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> AssetsWorld:
        """Build `num_envs` markets."""
        return AssetsWorld(self.name, num_envs, self.config, device=device)

    def policies(self, split: str) -> dict[str, Callable[[], Policy]]:
        """Return makers of the reference policies."""
        return policies(self.config)


def make(**options: Any) -> AssetsTasks:
    """Build the family in which all returns are seen; options are those of `AssetsConfig`."""
    return _build("npc/assets", "full", options)


def make_held(**options: Any) -> AssetsTasks:
    """Build the family in which only the return of the asset held is seen; options are those of `AssetsConfig`.

    Episodes are short, 10 steps, and a trial has 10: in one of 24 steps a policy that explores and then forgets all of
    it already gets 64 % of what the oracle does beyond cash, in one of 10 it gets 44 %.
    """
    return _build("npc/assets-held", "held", {"horizon": 10, "n_episodes": 10, **options})


def _build(name: str, feedback: str, options: dict[str, Any]) -> AssetsTasks:
    check_options(name, options, set(AssetsConfig.__dataclass_fields__) - {"feedback"})
    return AssetsTasks(name, AssetsConfig(feedback=feedback, **options))  # type: ignore[arg-type]
