"""`profile` counts every timed second once, changes no number and writes nothing into a run."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metarl.errors import ConfigError
from metarl.experiments.bench.profile import OTHER, Counting, Stopwatch, Timed, find_run, main, print_profile, profile
from metarl.experiments.build import build_agent, build_tasks
from metarl.experiments.cli.main import main as command
from metarl.experiments.cli.safe_text import make_console
from metarl.experiments.config import WorldConfig
from metarl.experiments.train import main as train

TINY = "tests.experiments.tiny_presets:tiny"


@pytest.fixture(autouse=True)
def torch_settings_as_before() -> object:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


class Slow:
    size = 3

    def outer(self) -> str:
        time.sleep(0.02)
        return "outer"


def test_nested_calls_count_for_the_outer_one_only() -> None:
    watch = Stopwatch(torch.device("cpu"))
    inner = watch.timed("inner", lambda: time.sleep(0.02))
    outer = watch.timed("outer", inner)
    outer()
    inner()
    assert watch.calls == {"outer": 1, "inner": 1}
    assert watch.wall_s["outer"] == pytest.approx(0.02, abs=0.015)
    assert watch.cpu_s["outer"] < watch.wall_s["outer"]


def test_an_exception_passes_through_and_the_watch_goes_on() -> None:
    watch = Stopwatch(torch.device("cpu"))
    with pytest.raises(ZeroDivisionError):
        watch.timed("bad", lambda: 1 / 0)()
    watch.timed("good", lambda: None)()
    assert watch.calls == {"bad": 1, "good": 1}


def test_a_proxy_hands_everything_else_to_its_object() -> None:
    target = Slow()
    proxy = Timed(target, {"outer": "phase"}, Stopwatch(torch.device("cpu")))
    assert (proxy.outer(), proxy.size) == ("outer", 3)
    proxy.size = 5
    assert target.size == 5
    with pytest.raises(AttributeError):
        _ = proxy.no_such_thing


def test_a_profile_names_all_phases_and_its_shares_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "profile.json"
    assert main([TINY, "--iterations", "2", "--json", str(path)]) == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    phases = found["phases"]
    assert {"world.step", "world.reset", "agent.act", "agent.update", "tasks.sample", OTHER} <= set(phases)
    assert sum(row["share"] for row in phases.values()) == pytest.approx(1.0, abs=0.02)
    assert found["env_steps"] == phases["world.step"]["calls"] * 8  # 4 tasks, 2 envs each
    assert phases["agent.update"]["calls"] == 2
    printed = capsys.readouterr().out
    assert "world.step" in printed
    assert "env steps/s" in printed


def test_profiled_numbers_are_those_of_training_and_the_run_is_untouched(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train([TINY, "--run-dir", str(folder), "--train.n-iterations", "2"]) == 0
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    loaded = find_run(str(folder))
    profile(loaded, 2, warm_up=1)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    longer = tmp_path / "longer"
    # "tiny" validates every 3 iterations; validation draws from streams of its own and changes no parameter.
    assert train([TINY, "--run-dir", str(longer), "--train.n-iterations", "5"]) == 0
    expected = find_run(str(longer)).agent.state_dict()
    assert_same(loaded.agent.state_dict(), expected)


def assert_same(a: object, b: object) -> None:
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor)
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert isinstance(b, dict)
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert isinstance(b, list | tuple)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def test_tasks_per_iteration_can_be_changed() -> None:
    loaded = find_run(TINY)
    changed = replace(loaded, config=replace(loaded.config, train=replace(loaded.config.train, n_tasks=8)))
    few, many = (profile(x, 1, warm_up=0)["env_steps"] for x in (loaded, changed))
    assert many == 2 * few


def test_bad_input_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'rl2-gridworld'"):
        find_run("rl2-gridword")
    with pytest.raises(ConfigError, match="not a run directory"):
        find_run(str(tmp_path))
    assert command(["bench", "profile", TINY, "--iterations", "0"]) == 2
    assert "--iterations must be a whole number from 1 to" in capsys.readouterr().err
    assert command(["bench", "profile", TINY, "--json", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.metaworld
def test_a_gymnasium_world_is_compared_with_its_bare_environments(capsys: pytest.CaptureFixture[str]) -> None:
    loaded = find_run("tests.experiments.tiny_presets:rl2")
    world = WorldConfig("metaworld/ML1", {"backend": "upstream", "n_workers": 0, "horizon": 10})
    config = replace(loaded.config, world=world, train=replace(loaded.config.train, n_tasks=2))
    tasks = build_tasks(config)
    loaded = replace(loaded, config=config, tasks=tasks, agent=build_agent(config, tasks, torch.device("cpu")))
    found = profile(loaded, 2, warm_up=1)
    limit = found["limit"]
    num_envs = found["env_steps"] // found["phases"]["world.step"]["calls"]
    assert limit["bare_env_steps"] == 2 * num_envs * 10  # a horizon each, and the warm-up's slice does not count
    assert limit["cores"] == 1
    expected = limit["collect_env_steps_per_cpu_s"] / limit["bare_env_steps_per_cpu_s"]  # one process does it all
    assert limit["share_of_limit_estimated"] == pytest.approx(expected)
    assert 0.05 < expected < 1.0  # the adapter, the agent, the rollouts and the resets cost something
    print_profile(found, make_console())
    assert "bare env.step in one process" in capsys.readouterr().out


def test_what_runs_between_iterations_is_no_part_of_them() -> None:
    recorder = Counting(lambda: time.sleep(0.2))
    began = time.perf_counter()
    for i in range(3):
        recorder.log({"iteration": i + 1, "wall_s": time.perf_counter() - began})
    assert recorder.records[-1]["wall_s"] < 0.2
    assert "limit" not in profile(find_run(TINY), 1, warm_up=0)  # a tensor world has no bare environments
