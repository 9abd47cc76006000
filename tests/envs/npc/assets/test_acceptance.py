"""Asset worlds as a benchmark: room to adapt, exploration that pays, nothing given away. Small numbers of trials."""

import pytest

from metarl import envs
from metarl.envs.npc.assets import audit as audit_assets
from metarl.envs.npc.audit import play_named, share_of_gap

SMALL = 384


@pytest.mark.parametrize("name", ["npc/assets", "npc/assets-held"])
def test_every_check_of_the_linear_markets_holds(name):
    checks = audit_assets.audit_assets(SMALL, family=envs.make(name), golden=False)
    assert [c for c in checks if not c.holds] == []
    assert len(checks) >= 5


def test_every_check_of_the_market_of_moods_holds():
    checks = audit_assets.audit_regime(SMALL, golden=False)
    assert [c for c in checks if not c.holds] == []


def test_the_committed_values_are_what_is_played():
    for name in ("npc/assets", "npc/assets-held", "npc/assets-regime", "npc/assets-tiny"):
        family = envs.make(name)
        check = audit_assets.audit.agrees_with_golden(family, play_named(family, "test", n=256, seed=3), "test")
        assert check.holds, (name, check)


def test_in_long_episodes_forgetting_costs_too_little_which_is_why_they_are_short():
    long = play_named(
        envs.make("npc/assets-held", horizon=24, n_episodes=5),
        "train",
        ["non_adaptive", "forgetful", "oracle"],
        n=SMALL,
    )
    assert share_of_gap(long, "forgetful") > 0.55
