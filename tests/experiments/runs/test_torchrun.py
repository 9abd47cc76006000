"""One run in two processes: what it computes, what it says, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metarl import run
from metarl.log import WALL_CLOCK_KEYS
from tests.torchrun_kill import disturbed, environment, outcome, torchrun

SEVERAL = "tests.experiments.runs.several_runs"
EVERY_AGENT = "tests.experiments.every_agent"


def run_of(*command: str) -> str:
    """Run a command that must succeed, and return what it said."""
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in WALL_CLOCK_KEYS} for record in run.history(folder)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same runs in one process and in two, one after another in each, because starting takes longest."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("one", "two")}
    kinds = ["rl2_gru", "pearl_product", "promp", "varibad", "finetune", "metric_siamese", "maml"]
    run_of(*torchrun(SEVERAL, str(folders["two"]), *kinds))
    run_of(sys.executable, "-m", SEVERAL, str(folders["one"]), *kinds[:-1], "maml@2")
    return folders


@pytest.mark.parametrize("kind", ["rl2_gru", "pearl_product", "promp", "varibad", "finetune"])
def test_two_processes_equal_one_up_to_the_order_of_sums(kind: str, pairs: dict[str, Path]) -> None:
    one, two = (numbers(pairs[name] / kind) for name in ("one", "two"))
    assert len(one) == len(two) > 0
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-6)


def test_what_is_not_shared_out_is_the_same_bit_for_bit(pairs: dict[str, Path]) -> None:
    assert outcome(pairs["two"] / "metric_siamese") == outcome(pairs["one"] / "metric_siamese")


def test_maml_in_two_processes_is_maml_that_takes_half_of_the_tasks_at_once_bit_for_bit(pairs: dict[str, Path]) -> None:
    assert outcome(pairs["two"] / "maml") == outcome(pairs["one"] / "maml@2")


def test_a_run_in_two_processes_says_so_in_run_json_and_speaks_once(tmp_path: Path) -> None:
    said = run_of(*torchrun("metarl", "train", f"{EVERY_AGENT}:random", "--run-dir", str(tmp_path / "run")))
    assert said.count("finished after iteration 4") == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2
    on = ["--resume", "auto", "--train.n-iterations", "6"]
    said = run_of(
        sys.executable, "-m", "metarl", "train", f"{EVERY_AGENT}:random", "--run-dir", str(tmp_path / "run"), *on
    )
    assert "note: going on in 1 processes instead of 2" in " ".join(said.split())
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["process_changes"] == [{"after_iteration": 4, "from": 2, "to": 1}]


def test_a_killed_process_is_started_again_and_the_run_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    n_iterations = 20
    alone = tmp_path / "alone"
    words = ["metarl", "train", f"{EVERY_AGENT}:rl2_gru", "--run-dir", str(alone)]
    often = ["--train.checkpoint-every-iters", "2", "--train.n-iterations", str(n_iterations)]
    run_of(*torchrun(*words, *often))
    disturbed(tmp_path / "killed", "rl2_gru", n_iterations, rank=1, at=4)
    assert outcome(tmp_path / "killed") == outcome(alone)


def test_an_error_in_one_process_ends_all_of_them_with_one_line(tmp_path: Path) -> None:
    words = ["metarl", "train", f"{EVERY_AGENT}:rl2_gru", "--run-dir", str(tmp_path / "run")]
    world = ["--world.name", "tests.experiments.runs.failing_world:make"]
    done = subprocess.run(
        torchrun(*words, *world), env=environment(), capture_output=True, text=True, timeout=120
    )  # fmt: skip
    assert done.returncode != 0
    told = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error:")]
    assert len(told) == 1
    assert "env 2 fell off the table" in told[0]
