"""A run that was trained on a GPU is of use where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from metarl.agents.maml.agent import MAMLConfig
from metarl.experiments.build import load_run
from metarl.experiments.cli.main import main
from metarl.experiments.config import ExperimentConfig, LogConfig, WorldConfig
from metarl.loop import LoopSettings
from metarl.protocol import Protocol
from tests.experiments.evaluated_runs import line_config, make_run
from tests.experiments.every_agent import METRIC
from tests.experiments.process_settings import process_settings  # noqa: F401

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
NOTE = "note: this run was trained on cuda, which is not here; using cpu\n"


def as_if_on_a_gpu(run: Path) -> Path:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"device": "cuda"}))
    return run


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_if_on_a_gpu(make_run(tmp_path_factory.mktemp("runs") / "line", line_config()))


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs in the plane: one for `coverage`, one with a metric for `transfer`."""
    folder = tmp_path_factory.mktemp("runs")
    loop = LoopSettings(n_iterations=2, n_tasks=6, validate_every_iters=0)
    maml = MAMLConfig(hidden=(8,), episodes_per_step=2)
    kinds = {
        "coverage": (WorldConfig("corner-point"), maml),
        "transfer": (WorldConfig("navigation", {"n_train": 6, "n_validation": 4, "n_test": 4}), METRIC),
    }
    return {
        name: as_if_on_a_gpu(
            make_run(
                folder / name,
                ExperimentConfig(
                    name=name, world=world, agent=agent, train=loop, evaluation=Protocol(adapt_episodes=2, n_seeds=1),
                    log=LogConfig(wandb="disabled", progress="off"),
                ),
            )
        )
        for name, (world, agent) in kinds.items()
    }  # fmt: skip


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize(
    "command",
    [["evaluate"], ["bench", "profile", "--iterations", "1", "--warm-up", "0"], ["npc", "watch"]],
    ids=" ".join,
)
def test_commands_play_a_gpu_run_on_the_cpu_and_say_so_unless_told_to(
    command: list[str],
    device: str | None,
    line: Path,
    capsys: pytest.CaptureFixture[str],
    process_settings: None,  # noqa: F811
) -> None:
    code = main([*command, *(["--device", device] if device else []), str(line)])
    said = capsys.readouterr().err
    assert said.startswith(NOTE) is (device is None)
    assert "GPU" not in said
    if command == ["npc", "watch"]:  # it got as far as seeing what the world is
        assert "this is for NPC worlds only" in said
    else:
        assert code == 0
    assert main([*command, str(line), "--device", "cuda:7"]) == 2
    assert "device 'cuda:7': torch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [("coverage", ["--episodes", "40"]), ("transfer", ["--episodes", "1", "--n-tasks", "2", "--finetunings", "0"])],
)
def test_studies_of_gpu_runs_work_on_the_cpu(
    command: str,
    words: list[str],
    points: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    process_settings: None,  # noqa: F811
) -> None:
    assert main(["study", command, str(points[command]), *words]) == 0
    assert capsys.readouterr().err == NOTE
    assert main(["study", command, str(points[command]), *words, "--device", "cpu"]) == 0
    assert capsys.readouterr().err == ""


def test_splits_says_it_once_and_tells_each_evaluation(
    line: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def run_command(arguments: list[str], *, caller: str) -> dict[str, object]:
        called.append(arguments)
        assert main(arguments) == 0
        return {}

    monkeypatch.setattr("metarl.experiments.studies.splits.run_command", run_command)
    assert main(["study", "splits", str(line), "--only", "test", "validation"]) == 0
    assert [c[3:5] for c in called] == [["--device", "cpu"]] * 2
    assert capfd.readouterr().err.count("note:") == 1


def test_a_script_gets_the_agent_on_the_cpu_too(line: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_run(line).config.device == "cpu"
    assert capsys.readouterr().err == NOTE


def test_going_on_elsewhere_needs_permission_and_is_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tests.experiments.tiny_presets:tiny", "--run-dir", str(tmp_path / "a"), "--train.n-iterations", "2"]
    assert main(["train", *words]) == 0
    run = as_if_on_a_gpu(tmp_path / "a")
    more = ["train", "--run-dir", str(run), "--resume", "--train.n-iterations", "4"]
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main(more) == 2
    said = capsys.readouterr().err
    assert "was trained on cuda, which is not here" in said
    assert "go on all the same with --device cpu" in said
    assert said.count("\n") == 1
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert main([*more, "--device", "cpu"]) == 0
    assert "going on on cpu instead of cuda: not bit for bit" in capsys.readouterr().out
    facts = json.loads((run / "run.json").read_text())
    assert facts["device_changes"] == [{"after_iteration": 2, "from": "cuda", "to": "cpu"}]
    assert json.loads((run / "config.json").read_text())["device"] == "cpu"
    assert main([*more[:-1], "5"]) == 0  # from now on it is a run of this machine
    assert len(json.loads((run / "run.json").read_text())["device_changes"]) == 1
