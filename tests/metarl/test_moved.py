"""Names that have moved answer from their old place for one release, and say where they are."""

from __future__ import annotations

from importlib import import_module

import pytest


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("metarl.tasks", "metarl.task_distribution", "TaskDistribution"),
        ("metarl.rollout", "metarl.collect", "first_step"),
        ("metarl.distributions", "metarl.action_distributions", "DiagonalGaussian"),
    ],
)
def test_a_name_that_has_moved_is_found_at_its_old_place_with_a_warning(old: str, new: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old}.{name} is now {new}.{name}"):
        found = getattr(import_module(old), name)
    assert found is getattr(import_module(new), name)


@pytest.mark.parametrize("old", ["metarl.tasks", "metarl.distributions"])
def test_a_name_that_never_was_there_is_an_attribute_error(old: str) -> None:
    assert not hasattr(import_module(old), "no_such_name")


@pytest.mark.parametrize(
    ("module", "old", "now"),
    [
        ("metarl.agent", "Step", "TimeStep"),
        ("metarl.agent", "Decision", "ActOutput"),
        ("metarl.loop", "Silent", "NullRecorder"),
    ],
)
def test_a_name_that_has_changed_is_found_by_its_old_one_with_a_warning(module: str, old: str, now: str) -> None:
    place = import_module(module)
    with pytest.warns(DeprecationWarning, match=f"{module}.{old} is now {module}.{now}"):
        found = getattr(place, old)
    assert found is getattr(place, now)
