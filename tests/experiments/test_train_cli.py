from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from metarl import run
from metarl.agents.rl2.agent import RL2Config
from metarl.checkpoint import TENSORS, CheckpointStore, state_fingerprint
from metarl.errors import CheckpointError, ConfigError
from metarl.experiments import train
from metarl.experiments.cli.main import COMMANDS, main
from metarl.experiments.overrides import parse
from metarl.log import WALL_CLOCK_KEYS
from metarl.run_lock import RunLock
from metarl.signals import StopSignals
from tests.experiments.process_settings import process_settings  # noqa: F401

PRESETS = "tests.experiments.tiny_presets:"
TINY = PRESETS + "tiny"


pytestmark = pytest.mark.usefixtures("process_settings")


def numbers(folder: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in r.items() if k not in WALL_CLOCK_KEYS} for r in run.history(folder)]


def test_a_run_leaves_config_facts_history_and_checkpoints(tmp_path, capsys):
    folder = tmp_path / "deep" / "run"
    assert main(["train", TINY, "--run-dir", str(folder), "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert f"finished after iteration 6 (1440 environment steps): {folder}" in said
    config = json.loads((folder / "config.json").read_text())
    assert (config["seed"], config["schema_version"], config["threads"]) == (3, 2, 1)
    facts = json.loads((folder / "run.json").read_text())
    assert facts["task_fingerprint"] == train.load_run(folder).tasks.fingerprint()
    assert facts["provenance"]["packages"]["torch"] == torch.__version__
    assert [r["iteration"] for r in run.history(folder)] == [1, 2, 3, 4, 5, 6]
    assert CheckpointStore(folder / "checkpoints").iterations()[-1] == 6
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoints", "config.json", "lock", "metrics.jsonl", "run.json",
    ]  # fmt: skip


def test_a_finished_run_says_so_and_can_be_made_longer(tmp_path, capsys):
    folder, whole = tmp_path / "a", tmp_path / "b"
    assert main(["train", TINY, "--run-dir", str(folder)]) == 0
    before = (folder / "metrics.jsonl").read_bytes()
    assert main(["train", TINY, "--run-dir", str(folder), "--resume", "auto"]) == 0
    assert "is finished: 6 iterations, 1440 environment steps" in capsys.readouterr().out
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert main(["train", "--run-dir", str(folder), "--resume", "--train.n-iterations", "9"]) == 0
    assert "going on after iteration 6 of 9" in capsys.readouterr().out
    assert main(["train", TINY, "--run-dir", str(whole), "--train.n-iterations", "9"]) == 0
    assert numbers(folder) == numbers(whole)
    states = [CheckpointStore(f / "checkpoints").load(9) for f in (folder, whole)]
    assert state_fingerprint(states[0]) == state_fingerprint(states[1])
    assert json.loads((folder / "config.json").read_text())["train"]["n_iterations"] == 9


def test_going_on_with_other_kernels_warns_and_names_what_changed(tmp_path, monkeypatch):
    words, folder = ["train", TINY, "--run-dir", str(tmp_path / "a"), "--train.n-iterations"], tmp_path / "a"
    assert main([*words, "1"]) == 0
    words = ["train", "--run-dir", str(folder), "--resume", "--train.n-iterations"]
    assert main([*words, "2"]) == 0  # on the same machine: no warning, which would be an error here
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    with pytest.warns(UserWarning, match="started with MKL_CBWR not set, now it is COMPATIBLE"):
        assert main([*words, "3"]) == 0
    facts = json.loads((folder / "run.json").read_text())
    facts["provenance"]["kernels"] |= {"cpu": "An Older One", "MKL_CBWR": "COMPATIBLE"}
    (folder / "run.json").write_text(json.dumps(facts))
    with pytest.warns(UserWarning, match="started with cpu An Older One, now it is"):
        assert main([*words, "4"]) == 0
    del facts["provenance"]["kernels"]  # a run of before that was stored
    (folder / "run.json").write_text(json.dumps(facts))
    assert main([*words, "5"]) == 0


@pytest.mark.parametrize("preset", ["rl2", "maml", "finetune"])
def test_every_agent_goes_on_bit_for_bit(preset, tmp_path):
    words = ["train", f"tests.experiments.tiny_presets:{preset}", "--wandb", "disabled"]
    words += ["--train.validate-every-iters", "2", "--train.n-iterations"]
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    assert main([*words, "4", "--run-dir", str(whole)]) == 0
    assert main([*words, "2", "--run-dir", str(parts)]) == 0
    assert main([*words, "4", "--run-dir", str(parts), "--resume"]) == 0
    assert numbers(parts) == numbers(whole)
    states = [CheckpointStore(f / "checkpoints").load(4) for f in (parts, whole)]
    assert state_fingerprint(states[0]) == state_fingerprint(states[1])
    assert state_fingerprint(states[0]) != state_fingerprint(CheckpointStore(whole / "checkpoints").load(2))


def test_resume_auto_starts_a_run_that_is_not_there(tmp_path):
    assert main(["train", TINY, "--run-dir", str(tmp_path / "a"), "--resume", "auto"]) == 0
    assert len(run.history(tmp_path / "a")) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tny"], "unknown preset 'tny'"),
        ([TINY, "--agent.lrr", "1"], "unknown setting '--agent.lrr'; did you mean '--agent.lr'"),
        ([TINY, "--lr", "1"], "unknown setting '--lr'; did you mean '--agent.lr'?"),
        (["rl2-gridworld", "--lr", "1"], "unknown setting '--lr'; did you mean '--agent.ppo.lr'?"),
        ([TINY, "--agent.lr", "-1"], "lr must be > 0, got -1.0"),
        ([TINY, "--world.name", "gridwrld"], "unknown world 'gridwrld'; did you mean 'gridworld'"),
        ([TINY, "--world.options", "held=1"], "has no option 'held'; did you mean 'held_out'"),
        ([TINY, "--world.name", "os:getcwd"], "has no option 'held_out'"),
        ([PRESETS + "of_a_stranger"], "str is no task distribution: it lacks name"),
        ([TINY, "--agent.lr", "1e300"], "agent.lr is 1e+300; it must be a number that float32 can hold"),
        ([TINY, "--train.n-tasks", "9999999999"], "train.n_tasks is 9999999999; it must lie within"),
        ([TINY, "--train.n-tasks", "2000000000"], "not enough memory"),
        ([TINY, "--threads", "100000000000"], "threads must be 1 to 1024"),
        ([TINY, "--evaluation.n-seeds", "9999999999"], "evaluation.n_seeds must be 1 to 2147483647, got 9999999999"),
        ([TINY, "--world.options", "held_out=9"], "held_out is 9"),
        ([TINY, "--train.envs-per-task", "3"], "envs_per_task=3 does not divide the phases (2, 2)"),
        ([TINY, "--train.n-tasks", "0"], "train.n_tasks must be >= 1"),
        ([TINY, "--evaluation.split", "tst"], "has no split 'tst'; choose one of"),
        ([TINY, "--device", "cuda:77"], "device 'cuda:77'"),
        ([TINY, "--seed", str(10**30)], "seed must be >= 0 and at most 9223372036854775807, got 1"),
        ([TINY, "--seed", "-1"], "seed must be >= 0 and at most 9223372036854775807, got -1"),
        (
            [TINY, "--evaluation.seed", str(10**30)],
            "evaluation.seed must be 0 to 9223372036854775807, got 1",
        ),
        ([TINY, "--evaluation.seed=-1"], "evaluation.seed must be 0 to 9223372036854775807, got -1"),
        ([TINY, "--log.wandb", "q"], "error: invalid choice 'q' for argument"),
        ([TINY, "--resume"], "--resume needs --run-dir DIR"),
        (["--run-dir", "nowhere", "--resume"], "there is no run directory nowhere"),
        ([TINY, "--run-dir", "nowhere", "--resume", "yes"], "there is no run directory nowhere"),
        (["--seed", "3"], "name a preset first"),
        ([TINY, "--run-dir", ".", "--seed", "1"], "exists and is not an empty folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(words, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "note.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message.replace("--resume needs", "--resume yes needs") in said
    assert said.count("\n") == 1
    assert "----" not in said  # rules of a box, where the stream is not one of UTF-8
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_wandb_online_without_credentials_fails_before_anything_exists(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("metarl.experiments.sinks._has_credentials", lambda: False)
    assert main(["train", TINY, "--wandb", "online"]) == 2
    assert "no W&B credentials" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_agent_that_cannot_act_in_the_world_fails_before_anything_exists(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", PRESETS + "tiny_on_a_plane", "--run-dir", "a"]) == 2
    assert "agent 'tiny' needs Discrete actions, got Box" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_sink_that_cannot_start_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    def fail(*arguments: object) -> list[object]:
        raise ConfigError("no such server; pass --log.wandb offline")

    monkeypatch.setattr("metarl.experiments.sinks.make_sinks", fail)
    assert main(["train", TINY, "--run-dir", str(tmp_path / "a")]) == 2
    assert "no such server" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_is_not_overwritten(tmp_path, capsys):
    folder = tmp_path / "a"
    assert main(["train", TINY, "--run-dir", str(folder), "--train.n-iterations", "2"]) == 0
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main(["train", TINY, "--run-dir", str(folder)]) == 2
    assert "exists already; add --resume to go on" in capsys.readouterr().err
    assert main(["train", TINY, "--run-dir", str(folder), "--resume", "--agent.lr", "0.1"]) == 2
    assert "agent.lr is 0.05 in this run and cannot become 0.1" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_two_trainers_cannot_share_a_run_directory(tmp_path, capsys):
    folder = tmp_path / "a"
    assert main(["train", TINY, "--run-dir", str(folder)]) == 0
    lock = RunLock(folder)
    assert main(["train", "--run-dir", str(folder), "--resume", "--train.n-iterations", "8"]) == 2
    assert "is training in" in capsys.readouterr().err
    lock.release()
    assert main(["train", "--run-dir", str(folder), "--resume", "--train.n-iterations", "8"]) == 0


@pytest.mark.parametrize("old", ["--train.copies-per-task", "--train.copies_per_task"])
def test_a_setting_by_its_old_name_works_on_and_is_told_its_new_one(old, capsys):
    request = parse([TINY, old, "2", "--evaluation.max-copies=5"])
    assert (request.config.train.envs_per_task, request.config.evaluation.max_envs) == (2, 5)
    told = capsys.readouterr().err
    assert f"note: {old} is --train.envs-per-task now" in told
    assert "note: --evaluation.max-copies is --evaluation.max-envs now" in told


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_other_tasks_another_schema_and_damage_are_refused_on_resume(tmp_path, capsys):
    folder = tmp_path / "a"
    resume = ["train", "--run-dir", str(folder), "--resume", "--train.n-iterations", "8"]
    assert main(["train", TINY, "--run-dir", str(folder)]) == 0
    fingerprint = json.loads((folder / "run.json").read_text())["task_fingerprint"]
    edit(folder / "run.json", task_fingerprint="0123")
    assert main(resume) == 2
    assert "was trained on tasks with fingerprint 0123" in capsys.readouterr().err
    edit(folder / "run.json", task_fingerprint=fingerprint)
    edit(folder / "config.json", schema_version=3)
    assert main(resume) == 2
    assert "config.json has schema version 3, this metarl reads 1 and 2" in capsys.readouterr().err
    (folder / "config.json").write_text("{")
    assert main(resume) == 2
    assert "config.json is damaged" in capsys.readouterr().err


def test_a_damaged_history_stops_a_resume_before_anything_is_written(tmp_path, capsys):
    folder = tmp_path / "a"
    assert main(["train", TINY, "--run-dir", str(folder)]) == 0
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("garbage\n" + "".join(lines[1:]))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert main(["train", "--run-dir", str(folder), "--resume", "--train.n-iterations", "8"]) == 2
    assert "metrics.jsonl line 1 is damaged" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", ["run.json", "config.json", "lock"])
def test_a_file_that_cannot_be_opened_is_named(name, tmp_path, capsys):
    folder = tmp_path / "a"
    assert main(["train", TINY, "--run-dir", str(folder)]) == 0
    (folder / name).unlink()
    (folder / name).mkdir()  # root may open any file, but nobody a folder
    assert main(["train", "--run-dir", str(folder), "--resume", "--train.n-iterations", "8"]) == 2
    said = capsys.readouterr().err
    assert str(folder) in said
    assert said.count("\n") == 1


def test_a_damaged_newest_checkpoint_costs_iterations_but_not_bits(tmp_path, capsys):
    whole, folder = tmp_path / "whole", tmp_path / "a"
    assert main(["train", TINY, "--run-dir", str(whole), "--train.n-iterations", "9"]) == 0
    assert main(["train", TINY, "--run-dir", str(folder)]) == 0
    newest = folder / "checkpoints" / "iteration-000000006" / TENSORS
    newest.write_bytes(newest.read_bytes()[:-3])
    with pytest.warns(UserWarning, match=r"damaged checkpoint passed over: .*using iteration 4"):
        assert main(["train", "--run-dir", str(folder), "--resume", "--train.n-iterations", "9"]) == 0
    assert "going on after iteration 4 of 9" in capsys.readouterr().out
    assert numbers(folder) == numbers(whole)
    states = [CheckpointStore(f / "checkpoints").load(9) for f in (folder, whole)]
    assert state_fingerprint(states[0]) == state_fingerprint(states[1])


def test_only_damaged_checkpoints_are_an_error_that_says_what_to_do(tmp_path, capsys):
    folder = tmp_path / "a"
    assert main(["train", TINY, "--run-dir", str(folder)]) == 0
    for tensors in (folder / "checkpoints").glob(f"*/{TENSORS}"):
        tensors.unlink()
    assert main(["train", "--run-dir", str(folder), "--resume", "--train.n-iterations", "9"]) == 2
    assert "is intact" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="is intact"):
        train.load_run(folder)


def test_a_nan_stops_the_run_and_leaves_the_last_good_checkpoint(tmp_path, capsys):
    folder = tmp_path / "a"
    assert main(["train", TINY, "--run-dir", str(folder), "--agent.nan-at-update", "5"]) == 2
    assert "iteration 5: tensor 'weights/1'" in capsys.readouterr().err
    assert len(run.history(folder)) == 4
    loaded = train.load_run(folder)
    assert loaded.iteration == 4
    assert all(bool(w.isfinite().all()) for w in loaded.agent.state_dict()["weights"])


def test_load_run_gives_last_best_and_any_kept_iteration(tmp_path):
    folder = tmp_path / "a"
    assert main(["train", TINY, "--run-dir", str(folder)]) == 0
    validated = {r["iteration"]: r["validation/post_return"] for r in run.history(folder) if r["iteration"] in (3, 6)}
    best = max(validated, key=lambda i: (validated[i], -i))
    assert train.load_run(folder).iteration == 6
    assert train.load_run(folder, "best").iteration == best
    assert train.load_run(folder, 4).env_steps == train.load_run(folder, "4").env_steps == 4 * 240
    for wrong, message in ((5, "has no checkpoint of iteration 5"), ("newest", "is none of last, best")):
        with pytest.raises((CheckpointError, ConfigError), match=message):
            train.load_run(folder, wrong)


def test_a_stop_before_the_start_creates_nothing(tmp_path, capsys):
    signals = StopSignals()
    signals.requested = True
    assert train.start(parse([TINY, "--run-dir", str(tmp_path / "a")]), signals) == 75
    assert list(tmp_path.iterdir()) == []
    assert "nothing was written" in capsys.readouterr().err


def test_help_names_every_command_and_preset(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in COMMANDS)
    assert main(["train", "--help"]) == 0
    assert "rl2-gridworld" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["train", TINY, "--help"])
    assert not stop.value.code
    said = capsys.readouterr().out
    assert all(flag in said for flag in ("--agent.lr", "--train.n-iterations", "--wandb", "--world.options", "--seed"))


def test_help_shows_the_settings_of_the_memory_chosen_and_all_others_can_still_be_set(capsys):
    def shown(*words: str) -> list[str]:
        with pytest.raises(SystemExit) as stop:
            main(["train", "rl2-gridworld", *words, "--help"])
        assert not stop.value.code
        said = capsys.readouterr().out
        assert "--agent.hidden" in said
        return [name for name in ("transformer", "snail", "mann", "matching") if f"--agent.{name}." in said]

    assert shown() == []
    assert shown("--agent.memory", "transformer", "--agent.transformer.heads", "2") == ["transformer"]
    agent = parse(["rl2-gridworld", "--agent.snail.blocks", "1"]).config.agent
    assert (type(agent), agent.memory, agent.snail.blocks) == (RL2Config, "gru", 1)


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "unknown command 'trian'; did you mean 'train'" in capsys.readouterr().err


def test_what_a_reader_must_know_of_the_tasks_is_said_before_training(tmp_path, capsys, monkeypatch):
    from tests.experiments.evaluated_runs import line_config, make_run
    from tests.metarl.line_world import Line

    monkeypatch.setattr(Line, "notes", ("goal 3 is not held out",), raising=False)
    make_run(tmp_path / "run", line_config())
    assert capsys.readouterr().out.splitlines()[0] == "note: goal 3 is not held out"
