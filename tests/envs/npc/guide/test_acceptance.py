"""Is the guide a benchmark? The checks that `make worlds-audit` makes at full size, at a small one."""

from __future__ import annotations

import pytest

from metarl.envs.npc.audit import Check
from metarl.envs.npc.guide.audit import audit_guide
from metarl.envs.npc.guide.tasks import make_macro


@pytest.fixture(scope="module")
def found() -> list[Check]:
    return audit_guide(160, splits=("train",), errors=0.5)


def test_every_check_holds(found: list[Check]) -> None:
    assert [c for c in found if not c.holds] == []


def test_nothing_is_left_out(found: list[Check]) -> None:
    names = " | ".join(c.name for c in found)
    for part in ("headroom", "capturable", "forgetful", "beyond", "tell the visitor", "one env", "micro", "marginals",
                 "golden values of train"):  # fmt: skip
        assert part in names


@pytest.mark.parametrize("split", make_macro().splits)
def test_references_are_known_for_every_split_and_in_order(split: str) -> None:
    family = make_macro()
    known = {k: sum(v) for k, v in family.references(split, family.n_episodes).items()}
    assert known["random"] < known["non_adaptive"] < known["forgetful"] < known["bayes_greedy"]
    assert known["bayes_greedy"] < known["bayes_explore"] < known["oracle"]
    assert known["thompson"] < known["bayes_explore"]
