"""Every agent, in every kind it comes in: stopped and resumed from the disk, it equals one that was never stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest

from metarl import agents, run
from metarl.agents.maml.config import InnerRule, Outer
from metarl.agents.maml.inner_loop import Objective
from metarl.agents.memory.memories import Memory
from metarl.agents.metric.config import EncoderKind
from metarl.agents.metric.encoder import ReaderKind
from metarl.agents.rl2.agent import RL2
from metarl.checkpoint import CheckpointStore, state_fingerprint
from metarl.experiments.build import read_config
from metarl.experiments.codec import agent_type
from metarl.experiments.overrides import Request, check_changes
from metarl.experiments.train import start
from metarl.log import WALL_CLOCK_KEYS
from metarl.signals import StopSignals
from tests.experiments.every_agent import KINDS, N_ITERATIONS, config_of
from tests.experiments.process_settings import process_settings  # noqa: F401

pytestmark = pytest.mark.usefixtures("process_settings")


def train(name: str, folder: Path, n_iterations: int, *, device: str = "cpu") -> None:
    """Do what the command does after parsing its words, which takes longer than these runs: begin, or go on."""
    config = config_of(name)
    settings = dataclasses.replace(config.train, n_iterations=n_iterations)
    config = dataclasses.replace(config, train=settings, device=device)
    going_on = run.is_run(folder)
    if going_on:
        config = check_changes(read_config(folder), config)
    assert start(Request(config, folder, going_on=going_on), StopSignals()) == 0


def outcome(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return a digest of the last checkpoint, optimisers, buffers and counters included, and all numbers logged."""
    numbers = [{k: v for k, v in r.items() if k not in WALL_CLOCK_KEYS} for r in run.history(folder)]
    return state_fingerprint(CheckpointStore(folder / "checkpoints").load(N_ITERATIONS)), numbers


@pytest.mark.parametrize("name", KINDS)
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(name, whole, N_ITERATIONS)
    for n_iterations in (2, N_ITERATIONS):
        train(name, broken, n_iterations)
    assert outcome(broken) == outcome(whole)
    assert [r["iteration"] for r in outcome(whole)[1]] == list(range(1, N_ITERATIONS + 1))


def test_an_agent_that_forgets_a_part_of_its_state_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: one of several counters starts at zero again."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train("rl2_gru", whole, N_ITERATIONS)
    load = RL2.load_state_dict

    def forgetful(self: RL2, state: Any) -> None:
        load(self, {**state, "optimiser": {**state["optimiser"], "n_updates": 0}})

    monkeypatch.setattr(RL2, "load_state_dict", forgetful)
    train("rl2_gru", broken, 2)
    train("rl2_gru", broken, N_ITERATIONS)
    assert outcome(broken)[0] != outcome(whole)[0]
    assert outcome(broken)[1] != outcome(whole)[1]


def test_no_agent_and_no_kind_of_one_is_left_out() -> None:
    """What is added to AGENTS, or to a choice of an agent's config, must be added to KINDS too."""
    configs = [config for _, config in KINDS.values()]
    assert {agent_type(config) for config in configs} == set(agents.AGENTS.builtin)
    choices = {
        ("rl2", "memory"): Memory, ("maml-trpo", "outer"): Outer, ("maml-trpo", "inner_rule"): InnerRule,
        ("maml-trpo", "inner_objective"): Objective, ("metric", "encoder"): EncoderKind,
        ("metric", "reader"): ReaderKind,
    }  # fmt: skip
    for (agent, field), choice in choices.items():
        found = {getattr(config, field) for config in configs if config.algorithm == agent}
        assert found == set(get_args(choice)), (agent, field)
    stepped = {config.step_sizes for config in configs if config.algorithm == "maml-trpo"}
    assert stepped == {"fixed", "per-parameter", "per-parameter-and-step"}
    assert {config.encoder for config in configs if config.algorithm == "pearl"} == {"product", "prior-product", "gru"}
