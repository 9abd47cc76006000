"""What W&B gets of a run besides its history: groups, tags, evaluations, media, checkpoints; as W&B reads it back."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metarl import run
from metarl.experiments.cli.main import main
from metarl.experiments.sinks.weights_and_biases import read_fragment
from tests.experiments.evaluated_runs import line_config, make_run


def records(fragment: Path) -> list[dict[str, Any]]:
    """Return everything that an offline run holds."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(fragment)]
    answer = subprocess.run(command, capture_output=True, check=True, text=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def about(fragment: Path) -> dict[str, Any]:
    return next(entry["run"] for entry in records(fragment) if entry["type"] == "run")


def summary(fragment: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in records(fragment):
        if entry["type"] == "summary":
            found |= entry["summary"].get("update", {})
    return found


def rows(fragment: Path, table: str) -> list[dict[str, Any]]:
    (path,) = (fragment / "files/media/table").glob(f"{table}_*.table.json")
    stored = json.loads(path.read_text())
    return [dict(zip(stored["columns"], row, strict=True)) for row in stored["data"]]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was trained and evaluated with W&B offline."""
    config = line_config()
    log = dataclasses.replace(
        config.log, wandb="offline", wandb_group="grid/line", wandb_tags=("mine",), wandb_artifacts=True
    )
    folder = make_run(tmp_path_factory.mktemp("tracked") / "run", dataclasses.replace(config, log=log))
    assert main(["evaluate", str(folder), "--trust", "tests.metarl.line_world:Line", *trust()]) == 0
    return folder


def trust() -> list[str]:
    return ["--trust", "tests.metarl.line_world:LearnerConfig"]


def fragments(folder: Path, end: str) -> list[Path]:
    return sorted((folder / "wandb").glob(f"offline-run-*-{end}"))


def run_id(folder: Path) -> str:
    return str(run.read_json(folder, run.FACTS)["run_id"])


def test_training_has_its_group_job_type_and_tags(tracked: Path) -> None:
    (fragment,) = fragments(tracked, run_id(tracked))
    found = about(fragment)
    assert (found["run_group"], found["job_type"]) == ("grid/line", "train")
    assert {"mine", "tests.metarl.line_world:Line"} <= set(found["tags"])


def test_checkpoints_are_an_artifact_if_asked_for(tracked: Path) -> None:
    (fragment,) = fragments(tracked, run_id(tracked))
    (artifact,) = [entry["artifact"] for entry in records(fragment) if entry["type"] == "artifact"]
    newest = max((tracked / "checkpoints").glob("iteration-*"))
    held = {entry["path"]: int(entry["size"]) for entry in artifact["manifest"]["contents"]}
    for file in newest.iterdir():
        assert held[f"{newest.name}/{file.name}"] == file.stat().st_size
    assert "best.json" in held


def test_an_evaluation_is_a_run_of_its_own_that_names_its_training(tracked: Path) -> None:
    (fragment,) = fragments(tracked, f"{run_id(tracked)}-*")
    found = about(fragment)
    assert (found["run_group"], found["job_type"], found["display_name"]) == ("grid/line", "evaluate", "line: test")
    settings = found["config"]["update"]
    assert json.loads(json.dumps(settings))["train_run"] == run_id(tracked)
    assert settings["evaluation"]["adapt_episodes"] == 2


def test_its_scores_and_tables_are_those_of_the_evaluation(tracked: Path) -> None:
    (fragment,) = fragments(tracked, f"{run_id(tracked)}-*")
    stored = json.loads((tracked / "results/evaluation-test.json").read_text())
    scores = summary(fragment)
    for part, word in (("pre", "before"), ("query", "after"), ("gain", "gain")):
        assert scores[f"evaluation/return_{word}"] == pytest.approx(stored["summary"][part]["return"]["mean"]["value"])
    tasks = rows(fragment, "tasks")
    assert [row["task"] for row in tasks] == stored["task_names"]
    after = stored["summary"]["tasks"]["query"]["return"]["value"]
    assert [row["return_after"] for row in tasks] == pytest.approx(after)
    assert [row["episode"] for row in rows(fragment, "adaptation")] == [1, 2, 3]
    assert sum(row["tasks"] for row in rows(fragment, "classes")) == len(tasks)
    media = {path.suffix for path in (fragment / "files/media").rglob("*.*")}
    assert {".png", ".html"} <= media


def test_an_evaluation_again_replaces_the_one_that_lies_offline(tracked: Path) -> None:
    before = fragments(tracked, f"{run_id(tracked)}-*")
    assert main(["track", str(tracked), "--trust", "tests.metarl.line_world:Line", *trust()]) == 0
    after = fragments(tracked, f"{run_id(tracked)}-*")
    assert len(after) == len(before) == 1
    assert [len(read_fragment(fragment)) for fragment in after] == [1]


def test_files_are_tracked_as_media_and_others_are_refused(
    tracked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, thesis = tmp_path / "watch.html", tmp_path / "thesis.tex"
    page.write_text("<p>a visitor</p>")
    thesis.touch()
    words = ["track", str(tracked), "--trust", "tests.metarl.line_world:Line", *trust()]
    assert main([*words, str(page)]) == 0, capsys.readouterr().err
    (fragment,) = fragments(tracked, f"{run_id(tracked)}-media")
    (stored,) = (fragment / "files/media/html").rglob("*.html")
    assert "a visitor" in stored.read_text()
    capsys.readouterr()
    for wrong, told in ((thesis, "of no kind that W&B shows"), (tmp_path / "none.png", "there is no file")):
        assert main([*words, str(wrong)]) == 2
        assert told in capsys.readouterr().err


def test_what_is_not_tracked_stays_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", line_config())
    assert main(["evaluate", str(folder), "--trust", "tests.metarl.line_world:Line", *trust()]) == 0
    assert not (folder / "wandb").exists()
    assert (
        main(["evaluate", str(folder), "--wandb", "offline", "--trust", "tests.metarl.line_world:Line", *trust()]) == 0
    )
    assert len(fragments(folder, f"{run_id(folder)}-*")) == 1
