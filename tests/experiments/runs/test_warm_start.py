"""`train --from`: what a new run takes over, what it refuses, and that it goes on without the run it came from."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete
from gymnasium.vector.utils import batch_space

from metarl import run
from metarl.checkpoint import CheckpointStore, state_fingerprint
from metarl.envs.classic.gridworld import GridWorldTasks
from metarl.errors import CheckpointError
from metarl.experiments.build import build_agent, build_tasks, read_config, restore
from metarl.experiments.cli.main import main
from metarl.experiments.runs.warm_start import split_source
from metarl.loop import NullRecorder, meta_train
from metarl.spec import WorldSpec
from metarl.warm_start import warm_state
from tests.experiments.every_agent import KINDS, config_of
from tests.experiments.process_settings import process_settings  # noqa: F401
from tests.experiments.test_train_cli import numbers

TINY = "tests.experiments.tiny_presets:tiny"


def train(*words: str) -> int:
    return main(["train", *words])


def state_at(folder: Path, iteration: int) -> Any:
    return CheckpointStore(folder / "checkpoints").load(iteration)["agent"]


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of six iterations, at runs/a."""
    monkeypatch.chdir(tmp_path)
    assert train(TINY, "--run-dir", "a") == 0
    return tmp_path / "a"


def test_a_new_run_starts_with_the_parameters_of_an_earlier_one_and_says_so(earlier: Path, tmp_path: Path) -> None:
    assert train(TINY, "--from", "a:4", "--run-dir", "b", "--agent.lr", "0.01", "--train.n-iterations", "2") == 0
    before, begun = state_at(earlier, 4), state_at(tmp_path / "b", 0)
    assert all(x.equal(y) for x, y in zip(begun["weights"], before["weights"], strict=True))
    assert not any(x.equal(y) for x, y in zip(begun["weights"], state_at(earlier, 6)["weights"], strict=True))
    facts = json.loads((tmp_path / "b" / "run.json").read_text())["warm_start"]
    ours = json.loads((earlier / "run.json").read_text())["run_id"]
    assert (facts["from"], facts["run"], facts["run_id"], facts["iteration"]) == ("a:4", "a", ours, 4)
    assert facts["env_steps"] == 4 * 240
    assert "warm_start" not in json.loads((earlier / "run.json").read_text())


def test_a_run_that_was_started_from_another_goes_on_without_it_bit_for_bit(
    earlier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--from", "a", "--run-dir", "whole", "--train.n-iterations", "4") == 0
    assert train("--from", "a", "--run-dir", "b", "--train.n-iterations", "2") == 0
    # As a kill before the first checkpoint leaves it.
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "iteration-000000002")
    shutil.rmtree(earlier)
    words = ["--from", "a", "--run-dir", "b", "--resume", "auto", "--train.n-iterations", "4"]
    assert train(*words) == 0
    assert "going on after iteration 0 of 4" in capsys.readouterr().out
    assert numbers(tmp_path / "b") == numbers(tmp_path / "whole")
    states = [state_fingerprint(state_at(tmp_path / name, 4)) for name in ("b", "whole")]
    assert states[0] == states[1]
    assert train(*["other" if word == "a" else word for word in words]) == 2
    assert "b was started from a and cannot become one from other" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "b" / "checkpoints")
    assert train("--run-dir", "b", "--resume", "--train.n-iterations", "5") == 2
    assert "b has lost the parameters that it started with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "a", "--agent.hidden", "16"], r"'weights/0' is float32 \[2, 8\] .*; agent.hidden was \[8\] there"),
        (["maml-navigation", "--from", "a"], "a holds a tests.metarl.tiny:TinyConfig agent and this run trains maml"),
        (
            ["--from", "a", "--world.name", "tests.experiments.runs.test_warm_start:seven_actions"],
            r"a was trained in 'gridworld' with action space Discrete\(5\), and this run's is Discrete\(7\)",
        ),
        (["--from", "nowhere"], "there is no run directory nowhere"),
        (["--from", "a:99"], "has no checkpoint of iteration 99; it has: "),
    ],
)
def test_a_run_that_does_not_fit_is_refused_before_anything_is_written(
    words: list[str], message: str, earlier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*words, "--run-dir", "b") == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert said.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def seven_actions(held_out: int) -> object:
    """A gridworld family whose world takes seven actions, of which three stay."""

    class Odd(GridWorldTasks):
        @property
        def spec(self) -> WorldSpec:
            return dataclasses.replace(super().spec, action_space=Discrete(7))

        def make_world(self, num_envs: int, *, device: torch.device | str = "cpu") -> Any:
            world: Any = super().make_world(num_envs, device=device)
            world.spec = dataclasses.replace(world.spec, action_space=Discrete(7))
            world.single_action_space = Discrete(7)
            world.action_space = batch_space(world.single_action_space, num_envs)
            honest = world.transition
            world.transition = lambda state, actions, *rest: honest(state, actions.clamp(max=4), *rest)
            return world

    return Odd(held_out)


def test_the_advice_after_a_nan_can_be_pasted_and_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "-it's $here"
    assert train(TINY, f"--run-dir={name}", "--agent.nan-at-update", "5") == 2
    advice = capsys.readouterr().err.rpartition("python -m metarl ")[2]
    command, *words = shlex.split(advice)
    assert [command, *words] == [
        "train",
        "--from",
        f"./{name}:4",
        "--agent.lr",
        "0.025",
        "--trust",
        "tests.metarl.tiny:TinyConfig",
    ]
    assert train(*words, "--run-dir", "b", "--agent.nan-at-update", "None") == 0
    begun = json.loads((tmp_path / "b" / "run.json").read_text())["warm_start"]
    assert begun["state"] == state_fingerprint(state_at(tmp_path / name, 4))
    # A run without a checkpoint is at iteration 0: what its seed makes it.
    assert train(TINY, "--run-dir", "c", "--agent.nan-at-update", "1") == 2
    words = shlex.split(capsys.readouterr().err.rpartition("python -m metarl train ")[2])
    assert words == ["--from", "c:0", "--agent.lr", "0.025", "--trust", "tests.metarl.tiny:TinyConfig"]
    assert train(*words, "--run-dir", "d", "--agent.nan-at-update", "None", "--train.n-iterations", "2") == 0
    config = read_config(tmp_path / "c")
    fresh = build_agent(config, build_tasks(config), torch.device("cpu"))
    assert state_at(tmp_path / "d", 0)["weights"][0].equal(fresh.state_dict()["weights"][0])


def test_evaluations_count_the_training_of_both_runs(earlier: Path, tmp_path: Path) -> None:
    assert train("--from", "a:4", "--run-dir", "b", "--train.n-iterations", "2") == 0
    assert train("--from", "b", "--run-dir", "c", "--train.n-iterations", "1") == 0
    assert main(["evaluate", "c"]) == 0
    (stored,) = (tmp_path / "c" / "results").glob("evaluation*.json")
    origin = json.loads(stored.read_text())["provenance"]
    assert origin["train_env_steps"] == (4 + 2 + 1) * 240
    assert origin["warm_start"]["run"] == "b"


def test_a_directory_whose_name_holds_a_colon_is_one(tmp_path: Path) -> None:
    (tmp_path / "a:3").mkdir()
    (tmp_path / "a:3" / run.CONFIG).write_text("{}")
    assert split_source(str(tmp_path / "a:3")) == (tmp_path / "a:3", "last")
    assert split_source(f"{tmp_path / 'a:3'}:7") == (tmp_path / "a:3", "7")
    assert split_source("a:best") == (Path("a"), "best")
    assert split_source("a:b") == (Path("a:b"), "last")


def tensors(value: Any, path: str = "") -> dict[str, Any]:
    """Return the tensors and counters of nested dicts and lists by their paths."""
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in tensors(part, f"{path}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for i, part in enumerate(value) for k, v in tensors(part, f"{path}/{i}").items()}
    return {path: value}


def _agent(name: str) -> Any:
    config = config_of(name)
    return build_agent(config, build_tasks(config), torch.device("cpu"))


@pytest.mark.parametrize("name", [n for n in KINDS if n not in ("scratch", "random")])
def test_every_kind_of_agent_starts_with_what_was_learnt_and_an_optimiser_that_knows_nothing(name: str) -> None:
    config, trained = config_of(name), _agent(name)
    settings = type(config.train)(n_iterations=2, n_tasks=3, validate_every_iters=0)
    meta_train(trained, build_tasks(config), settings, NullRecorder(), seed=0)
    fresh = _agent(name)
    fresh.load_state_dict(warm_state(fresh, trained.state_dict()))
    before, now, blank = (tensors(a.state_dict()) for a in (trained, fresh, _agent(name)))
    own = [f"/{entry}" for entry in fresh.learning_state]
    kept = [key for key in before if not any(key == o or key.startswith(f"{o}/") for o in own)]
    changed = [k for k in kept if k in blank and isinstance(blank[k], torch.Tensor) and not blank[k].equal(before[k])]
    assert changed, "training changed nothing that is taken over"
    assert all(now[k].equal(before[k]) if isinstance(now[k], torch.Tensor) else now[k] == before[k] for k in kept)
    moments = [k for k in now if "/adam/" in k or "_adam/" in k or "optimiser/" in k]
    assert [k for k in moments if "/state/" in k] == []
    assert all(now[k] == 0 for k in now if k.endswith("optimiser/n_updates"))


@pytest.mark.parametrize("name", ["rl2_gru", "maml", "pearl_product"])
def test_a_state_with_nan_in_it_is_neither_evaluated_nor_trained_on(name: str, tmp_path: Path) -> None:
    config = config_of(name)
    agent = build_agent(config, build_tasks(config), torch.device("cpu"))
    restore(agent, agent.state_dict(), tmp_path)  # as it is, it is one of this agent
    state = agent.state_dict()
    weights = next(v for v in tensors(state).values() if isinstance(v, torch.Tensor) and v.is_floating_point())
    weights.view(-1)[-1] = float("nan")
    with pytest.raises(CheckpointError, match="holds NaN or Inf in"):
        restore(agent, state, tmp_path)
