"""Tasks in shares: sums over all of them are the same, whatever is held in memory at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.agents.maml.agent import MAML, MAMLConfig
from metarl.agents.maml.meta_batch import shares
from metarl.agents.maml.trust_region import flatten
from metarl.errors import ConfigError
from metarl.rollout import Trial
from metarl.seeding import generator
from metarl.trial import run_trial

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two steps": {"inner_steps": 2},
    "first order": {"second_order": False},
    "explores": {"exploration_coef": 1.0},
    "some rows": {"fisher_rows": 7},
    "dice": {"inner_objective": "dice"},
    "context": {"context": 2, "adapt": ("context",)},
}


def made(**options: Any) -> tuple[MAML, Trial]:
    """Return an agent and a training trial on five tasks of navigation."""
    family = envs.make("navigation")
    world = family.make_world(10)
    well = {"cg_iters": 4, "damping": 0.01}  # a system that does not amplify rounding
    agent = MAMLConfig(hidden=(8,), episodes_per_step=2, **well, **options).build(world.spec, seed=0)
    trial = run_trial(world, agent, family.sample("train", 5, generator(0)), agent.train_phases, seed=0)
    return agent, trial


def updated(trial: Trial, **options: Any) -> tuple[Tensor, dict[str, float]]:
    agent, _ = made(**options)
    metrics = agent.update(trial, generator=generator(1))
    return flatten(list(agent.parameters().values())), metrics


def test_shares_hold_every_task_once_and_weigh_as_much_as_they_hold() -> None:
    agent, trial = made(exploration_coef=1.0)
    batch = agent.meta_batch(trial)
    assert batch.credit is not None
    held = shares(batch, 2)
    assert [(s.tasks.start, s.tasks.stop) for s in held] == [(0, 2), (2, 4), (4, 5)]
    assert [s.weight for s in held] == pytest.approx([0.4, 0.4, 0.2])
    assert torch.equal(torch.cat([s.batch.query.obs for s in held]), batch.query.obs)
    assert torch.equal(torch.cat([s.batch.supports[0].advantage for s in held]), batch.supports[0].advantage)
    assert torch.equal(torch.cat([s.batch.credit for s in held if s.batch.credit is not None]), batch.credit)
    assert [len(shares(batch, n)) for n in (None, 5, 99, 1)] == [1, 1, 1, 5]


@pytest.mark.parametrize("name", OPTIONS)
def test_the_step_does_not_depend_on_how_many_tasks_are_held(name: str) -> None:
    options = OPTIONS[name]
    agent, trial = made(**options)
    before = flatten(list(agent.parameters().values()))
    whole, metrics = updated(trial, **options)
    for n in (1, 2):
        by_share, same = updated(trial, tasks_at_once=n, **options)
        assert float((by_share - whole).norm() / (whole - before).norm()) < 2e-4
        assert same == pytest.approx(metrics, rel=1e-2, abs=1e-5)
    assert torch.equal(updated(trial, tasks_at_once=5, **options)[0], whole)  # all at once: the same bits


def test_a_share_that_was_left_out_would_be_noticed() -> None:
    """Negative control: four of the five tasks give another step."""
    _, trial = made()
    whole = updated(trial)[0]
    agent, _ = made()
    batch = agent.meta_batch(trial)
    agent.meta_batch = lambda _: batch.tasks(slice(0, 4))  # type: ignore[method-assign]
    before = flatten(list(agent.parameters().values()))
    agent.update(trial, generator=generator(1))
    fewer = flatten(list(agent.parameters().values()))
    assert float((fewer - whole).norm() / (whole - before).norm()) > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks_at_once": 0}, "tasks_at_once must be >= 1, or None, got 0"),
        ({"tasks_at_once": 2, "outer": "ppo"}, "tasks_at_once is for outer='trpo'"),
        ({"tasks_at_once": 2, "outer": "reptile", "second_order": False}, "tasks_at_once is for outer='trpo'"),
    ],
)
def test_where_shares_do_not_apply_they_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(MAMLConfig(), **options)
