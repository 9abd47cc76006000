"""The checks of `audit`, for the assistant."""

from __future__ import annotations

from metarl.envs.npc import audit
from metarl.envs.npc.audit import Check, play_named
from metarl.envs.npc.measure import Played
from metarl.seeding import generator

from .catalogue import dominant
from .tasks import AssistantTasks, make

CEILING = "persona_oracle"
"""Knows the visitor, not the intent of each dialogue: what there is to attain."""
BEST = "bayes_lasting"


def marginals(family: AssistantTasks) -> Check:
    """Both parts of the held-out combinations occur in training: the rarer one's share of visits.

    They are visitors whose dominant attribute is the special one, and dialogues for the last category.
    """
    tasks = family.sample("train", 4096, generator(0, "marginals"))
    special = sum(
        int((dominant(family.people("train", d), s.mean, s.sd) == family.special[d]).sum())
        for d, s in enumerate(map(family.shelf, family.config.domains))
    ) / sum(len(family.people("train", d)) for d in range(len(family.config.domains)))
    last = float(tasks.values["intents"][:, -1].mean())
    return Check.at_least("share of the rarer marginal of held-out combinations", min(special, last), 0.05)


def fewer_questions(played: dict[str, Played], *, least: float = 0.5) -> Check:
    """Who knows the visitor need not ask: turns saved from the first dialogue to the last."""
    steps = played[BEST].steps.mean(0)
    return Check.at_least("turns saved by the last dialogue", float(steps[0] - steps[-1]), least)


def audit_assistant(n: int, *, family: AssistantTasks | None = None, golden: bool = True) -> list[Check]:
    """Return all checks of `npc/assistant` (or `family`) at `n` trials each.

    What can be attained is measured against the persona oracle. Deep exploration is not tested by this world: asking is
    worth its price within a dialogue.
    """
    family = family or make()
    played = play_named(family, "train", n=n)
    found = [
        audit.headroom(played),
        audit.capturable(played, BEST, ceiling=CEILING),
        audit.not_one_episode(played, ceiling=CEILING),
        audit.no_leak(family),
        audit.alone_as_among_many(family),
        fewer_questions(played),
        marginals(family),
    ]
    return found + (audit.golden_checks(family, played, n) if golden else [])
