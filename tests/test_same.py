"""The guard that holds a rebuilt tree to the numbers of the one before, and what of it holds on every machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from metarl import envs
from metarl.envs.classic import gridworld
from tests.experiments.every_agent import config_of
from tools.digests import config_digest, digest, measure, played
from tools.same import EXACT, compare, measured

BEFORE = {"agent/a": "1", "world/b": "2", "preset/c": "3"}


def test_presets_tasks_and_worlds_that_are_exact_everywhere_are_those_committed() -> None:
    """Where a change is meant: `python -m tools.same --write-exact`, and a line in the changelog under Numbers."""
    committed, found = json.loads(EXACT.read_text()), measure(exact=True)
    assert compare(committed, found) == []
    assert committed.keys() == found.keys()


def test_equal_digests_pass_and_so_do_new_ones() -> None:
    assert compare(BEFORE, BEFORE) == []
    assert compare(BEFORE, BEFORE | {"world/new": "4"}) == []


def test_a_changed_digest_and_a_missing_one_are_named() -> None:
    assert compare(BEFORE, BEFORE | {"world/b": "9"}) == ["1 of 3 differ:", "  world/b"]
    assert compare(BEFORE, {"agent/a": "1", "preset/c": "8"}) == [
        "1 of 3 differ:", "  preset/c", "1 of 3 are missing:", "  world/b",
    ]  # fmt: skip


def test_a_digest_knows_every_bit_and_name_but_not_the_order_of_names() -> None:
    value = {"a": torch.tensor([1.0, 2.0]), "b": [3, (4.0, None)]}
    others: list[Any] = [
        {**value, "a": torch.tensor([1.0, 2.0000002])}, {**value, "a": torch.tensor([1.0, 2.0]).double()},
        {**value, "a": torch.tensor([[1.0, 2.0]])}, {"A": value["a"], "b": value["b"]}, {**value, "b": [3, 4.0, None]},
        {**value, "a": torch.tensor([-0.0, 2.0])}, {**value, "c": None},
    ]  # fmt: skip
    assert digest(dict(reversed(value.items()))) == digest(value)
    assert len({digest(v) for v in (value, *others)}) == len(others) + 1


def test_steps_of_a_world_know_a_reward_that_changed_by_one_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    family = envs.make("gridworld")

    def steps() -> str:
        return played(family.make_world(3), family.all("train")[:3], 20)

    before = steps()
    assert steps() == before
    monkeypatch.setattr(gridworld, "STEP_REWARD", -0.10000001)
    assert steps() != before


def test_a_config_is_known_by_its_settings_and_its_algorithm() -> None:
    config = config_of("rl2_gru")
    assert config_digest(config) == config_digest(config_of("rl2_gru"))
    other = dataclasses.replace(config, agent=dataclasses.replace(config.agent, hidden=9))
    names = ("rl2_lstm", "varibad", "random")
    assert len({config_digest(c) for c in (config, other, *map(config_of, names))}) == 5


PROGRAM = """
import json, os, pathlib, sys
import agents
threads = os.environ["OMP_NUM_THREADS"]
pathlib.Path(sys.argv[2]).write_text(json.dumps({"agent": agents.WEIGHT, "threads": threads}))
"""


def tree(folder: Path, package: str) -> Path:
    """Return a tree with a measuring program and a package of its own."""
    (folder / "tools").mkdir(parents=True)
    (folder / "tools" / "__init__.py").touch()
    (folder / "tools" / "same.py").write_text(PROGRAM)
    (folder / "agents.py").write_text(package)
    return folder


def test_each_tree_is_measured_by_its_own_program_and_packages(tmp_path: Path) -> None:
    trees = {"base": tree(tmp_path / "a", "WEIGHT = '1'"), "here": tree(tmp_path / "b", "WEIGHT = '2'")}
    before, now = measured(trees, tmp_path)
    assert (before, now) == ({"agent": "1", "threads": "1"}, {"agent": "2", "threads": "1"})
    assert compare(before, now) == ["1 of 2 differ:", "  agent"]


def test_a_tree_that_cannot_be_measured_is_named(tmp_path: Path) -> None:
    trees = {"base": tree(tmp_path / "a", "WEIGHT = '1'"), "here": tree(tmp_path / "b", "raise SystemExit(3)")}
    with pytest.raises(SystemExit, match="here could not be measured"):
        measured(trees, tmp_path)
