"""A run that dies, or whose disk fails, at any operation on any file goes on to what it would have been."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch

from tests.experiments.crash.crash_points import Trial, distinct_kills, first_and_last, one_failure_each
from tests.experiments.crash.crash_runs import tiny_config, warm
from tests.experiments.process_settings import process_settings  # noqa: F401


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Trial, list[str], dict[str, Any]]]:
    """Return a run, all of its operations on files, and what it leaves."""
    threads = torch.get_num_threads()
    with warm(tiny_config(), tmp_path_factory.mktemp("crash") / "place") as trial:
        operations = trial.operations()
        yield trial, operations, trial.outcome()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_a_run_comes_to_every_kind_of_operation(undisturbed):
    _, operations, outcome = undisturbed
    said = "\n".join(operations)
    for part in (
        "rename .run",
        "write run/metrics",
        "replace run/checkpoints/.",
        "rmdir run/checkpoints/.old",
        "events",
    ):
        assert part in said
    assert json.loads(outcome["best"])["iteration"] in (2, 4)
    assert len(outcome["history"]) == 4
    assert {step for _, _, step in outcome["scalars"]} == {r["env_steps"] for r in outcome["history"]}


def test_a_kill_at_any_operation_or_in_the_middle_of_any_write_changes_nothing(undisturbed):
    trial, operations, outcome = undisturbed
    tried = list(trial.tried(outcome, distinct_kills(operations)))
    assert len(tried) > 90
    assert [t for t in tried if t[1]] == []


def test_a_disk_that_fails_at_any_operation_is_one_line_and_changes_nothing(undisturbed):
    """One of three faults each, in turn, at the first and the last operation of each kind."""
    trial, operations, outcome = undisturbed
    tried = list(trial.tried(outcome, first_and_last(one_failure_each(operations))))
    assert len(tried) > 90
    assert [t for t in tried if t[1]] == []


def test_a_run_killed_at_its_end_is_repaired_although_the_repair_is_killed_and_fails_too(undisturbed):
    trial, operations, outcome = undisturbed
    last = max(i for i, operation in enumerate(operations) if operation.startswith("rename run/checkpoints/.tmp"))
    killed = trial.place.with_name("killed")
    trial.reset()
    trial.run("kill", last + 1)  # the last checkpoint is there; older ones and the sink are not dealt with
    shutil.copytree(trial.place, killed)
    before = replace(trial, before=killed)
    again = before.operations()
    points = chain(distinct_kills(again), first_and_last(one_failure_each(again)))
    tried = list(before.tried(outcome, points))
    assert len(tried) > 60
    assert [t for t in tried if t[1]] == []
