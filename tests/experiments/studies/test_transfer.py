"""`transfer`: what it measures of a library, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from metarl import envs
from metarl.agents.metric.agent import Metric, MetricConfig
from metarl.agents.metric.transfer_regret import others, rank_correlation
from metarl.errors import ConfigError
from metarl.experiments.cli.main import main
from metarl.experiments.config import AnyConfig, WorldConfig
from metarl.experiments.studies.transfer import known_tasks, library_tasks, rank_agreement, value_matrix
from metarl.seeding import generator
from metarl.tasks import Tasks
from metarl.trial import run_trial
from tests.experiments.process_settings import process_settings  # noqa: F401
from tests.experiments.tiny_presets import tiny

PRESET = "tests.experiments.studies.test_transfer:metric"
SMALL = MetricConfig(
    n_library=5, neighbours=2, hidden=(6,), reader_hidden=(8,), embedding=3, context_size=8, support_episodes=2,
    episodes_per_step=2, warmup_iters=0, policy_steps=2, metric_steps=2,
)  # fmt: skip


def metric() -> AnyConfig:
    """A library of five policies on the point robot."""
    world = WorldConfig("point-robot", {"n_train": 5, "n_validation": 5, "n_test": 5})
    return dataclasses.replace(tiny(), name="metric", world=world, agent=SMALL)


def _agent(goals: list[float] | None = None, **options: Any) -> tuple[Metric, Any]:
    """Return an agent and its family; with `goals` the training goals are those points of the x axis."""
    family = envs.make("point-robot", **options)
    if goals is not None:
        family._finite["train"] = Tasks.of("point-robot", goal=torch.tensor([[x, 0.0] for x in goals]))
    world = family.make_world(8)
    agent = SMALL.build(world.spec, seed=0)
    for i in range(4):
        trial = run_trial(world, agent, family.sample("train", 4, generator(0, i)), agent.train_phases, seed=i)
        agent.update(trial, generator=generator(1, i))
    return agent, family


def _walker(agent: Metric, slot: int, goal: torch.Tensor) -> None:
    """Make the policy in `slot` walk straight to `goal`, hardly ever astray."""
    params = agent.library.params
    for name in ("policy.0.weight", "policy.0.bias", "policy.1.weight", "policy.1.bias"):
        params[name][slot] = 0.0
    params["policy.0.weight"][slot, :2] = -0.1 * torch.eye(2)
    params["policy.0.bias"][slot, :2] = 0.1 * goal
    params["policy.1.weight"][slot, :, :2] = 40.0 * torch.eye(2)
    params["log_std"][slot] = -5.0


@pytest.fixture
def walkers() -> tuple[Metric, Any]:
    """Return an agent whose library knows the best policy of each of its tasks; no two are equally far from a third."""
    agent, family = _agent([-0.9, -0.5, 0.1, 0.4, 0.95], n_train=5)
    tasks, slots = library_tasks(agent, family)
    for slot, goal in zip(slots.tolist(), tasks.values["goal"], strict=True):
        _walker(agent, slot, goal)
    return agent, family


def test_values_are_returns_of_row_task_and_column_policy(walkers: tuple[Metric, Any]) -> None:
    """A policy that walks to its own goal earns less the farther the task's goal is from there."""
    agent, family = walkers
    tasks, slots = library_tasks(agent, family)
    values = value_matrix(agent, family.make_world(5 * 200), tasks, slots, seed=3)
    apart = torch.cdist(tasks.values["goal"], tasks.values["goal"])
    assert values.shape == (5, 5)
    assert torch.equal(values.argmax(1), torch.arange(5))
    for row in range(5):
        assert torch.equal(values[row].argsort(descending=True), apart[row].argsort())


def test_a_metric_that_knows_the_goals_has_a_rank_correlation_of_one_and_its_opposite_of_minus_one(
    walkers: tuple[Metric, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, family = walkers
    tasks, slots = library_tasks(agent, family)
    apart = torch.cdist(tasks.values["goal"], tasks.values["goal"])
    for sign in (1.0, -1.0):
        nats = torch.zeros(5, 5)
        nats[:, slots] = -sign * apart
        monkeypatch.setattr(agent, "similarity", lambda rollout, nats=nats: nats)
        found = known_tasks(agent, family, n_episodes=200, seed=0)
        assert found["spearman"]["value"] == pytest.approx(sign)
        assert found["own_found"] == (1.0 if sign > 0 else 0.0)
        assert found["regret"] == "range"
    assert found["own_return"] > found["average_policy_return"]


def test_an_endless_training_split_and_a_library_of_two_are_refused() -> None:
    agent, family = _agent()
    with pytest.raises(ConfigError, match="endless"):
        library_tasks(agent, family)
    with pytest.raises(ConfigError, match="holds 2 tasks"):
        library_tasks(*_agent(n_train=2))


@pytest.mark.usefixtures("process_settings")
def test_the_command_measures_a_run_and_writes_the_numbers_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    assert main(["train", PRESET, "--run-dir", folder]) == 0
    words = ["study", "transfer", folder, "--episodes", "2", "--n-tasks", "4", "--finetunings", "1"]
    assert main(words) == 0
    written = tmp_path / "run" / "results" / "transfer+episodes-2+n-tasks-4+finetunings-1.json"
    found = json.loads(written.read_text())
    held_out = found["held_out_tasks"]
    assert [len(v) for v in held_out["phases"].values()] == [3] * 4
    first = {v[0] for k, v in held_out["phases"].items() if k != "actions"}
    assert len(first) == 1  # the same worlds and noise; a mixture draws more of it
    lead = held_out["lead_of_start"]["nearest"]
    assert lead["value"] == pytest.approx(held_out["phases"]["nearest"][1] - held_out["phases"]["average"][0])
    assert lead["low"] <= lead["value"] <= lead["high"]
    assert -1.0 <= found["known_tasks"]["spearman"]["value"] <= 1.0
    assert f"{lead['value']:.2f} [" in capsys.readouterr().out
    before = written.read_text()
    assert main(words) == 0
    assert written.read_text() == before
    assert main(["study", "transfer", folder, "--episodes", "0"]) == 2


@pytest.mark.usefixtures("process_settings")
def test_a_run_of_another_agent_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "run")
    assert main(["train", "tests.experiments.tiny_presets:tiny", "--run-dir", folder, "--train.n-iterations", "1"]) == 0
    assert main(["study", "transfer", folder]) == 2
    assert "needs a metric-based one" in capsys.readouterr().err


def test_the_interval_of_the_rank_agreement_covers_although_every_task_stands_in_all_rows() -> None:
    """Tasks on a line, distances and regrets their gaps with noise; the mean over rows as if rows were independent
    draws would be covered by far fewer."""
    noise, n_tasks, found, naive = torch.Generator().manual_seed(0), 12, [], []
    own = torch.arange(n_tasks)
    for _ in range(150):
        place = torch.randn(n_tasks, generator=noise)
        gap = (place[:, None] - place).abs()
        distance, cost = (gap + 0.7 * torch.randn(n_tasks, n_tasks, generator=noise) for _ in range(2))
        found.append(rank_agreement(distance, cost))
        each = rank_correlation(others(distance, own), others(cost, own)).numpy()
        naive.append(scipy.stats.t.interval(0.95, n_tasks - 1, loc=each.mean(), scale=scipy.stats.sem(each)))
    truth = float(np.mean([f["value"] for f in found]))
    assert np.mean([f["low"] <= truth <= f["high"] for f in found]) >= 0.9
    assert np.mean([low <= truth <= high for low, high in naive]) < 0.9
    few = rank_agreement(torch.rand(4, 4, generator=noise), torch.rand(4, 4, generator=noise))
    assert few["low"] is few["high"] is None
