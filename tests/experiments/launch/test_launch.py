"""Launched runs end complete whatever is killed, start once however many launch them, and tell how they stand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from metarl import run
from metarl.errors import ConfigError
from metarl.experiments.cli.main import main
from metarl.experiments.launch import folder as grid_folder
from metarl.experiments.launch import local
from metarl.experiments.launch.attempts import MOST_TRIES, read_attempts, tell
from metarl.experiments.launch.costs import estimate, wall_clock_s
from metarl.experiments.launch.driver import drive, go_on
from metarl.experiments.launch.folder import GridFolder, open_grid, prepare
from metarl.experiments.launch.grid import Job, expand
from metarl.experiments.launch.grid_file import parse_grid
from metarl.experiments.launch.local import LocalPool
from metarl.experiments.launch.state import standing, standings
from metarl.run_lock import RunLock
from tests import launch_kill

SMALL = {"train.n-iterations": 2, "train.n-tasks": 4, "train.validate-every-iters": 0, "log.wandb": "disabled"}


def grid(path: Path, **entries: Any) -> GridFolder:
    content = {"presets": "rl2-gridworld", "settings": SMALL, **entries}
    return prepare(path, "g", expand(parse_grid(content)))


class Scripted:
    """A backend whose runs do at once what a list says, and leave the same files as real ones."""

    def __init__(self, folder: GridFolder, codes: dict[str, list[int]]) -> None:
        self.folder, self.codes, self.started = folder, codes, list[str]()

    def start(self, job: Job) -> None:
        self.started.append(job.name)
        code = self.codes[job.name].pop(0)
        tell(self.folder.job_dir(job), "start", iteration=0)
        tell(self.folder.job_dir(job), "end", exit_code=code, reason="" if code == 0 else f"because {code}")

    def in_flight(self) -> list[str]:
        return []

    def has_room(self, n_elsewhere: int) -> bool:
        return True

    def stop(self) -> None:
        pass


def test_a_small_grid_killed_in_every_way_ends_bit_equal_to_one_left_alone(tmp_path: Path) -> None:
    found = launch_kill.check(tmp_path, n_seeds=1, n_iterations=12, say=lambda text: None)
    assert found["runs"] == 2
    assert max(found["attempts"].values()) > 1


def test_what_was_launched_is_launched_again_without_change_and_another_grid_is_refused(tmp_path: Path) -> None:
    first = grid(tmp_path / "g", seeds=[0, 1])
    assert open_grid(tmp_path / "g") == first == grid(tmp_path / "g", seeds=[0, 1])
    with pytest.raises(ConfigError, match=r"1 added \(rl2-gridworld-seed2\); add them with --extend"):
        grid(tmp_path / "g", seeds="0..2")
    with pytest.raises(ConfigError, match=r"1 gone \(rl2-gridworld-seed1\)"):
        grid(tmp_path / "g", seeds=[0])
    with pytest.raises(ConfigError, match="2 changed"):
        grid(tmp_path / "g", seeds=[0, 1], settings={**SMALL, "train.n-tasks": 8})
    longer = prepare(tmp_path / "g", "g", grid(tmp_path / "h", seeds="0..2").jobs, extend=True)
    assert open_grid(tmp_path / "g").jobs == longer.jobs
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="choose another --into"):
        grid(tmp_path / "else")


def test_names_of_files_are_those_of_run_directories() -> None:
    assert (grid_folder.CONFIG, grid_folder.METRICS, grid_folder.CHECKPOINTS) == (
        run.CONFIG,
        run.METRICS,
        run.CHECKPOINTS,
    )


def test_a_run_that_fails_by_itself_is_tried_a_few_times_and_one_that_was_refused_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarl.experiments.launch.attempts._BACK_OFF_S", 0.01)
    monkeypatch.setattr("metarl.experiments.launch.driver._PAUSE_S", 0.01)
    folder = grid(tmp_path / "g", seeds="0..3")
    crash, refused, lucky, fine = (job.name for job in folder.jobs)
    backend = Scripted(folder, {crash: [1, -9, 1, 1, 0], refused: [2, 0], lucky: [-9, 0], fine: [0]})
    said: list[str] = []
    assert not drive(folder, folder.jobs, backend, say=said.append)
    assert [backend.started.count(name) for name in (crash, refused, lucky, fine)] == [MOST_TRIES, 1, 2, 1]
    assert f"failed   {crash}: because 1 (3 attempts that got no further)" in said
    assert f"failed   {refused}: because 2" in said
    states = {s.name: s.state for s in standings(folder)}
    assert (states[crash], states[refused]) == ("failed", "failed")
    assert not drive(folder, folder.jobs, backend, say=said.append), "failed runs are left alone"
    assert backend.started.count(crash) == MOST_TRIES
    go_on(folder, folder.jobs, also_failed=True)
    assert drive(folder, folder.jobs, backend, say=said.append)


def test_attempts_that_got_further_are_not_counted_against_a_run(tmp_path: Path) -> None:
    for iteration in range(2 * MOST_TRIES):
        tell(tmp_path, "start", iteration=iteration)
        tell(tmp_path, "end", exit_code=-9, reason="killed by SIGKILL", iteration=iteration + 1)
    assert not read_attempts(tmp_path).failure
    for _ in range(MOST_TRIES):
        tell(tmp_path, "start", iteration=6)
    assert "3 attempts that got no further" in read_attempts(tmp_path).failure


def test_each_further_attempt_waits_twice_as_long(tmp_path: Path) -> None:
    waits = []
    for _ in range(2):
        tell(tmp_path, "start", iteration=0)
        tell(tmp_path, "end", exit_code=1, reason="x")
        waits.append(read_attempts(tmp_path).wait_s())
    assert waits == pytest.approx([5.0, 10.0], abs=0.5)


def test_two_drivers_start_each_run_once_and_the_second_waits(tmp_path: Path) -> None:
    folder = grid(tmp_path / "g", seeds=[0, 1])
    words = [sys.executable, "-m", "metarl", "resume", str(folder.path), "--jobs", "2"]
    drivers = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [driver.wait(120) for driver in drivers] == [0, 0]
    for job in folder.jobs:
        events = read_attempts(folder.job_dir(job)).events
        assert sum(event["event"] == "start" for event in events) == 1
        assert standing(folder, job).state == "done"


def test_stop_saves_and_resume_goes_on_and_status_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = grid(
        tmp_path / "g", settings={**SMALL, "train.n-iterations": 100_000, "train.checkpoint-every-iters": 1000}
    )
    (job,) = folder.jobs
    driver = subprocess.Popen([sys.executable, "-m", "metarl", "resume", str(folder.path)], stdout=subprocess.DEVNULL)
    launch_kill.until(lambda: standing(folder, job).iteration > 0, "the first iteration")
    assert standing(folder, job).state == "running"
    assert main(["status", str(folder.path), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert (told["state"], told["n_iterations"], told["attempts"]) == ("running", 100_000, 1)
    assert told["where"].endswith(f":{next(iter(launch_kill.workers(folder.path)))}")
    assert main(["stop", str(folder.path)]) == 0
    assert driver.wait(60) == 1, "a driver does not start again what somebody stopped"
    stopped = standing(folder, job)
    assert (stopped.state, stopped.cpu_s > 0) == ("stopped", True)
    assert run.newest_point(folder.run_dir(job)).iteration == stopped.iteration > 0
    assert main(["status", str(folder.path)]) == 0
    assert "1 stopped" in capsys.readouterr().out
    go_on(folder, folder.jobs)
    assert standing(folder, job).state == "waiting" or standing(folder, job).state == "queued"


def test_sigterm_to_the_driver_saves_every_run(tmp_path: Path) -> None:
    folder = grid(
        tmp_path / "g", settings={**SMALL, "train.n-iterations": 100_000, "train.checkpoint-every-iters": 1000}
    )
    (job,) = folder.jobs
    driver = subprocess.Popen(
        [sys.executable, "-m", "metarl", "resume", str(folder.path)], stdout=subprocess.PIPE, text=True
    )
    launch_kill.until(lambda: standing(folder, job).iteration > 0, "the first iteration")
    driver.send_signal(signal.SIGTERM)
    said, _ = driver.communicate(timeout=60)
    assert driver.returncode == 75
    assert f"resume {folder.path}" in said.splitlines()[-1]
    assert not launch_kill.workers(folder.path)
    assert run.newest_point(folder.run_dir(job)).iteration > 0


def test_a_run_that_says_nothing_for_long_is_stalled(tmp_path: Path) -> None:
    folder = grid(tmp_path / "g")
    (job,) = folder.jobs
    tell(folder.job_dir(job), "start", iteration=0)
    lock = RunLock(folder.job_dir(job))
    try:
        assert standing(folder, job).state == "running"
        path = folder.job_dir(job) / "attempts.jsonl"
        path.write_text(path.read_text().replace('"time": ', '"time": -'))
        assert standing(folder, job).state == "stalled"
    finally:
        lock.release()
    assert standing(folder, job).state == "waiting"


def test_a_damaged_run_directory_is_told_and_does_not_break_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = grid(tmp_path / "g", seeds=[0, 1])
    broken = folder.run_dir(folder.jobs[0])
    broken.mkdir()
    (broken / "config.json").write_text("{")
    assert main(["status", str(folder.path)]) == 1
    told = capsys.readouterr().out
    assert "1 queued, 1 failed" in told
    assert "config.json" in told


def test_a_torn_line_of_attempts_is_passed_over(tmp_path: Path) -> None:
    tell(tmp_path, "start", iteration=0)
    with (tmp_path / "attempts.jsonl").open("ab") as file:
        file.write(b'{"event": "end", "exit')
    tell(tmp_path, "end", exit_code=0)
    assert [event["event"] for event in read_attempts(tmp_path).events] == ["start", "end"]


def test_a_pool_minds_cores_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = grid(tmp_path / "g", seeds=[0, 1, 2])
    monkeypatch.setattr(local, "job_command", lambda grid, job: ["sleep", "60"])
    pool = LocalPool(folder, n_jobs=2, memory_bytes=3 * 2**30)
    try:
        assert pool.has_room(0)
        pool.start(folder.jobs[0])
        assert pool.has_room(0)
        assert not pool.has_room(1), "what other drivers run takes cores, too"
        tell(folder.job_dir(folder.jobs[2]), "end", exit_code=0, peak_memory_bytes=2.0 * 2**30)
        assert not pool.has_room(0), "two runs of 2 GiB do not go into 3"
        pool.memory_bytes = None
        monkeypatch.setattr(local, "available_bytes", lambda: 1.0 * 2**30)
        assert not pool.has_room(0), "no memory is free"
    finally:
        pool.stop()
    launch_kill.until(lambda: not pool.in_flight(), "the end of the pool")
    assert pool.has_room(0), "one run may always work"


def test_a_pool_can_be_nice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = grid(tmp_path / "g")
    told = tmp_path / "niceness"
    monkeypatch.setattr(local, "job_command", lambda grid, job: ["sh", "-c", f"nice > {told}"])
    pool = LocalPool(folder, n_jobs=1, nice=7)
    pool.start(folder.jobs[0])
    launch_kill.until(lambda: not pool.in_flight(), "the end of the process")
    assert int(told.read_text()) == min(19, os.nice(0) + 7)


def test_a_dry_run_prints_commands_and_cost_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "g.yaml"
    file.write_text("presets: [rl2-gridworld, maml-ml1-reach]\nseeds: 0..2\nevaluate: ['', '--greedy']\n")
    assert main(["launch", str(file), "--into", str(tmp_path / "out"), "--dry-run", "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert sum(" train " in line for line in lines) == 6
    assert sum(" evaluate " in line for line in lines) == 12
    assert "6 runs of 2 methods, 12 evaluations" in out
    assert "CPU hours without those below" in out
    assert "no cost is known of maml-ml1-reach" in out
    assert not (tmp_path / "out").exists()


def test_an_estimate_grows_with_iterations_and_tasks() -> None:
    def cost(**settings: Any) -> float:
        (job,) = expand(parse_grid({"presets": "rl2-gridworld", "settings": settings}))
        found = estimate(job)
        assert found is not None
        return found.train_cpu_s

    one = cost(**{"train.n-iterations": 10, "train.n-tasks": 8})
    assert cost(**{"train.n-iterations": 30, "train.n-tasks": 16}) == pytest.approx(6 * one)
    assert wall_clock_s([3.0, 1.0, 1.0, 1.0, 2.0], 2) == 5.0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["launch", "{none}.yaml"], "cannot be read"),
        (["launch", "{file}", "--backend", "lokal"], "backend 'lokal' is unknown; did you mean 'local'"),
        (["status", "{tmp}"], "is not a grid's directory"),
        (["stop", "{grid}", "rl2-gridworld-seed9"], "did you mean 'rl2-gridworld-seed0'"),
        (["retry", "{grid}", "nobody"], "has no run 'nobody'"),
        (["launch", "{file}", "--jobs", "0"], "--jobs must be a whole number"),
        (["launch", "{file}", "--memory-gb", "0"], "--memory-gb must be a finite number above 0"),
    ],
)
def test_a_wrong_command_is_told_in_one_line_before_anything_starts(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "g.yaml"
    file.write_text("presets: rl2-gridworld\n")
    folder = grid(tmp_path / "grid")
    places = {"none": tmp_path / "none", "file": file, "tmp": tmp_path, "grid": folder.path}
    assert main([word.format(**places) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not list(folder.path.glob("jobs/*"))


@pytest.mark.parametrize(("backend", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_backend_that_is_not_installed_is_named_with_the_line_that_installs_it(
    backend: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == package else real(name, *a))
    file = tmp_path / "g.yaml"
    file.write_text("presets: rl2-gridworld\n")
    assert main(["launch", str(file), "--into", str(tmp_path / "out"), "--backend", backend]) == 2
    assert f"pip install {package}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sweep_names_every_run_and_its_agents_run_the_grids_own_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    file = tmp_path / "g.yaml"
    file.write_text(
        "presets: rl2-gridworld\nseeds: 0..1\n"
        "settings: {train.n-iterations: 1, train.n-tasks: 2, log.wandb: disabled}\n"
        "evaluate: '--n-tasks 2 --n-seeds 1'\n"
    )
    sweep = tmp_path / "sweep.yaml"
    assert main(["launch", str(file), "--into", str(tmp_path / "g"), "--wandb-sweep", str(sweep)]) == 0
    found = yaml.safe_load(sweep.read_text())
    assert found["parameters"]["run"]["values"] == ["rl2-gridworld-seed0", "rl2-gridworld-seed1"]
    fill = {"${env}": [], "${interpreter}": [sys.executable], "${args}": ["--run=rl2-gridworld-seed1"]}
    words = [word for entry in found["command"] for word in fill.get(entry, [entry])]
    began = time.monotonic()
    assert subprocess.run(words, check=False).returncode == 0, time.monotonic() - began
    assert [s.state for s in standings(open_grid(tmp_path / "g"))] == ["queued", "done"]
