"""Reproductions: what is measured, what is written, and that the documents say what the results say."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from metarl.errors import ConfigError
from metarl.experiments.presets import PRESETS
from metarl.experiments.studies import reproduce, reproduction
from metarl.experiments.studies.reproduce import main, tables
from metarl.experiments.studies.reproduction import Level, Reproduction
from metarl.experiments.studies.reproductions import REPRODUCTIONS

ROOT = Path(__file__).resolve().parents[3]


def evaluation(returns, phases=(), success=None):
    trials = SimpleNamespace(returns=np.asarray(returns, dtype=float), success_any=success)
    return SimpleNamespace(trials=trials, phases=phases, query=slice(-1, None), world={"name": "toy"})


def test_measures_are_means_of_the_episodes_they_name():
    played = evaluation([[[1, 2, 3, 6], [3, 4, 5, 0]]], phases=(2, 1, 1))  # one seed, two tasks, four episodes
    assert reproduction.episode_mean(0, 2)(played) == 2.5
    assert reproduction.worst_episode(1, 4)(played) == 3.0
    assert reproduction.trial_total(played) == 12.0
    assert [reproduction.phase_mean(i)(played) for i in range(3)] == [2.5, 4.0, 3.0]


def test_the_lead_of_a_phase_is_taken_task_by_task_and_its_interval_over_tasks():
    rng = np.random.default_rng(0)
    before, gain = rng.normal(size=(3, 50, 2)), rng.normal(0.5, 1.0, size=(1, 50, 1))
    played = evaluation(np.concatenate([before, before + gain, before + 9.0], axis=-1), phases=(2, 2, 2))
    played.protocol = SimpleNamespace(seed=0)
    assert reproduction.phase_lead(1)(played) == pytest.approx(gain[0, :, 0])
    half = 1.96 * gain.std() / 50**0.5
    assert reproduction.phase_lead_low(1)(played) == pytest.approx(gain.mean() - half, abs=0.2 * half)
    assert np.isnan(reproduction.phase_lead_low(2)(played))  # 9 on all tasks alike, which tells no spread


def test_success_is_the_share_of_scored_episodes_and_needs_a_world_that_knows_it():
    flags = np.array([[[True, False], [True, True]]])
    assert reproduction.query_success(evaluation([[[0, 0], [0, 0]]], success=flags)) == 0.5
    with pytest.raises(ConfigError, match="knows no success"):
        reproduction.query_success(evaluation([[[0, 0]]]))


def test_every_reproduction_names_a_preset():
    assert {plan.preset for plan in REPRODUCTIONS.values()} <= set(PRESETS)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="rl2-gridworld"):
        main(["rl2-gridwolrd"])
    with pytest.raises(ConfigError, match="needs a name, or --table"):
        main([])


def test_a_run_is_trained_evaluated_judged_and_written(tmp_path, monkeypatch, capfd):
    easy, hard = (Level(name, reproduction.trial_total, at, "nothing") for name, at in (("easy", -1e9), ("hard", 1e9)))
    plan = Reproduction(
        "tests.experiments.studies.test_transfer:metric",
        "a tiny run",
        (easy, hard),
        train=("--train.n-iterations", "2", "--wandb", "disabled"),
        studies=("transfer",),
    )
    monkeypatch.setitem(REPRODUCTIONS, "tiny", plan)
    monkeypatch.setattr(reproduce, "RUNS", tmp_path / "runs")
    monkeypatch.chdir(ROOT)
    precious, results = tmp_path / "precious", tmp_path / "results" / "tiny"
    precious.write_text("precious")
    results.mkdir(parents=True)
    for name in ("result.json", "metrics.jsonl", "transfer.json", "adaptation-test.png"):
        (results / name).hardlink_to(precious)
    assert main(["tiny", "--into", str(tmp_path / "results")]) == 1  # one level was missed
    assert precious.read_text() == "precious"  # results are replaced, not written into
    result = json.loads((tmp_path / "results" / "tiny" / "result.json").read_text())
    assert [level["reached"] for level in result["levels"]] == [True, False]
    assert result["training"]["iterations"] == 2
    assert len((tmp_path / "results" / "tiny" / "metrics.jsonl").read_text().splitlines()) == 2
    assert result["commands"][0] == "metarl reproduce tiny --seed 0"
    assert result["commands"][-1].startswith("metarl study transfer ")
    assert json.loads((tmp_path / "results" / "tiny" / "transfer.json").read_text())["iteration"] == 2
    out = capfd.readouterr().out
    assert "reached" in out
    assert "MISSED" in out
    table = tables(tmp_path / "results")
    assert "| easy |" in table
    assert "(missed)" in table
