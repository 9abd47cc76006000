"""`bench`: every contender does the same work, costs are counted once, and ratios are taken within rounds."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.errors import ConfigError
from metarl.experiments.bench.clock import Sample, timed
from metarl.experiments.bench.collect import Case, CollectSettings, measure_collect, print_collected, stored
from metarl.experiments.bench.contenders import Async, Serial
from metarl.experiments.bench.engine import Engine, find_starts
from metarl.experiments.bench.memory import memory_per_env
from metarl.experiments.bench.metaworld import QUICK, Measured, main, print_all
from metarl.experiments.bench.raw import Raw
from metarl.experiments.bench.report import ratio as ratio_text
from metarl.experiments.bench.rounds import Cell, rotation, run_rounds
from metarl.experiments.bench.statistics import (
    COMPILED,
    RAW,
    Target,
    busy_share,
    find,
    find_all,
    interval_json,
    median_of_rounds,
    speed_ratio,
)
from metarl.experiments.bench.trajectories import SCENARIOS, Recording, Windows, record
from metarl.experiments.cli.main import main as command
from metarl.experiments.cli.safe_text import make_console
from metarl.experiments.runs.locks import lock_problem

SMALL = Windows(n=2, length=6, spacing=6)
needs_locks = pytest.mark.skipif(bool(lock_problem()), reason=lock_problem())


@pytest.fixture(autouse=True)
def torch_settings_as_before() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return record(SCENARIOS["door-open expert"], 3, SMALL, seed=0)


def cell(
    label: str, num_envs: int, cpu_us: list[float], *, threads: int = 1, wall_us: list[float] | None = None
) -> Cell:
    return Cell("s", label, num_envs, threads, 100, wall_us=wall_us or list(cpu_us), cpu_us=cpu_us)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # A machine that slows down tenfold for a round slows both down; only pairing sees through it.
    fast, slow = cell("fast", 8, [10.0, 100.0, 12.0]), cell("slow", 8, [20.0, 200.0, 25.2])
    ratio = speed_ratio(fast, slow, "cpu")
    assert float(ratio.value) == 2.0
    assert float(np.median([20.0, 200.0, 25.2]) / np.median([10.0, 100.0, 12.0])) != 2.0


def test_a_median_of_rounds_ignores_an_outlier_and_its_interval_tells_of_it() -> None:
    interval = median_of_rounds([1.0, 2.0, 3.0, 4.0, 5.0, 1000.0])
    assert tuple(map(float, interval)) == (3.5, 1.0, 1000.0)
    # The extremes of 5 rounds miss the median once in 16 times: no 95 % interval can be had of so few.
    few = median_of_rounds([1.0, 2.0, 3.0, 4.0, 1000.0])
    assert interval_json(few) == {"value": 3.0, "low": None, "high": None}
    assert ratio_text(few) == "3.00 [–]"


def test_a_target_is_judged_at_its_worst_size_among_those_it_applies_to() -> None:
    cells = [
        cell(COMPILED, 1, [99.0]), cell(COMPILED, 8, [10.0]), cell(COMPILED, 32, [20.0]),
        cell(COMPILED, 8, [1.0], threads=2), cell(RAW, 1, [1.0]), cell(RAW, 8, [9.0]), cell(RAW, 32, [16.0]),
        cell(RAW, 32, [1.0], threads=2),
    ]  # fmt: skip
    found = find(Target("t", 0.85, COMPILED, RAW), "s", cells)
    assert found is not None
    assert found.by_envs == {8: pytest.approx(0.9), 32: pytest.approx(0.8)}
    assert (found.num_envs, found.met) == (32, False)
    easier = find(Target("t", 0.8, COMPILED, RAW), "s", cells)
    assert easier is not None
    assert easier.met
    assert find(Target("t", 0.8, COMPILED, RAW, scenarios=("other",)), "s", cells) is None
    assert find(Target("t", 0.8, COMPILED, "envpool"), "s", cells) is None


def test_a_target_may_compare_with_a_fixed_size_or_count_wall_time_of_threads() -> None:
    cells = [
        cell(COMPILED, 20, [50.0], wall_us=[50.0]),
        cell(COMPILED, 20, [50.0], threads=2, wall_us=[25.0]),
        cell("AsyncVectorEnv", 20, [500.0], threads=20),
        cell("AsyncVectorEnv", 2, [1.0], threads=2),
    ]
    found = {one.target: float(one.ratio.value) for one in find_all(cells)}
    assert found["compiled / AsyncVectorEnv(20), per CPU second"] == 10.0
    assert found["compiled, 2 threads / 1 thread, wall"] == 2.0
    assert len(found) == 2


def test_other_programs_show_as_wall_time_beyond_cpu_time() -> None:
    raw = cell(RAW, 8, [100.0, 100.0, 100.0], wall_us=[101.0, 130.0, 130.0])
    assert busy_share([raw, cell(COMPILED, 8, [1.0], wall_us=[9.0])]) == pytest.approx(0.3)


def test_in_each_round_every_contender_has_its_turn_once_and_another_begins() -> None:
    orders = [rotation(7, r, 7) for r in range(7)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len({order[0] for order in orders}) >= 4
    assert {order[order.index(3) - 1] for order in orders} == {2, 4}


def _work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@needs_locks
def test_costs_hold_own_and_childrens_cpu_time_but_no_waiting() -> None:
    asleep = timed(lambda: time.sleep(0.05))
    assert asleep.wall_s >= 0.05
    assert asleep.cpu_s < 0.03
    assert 0.05 <= timed(lambda: _work(0.05)).cpu_s < 0.08
    context = multiprocessing.get_context("fork")
    begin, end = context.Event(), context.Event()

    def child() -> None:
        begin.wait()
        _work(0.1)
        end.set()
        time.sleep(60)

    process = context.Process(target=child, daemon=True)
    process.start()

    def wait() -> None:
        begin.set()
        end.wait()

    cost = timed(wait, children=True)
    process.terminate()
    process.join()
    assert 0.1 <= cost.cpu_s < 0.2


def test_samples_add_up() -> None:
    assert Sample(3.0, 2.0) + Sample(1.0, 1.0) == Sample(4.0, 3.0)
    assert Sample(3.0, 2.0).minus(Sample(1.0, 1.5)) == Sample(2.0, 0.5)


@pytest.mark.metaworld
def test_batches_of_any_size_replay_every_recorded_episode(recording: Recording) -> None:
    for n in (1, 2, 3, 7):
        rows = [row for repeat in range(recording.repeats(n)) for row in recording.rows(n, repeat)]
        assert set(rows) == {0, 1, 2}
        assert recording.steps(recording.actions, n, 1, 0).shape == (6, n, 4)
    assert np.array_equal(recording.steps(recording.ctrl, 2, 1, 1)[4], recording.ctrl[[2, 0], 10])


@pytest.mark.metaworld
@needs_locks
def test_upstream_serially_and_in_processes_reaches_the_recorded_observations(recording: Recording) -> None:
    contenders = [Async(recording, 2), Serial(recording), Serial(recording, 2)]
    try:
        cells = run_rounds(contenders, recording, 2)
    finally:
        for contender in contenders:
            contender.close()
    assert [c.difference for c in cells] == [0.0, 0.0, 0.0]
    assert [c.env_steps for c in cells] == [24, 18, 24]
    assert all(len(c.cpu_us) == len(c.wall_us) == 2 and min(c.cpu_us + c.wall_us) > 0 for c in cells)


@pytest.mark.metaworld
def test_a_contender_that_does_other_work_is_found_out(recording: Recording) -> None:
    shifted = replace(recording, actions=np.roll(recording.actions, 1, axis=1))
    serial = Serial(shifted)
    (found,) = run_rounds([serial], shifted, 1)
    serial.close()
    assert found.difference is not None
    assert found.difference > 1e-3


@pytest.mark.metaworld
@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_raw_physics_moves_as_upstreams(recording: Recording, n_threads: int) -> None:
    raw = Raw(recording, 4, n_threads)
    assert raw.measure(0, 0).cpu_s > 0
    n = raw.positions().shape[1]
    expected = np.stack([recording.states[g][1]["physics"].numpy()[1 : 1 + n] for g in recording.rows(4, 0)])
    before = np.stack([recording.states[g][0]["physics"].numpy()[1 : 1 + n] for g in recording.rows(4, 0)])
    raw_error, way = np.abs(raw.positions() - expected).max(), np.abs(before - expected).max()
    assert way > 0.01  # radians: the arm did move
    assert raw_error < 1e-6  # no forward pass between the steps: warm starts differ
    raw.close()


@pytest.mark.metaworld
def test_a_world_is_measured_in_the_states_that_upstream_was_in(recording: Recording) -> None:
    world = envs.make("metaworld/ML1", task="door-open-v3", backend="upstream", n_workers=0).make_world(2)
    engine = Engine("world", world, recording, find_starts(world, recording), 1)
    try:
        (found,) = run_rounds([engine], recording, 2)
    finally:
        engine.close()
    assert found.difference == 0.0
    assert found.env_steps == 24  # two repeats, for three episodes need both envs twice


@pytest.mark.metaworld
def test_the_command_measures_prints_and_stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "speed.json"
    assert main(["--quick", "--scenario", "reach random", "--out", str(path)]) == 0
    stored = json.loads(path.read_text(encoding="utf-8"))
    cells = {(c["contender"], c["copies"], c["threads"]): c for c in stored["cells"]}
    assert {("upstream serial", 1, 1), ("raw mj_step", 8, 2)} <= set(cells)
    assert (("AsyncVectorEnv", 2, 2) in cells) is (lock_problem() == "")
    for one in cells.values():
        assert one["largest_difference_from_upstream"] in (0.0, None)
        assert len(one["rounds"]["cpu_us"]) == QUICK.rounds
        assert one["cpu_us"]["value"] == pytest.approx(np.median(one["rounds"]["cpu_us"]), abs=1e-2)
    assert stored["provenance"]["packages"]["metaworld"]
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "reach random: µs per env step" in printed
    assert "equal upstream's" in printed
    measured = set(stored["skipped"]) | {contender for contender, _, _ in cells}
    assert {"engine, compiled", "engine, python", "envpool"} <= measured  # or the reader is told why not


def test_missed_targets_memory_and_absent_contenders_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [cell(COMPILED, 8, [10.0]), cell(RAW, 8, [5.0])]
    memory = {COMPILED: {"mb_per_extra_copy": 0.75}}
    print_all(Measured(QUICK, cells, memory, {}, {"envpool": "not installed"}, 0.0, 1.0), make_console(width=140))
    lines = capsys.readouterr().out.splitlines()
    assert any("raw mj_step, per CPU second" in line and "0.50" in line and "missed" in line for line in lines)
    assert any("0.75 MB" in line and "missed" in line for line in lines)
    assert "not measured: envpool: not installed" in lines


@pytest.mark.metaworld
def test_collecting_is_split_into_parts_that_make_up_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    settings = CollectSettings(
        ("ml1-reach-quick", "maml-ml1-reach"), "metaworld/ML1", num_envs=(6,), horizon=8, rounds=2, most_tasks=4
    )
    found = measure_collect(settings, make_console())
    assert [(one.preset, one.n_tasks) for one in found] == [("ml1-reach-quick", 6), ("maml-ml1-reach", 3)]
    for one in found:
        assert len(one.rounds) == 2
        assert all(part > 0 for parts in one.rounds for part in parts)
        assert one.shares[0] == pytest.approx(one.rounds[0][0] / sum(one.rounds[0]))
    print_collected(found, make_console())
    assert capsys.readouterr().out.count("≥ 0.70") == 2
    rows = stored(found, settings, 0.0)["rows"]
    assert [row["met"] for row in rows] == [row["share"]["value"] >= 0.7 for row in rows]


@pytest.mark.metaworld
def test_timing_the_physics_leaves_no_trace_in_the_core() -> None:
    settings = CollectSettings(("ml1-reach-quick",), "metaworld/ML1", num_envs=(2,), horizon=4)
    case = Case(settings, "ml1-reach-quick", 2)
    before = dict(vars(case.world.core))  # type: ignore[attr-defined]
    case.run()
    assert set(vars(case.world.core)) == set(before)  # type: ignore[attr-defined]
    case.close()


def test_bad_input_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, reason in (
        (["metaworld", "--scenario", "reach randm"], "did you mean 'reach random'"),
        (["metaworld", "--rounds", "0"], "rounds"),
        (["metaworld", "--out", str(tmp_path / "no" / "x.json")], "cannot write"),
        (["metaworld", "--out", str(tmp_path / "x.txt")], ".json"),
        (["gridworld"], "unknown command 'bench gridworld'"),
    ):
        assert command(["bench", *arguments]) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
    with pytest.raises(ConfigError, match="before step 500"):
        Windows(n=10, length=60, spacing=60)


def test_a_failed_memory_measurement_says_why() -> None:
    with pytest.raises(ConfigError, match=r"'no-such-core' failed: .*no-such-core"):
        memory_per_env("no-such-core")
