"""W&B and TensorBoard get each iteration once, hold no secrets, and can fail without hurting a run."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from metarl.errors import ConfigError
from metarl.experiments.sinks import (
    Guarded,
    Sink,
    TensorboardSink,
    check,
    complete,
    make_sinks,
)
from metarl.experiments.sinks.weights_and_biases import read_fragment, scrub, wandb_reached

CONFIG = {"name": "toy", "seed": 0, "train": {"n_iterations": 9}, "world": {"name": "gridworld"}, "device": "cpu"}


@dataclass(frozen=True)
class Settings:
    wandb: Literal["online", "offline", "disabled"] = "offline"
    wandb_project: str = "metarl-tests"
    wandb_entity: str | None = None
    wandb_group: str | None = None
    wandb_tags: tuple[str, ...] = ()
    wandb_system_metrics: bool = False
    wandb_artifacts: bool = False
    tensorboard: bool = False
    progress: Literal["auto", "rich", "plain", "off"] = "off"


def record(iteration: int) -> dict[str, Any]:
    return {"iteration": iteration, "env_steps": 100 * iteration, "train/post_return": iteration * 0.1}


def append(run_dir: Path, *iterations: int) -> None:
    with (run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(record(i)) + "\n" for i in iterations)


def histories(run_dir: Path) -> list[list[dict[str, Any]]]:
    """Return the history of each W&B fragment, oldest first."""
    return [read_fragment(folder) for folder in sorted((run_dir / "wandb").glob("*run-*-*"))]


def run_process(
    run_dir: Path, program: str, *, arguments: tuple[str, ...] = (), opened: bool = True, **environ: str
) -> int:
    """Run `program` in a fresh process, with the sinks of `run_dir` open as `sink` if wanted; return its exit code."""
    opening = (
        "import os, sys, json, time\nfrom pathlib import Path\nfrom tests.experiments.sinks.test_sinks import *\n"
        f"run_dir = Path({str(run_dir)!r})\n"
    ) + ("[sink] = make_sinks(Settings(), run_dir, CONFIG, 'toy-1')\n" if opened else "")
    command = [sys.executable, "-c", opening + program, *arguments]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, env={**os.environ, **environ}, capture_output=True, timeout=120)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    assert b"wandb:" not in done.stdout + done.stderr, "W&B talks into the output of the run"
    return done.returncode


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run directory after five records and a clean end, by a process with secrets around it."""
    run_dir = tmp_path_factory.mktemp("finished")
    program = "for i in range(1, 6):\n    sink.log(record(i))\nsink.close(0)"
    run_process(run_dir, program, arguments=("--token=argv-sentinel",), SOME_TOKEN="environ-sentinel")
    return run_dir


def test_five_records_come_back_from_an_offline_run(finished: Path) -> None:
    [history] = histories(finished)
    kept = [{k: v for k, v in row.items() if not k.startswith("_")} for row in history]
    assert kept == [record(i) for i in range(1, 6)]
    assert [row["_step"] for row in history] == [1, 2, 3, 4, 5]


def test_env_steps_is_the_axis_of_every_metric(finished: Path) -> None:
    [folder] = (finished / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    entries = [json.loads(s) for s in subprocess.run(command, capture_output=True, check=True).stdout.splitlines()]
    axes = {e["metric"].get("glob_name"): e["metric"].get("step_metric") for e in entries if e["type"] == "metric"}
    assert axes["*"] == "env_steps"
    assert [e["exit"]["exit_code"] for e in entries if e["type"] == "exit"] in ([0], [None])
    [run] = [e["run"] for e in entries if e["type"] == "run"]
    assert (run["run_id"], run["project"]) == ("toy-1", "metarl-tests")


def test_nothing_about_the_machine_or_the_command_line_is_kept(finished: Path) -> None:
    stored = b"".join(path.read_bytes() for path in finished.rglob("*") if path.is_file())
    for secret in ("argv-sentinel", "environ-sentinel"):
        assert secret.encode() not in stored
    assert not list(finished.rglob("wandb-metadata.json"))
    assert not list(finished.rglob("requirements.txt"))
    assert not list(finished.rglob("output.log"))
    assert sorted(p.name for p in finished.iterdir()) == ["wandb"]


def test_a_run_killed_in_the_middle_and_at_its_end_has_each_iteration_once(tmp_path: Path) -> None:
    log = "append(run_dir, i); sink.log(record(i))"
    # Killed after iteration 8 with a checkpoint at 4. W&B has had time to write 1 to 6; 7 and 8 are in metrics.jsonl.
    program = f"for i in range(1, 9):\n    {log}\n    time.sleep(3 * (i == 6))\nos.kill(os.getpid(), 9)"
    assert run_process(tmp_path, program) == -signal.SIGKILL
    assert 4 < wandb_reached(tmp_path, "toy-1", []) < 9, "W&B had time to write more than the checkpoint knows"
    (tmp_path / "metrics.jsonl").unlink()
    append(tmp_path, 1, 2, 3, 4)
    # Killed again, after the last iteration and before W&B was closed.
    assert run_process(tmp_path, f"for i in range(5, 10):\n    {log}\nos.kill(os.getpid(), 9)") == -signal.SIGKILL
    assert wandb_reached(tmp_path, "toy-1", []) < 9, "nothing was lost that could be missed"
    finish = "assert complete(Settings(), run_dir, CONFIG, 'toy-1') == []\n"
    run_process(tmp_path, finish, opened=False)
    fragments = histories(tmp_path)
    rows = [row for fragment in fragments for row in fragment]
    assert [row["iteration"] for row in rows] == list(range(1, 10))
    assert [row["_step"] for row in rows] == list(range(1, 10))
    assert all(row["train/post_return"] == record(row["iteration"])["train/post_return"] for row in rows)
    assert complete(Settings(), tmp_path, CONFIG, "toy-1") == []
    assert len(list((tmp_path / "wandb").glob("*run-*-*"))) == len(fragments) == 3, "nothing missing, nothing opened"


def test_fragments_are_read_back_once_not_at_every_resume(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notices = list[str]()
    assert wandb_reached(finished, "toy-1", notices) == 5
    monkeypatch.setattr("metarl.experiments.sinks.weights_and_biases.read_fragment", lambda folder: 1 / 0)
    assert wandb_reached(finished, "toy-1", notices) == 5
    [memory] = (finished / "wandb").glob("reached-*.json")
    memory.write_text('["nonsense"')
    with pytest.raises(ZeroDivisionError):
        wandb_reached(finished, "toy-1", notices)
    memory.unlink()
    assert notices == []


class Failing:
    def __init__(self) -> None:
        self.calls = 0

    def log(self, record: Mapping[str, Any]) -> None:
        self.calls += 1
        raise OSError("no space left")

    def close(self, exit_code: int = 0) -> None:
        raise OSError("still no space")


def test_a_sink_that_raises_warns_once_and_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    failing, notices = Failing(), list[str]()
    sink: Sink = Guarded("W&B", failing, notices)
    with caplog.at_level(logging.WARNING):
        for i in range(3):
            sink.log(record(i))
        sink.close()
    assert failing.calls == 1
    assert notices == [r.getMessage() for r in caplog.records]
    assert len(notices) == 1
    assert "iteration 0" in notices[0]
    assert "no space left" in notices[0]


def test_online_without_credentials_is_refused_before_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ConfigError, match=r"wandb login.*WANDB_API_KEY.*--log.wandb offline"):
        check(Settings(wandb="online"))
    assert not list(tmp_path.glob("**/*.wandb"))
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    check(Settings(wandb="online"))
    check(Settings(wandb="offline"))


def test_a_server_that_does_not_answer_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    def unreachable(**options: Any) -> None:
        assert os.environ["WANDB_DATA_DIR"].startswith(str(tmp_path))
        raise wandb.errors.CommError("Run initialization has timed out\nand more lines")

    before = os.environ.get("WANDB_DATA_DIR"), os.environ.get("WANDB_DIR")
    monkeypatch.setattr(wandb, "init", unreachable)
    with pytest.raises(ConfigError, match=r"mode 'online' \(Run initialization has timed out\); pass --log.wandb off"):
        make_sinks(Settings(wandb="online"), tmp_path, CONFIG, "toy-1")
    assert (os.environ.get("WANDB_DATA_DIR"), os.environ.get("WANDB_DIR")) == before


class Server:
    """Stands in for an online W&B run that has seen `step - 1` iterations."""

    url = "https://example.test/run"

    def __init__(self, step: int) -> None:
        self.step, self.rows = step, list[int]()

    def define_metric(self, *names: str, **options: str) -> None:
        pass

    def log(self, record: dict[str, Any], step: int) -> None:
        self.rows.append(step)

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


def test_an_online_run_goes_on_where_the_server_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(step=4)  # has 1 to 3; metrics.jsonl has 1 to 6
    monkeypatch.setattr("wandb.init", lambda **options: server)
    append(tmp_path, *range(1, 7))
    [sink] = make_sinks(Settings(wandb="online"), tmp_path, CONFIG, "toy-1")
    for i in (5, 6, 7):
        sink.log(record(i))
    sink.close(3)
    assert server.rows == [4, 5, 6, 7]
    assert server.exit_code == 3


def test_a_missing_tensorboard_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'metarl-worlds\[tensorboard\]'"):
        check(Settings(tensorboard=True, wandb="disabled"))
    with pytest.raises(ConfigError, match="pip install wandb"):
        check(Settings())
    check(Settings(wandb="disabled"))


class Writer:
    """Stands in for torch.utils.tensorboard.SummaryWriter, which needs an extra."""

    opened: list[Writer]

    def __init__(self, folder: str, purge_step: int) -> None:
        self.purge_step, self.scalars, self.closed = purge_step, list[tuple[str, float, int]](), False
        type(self).opened.append(self)

    def add_scalar(self, key: str, value: float, step: int) -> None:
        self.scalars.append((key, value, step))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], TensorboardSink]:
    """Return what opens a TensorBoard sink that writes into `Writer.opened`."""
    monkeypatch.setattr(Writer, "opened", [], raising=False)
    module = types.SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)  # type: ignore[arg-type]
    return TensorboardSink


def test_tensorboard_gets_numbers_over_env_steps_and_a_resume_cuts_what_it_repeats(tmp_path: Path, board: Any) -> None:
    (tmp_path / "tensorboard").mkdir()
    sink = board(tmp_path)
    sink.log(record(1) | {"note": "text"})
    sink.close()
    [writer] = Writer.opened
    assert writer.purge_step == 100
    assert writer.scalars == [("iteration", 1, 100), ("train/post_return", 0.1, 100)]
    assert writer.closed
    append(tmp_path, 1)
    sink = board(tmp_path)  # closed in order: nothing is missing, nothing is written again
    sink.log(record(2))
    assert [w.purge_step for w in Writer.opened] == [100, 200]


def test_tensorboard_files_of_a_killed_process_are_made_again(tmp_path: Path, board: Any) -> None:
    (tmp_path / "tensorboard").mkdir()
    torn = tmp_path / "tensorboard" / "events.out.tfevents.1"
    torn.write_bytes(b"torn")
    board(tmp_path).log(record(1))  # and killed
    append(tmp_path, 1, 2)
    board(tmp_path).close()
    assert [(w.purge_step, w.closed) for w in Writer.opened] == [(100, False), (100, True)]
    assert [step for _, _, step in Writer.opened[-1].scalars] == [100, 100, 200, 200]
    assert not torn.exists()
    board(tmp_path).close()
    assert len(Writer.opened) == 2


def test_disabled_opens_nothing(tmp_path: Path) -> None:
    assert make_sinks(Settings(wandb="disabled"), tmp_path, CONFIG, "toy-1") == []
    assert not list(tmp_path.iterdir())


def test_entries_named_like_secrets_are_left_out() -> None:
    config = {
        "n_tokens": 4, "rng_key_bits": 8, "agent": {"api_key": "x", "password": "x", "lr": 1e-3},
        "list": [{"WANDB_API_KEY": "x"}], "access-token": "x", "hf.token": "x", "secrets": 1, "keys": [1],
    }  # fmt: skip
    assert scrub(config) == {
        "n_tokens": 4, "rng_key_bits": 8, "agent": {"lr": 1e-3}, "list": [{}], "keys": [1]
    }  # fmt: skip
