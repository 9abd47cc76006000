"""The checks of `audit`, for the companion, and one of its own: wearers of a ring leave no trace."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.envs.npc import audit
from metarl.envs.npc.audit import Check, play_named
from metarl.envs.npc.reference import Policy
from metarl.seeding import generator
from metarl.tasks import Tasks

from .tasks import CompanionTasks, make

BEST, GREEDY = "bayes_look_ahead", "bayes_greedy"


def marginals(family: CompanionTasks) -> Check:
    """Every value of every factor of a held-out style occurs in training: count those that do not."""
    factors = family.styles.factors
    missing = 0
    for f, size in enumerate(family.styles.sizes):
        for value in range(size):
            here = factors[:, f] == value
            missing += int(float(family.kept[here].sum()) > 0 and not float(family.prior[here].sum()) > 0)
    return Check.at_most("marginals of held-out combinations never trained on", float(missing), 0.0)


def two_pasts(
    family: CompanionTasks, make_policy: Callable[[], Policy], *, n: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return what a policy does first in each encounter, int64 [K, n, factors], in two pasts.

    Visitors come in the same order with the same letters and rings, and answer with the same noise; those with a ring
    have other styles in the second past.
    """
    tasks = family.sample("train", n, generator(seed, "two-pasts"))
    world = family.make_world(n)
    world.set_tasks(tasks)
    world.reset(seed=seed)
    rings = world.rings()
    others = tasks[[*range(1, n), 0]].values["style"]
    changed = Tasks(
        {**tasks.values, "style": torch.where(rings, others, tasks.values["style"])}, tasks.names, tasks.groups
    )
    seen: list[Tensor] = []
    for chosen in (tasks, changed):
        policy, first = make_policy(), list[Tensor]()
        world.set_tasks(chosen)
        world.reset(seed=seed)
        policy.start(world, generator(seed, "policy"))
        for t in range(family.n_episodes * world.horizon):
            before, actions = world.state, policy.act()
            if t % world.horizon == 0:
                first.append(actions.clone())
            _, _, terminated, truncated, _ = world.step(actions)
            policy.see(before, actions, world.reached, terminated | truncated)
        seen.append(torch.stack(first))
    return seen[0], seen[1]


def no_trace(make_policy: Callable[[], Policy], *, n: int = 256, opt_out: float = 0.5, seed: int = 0) -> Check:
    """What those with a ring were like changes no first action of a later encounter: the share that differs.

    Where it is 0 the distributions of actions in the two pasts are equal, and so their divergence is 0.
    """
    first, second = two_pasts(make(opt_out=opt_out, identity="id"), make_policy, n=n, seed=seed)
    share = float((first != second).any(-1).float().mean())
    return Check.at_most("first actions that a ring-wearer's past changed", share, 0.0)


def audit_companion(n: int, *, family: CompanionTasks | None = None, golden: bool = True) -> list[Check]:
    """Return all checks of `npc/companion` (or `family`) at `n` trials each."""
    family = family or make()
    played = play_named(family, "train", n=n)
    filters = family.policies("train")
    found = [
        audit.headroom(played),
        audit.capturable(played, BEST),
        audit.not_one_episode(played),
        audit.exploration(played, GREEDY, BEST),
        audit.no_leak(family),
        audit.alone_as_among_many(family),
        marginals(family),
        no_trace(filters[BEST], n=min(n, 256)),
    ]
    return found + (audit.golden_checks(family, played, n) if golden else [])
