"""The assistant as a benchmark: room to adapt, less asking over time, nothing given away. Small numbers of trials."""

from metarl import envs
from metarl.envs.npc.assistant import audit as audit_assistant
from metarl.envs.npc.audit import agrees_with_golden, play_named


def test_every_check_of_the_assistant_holds():
    family = envs.make("npc/assistant", domains=("electricity",))
    checks = audit_assistant.audit_assistant(160, family=family, golden=False)
    # Among so few trials the headroom, .46 at full size, may be a little less.
    assert [c for c in checks if not c.holds and c.value < 0.85 * c.bound] == []
    assert len(checks) == 7


def test_the_committed_values_are_what_is_played():
    family = envs.make("npc/assistant")
    cheap = ["random", "persona_oracle", "oracle"]
    assert agrees_with_golden(family, play_named(family, "test", cheap, n=256, seed=3), "test").holds
