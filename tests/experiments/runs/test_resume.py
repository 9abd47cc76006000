"""Real processes, really killed: what they leave, and what comes of it, equals a run that was never touched."""

from __future__ import annotations

import json
import os
import random  # noqa: TID251 - moments to kill at, seeded and local
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from metarl import run
from metarl.checkpoint import CheckpointStore, state_fingerprint
from metarl.experiments.cli.main import main
from metarl.experiments.sinks.weights_and_biases import read_fragment
from metarl.log import WALL_CLOCK_KEYS
from tests.experiments.process_settings import process_settings  # noqa: F401

ROOT = Path(__file__).resolve().parents[3]
PRESETS = "tests.experiments.tiny_presets"
N_KILLS = 3
"""Where in the files a kill falls is tried in full by test_crash_points.py; these are real processes."""


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "metarl", "train", *words]


def finish(*words: str) -> str:
    done = subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(*words), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for_records(process: subprocess.Popen[bytes], folder: Path, n: int) -> None:
    """Wait until a run that is going on has logged its `n`-th iteration."""
    path, until = folder / "metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= n:
            return
        time.sleep(0.002)
    process.kill()
    _, said = process.communicate()
    raise AssertionError(f"ended, or took two minutes, before it had {n} records: {said.decode()}")


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k not in WALL_CLOCK_KEYS} for r in run.history(folder)]


def parameters(folder: Path, iteration: int) -> str:
    return state_fingerprint(CheckpointStore(folder / "checkpoints").load(iteration))


def kill_and_go_on(preset: str, folder: Path, n_iterations: int) -> list[int]:
    """Kill a run at random moments with kill -9, go on each time; return the lengths of the history when killed.

    The last two and what follows log to W&B as the preset says; the first ones do not, to save time.
    """
    moments = random.Random(f"kill {preset}")
    targets = sorted(moments.sample(range(1, n_iterations - 4), N_KILLS))
    lengths = []
    for i, target in enumerate(targets):
        logging = ["--wandb", "disabled"] if i < N_KILLS - 2 else []
        process = start(f"{PRESETS}:{preset}", "--run-dir", str(folder), "--resume", "auto", *logging)
        wait_for_records(process, folder, target)
        time.sleep(moments.uniform(0.0, 0.02))  # anywhere in an iteration, a validation or a checkpoint
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        lengths.append((folder / "metrics.jsonl").read_bytes().count(b"\n"))
    return lengths


@pytest.mark.parametrize("preset", ["rl2", "maml", "pearl"])
@pytest.mark.usefixtures("process_settings")
def test_killed_again_and_again_and_resumed_equals_uninterrupted_bit_for_bit(preset, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(["train", f"{PRESETS}:{preset}", "--run-dir", str(whole), "--wandb", "disabled"]) == 0
    n = len(numbers(whole))
    lengths = kill_and_go_on(preset, broken, n)
    assert len(lengths) == N_KILLS
    assert max(lengths) < n
    said = finish(f"{PRESETS}:{preset}", "--run-dir", str(broken), "--resume", "auto")
    assert "going on after iteration" in said
    assert parameters(broken, n) == parameters(whole, n)
    assert numbers(broken) == numbers(whole)
    assert [r["iteration"] for r in numbers(broken)] == list(range(1, n + 1))
    wall = [r["wall_s"] for r in run.history(broken)]
    assert wall == sorted(wall)
    assert not [p for p in (broken / "checkpoints").iterdir() if p.name.startswith(".")]
    best = [json.loads((f / "checkpoints" / "best.json").read_text()) for f in (whole, broken)]
    assert best[0] == best[1]
    if preset == "rl2":  # the one that logs to W&B, offline
        check_wandb(broken)


def check_wandb(folder: Path) -> None:
    """Read back what W&B stored of the killed processes: one run id, each iteration once, the numbers of the log."""
    fragments = sorted((folder / "wandb").glob("offline-run-*"))
    assert len({f.name.rsplit("-", 1)[1] for f in fragments}) == 1
    found = [r for f in fragments for r in read_fragment(f)]
    history = {r["iteration"]: r for r in numbers(folder)}
    assert sorted(int(r["iteration"]) for r in found) == sorted(history)
    for record in found:
        for key, value in history[int(record["iteration"])].items():
            assert record[key] == pytest.approx(value, rel=1e-9), key


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_stop_saves_exits_with_75_and_goes_on(number, tmp_path):
    folder, words = tmp_path / "a", ("--train.n-iterations", "400", "--train.checkpoint-every-iters", "1000")
    process = start(f"{PRESETS}:tiny", "--run-dir", str(folder), *words, "--train.validate-every-iters", "0")
    wait_for_records(process, folder, 3)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert number.name.encode() + b": finishing this iteration" in said
    n = len(numbers(folder))
    assert 3 <= n < 400
    assert CheckpointStore(folder / "checkpoints").iterations() == [n]
    if number == signal.SIGTERM:
        said = finish("--run-dir", str(folder), "--resume", "--train.n-iterations", str(n + 2))
        assert f"after iteration {n} of {n + 2}" in said
        assert [r["iteration"] for r in numbers(folder)] == list(range(1, n + 3))


def test_the_second_signal_ends_the_process_at_once(tmp_path):
    code = (
        "import os, signal, time; from metarl.signals import STOP; STOP.install(); assert not STOP.requested\n"
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(0.01); assert STOP.requested\n"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert time.monotonic() - began < 4


def test_handlers_stand_before_torch_is_imported():
    """What the handlers need loads nothing that takes seconds, so that no signal falls into the imports."""
    code = (
        "import sys, metarl.signals, metarl.experiments.cli.main, metarl.registry, metarl.errors;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'gymnasium', 'tyro')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, check=False).returncode == 0
