"""`bench npc`: rates per world and size, memory per env, and targets that are met or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from metarl.experiments.bench.npc import QUICK, Runner, main, measure, print_found

SMALL = replace(QUICK, worlds=("npc/guide-macro",), num_envs=(8, 1024), steps=64, rounds=1)


def test_each_size_gets_a_rate_and_the_target_is_judged_at_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(SMALL)
    one = found["worlds"]["npc/guide-macro"]
    assert one["steps_per_cpu_second"]["1024"]["median"] > one["steps_per_cpu_second"]["8"]["median"] > 0
    assert one["met"] == (one["steps_per_cpu_second"]["1024"]["median"] >= one["target"])
    assert one["bytes_per_copy"]["observation"] == 4 * (8 * 13 + 21)
    print_found(found, Console(width=160))
    assert "npc/guide-macro" in capsys.readouterr().out


def test_what_a_copy_holds_does_not_depend_on_how_many_there_are() -> None:
    few, many = (Runner("npc/guide-macro", n, SMALL).bytes_per_env()["held"] for n in (64, 256))
    assert few == pytest.approx(many, rel=0.05)


def test_the_command_stores_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl.experiments.bench.npc.QUICK", SMALL)
    assert main(["--quick", "--out", str(tmp_path / "speed.json")]) == 0
    stored = json.loads((tmp_path / "speed.json").read_text())
    assert set(stored["worlds"]) == {"npc/guide-macro"}
    assert stored["settings"]["num_envs"] == [8, 1024]
