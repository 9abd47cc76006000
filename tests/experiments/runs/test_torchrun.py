"""One run in two processes: what it computes, what it says, how it ends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from metarl import run
from metarl.log import WALL_CLOCK_KEYS
from tests.experiments.process_settings import process_settings  # noqa: F401
from tests.experiments.runs.several_runs import train_all
from tests.torchrun_kill import disturbed, environment, outcome, torchrun

KINDS = ["rl2_gru", "pearl_product", "promp", "varibad", "finetune", "metric_siamese", "maml", "random"]
pytestmark = pytest.mark.usefixtures("process_settings")
EVERY_AGENT = "tests.experiments.every_agent"


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k not in WALL_CLOCK_KEYS} for record in run.history(folder)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Runs in two processes, one after another because starting takes longest: their folder, and what they said."""
    folder = tmp_path_factory.mktemp("two")
    command = torchrun("tests.experiments.runs.several_runs", str(folder), *KINDS)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["rl2_gru", "pearl_product", "promp", "varibad", "finetune"])
def test_two_processes_equal_one_up_to_the_order_of_sums(kind: str, two: tuple[Path, str], tmp_path: Path) -> None:
    train_all(tmp_path, kind)
    one, together = numbers(tmp_path / kind), numbers(two[0] / kind)
    assert len(one) == len(together) > 0
    for alone, shared in zip(one, together, strict=True):
        assert shared == pytest.approx(alone, rel=1e-4, abs=1e-6)


def test_what_is_not_shared_out_is_the_same_bit_for_bit(two: tuple[Path, str], tmp_path: Path) -> None:
    train_all(tmp_path, "metric_siamese")
    assert outcome(two[0] / "metric_siamese") == outcome(tmp_path / "metric_siamese")


def test_maml_in_two_processes_is_maml_that_takes_half_of_the_tasks_at_once(
    two: tuple[Path, str], tmp_path: Path
) -> None:
    train_all(tmp_path, "maml@2")
    assert outcome(two[0] / "maml") == outcome(tmp_path / "maml@2")


def test_two_processes_speak_once_and_a_change_of_their_number_is_noted(
    two: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, said = two
    assert said.count("finished after iteration") == len(KINDS)
    assert json.loads((folder / "random" / "run.json").read_text())["processes"] == 2
    train_all(folder, "random", n_iterations=6)
    assert "going on in 1 process instead of 2" in " ".join(capsys.readouterr().out.split())
    facts = json.loads((folder / "random" / "run.json").read_text())
    assert facts["processes"] == 1
    assert facts["process_changes"] == [{"after_iteration": 4, "from": 2, "to": 1}]


def test_a_killed_process_is_started_again_and_the_run_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    disturbed(tmp_path / "killed", "scratch", 40, rank=1, at=4)
    train_all(tmp_path, "scratch", n_iterations=40)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "scratch")


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
