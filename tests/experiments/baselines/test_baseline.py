"""The baseline command where stable-baselines3 is not needed: settings, refusals, and what it says without it."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from metarl import envs
from metarl.errors import ConfigError
from metarl.experiments import baselines as baseline
from metarl.experiments.baselines import OneTask, main
from metarl.experiments.baselines.sb3_options import SB3Config
from metarl.seeding import generator
from metarl.task_distribution import check_distribution


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"algorithm": "pp"}, "must be 'ppo' or"),
        ({"steps": 0}, "baseline steps"),
        ({"num_envs": 0}, "baseline num_envs"),
        ({"hidden": (4, 0)}, "at least 1 unit"),
        ({"lr": 0.0}, "lr must be > 0"),
        ({"gamma": 1.5}, "gamma must lie in"),
        ({"rollout_steps": 5, "num_envs": 1, "minibatches": 2}, "choose a divisor"),
        ({"rollout_steps": 4, "num_envs": 1, "minibatches": 4}, "2 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SB3Config(**wrong)


def test_sac_has_no_minibatches_to_share() -> None:
    assert SB3Config("sac", rollout_steps=5, num_envs=1, minibatches=2).minibatches == 2


def test_without_the_extra_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'metarl-worlds\[baselines\]'"):
        main(["navigation", "--n-tasks", "1"])
    with pytest.raises(ConfigError, match="baselines"):
        baseline.run_baseline(envs.make("gridworld"), baseline.Protocol(), SB3Config())


def test_an_unknown_flag_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="--n-tasks"):
        main(["navigation", "--n-task", "1"])


def test_a_distribution_of_one_task_gives_that_task_and_no_other() -> None:
    family = envs.make("navigation")
    task = family.sample("test", 3, generator(0))[1]
    one = check_distribution(OneTask(family, task))
    assert one.sample("train", 4, generator(0)) == task.repeat(4)
    assert one.all("test") == task
    assert one.fingerprint() != OneTask(family, family.sample("test", 3, generator(0))[2]).fingerprint()
