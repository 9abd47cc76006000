"""`worlds audit` plays the references and says what holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metarl.envs import WORLDS
from metarl.envs.npc.audit import Check
from metarl.experiments.cli.main import main as command
from metarl.experiments.npc import audit as worlds_audit


def test_an_audit_is_printed_kept_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Check.at_least("room", 0.6, 0.45), Check.at_most("leaks", 2.0, 0.0)
    monkeypatch.setattr(worlds_audit, "_audits", lambda: {"fine": lambda n: [good], "poor": lambda n: [good, bad]})
    assert command(["worlds", "audit", "fine", "--trials", "64"]) == 0
    assert command(["worlds", "audit", "--json", str(tmp_path / "a.json")]) == 1
    assert "FAILS" in capsys.readouterr().out
    kept = json.loads((tmp_path / "a.json").read_text())
    assert kept["trials"] == 1024
    assert [c["holds"] for c in kept["found"]["poor"]] == [True, False]


def test_every_audit_is_of_a_world_that_there_is() -> None:
    audits = worlds_audit._audits()
    assert set(audits) <= set(WORLDS.entries())
    assert all(callable(audit) for audit in audits.values())


@pytest.mark.parametrize(
    ("words", "message"), [(["npc/assets-hold"], "did you mean 'npc/assets-held'"), (["--trials", "3"], "64 to")]
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["worlds", "audit", *words]) == 2
    assert message in capsys.readouterr().err
