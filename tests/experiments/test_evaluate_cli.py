"""`metarl evaluate` on real run directories whose scores are known beforehand."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch

from metarl.checkpoint import state_fingerprint
from metarl.experiments import build
from metarl.experiments.cli.main import main
from metarl.experiments.evaluate import evaluation_path
from metarl.protocol import Protocol
from metarl.results import Evaluation
from tests.experiments.evaluated_runs import line_config, make_run
from tests.metarl.line_world import LearnerConfig


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def stored(folder: Path, name: str = "test") -> dict:
    return json.loads((folder / "results" / f"evaluation-{name}.json").read_text())


def test_evaluate_scores_a_scripted_agent_exactly_and_leaves_numbers_picture_and_page(tmp_path: Path, capsys):
    folder = make_run(tmp_path / "run", line_config())
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert main(["evaluate", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "12.5 %" in out  # before adaptation: goal 1 of 8
    assert "37.5 %" in out  # after two episodes: goals 1 to 3
    found = stored(folder)
    assert found["summary"]["query"]["success_any"]["mean"]["value"] == 3 / 8
    assert found["summary"]["pre"]["success_any"]["mean"]["value"] == 1 / 8
    for name in ("evaluation-test.json", "adaptation-test.png", "report.html"):
        assert str(folder / "results" / name) in out
    assert (folder / "results" / "adaptation-test.png").read_bytes().startswith(b"\x89PNG")
    assert {p: p.read_bytes() for p in before} == before  # nothing of the run itself was touched


def test_the_file_says_what_was_evaluated(tmp_path: Path):
    folder = make_run(tmp_path / "run", line_config(n_classes=2, seed=4))
    assert main(["evaluate", str(folder), "--n-seeds", "3", "--checkpoint", "1"]) == 0
    found = stored(folder, "test+seeds3+checkpoint-1")
    assert found["protocol"]["n_seeds"] == 3
    assert found["agent"]["algorithm"] == "line-learner"
    assert found["agent"]["config"] == {"type": "tests.metarl.line_world:LearnerConfig", "reach": 1, "memory": True}
    assert found["agent"]["iteration"] == 1
    assert found["world"]["horizon"] == 12
    origin = found["provenance"]
    assert origin["world_options"] == {"n_classes": 2}
    assert origin["train_seed"] == 4
    assert origin["train_env_steps"] > 0
    assert origin["packages"]["torch"] == torch.__version__
    assert "--checkpoint 1" in origin["command"]
    assert set(found["summary"]["groups"]) == {"class-0", "class-1"}


def test_flags_change_the_protocol_and_nothing_else(tmp_path: Path):
    folder = make_run(tmp_path / "run", line_config())
    flags = ["--adapt-episodes", "0", "--eval-episodes", "2", "--n-tasks", "5", "--greedy", "--seed", "9"]
    assert main(["evaluate", str(folder), "--split", "validation", *flags]) == 0
    evaluation = Evaluation.from_json(stored(folder, "validation+adapt0+eval2+tasks5+seed9+greedy"))
    assert vars(evaluation.protocol) == {
        "split": "validation",
        "adapt_episodes": 0,
        "eval_episodes": 2,
        "n_seeds": 2,
        "n_tasks": 5,
        "max_envs": 256,
        "greedy": True,
        "greedy_adaptation": False,
        "seed": 9,
    }
    assert evaluation.trials.returns.shape == (2, 5, 2)
    assert not (folder / "results" / "evaluation-test.json").exists()


def test_an_evaluation_under_another_protocol_leaves_the_others_alone(tmp_path: Path, capsys):
    folder = make_run(tmp_path / "run", line_config())
    names = ["test", "test+adapt4", "validation"]
    for flags in ([], ["--adapt-episodes", "4"], ["--split", "validation"]):
        assert main(["evaluate", str(folder), *flags]) == 0
    results = folder / "results"
    assert {p.name for p in results.glob("evaluation-*")} == {f"evaluation-{name}.json" for name in names}
    assert {p.name for p in results.glob("adaptation-*")} == {f"adaptation-{name}.png" for name in names}
    pages = {"report.html", *(f"report-{name}.html" for name in names if name != "test")}
    assert {p.name for p in results.glob("report*")} == pages
    assert [stored(folder, n)["protocol"]["adapt_episodes"] for n in names] == [2, 4, 2]
    assert str(results / "evaluation-test+adapt4.json") in capsys.readouterr().out


def test_a_flag_by_its_old_name_works_on_and_is_told_its_new_one(tmp_path: Path, capsys):
    folder = make_run(tmp_path / "run", line_config())
    assert main(["evaluate", str(folder), "--max-copies", "3"]) == 0
    assert stored(folder, "test+copies3")["protocol"]["max_envs"] == 3
    assert capsys.readouterr().err.count("note: --max-copies is --max-envs now") == 1


def test_every_setting_of_the_protocol_stands_in_the_files_name(tmp_path: Path):
    folder = make_run(tmp_path / "run", line_config())
    flags = {
        "": [],
        "+adapt4": ["--adapt-episodes", "4"],
        "+eval2": ["--eval-episodes", "2"],
        "+seeds3": ["--n-seeds", "3"],
        "+tasks5": ["--n-tasks", "5"],
        "+copies3": ["--max-envs", "3"],
        "+seed9": ["--seed", "9"],
        "+greedy": ["--greedy"],
        "+greedy-adaptation": ["--greedy-adaptation"],
        "+checkpoint-best": ["--checkpoint", "best"],
        "+adapt4+greedy": ["--greedy", "--adapt-episodes", "4"],
    }
    own = ["--adapt-episodes", "2", "--no-greedy"]
    assert evaluation_path(folder, own) == evaluation_path(folder, [])
    for end, given in flags.items():
        assert evaluation_path(folder, given) == folder / "results" / f"evaluation-test{end}.json"
    told = {
        "adapt_episodes",
        "eval_episodes",
        "n_seeds",
        "n_tasks",
        "max_envs",
        "seed",
        "greedy",
        "greedy_adaptation",
    }
    assert told | {"split"} == {f.name for f in dataclasses.fields(Protocol)}


def test_what_lies_under_a_name_but_was_made_under_another_protocol_is_moved_and_not_overwritten(
    tmp_path: Path, capsys
):
    """As in runs that were evaluated before files were named after their protocol."""
    folder = make_run(tmp_path / "run", line_config())
    assert main(["evaluate", str(folder), "--adapt-episodes", "4"]) == 0
    for kind, end in (("evaluation", "json"), ("adaptation", "png")):
        os.replace(folder / f"results/{kind}-test+adapt4.{end}", folder / f"results/{kind}-test.{end}")
    capsys.readouterr()
    assert main(["evaluate", str(folder)]) == 0
    assert "evaluation-test+adapt4.json" in capsys.readouterr().out
    assert [stored(folder, n)["protocol"]["adapt_episodes"] for n in ("test", "test+adapt4")] == [2, 4]
    assert (folder / "results" / "adaptation-test+adapt4.png").exists()


@pytest.mark.parametrize("memory", [True, False])
def test_the_terminal_says_whether_the_first_score_has_adaptation_in_it_and_what_is_comparable(
    tmp_path: Path, capsys, memory: bool
):
    folder = make_run(tmp_path / "run", line_config(LearnerConfig(memory=memory)))
    assert main(["evaluate", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines() if str(tmp_path) not in line) <= 100
    out = " ".join(printed.split())
    assert ("first episode (adapts within it)" in out) == memory
    assert ("before adaptation " in out.partition("note:")[0]) != memory
    assert ("adapts while an episode goes on" in out) == memory
    assert "without earlier episodes" in out
    assert "gain from earlier episodes" in out
    assert "note: brackets are 95% intervals (Student's t) over the 2 evaluation seeds of each of these 8 tasks" in out
    assert "oracle (told the task)" in out
    assert "(computed mean)" in out
    assert "upstream-counting" not in out


def test_evaluating_twice_gives_the_same_numbers(tmp_path: Path):
    folder = make_run(tmp_path / "run", line_config(LearnerConfig(memory=False)))
    main(["evaluate", str(folder)])
    first = stored(folder)
    main(["evaluate", str(folder)])
    second = stored(folder)
    for key in ("trials", "without_adaptation", "random_policy", "summary"):
        assert first[key] == second[key]
    assert len(list((folder / "results").glob("evaluation-*"))) == 1  # the same protocol: the same file


def test_best_is_the_checkpoint_with_the_best_validation_score(tmp_path: Path):
    folder = make_run(tmp_path / "run", line_config())
    best = json.loads((folder / "checkpoints" / "best.json").read_text())
    assert best["score_name"] == "validation/post_return"
    assert main(["evaluate", str(folder), "--checkpoint", "best"]) == 0
    assert stored(folder, "test+checkpoint-best")["agent"]["iteration"] == best["iteration"]


def test_training_and_selection_never_ask_for_the_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from tests.metarl.line_world import Line

    def sample(self: Line, split: str, n: int, generator: torch.Generator):
        asked.append(split)
        return draw(self, split, n, generator)

    def tried_out(*arguments, **options):
        found = try_out(*arguments, **options)
        assert "test" in asked  # whether the splits share a task is seen before anything is trained
        asked.clear()
        return found

    asked: list[str] = []
    draw, everything, try_out = Line.sample, Line.all, build.try_out
    monkeypatch.setattr(Line, "sample", sample)
    monkeypatch.setattr(Line, "all", lambda self, split: (asked.append(split), everything(self, split))[1])
    monkeypatch.setattr(build, "try_out", tried_out)
    make_run(tmp_path / "run", line_config())
    assert set(asked) == {"train", "validation"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--adapt-episode", "3"], "did you mean '--adapt-episodes'"),
        (["--eval-episodes", "0"], "--eval-episodes must be a whole number from 1 to"),
        (["--eval-episodes", "many"], "--eval-episodes must be a whole number from 1 to"),
        (["--split", "train"], "measures no generalisation"),
        (["--split", "tset"], "choose one of train, validation, test"),
        (["--n-tasks", "99"], "has 8 tasks"),
        (["--checkpoint", "7"], "no checkpoint of iteration 7"),
        (["--device", "tpu"], "device 'tpu'"),
    ],
)
def test_a_bad_request_is_one_line_that_says_what_to_do(tmp_path: Path, capsys, flags: list[str], message: str):
    folder = make_run(tmp_path / "run", line_config())
    capsys.readouterr()
    assert main(["evaluate", str(folder), *flags]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not (folder / "results").exists()


def test_a_run_directory_that_is_none_is_refused_in_one_line(tmp_path: Path, capsys):
    assert main(["evaluate", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith(f"error: there is no run directory {tmp_path / 'nowhere'}")


def test_the_checkpoint_that_is_evaluated_is_the_one_that_was_saved(tmp_path: Path):
    from metarl.experiments.build import load_run

    folder = make_run(tmp_path / "run", line_config())
    loaded = load_run(folder)
    before = state_fingerprint(loaded.agent.state_dict())
    main(["evaluate", str(folder)])
    assert state_fingerprint(load_run(folder).agent.state_dict()) == before


def test_what_would_spoil_the_results_is_told_before_anything_is_played(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("metarl.experiments.evaluate.evaluate", lambda *args, **kwargs: pytest.fail("it was played"))
    folder = make_run(tmp_path / "run", line_config())
    history = (folder / "metrics.jsonl").read_text()
    capsys.readouterr()
    (folder / "metrics.jsonl").write_text("garbage\n" + history)
    assert main(["evaluate", str(folder)]) == 2
    assert "metrics.jsonl line 1 is damaged" in capsys.readouterr().err
    assert not (folder / "results").exists()
    (folder / "metrics.jsonl").write_text(history)
    (folder / "results").write_text("in the way")
    assert main(["evaluate", str(folder)]) == 2
    assert "evaluate: cannot write into" in capsys.readouterr().err
