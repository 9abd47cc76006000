"""The checks of `audit`, for asset worlds."""

from __future__ import annotations

from metarl.envs.npc import audit
from metarl.envs.npc.audit import Check, play_named
from metarl.envs.npc.measure import Played
from metarl.seeding import generator

from .exact import solve
from .regime_tasks import RegimeTasks, make_tiny
from .regime_tasks import make as make_regime
from .tasks import AssetsTasks, make_held

INFERENCE_ONLY = ("npc/assets", "npc/assets-regime")
"""Worlds in which one episode tells much: what matters there is inference, and forgetting costs little."""


def marginals(family: AssetsTasks, *, n: int = 4096) -> Check:
    """Every asset's effect is often negative in training, though never all at once: the rarest share of the assets."""
    alpha = family.sample("train", n, generator(0, "marginals")).values["alpha"][:, 0]
    together = float((alpha < 0).all(1).float().mean())
    return Check.at_least("share of negative effects, of the asset where they are rarest, all at once counting against",
                          float((alpha < 0).float().mean(0).min()) - together, 0.3)  # fmt: skip


def regime_marginals(family: RegimeTasks, *, n: int = 4096) -> Check:
    """Every level of a held-out pair occurs in training: count those that do not."""
    train = family.sample("train", n, generator(0, "marginals")).values
    missing = 0
    for key in ("drift", "switch"):
        held_out = family.fixed_tasks("test-combinations").values[key].unique()  # type: ignore[no-untyped-call]
        missing += sum(int(not bool((train[key] == v).any())) for v in held_out)
    return Check.at_most("levels of held-out pairs never trained on", float(missing), 0.0)


def optimal(family: RegimeTasks, n: int) -> Check:
    """The solver's value is what its policy earns: difference in standard errors."""
    total = play_named(family, "train", ["bayes_optimal"], n=n)["bayes_optimal"].returns.sum(1)
    error = float(total.std()) / n**0.5
    return Check.at_most("exact value against its policy, standard errors",
                         abs(float(total.mean()) - solve(family.config).value) / error, 4.0)  # fmt: skip


def audit_assets(n: int, *, family: AssetsTasks | None = None, golden: bool = True) -> list[Check]:
    """Return all checks of `npc/assets-held` (or `family`) at `n` trials each.

    Exploration is asked for where only the asset held is seen; forgetting must cost where `INFERENCE_ONLY` does not say
    otherwise.
    """
    family = family or make_held()
    played = play_named(family, "train", n=n)
    found = [
        audit.headroom(played),
        audit.capturable(played, "bayes_optimistic"),
        audit.no_leak(family),
        audit.alone_as_among_many(family),
        marginals(family),
    ]
    if family.config.feedback == "held":
        found.append(audit.exploration(played, "bayes_greedy", "bayes_optimistic"))
    return found + _shared(family, played, n, golden)


def audit_regime(n: int, *, family: RegimeTasks | None = None, golden: bool = True) -> list[Check]:
    """Return all checks of `npc/assets-regime` (or `family`) at `n` trials each.

    Moods change, so that what one learned gets old: the filter is asked for two thirds of what knowing all gives.
    """
    family = family or make_regime()
    played = play_named(family, "train", n=n)
    found = [
        audit.headroom(played),
        audit.capturable(played, "bayes_greedy", least=0.65),
        audit.no_leak(family),
        audit.alone_as_among_many(family),
        regime_marginals(family),
        optimal(make_tiny(), max(n, 512)),
    ]
    return found + _shared(family, played, n, golden)


def _shared(family: AssetsTasks | RegimeTasks, played: dict[str, Played], n: int, golden: bool) -> list[Check]:
    """Return what is asked of all: that forgetting costs, and that the committed values stand."""
    found = [] if family.name in INFERENCE_ONLY else [audit.not_one_episode(played)]
    return found + (audit.golden_checks(family, played, n) if golden else [])
