"""The table of agents: what is run, what is skipped, and what is made of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from metarl.errors import CheckpointError, ConfigError
from metarl.experiments import codec
from metarl.experiments.cli.main import main as entry
from metarl.experiments.config import LogConfig
from metarl.experiments.presets import PRESETS
from metarl.experiments.studies import harness, table, table_reuse, table_runs
from metarl.experiments.studies.reproduction import Reproduction
from metarl.experiments.studies.table import aggregate, chosen_rows, fill, main, markdown
from metarl.experiments.studies.table_reuse import reuse
from metarl.experiments.studies.table_rows import ROWS, Row
from metarl.experiments.studies.table_runs import preset_of, read_result, result_path, same_preset, settings
from metarl.loop import LoopSettings
from metarl.statistics import t_quantile
from metarl.summary import over_runs
from tests.experiments import tiny_presets
from tests.experiments.process_settings import process_settings  # noqa: F401

TINY = Row("toy land", "Tiny²", "tests.experiments.tiny_presets:tiny", train=("--train.n-iterations", "1"))


def store(into: Path, row: Row, seed: int, before: list[float], after: list[float], **other: Any) -> None:
    """Write a result as a run would."""
    result = {
        "schema_version": 2, "settings": settings(row), "preset_config": preset_of(row), "seed": seed,
        "before": before, "after": after,
        "references": {"oracle": 9.0}, "task_fingerprint": "f", "train_env_steps": 100, "adapt_episodes": 2,
        "costs": [{"wall_s": 1.0, "cpu_s": 2.0}, {"wall_s": 3.0, "cpu_s": 4.0}],
        "provenance": {"git": {"commit": "0123456789"}}, **other,
    }  # fmt: skip
    path = result_path(into, row, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(json.loads(json.dumps(result))))


def test_rows_have_names_of_their_own_and_presets_that_exist() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {row.preset for row in ROWS if row.preset} <= set(PRESETS)
    with pytest.raises(ConfigError, match="either a preset or"):
        Row("x", "y")
    with pytest.raises(ConfigError, match="either a preset or"):
        Row("x", "y", "a", baseline=("b",))


def test_rows_are_chosen_by_pattern_and_a_slip_is_refused_with_the_nearest() -> None:
    assert [r.name for r in chosen_rows(ROWS, ["maml-*-navigation"])] == ["maml-trpo-navigation"]
    assert chosen_rows(ROWS, []) == list(ROWS)
    with pytest.raises(ConfigError, match="scratch-navigation"):
        chosen_rows(ROWS, ["scratch-navigtion"])


def test_a_row_that_cannot_run_here_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other, ran = Row("toy land", "Other", TINY.preset), list[tuple[str, int]]()

    def run_row(row: Row, seed: int, runs: Path, into: Path) -> None:
        ran.append((row.name, seed))
        if row == TINY:
            raise ConfigError("it needs what is not installed")

    monkeypatch.setattr(table, "run_row", run_row)
    assert fill([TINY, other], 2, tmp_path, tmp_path, 1e9) == 2
    assert ran == [(TINY.name, 0), (other.name, 0), (other.name, 1)]
    assert "tiny2-toy-land is left out: it needs" in capsys.readouterr().out


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 30, 500])
def test_students_quantile_is_the_one_of_the_books(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=1e-4)
    assert t_quantile(freedom, 0.5) == pytest.approx(scipy.stats.t.ppf(0.75, freedom), rel=1e-4)


def test_the_interval_is_over_runs_and_a_single_run_has_none() -> None:
    scores = np.array([1.0, 2.0, 6.0])
    expected = scipy.stats.t.interval(0.95, 2, loc=3.0, scale=scipy.stats.sem(scores))
    found = over_runs(scores)
    assert (found["value"], found["low"], found["high"]) == pytest.approx((3.0, *expected), rel=1e-4)
    assert over_runs(scores[:1]) == {"value": 1.0, "low": None, "high": None}


def test_all_rows_get_a_seed_before_any_gets_its_second_and_what_is_done_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Row("toy land", "Other", "tests.experiments.tiny_presets:tiny")
    ran: list[tuple[str, int]] = []
    monkeypatch.setattr(table, "run_row", lambda row, seed, runs, into: ran.append((row.name, seed)))
    store(tmp_path, other, 0, [0.0], [1.0])
    assert fill([TINY, other], 2, tmp_path, tmp_path, 1e9) == 0
    assert ran == [("tiny2-toy-land", 0), ("tiny2-toy-land", 1), ("other-toy-land", 1)]
    ran.clear()
    assert fill([TINY, other], 2, tmp_path, tmp_path, 0.0) == 3
    assert ran == []


def test_a_result_counts_for_the_settings_it_was_made_with(tmp_path: Path) -> None:
    store(tmp_path, TINY, 0, [0.0], [1.0])
    assert read_result(tmp_path, TINY, 0) is not None
    renamed = Row(TINY.world, TINY.agent, TINY.preset, TINY.train, published="12")
    assert read_result(tmp_path, renamed, 0) is not None
    longer = Row(TINY.world, TINY.agent, TINY.preset, train=("--train.n-iterations", "2"))
    assert read_result(tmp_path, longer, 0) is None
    result_path(tmp_path, TINY, 0).write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        read_result(tmp_path, TINY, 0)


def test_a_result_counts_for_the_preset_it_was_made_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another number in the preset makes it stale; how it logs, or a setting that did not exist then, does not."""
    now = tiny_presets.tiny()
    for changed, valid in (
        (now, True),
        (dataclasses.replace(now, log=LogConfig(wandb="disabled")), True),
        (dataclasses.replace(now, train=dataclasses.replace(now.train, n_tasks=5)), False),
    ):
        monkeypatch.setattr(tiny_presets, "tiny", lambda config=changed: config)
        store(tmp_path, TINY, 0, [0.0], [1.0])
        monkeypatch.setattr(tiny_presets, "tiny", lambda: now)
        assert (read_result(tmp_path, TINY, 0) is not None) == valid
    defaults = dataclasses.replace(now.train, checkpoint_every_iters=LoopSettings().checkpoint_every_iters)
    monkeypatch.setattr(tiny_presets, "tiny", lambda: dataclasses.replace(now, train=defaults))
    stored = preset_of(TINY)
    assert stored is not None
    for key, valid in (("n_validation_tasks", False), ("checkpoint_every_iters", True)):
        older = {k: v for k, v in stored["train"].items() if k != key}
        assert same_preset({**stored, "train": older}, TINY) == valid
    assert not same_preset({**stored, "gone": 1}, TINY)


def test_a_result_counts_whose_preset_is_spelled_as_in_an_earlier_version() -> None:
    row = next(r for r in ROWS if r.preset)
    stored = codec.first_spelling(PRESETS[row.preset]())
    assert "copies_per_task" in stored["train"]
    assert same_preset(stored, row)


def test_settings_of_a_memory_that_is_not_used_make_no_result_stale() -> None:
    row = Row("toy land", "Tiny", "tests.experiments.tiny_presets:rl2")
    stored = preset_of(row)
    assert stored is not None
    other = {**stored["agent"], "snail": {"filters": 3}}
    assert same_preset({**stored, "agent": other}, row)
    assert not same_preset({**stored, "agent": {**other, "memory": "snail"}}, row)
    assert not same_preset({**stored, "agent": {**other, "hidden": 17}}, row)


def test_the_table_holds_means_over_seeds_references_and_costs(tmp_path: Path) -> None:
    """Two seeds of two tasks: 3 and 5 after adaptation, a half width of 12.706 * sqrt(2) / sqrt(2)."""
    store(tmp_path, TINY, 0, [0.0, 1.0], [2.0, 4.0])
    store(tmp_path, TINY, 1, [0.0, 2.0], [4.0, 6.0], task_fingerprint="g", resumed=True)
    found = aggregate([TINY, Row("empty", "None", TINY.preset)], tmp_path, 3)
    assert list(found["worlds"]) == ["toy land"]
    row = found["worlds"]["toy land"]["rows"][0]
    assert row["before"]["value"] == 0.75
    assert [row["after"][k] for k in ("value", "low", "high")] == pytest.approx([4.0, -8.706, 16.706], abs=1e-3)
    assert (row["wall_s"], row["cpu_s"], row["seeds"], row["same_tasks"]) == (4.0, 6.0, [0, 1], False)
    text = markdown(found)
    assert "| Tiny² | 2 | 2 (differ) | " in text
    assert "| *oracle (told the task), mean* |  |  |  | 9.00 |" in text
    assert [(m["name"], m["seeds"], m["cpu_s"]) for m in found["missing"]] == [
        ("tiny2-toy-land", [2], 6.0), ("none-empty", [0, 1, 2], None),
    ]  # fmt: skip
    assert "| Tiny² | toy land | 2 | 0.1 |" in text
    assert "| None | empty | 0, 1, 2 | unknown |" in text
    assert "| 100 | ≥ 4 | ≥ 6 |" in text
    assert "Still to run" not in markdown({**found, "missing": []})


def test_classes_of_tasks_count_alike_as_in_an_evaluation(tmp_path: Path) -> None:
    store(tmp_path, TINY, 0, [0.0, 0.0, 0.0], [1.0, 1.0, 4.0], task_groups=["easy", "easy", "hard"])
    found = aggregate([TINY], tmp_path, 1)["worlds"]["toy land"]["rows"][0]
    assert found["after"]["value"] == 2.5  # the mean over tasks is 2


def test_unequal_budgets_and_agents_that_adapt_within_an_episode_are_named_in_the_table(tmp_path: Path) -> None:
    remembers = Row("toy land", "Memory", "tests.experiments.tiny_presets:rl2")
    store(tmp_path, TINY, 0, [0.0], [1.0])
    store(tmp_path, remembers, 0, [0.0], [1.0], train_env_steps=900, adapt_episodes=5)
    text = markdown(aggregate([TINY, remembers], tmp_path, 1))
    assert "Unequal training side by side, in env steps: Tiny²: 100; Memory: 900." in text
    assert "Unequal adaptation side by side, in episodes per task: Tiny²: 2; Memory: 5." in text
    assert "| Memory † |" in text
    assert "| Tiny² |" in text
    assert "95% intervals (Student's t) over training seeds" in text
    store(tmp_path, remembers, 0, [0.0], [1.0])
    assert "Unequal" not in markdown(aggregate([TINY, remembers], tmp_path, 1))


def test_a_row_is_run_written_and_not_run_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    process_settings: None,  # noqa: F811
) -> None:
    """The commands run in this process, which spares their start."""
    commands: list[list[str]] = []

    def run_command(arguments: list[str], *, caller: str) -> dict[str, Any]:
        commands.append(arguments)
        assert entry(arguments) == 0
        return {"arguments": arguments, "wall_s": 1.0, "cpu_s": 1.0}

    monkeypatch.setattr(harness, "run_command", run_command)
    monkeypatch.setattr(table, "ROWS", (TINY,))
    words = ["--seeds", "2", "--into", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    assert main([*words, "--budget", "0"]) == 3
    assert commands == []
    assert main(words) == 0
    assert [c[0] for c in commands] == ["train", "evaluate"] * 2
    assert main(words) == 0
    assert len(commands) == 4
    stored = json.loads((tmp_path / "results" / "table.json").read_text())
    row = stored["worlds"]["toy land"]["rows"][0]
    assert row["seeds"] == [0, 1]
    assert row["n_tasks"] == 3
    assert row["per_seed"]["after"][0] != row["per_seed"]["after"][1]
    assert "oracle" in stored["worlds"]["toy land"]["references"]
    assert (tmp_path / "results" / "table.png").stat().st_size > 5000
    said = capsys.readouterr().out
    assert f"table    {tmp_path / 'results' / 'table.md'}" in said
    assert "| Tiny" in (tmp_path / "results" / "table.md").read_text(encoding="utf-8")
    assert any(line.startswith("Tiny²  ") for line in said.splitlines())  # aligned, not Markdown
    assert "| Tiny" not in said


def reproduced(folder: Path, **changes: Any) -> None:
    """Write the result of a reproduction of the tiny preset with 2 + 1 episodes, as `reproduce` does."""

    def estimate(value: Any) -> dict[str, Any]:
        return {"return": {"mean": {"value": value}}}

    summary = {
        "pre": estimate(1.0), "query": estimate(4.0), "curve": estimate([1.0, 2.0, 4.0]), "bootstrap": {"n_tasks": 3},
        "random_policy": estimate(0.5),
    }  # fmt: skip
    content = {
        "seed": 1, "config": codec.to_json(dataclasses.replace(tiny_presets.tiny(), seed=1)),
        "provenance": {"git": {"commit": "0123456789"}}, "training": {"env_steps": 70},
        "costs": {k: {"wall_s": 1.0, "cpu_s": 2.0} for k in ("train", "evaluate")},
        "evaluation": {
            "summary": summary, "protocol": {"adapt_episodes": 2, "eval_episodes": 1}, "task_fingerprint": "f",
            "references": {"oracle": [5.0, 6.0, 7.0]},
        },
    }  # fmt: skip
    (folder / "tiny-seed1").mkdir(parents=True, exist_ok=True)
    (folder / "tiny-seed1" / "result.json").write_text(json.dumps(content | changes))


def test_what_was_reproduced_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = dataclasses.replace(TINY, train=())
    monkeypatch.setattr(table_reuse, "REPRODUCTIONS", {"tiny": Reproduction(TINY.preset, "", ())})
    reproduced(tmp_path)
    into = tmp_path / "into"
    for row, seed in ((plain, 0), (TINY, 1), (dataclasses.replace(plain, evaluate=("--greedy",)), 1)):
        assert not reuse(row, seed, tmp_path, into)  # another seed, other arguments
    assert reuse(plain, 1, tmp_path, into)
    assert table.lacking([plain], 2, into) == [(plain, 0)]
    stored = read_result(into, plain, 1)
    assert stored is not None
    assert (stored["before"], stored["after"], stored["n_tasks"]) == ([1.0], [4.0], 3)
    assert stored["references"] == {"oracle": 7.0, "random": 0.5}
    assert table_runs.costs_of(stored) == (2.0, 4.0)
    assert aggregate([plain], into, 1)["worlds"]["toy land"]["rows"][0]["n_tasks"] == 3
    assert reuse(dataclasses.replace(plain, measure="trial"), 1, tmp_path, into)
    totals = read_result(into, dataclasses.replace(plain, measure="trial"), 1)
    assert totals is not None
    assert (totals["after"], totals["references"]) == ([7.0], {"oracle": 18.0, "random": 1.5})


def test_a_reproduction_of_another_preset_counts_for_nothing_and_a_damaged_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = dataclasses.replace(TINY, train=())
    monkeypatch.setattr(table_reuse, "REPRODUCTIONS", {"tiny": Reproduction(TINY.preset, "", ())})
    now = tiny_presets.tiny()
    older = dataclasses.replace(now, seed=1, train=dataclasses.replace(now.train, n_tasks=7))
    reproduced(tmp_path, config=codec.to_json(older))
    assert not reuse(plain, 1, tmp_path, tmp_path)
    for changes in ({"config": None}, {"evaluation": {}}):
        reproduced(tmp_path, **changes)
        with pytest.raises(CheckpointError, match="reproduce it again"):
            reuse(plain, 1, tmp_path, tmp_path)


def test_whole_trials_are_summed_and_episodes_averaged() -> None:
    class Played:
        trials = type("T", (), {"returns": np.arange(12.0).reshape(2, 2, 3)})

    everything = slice(0, 3)
    assert table_runs._per_task(Played, everything, "trial") == [12.0, 21.0]  # type: ignore[arg-type]
    assert table_runs._per_task(Played, slice(1, 3), "episode") == [4.5, 7.5]  # type: ignore[arg-type]
