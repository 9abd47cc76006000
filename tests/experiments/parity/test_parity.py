"""`metarl parity` compares, counts, writes and judges; the documentation shows the committed result."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from metarl.commandline import recorded
from metarl.errors import ConfigError
from metarl.experiments.parity import Settings, main
from metarl.experiments.parity.recording import BEHAVIOURS
from metarl.experiments.parity.replay import Tally
from metarl.experiments.parity.report import markdown, summary, within_bounds
from metarl.experiments.runs.locks import lock_problem

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "experiments" / "results" / "metaworld-parity.json"
PAGE = ROOT / "docs" / "metaworld.md"


def settings(**changes: Any) -> Settings:
    kept: dict[str, Any] = {
        "goals": 1, "goals_v1": 1, "episodes": 2, "steps": 5, "rewards": ("v2",), "cores": ("python",),
        "classes": ("a",), "seed": 0,
    }  # fmt: skip
    return Settings(**(kept | changes))


@pytest.mark.skipif(bool(lock_problem()), reason=lock_problem())
@pytest.mark.metaworld
def test_the_command_compares_writes_and_shows_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parity.json"
    argv = ["--classes", "reach-v3", "door-close-v3", "--goals", "2", "--episodes", "2", "--steps", "6"]
    argv += ["--rewards", "v2", "--cores", "python", "--workers", "1", "--out", str(out)]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())
    upstream_steps = 2 * 2 * 2 * 6 * len(BEHAVIOURS)  # classes, goals, episodes, steps
    assert found["total"]["upstream"]["steps"] == upstream_steps
    through = {name: row["steps"] for name, row in found["arrangements"].items()}
    assert sorted(through.values())[1:] == [upstream_steps * 5 // 6, upstream_steps]
    assert set(found["classes"]) == {"reach-v3", "door-close-v3"}
    assert not any(found["total"]["not_bit_equal"].values())
    assert found["command"] == recorded("bench", "parity", *argv)
    assert {"git", "packages"} <= set(found["provenance"])
    assert "Not bit-equal in every number: no class." in printed
    assert main(["--table", str(out)]) == 0
    assert capsys.readouterr().out.strip() in printed


def result(tallies: Sequence[Tally]) -> dict[str, Any]:
    upstream = {"reach-v3": {"episodes": 1, "steps": 10, "expert_episodes": 1, "expert_successes": 1}}
    return summary([("v1", {f"way {i}": {"reach-v3": t} for i, t in enumerate(tallies)}, upstream)])


def tally(**differences: float) -> Tally:
    made = Tally(steps=10, episodes=1)
    for name, size in differences.items():
        made.unequal[name], made.worst[name] = 1, size
    return made


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        (tally(), True),
        (tally(reward=1e-12), True),
        (tally(reward=1.1e-12), False),
        (tally(obs=0.0), False),  # a zero of the other sign is another observation
        (tally(success=1.0), False),
        (tally(in_place_reward=1e-9), False),
        (tally(near_object=float("inf")), False),
        (Tally(), False),  # nothing compared
    ],
)
def test_the_verdict_follows_the_bounds(found: Tally, passes: bool) -> None:
    assert within_bounds(result([found])) is passes
    if found.steps:
        assert within_bounds(result([tally(), found])) is passes


def test_sums_and_table_name_the_class_that_differs() -> None:
    found = result([tally(), tally(reward=2e-13), tally(reward=4e-13, obj_to_target=1e-16)])
    assert found["total"]["steps"] == 30
    assert found["total"]["not_bit_equal"] == {"obs": 0, "reward": 2, "success": 0, "info": 1, "tensors": 0}
    assert found["total"]["largest_difference"] == {"obs": 0.0, "reward": 4e-13, "info": 1e-16}
    table = markdown(found)
    assert "| way 1 | 10 | 0 | 1 (2.0e-13) | 0 | 0 |" in table
    assert "| **all** | 30 | 0 | 2 (4.0e-13) | 1 (1.0e-16) | 0 |" in table
    assert "Not bit-equal in every number: reach-v3 (v1)." in table


def test_work_is_dealt_out_in_blocks_that_cover_every_class_once_per_reward() -> None:
    names = tuple(f"class-{i}" for i in range(12))
    units = list(settings(classes=names, rewards=("v2", "v1")).units())
    assert sorted(name for version, part in units if version == "v1" for name in part) == sorted(names)
    assert all(len(part) <= 5 for _, part in units)
    ways = settings(cores=("compiled", "python"), goals=5).arrangements()
    assert {(w.core, w.through) for w in ways} == {(c, t) for c in ("compiled", "python") for t in ("core", "world")}
    assert {w.n_threads for w in ways} == {1, 2}
    assert {w.batch for w in ways} == {1, 16, 150}
    assert len({w.name for w in ways}) == len(ways)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--steps", "501"], "--steps must be a whole number from 1 to 500, got '501'"),
        (["--goals", "0"], "--goals must be a whole number from 1 to"),
        (["--workers", "0"], "--workers must be a whole number from 1 to"),
        (["--classes", "reech-v3"], "reach-v3"),
        (["--cores", "fast"], "invalid choice"),
        (["--ot", "x"], "--out"),
    ],
)
def test_a_bad_argument_is_refused_with_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        main(argv)
    assert "\n" not in str(caught.value)


def test_the_documentation_shows_the_committed_result() -> None:
    committed = json.loads(COMMITTED.read_text())
    assert markdown(committed) in PAGE.read_text()
    assert within_bounds(committed)
    assert committed["complete"]
    chosen = committed["settings"]
    assert chosen["goals"] >= 5
    assert chosen["episodes"] >= 2
    assert (chosen["classes"], chosen["steps"], chosen["behaviours"]) == (50, 500, list(BEHAVIOURS))
    assert (chosen["rewards"], chosen["cores"]) == (["v2", "v1"], ["compiled", "python"])
    assert {leak["core"] for leak in committed["leak"]} == {"compiled", "python"}
    assert all(leak["flat"] and leak["steps"] >= 1_000_000 for leak in committed["leak"])
    commands = re.findall(r"^parity: .*\n\t\$\(METARL\) (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    told = committed["command"].removeprefix("python -m experiments ").removeprefix("metarl ")
    assert f"bench {re.sub(r' --workers [0-9]+', '', told.removeprefix('bench '))}" == commands[0]


def test_without_locks_between_processes_the_command_says_what_the_system_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(38, "Function not implemented")  # what the C library says where there is no /dev/shm

    monkeypatch.setattr("multiprocessing.synchronize.Lock", refuse)
    with pytest.raises(ConfigError, match=r"cannot share locks .*Function not implemented.*; give .* /dev/shm"):
        main(["--out", str(tmp_path / "x.json")])
    assert list(tmp_path.iterdir()) == []
