"""What `doctor` finds wrong with a world before all else, `train` refuses in the same words, with nothing written."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import metarl
from metarl.agents.baselines.random_policy import RandomConfig
from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.conformance import CHECKS, TRIED_OUT, check_world, try_out
from metarl.envs import WORLDS
from metarl.errors import ConfigError
from metarl.evaluation import evaluate
from metarl.experiments import doctor
from metarl.experiments.cli.main import main
from metarl.experiments.config import AnyConfig, ExperimentConfig, LogConfig, WorldConfig
from metarl.experiments.overrides import Request
from metarl.experiments.train import start
from metarl.loop import LoopSettings
from metarl.protocol import Protocol
from metarl.signals import StopSignals
from tests.envs import broken_worlds
from tests.envs.gym import broken_gym
from tests.envs.gym.lamps import Family, Lamps
from tests.experiments.process_settings import process_settings  # noqa: F401

pytestmark = pytest.mark.usefixtures("process_settings")

WORLD = "tests.envs.broken_worlds:make"


def config_of(world: str, **options: Any) -> AnyConfig:
    """Return a run of a second on `world`: an agent that takes any kind of action, two iterations."""
    return ExperimentConfig(
        name="contract",
        world=WorldConfig(world, options),
        agent=RL2Config(episodes_per_trial=2, hidden=4, ppo=PPOConfig(epochs=1, minibatches=1)),
        train=LoopSettings(n_iterations=2, n_tasks=4, validate_every_iters=2, n_validation_tasks=3),
        evaluation=Protocol(adapt_episodes=1, n_seeds=1, n_tasks=4),
        log=LogConfig(wandb="disabled", progress="off"),
        threads=1,
    )


def train(config: AnyConfig, folder: Path) -> int:
    return start(Request(config, folder, going_on=False), StopSignals())


def findings(folder: Path, world: str, option: str, kind: str) -> list[dict[str, str]]:
    """Return what doctor finds, which is not nothing."""
    path = folder / "findings.json"
    words = [world, "--option", f"{option}={kind}", "--num-envs", "4", "--steps", "8", "--json", str(path)]
    assert doctor.main(words) == 1
    return list(json.loads(path.read_text())["findings"])


def refused_alike(folder: Path, world: str, option: str, kind: str) -> tuple[str, str]:
    """Return the check that fails first and its sentence, in which doctor and train agree; nothing is left behind."""
    first = next(f for f in findings(folder, world, option, kind) if f["status"] == "fail")
    with pytest.raises(ConfigError) as refused:
        train(config_of(world, **{option: kind}), folder / "run")
    said = str(refused.value)
    assert f"does not keep the contract, {first['check']}: {first['message']} (" in said
    assert "\n" not in said
    assert not (folder / "run").exists()
    return first["check"], first["message"]


@pytest.mark.parametrize("kind", broken_worlds.BROKEN)
def test_doctor_and_train_refuse_a_broken_world_with_the_same_sentence(kind: str, tmp_path: Path) -> None:
    check, message = refused_alike(tmp_path, WORLD, "kind", kind)
    assert check == kind.partition(":")[0]
    assert str(Path(metarl.__file__).parent) not in message, "the checks themselves stumbled"


@pytest.mark.parametrize("kind", broken_gym.BROKEN)
def test_doctor_and_train_refuse_a_broken_environment_with_the_same_sentence(kind: str, tmp_path: Path) -> None:
    _, message = refused_alike(tmp_path, "tests.envs.gym.broken_gym:Walks", "case", kind)
    assert re.search(broken_gym.says(kind), message)


@pytest.mark.parametrize("kind", broken_worlds.NOT_BUILT)
def test_what_builds_no_task_distribution_is_refused_by_both_alike(kind: str, tmp_path: Path) -> None:
    message = broken_worlds.NOT_BUILT[kind][1]
    with pytest.raises(ConfigError, match=message) as told:
        doctor.main([WORLD, "--option", f"kind={kind}"])
    with pytest.raises(ConfigError) as refused:
        train(config_of(WORLD, kind=kind), tmp_path / "run")
    assert str(refused.value) == str(told.value)
    assert not (tmp_path / "run").exists()


def test_there_are_many_ways_to_break_a_world() -> None:
    assert len(broken_worlds.BROKEN) + len(broken_worlds.NOT_BUILT) + len(broken_gym.BROKEN) >= 200
    assert {kind.partition(":")[0] for kind in broken_worlds.BROKEN} == set(TRIED_OUT) - {"env actions"}
    assert tuple(CHECKS)[: len(TRIED_OUT)] == TRIED_OUT


@pytest.mark.parametrize("kind", broken_worlds.SOUND)
def test_what_the_broken_ones_were_made_of_trains(kind: str, tmp_path: Path) -> None:
    assert train(config_of(WORLD, kind=kind), tmp_path / "run") == 0
    assert (tmp_path / "run" / "checkpoints").is_dir()


def test_a_fault_that_spoils_no_training_is_told_by_doctor_alone(tmp_path: Path) -> None:
    found = findings(tmp_path, WORLD, "kind", "out of bounds")
    assert [f["check"] for f in found if f["status"] == "fail"] == ["observation bounds"]


OPTIONS: dict[str, dict[str, Any]] = {
    "revealed": {"world": "gridworld", "what": "task"},
    "npc/companion": {"identity": "id"},
    "npc/assistant": {"n_catalogues": 64},
}
BUILT_IN = sorted(n for n in WORLDS.builtin if not n.startswith("metaworld/") and n != "npc/assets-replay")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_world_of_tensors_that_comes_along_passes_the_try_out(name: str) -> None:
    assert try_out(lambda: WORLDS.make(name, **OPTIONS.get(name, {}))).name


def test_a_run_whose_world_broke_since_is_neither_continued_nor_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert train(config_of(WORLD, kind="lamps"), folder) == 0
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    longer = [str(folder), "--resume", "--train.n-iterations", "3"]
    monkeypatch.setitem(broken_worlds.SOUND, "lamps", broken_worlds.BROKEN["api: observation [B] for (2,)"])
    for words in (["train", "--run-dir", *longer], ["evaluate", str(folder)]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "observation(): the observation is torch.float32 (4,), expected torch.float32 (4, 2)" in said
        assert said.count("\n") == 1
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    monkeypatch.undo()
    assert main(["train", "--run-dir", *longer]) == 0


@pytest.mark.parametrize("references", [None, {"oracle": [1.0]}, {"oracle": 1.0}, {"random": ["1", "2"]}])
def test_references_of_another_kind_are_refused_before_anything_is_played(references: Any, tmp_path: Path) -> None:
    family = broken_worlds.family(references=lambda self, split, n: references)()
    found = next(f for f in check_world(family, n_steps=8, only=["references"]) if f.check == "references")
    assert found.status == "fail"
    with pytest.raises(ConfigError) as refused:
        evaluate(RandomConfig().build(family.spec, seed=0), family, Protocol(adapt_episodes=1))
    assert str(refused.value) == found.message


def test_an_object_that_is_built_already_is_taken_by_both(tmp_path: Path) -> None:
    assert doctor.main(["tests.experiments.test_contract:READY", "--steps", "8"]) == 0
    assert train(config_of("tests.experiments.test_contract:READY"), tmp_path / "run") == 0


READY = Family()


class Tiring(Lamps):
    """Works for some thirty steps of each world, which no try-out can wait for."""

    steps = 0

    def transition(self, state: Any, actions: torch.Tensor, streams: Any, clock: torch.Tensor) -> Any:
        self.steps += 1
        if self.num_envs == 4 * 2 and self.steps > 3:
            return torch.zeros(3) + torch.zeros(4)
        return super().transition(state, actions, streams, clock)


def tiring() -> Any:
    return broken_worlds.family(world=Tiring)()


def tired_run() -> AnyConfig:
    """A run whose world raises in training: 8 envs, which no try-out has."""
    config = config_of("tests.experiments.test_contract:tiring")
    return dataclasses.replace(config, train=dataclasses.replace(config.train, n_tasks=8))


def test_what_a_strangers_world_raises_is_one_line_that_names_world_method_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "tests.experiments.test_contract:tired_run", "--run-dir"]
    assert main([*words, str(tmp_path / "a")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: world 'lamps': step() raised RuntimeError at ")
    assert f"{Path(__file__).name}:" in said
    assert "doctor" in said
    assert said.count("\n") == 1
    monkeypatch.setenv("METARL_TRACEBACK", "1")
    assert main([*words, str(tmp_path / "b")]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_of_our_own_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def transition(self: Any, *given: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr("metarl.envs.classic.gridworld.GridWorld.transition", transition)
    monkeypatch.setattr("metarl.experiments.build.try_out", lambda source, **_: source())
    with pytest.raises(RuntimeError, match="ours"):
        main(["train", "tests.experiments.tiny_presets:tiny", "--run-dir", str(tmp_path / "run")])
