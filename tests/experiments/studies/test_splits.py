"""`splits`: every held-out split of a run, scored as `evaluate` does it and placed between its references."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metarl.agents.baselines.random_policy import RandomConfig
from metarl.errors import ConfigError
from metarl.experiments.config import ExperimentConfig, LogConfig, WorldConfig
from metarl.experiments.studies.splits import main, score
from metarl.loop import LoopSettings
from metarl.protocol import Protocol
from metarl.results import Evaluation
from tests.experiments.evaluated_runs import line_config, make_run


def test_every_held_out_split_is_played_and_placed_between_its_references(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ExperimentConfig(
        name="assets",
        world=WorldConfig("npc/assets-held"),
        agent=RandomConfig(),
        train=LoopSettings(n_iterations=1, n_tasks=4),
        evaluation=Protocol(adapt_episodes=9, eval_episodes=1, n_seeds=1, n_tasks=64),
        log=LogConfig(wandb="disabled", progress="off"),
        threads=1,
    )
    run = make_run(tmp_path / "run", config)
    assert main([str(run), "--only", "test", "test-all"]) == 0
    stored = json.loads((run / "results" / "splits+test+test-all.json").read_text())
    assert list(stored["splits"]) == ["test", "test-all"]
    assert "test-all" in capsys.readouterr().out
    for split, part in stored["splits"].items():
        full = json.loads((run / "results" / f"evaluation-{split}.json").read_text())
        again = score(Evaluation.from_json(full))
        assert part["after"] == pytest.approx(again["after"])
        known = full["references"]
        floor, top = known["non_adaptive"][-1], known["oracle"][-1]
        share = part["normalised"]["curve"][-1]
        assert share == pytest.approx((part["after"]["value"] - floor) / (top - floor))
        assert share < 0.1  # who acts at random is no better than cash
        assert 0.7 < part["filter"] < 1.0
    assert stored["splits"]["test"]["task_fingerprint"] != stored["splits"]["test-all"]["task_fingerprint"]


def test_worlds_without_references_are_scored_by_their_returns_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", line_config())
    assert main([str(run), "--only", "test"]) == 0
    stored = json.loads((run / "results" / "splits+test.json").read_text())
    assert list(stored["splits"]) == ["test"]
    assert not (run / "results" / "splits.json").exists()  # the table of all splits is another one
    assert all("normalised" not in part and "filter" not in part for part in stored["splits"].values())


def test_splits_that_do_not_exist_or_were_trained_on_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", line_config())
    with pytest.raises(ConfigError, match=r"no held-out split 'tset'.*test"):
        main([str(run), "--only", "tset"])
    with pytest.raises(ConfigError, match="no held-out split 'train'"):
        main([str(run), "--only", "train"])
