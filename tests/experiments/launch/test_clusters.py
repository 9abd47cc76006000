"""The same grids through Ray and through Slurm's executor: lost workers and preempted jobs change no bit."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from metarl.errors import ConfigError
from metarl.experiments.launch import slurm
from metarl.experiments.launch.attempts import read_attempts
from metarl.experiments.launch.folder import GridFolder, open_grid, prepare
from metarl.experiments.launch.grid import expand
from metarl.experiments.launch.grid_file import parse_grid
from metarl.experiments.launch.state import standings
from tests import launch_kill

ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs the extra `ray` (pip install -e '.[ray]')"
)
submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None, reason="needs the extra `slurm` (pip install -e '.[slurm]')"
)

N_ITERATIONS = 40
"""Enough that a run is still at work when it is disturbed."""


def grid(path: Path, n_iterations: int) -> GridFolder:
    import yaml

    content = yaml.safe_load(launch_kill.grid_text(1, n_iterations))
    return prepare(path, "g", expand(parse_grid(content)))


def launched(path: Path, *words: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "metarl", "resume", str(path), *words],
        check=False,
        stdout=subprocess.DEVNULL,
        timeout=300,
    ).returncode


def outcomes(folder: GridFolder) -> list[Any]:
    assert [s.state for s in standings(folder)] == ["done"] * len(folder.jobs)
    return [launch_kill.outcome(folder, job.name) for job in folder.jobs]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return what the grid's runs come to when nobody disturbs them."""
    folder = grid(tmp_path_factory.mktemp("alone") / "g", N_ITERATIONS)
    assert launched(folder.path, "--jobs", "2") == 0
    return outcomes(folder)


@ray
def test_a_ray_worker_that_is_killed_costs_nothing(tmp_path: Path, alone: list[Any]) -> None:
    folder = grid(tmp_path / "g", N_ITERATIONS)
    words = [sys.executable, "-m", "metarl", "resume", str(folder.path), "--backend", "ray", "--jobs", "2"]
    driver = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    launch_kill.until(lambda: launch_kill.training(folder.path), "training under Ray")
    (pid, _), *_ = launch_kill.workers(folder.path).items()
    launch_kill.kill(parent(pid))  # Ray starts its task anew, which finds the run at work and leaves it
    launch_kill.kill(next(iter(launch_kill.workers(folder.path))))  # and the run itself: it is begun again
    assert driver.wait(300) == 0
    assert outcomes(folder) == alone
    assert max(s.attempts for s in standings(folder)) > 1


@ray
def test_a_driver_of_ray_that_is_told_to_stop_saves_the_runs(tmp_path: Path) -> None:
    folder = grid(tmp_path / "g", 100_000)
    words = [sys.executable, "-m", "metarl", "resume", str(folder.path), "--backend", "ray", "--jobs", "2"]
    driver = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    launch_kill.until(lambda: len(launch_kill.training(folder.path)) == 2, "training under Ray")
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(120) == 75
    assert {s.state for s in standings(folder)} == {"stopped"}
    assert not launch_kill.processes(folder.path, "train")


@ray
def test_a_ray_cluster_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    folder = grid(tmp_path / "g", 2)
    words = ["resume", str(folder.path), "--backend", "ray", "--ray-address", "127.0.0.1:1"]
    told = subprocess.run([sys.executable, "-m", "metarl", *words], check=False, capture_output=True, text=True)
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert "no Ray cluster answers at 127.0.0.1:1" in told.stderr


@submitit
def test_a_slurm_job_that_is_pre_empted_goes_on_bit_for_bit(tmp_path: Path, alone: list[Any]) -> None:
    folder = grid(tmp_path / "g", N_ITERATIONS)
    tasks = [slurm.CarryOut([*words], os.getcwd()) for words in commands(folder)]
    jobs = slurm.executor(folder, ["cluster=local", "timeout_min=10"], None, None).submit_array(tasks)
    launch_kill.until(lambda: standings(folder)[0].iteration > 0, "training")
    (pid,) = [
        pid for pid, words in launch_kill.workers(folder.path).items() if words.split()[-1] == folder.jobs[0].name
    ]
    os.kill(parent(pid), signal.SIGUSR2)  # what Slurm sends before it takes a node away
    assert [job.result() for job in jobs] == [0, 0]
    assert outcomes(folder) == alone
    events = read_attempts(folder.job_dir(folder.jobs[0])).events
    assert [e.get("exit_code") for e in events if e["event"] == "end"] == [75, 0]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().split()[3])


def commands(folder: GridFolder) -> list[list[str]]:
    from metarl.experiments.launch.local import job_command

    return [job_command(folder, job) for job in folder.jobs]


@submitit
def test_a_grid_is_queued_once_and_slurm_does_the_rest(tmp_path: Path, alone: list[Any]) -> None:
    folder = grid(tmp_path / "g", N_ITERATIONS)
    words = ["--backend", "slurm", "--slurm", "cluster=local", "--slurm", "timeout_min=10"]
    assert launched(folder.path, *words) == 0
    launch_kill.until(lambda: all(s.state == "done" for s in standings(open_grid(folder.path))), "the end of all jobs")
    assert outcomes(folder) == alone
    began = time.time()
    assert launched(folder.path, *words) == 0, "nothing is left to queue"
    assert all(event["time"] < began for job in folder.jobs for event in read_attempts(folder.job_dir(job)).events)


@submitit
def test_no_slurm_and_unknown_parameters_are_told_in_one_line(tmp_path: Path) -> None:
    folder = grid(tmp_path / "g", 2)
    with pytest.raises(ConfigError, match="Slurm takes no jobs here"):
        slurm.executor(folder, ["slurm_partitoin=cpu", "cluster=local"], None, None)
    with pytest.raises(ConfigError, match="use --backend local"):
        slurm.executor(folder, [], None, None)
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        slurm.parameters(["partition"])
