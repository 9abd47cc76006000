"""The checks of `audit`, for the guide."""

from __future__ import annotations

from metarl.envs.npc import audit
from metarl.envs.npc.audit import Check, play_named

from .macro import GuideMacro
from .micro import GuideMicro
from .tasks import GuideTasks, build, make_macro
from .visitor_model import HELD_OUT_THEME_PAIRS, THEME_PAIRS, pace_pairs

BEST, GREEDY = "bayes_explore", "bayes_greedy"


def marginals() -> Check:
    """Every pace, aversion and theme of a held-out combination occurs in training: count those that do not."""
    trained = pace_pairs(held_out=False)
    missing = int((pace_pairs(held_out=True)[:, None] != trained).all(1).sum())
    themes = {t for p in THEME_PAIRS if p not in HELD_OUT_THEME_PAIRS for t in p}
    missing += sum(t not in themes for p in HELD_OUT_THEME_PAIRS for t in p)
    return Check.at_most("marginals of held-out combinations never trained on", float(missing), 0.0)


def micro_is_macro(n: int, *, split: str = "train", most: float = 0.03) -> Check:
    """Walking with the oracle's plans is worth what the planner says it is: relative difference of the means.

    Both worlds play the same visitors in the same places.
    """
    families = (build("npc/guide", GuideMicro, {}), build("npc/guide", GuideMacro, {}))
    worth = [float(play_named(f, split, ["oracle"], n=n)["oracle"].returns.mean()) for f in families]
    return Check.at_most("oracle, micro against macro, relative difference", abs(worth[0] / worth[1] - 1.0), most)


def audit_guide(
    n: int, *, family: GuideTasks | None = None, splits: tuple[str, ...] | None = None, errors: float = 3.0
) -> list[Check]:
    """Return all checks of `npc/guide-macro` (or `family`) at `n` trials each.

    Golden values are checked on `splits` (None: all). Exploring must pay by so many standard `errors`, which takes
    about 1000 trials for 3.
    """
    family = family or make_macro()
    played = play_named(family, "train", n=n)
    found = [
        audit.headroom(played),
        audit.capturable(played, BEST),
        audit.not_one_episode(played),
        audit.exploration(played, GREEDY, BEST, least=errors),
        audit.no_leak(family),
        audit.alone_as_among_many(family),
        micro_is_macro(n),
        marginals(),
    ]
    return found + audit.golden_checks(family, played, n, splits)
