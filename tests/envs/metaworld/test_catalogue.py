"""What the engine takes from upstream once per class: where episodes start, and what resets write into the model."""

from __future__ import annotations

import numpy as np
import pytest

from metarl import envs
from metarl.envs.metaworld import catalogue
from metarl.envs.metaworld.catalogue import reset_state, task_class
from metarl.envs.metaworld.tasks import goal_of, metaworld_module
from metarl.envs.metaworld.upstream import apply_task
from metarl.errors import ConfigError

pytestmark = pytest.mark.metaworld


def test_a_goal_at_which_upstream_would_search_for_ever_is_refused():
    kind = task_class("box-close-v3")
    with pytest.raises(ConfigError, match="too close together; upstream would look for another goal for ever"):
        reset_state(kind, np.array([0.0, 0.53, 0.02, 0.0, 0.72, 0.133]))


@pytest.mark.parametrize("name", ["door-lock-v3", "basketball-v3", "stick-pull-v3"])
def test_where_an_episode_starts_does_not_depend_on_what_was_reset_before(name):
    train = envs.make("metaworld/ML1", task=name).all("train")
    kind = task_class(name)
    for i in (3, 1, 4):  # whatever order they come in
        reset_state(kind, goal_of(train[i])[1])
    for i in (1, 3):
        state, obs = reset_state(kind, goal_of(train[i])[1])
        env = metaworld_module().ALL_V3_ENVIRONMENTS[name]()
        apply_task(env, train[i])
        expected, _ = env.reset()
        assert np.array_equal(obs, expected)
        assert np.array_equal(state.physics[1 : 1 + env.model.nq], env.data.qpos)
        at = 0
        for entry in kind.entries:
            field = getattr(env.model, entry.field).reshape(-1)
            assert np.array_equal(field[entry.start : entry.start + entry.size], state.model[at : at + entry.size])
            at += entry.size
        env.close()


def test_a_first_state_is_made_once_and_classes_are_shared():
    kind = task_class("reach-v3")
    goal = goal_of(envs.make("metaworld/ML1").all("train")[0])[1]
    assert task_class("reach-v3") is kind
    assert reset_state(kind, goal)[0] is reset_state(kind, goal.copy())[0]
    assert reset_state(kind, goal)[0] is not reset_state(kind, goal - np.array([0, 0, 0, 0, 0, 1e-12]))[0]
    assert task_class("reach-v3", "v1") is not kind


def test_a_missing_model_file_is_named_with_its_remedy(monkeypatch):
    environment = metaworld_module().ALL_V3_ENVIRONMENTS["coffee-pull-v3"]
    monkeypatch.setattr(environment, "model_name", property(lambda self: "/nowhere/coffee.xml"))
    with pytest.raises(
        ConfigError, match=r"coffee-pull-v3: .* \(.*/nowhere/coffee.xml.*\); install Meta-World anew"
    ) as caught:
        task_class("coffee-pull-v3")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert task_class("coffee-pull-v3").name == "coffee-pull-v3"  # once it is back


def test_what_resets_write_is_found_by_looking():
    written = {
        "door-lock-v3": ["door"],
        "basketball-v3": ["basket_goal", "goal"],
        "bin-picking-v3": [],
    }
    for name, names in written.items():
        kind = task_class(name)
        rows = [(e.field, e.start // 3) for e in kind.entries]
        access = {"body_pos": kind.model.body, "site_pos": kind.model.site}
        assert [access[field](row).name for field, row in rows] == names
        assert all(e.size == 3 and e.start % 3 == 0 for e in kind.entries)


def test_the_first_states_kept_are_the_last_ones_used(monkeypatch):
    monkeypatch.setattr(catalogue, "MAX_STARTS", 2)
    monkeypatch.setattr(catalogue, "_starts", type(catalogue._starts)())
    kind = task_class("reach-v3")
    goals = [goal_of(task)[1] for task in (envs.make("metaworld/ML1").all("train")[i] for i in range(3))]
    first = [reset_state(kind, goals[i])[0] for i in (0, 1, 0, 2)]
    assert first[0] is first[2]
    assert reset_state(kind, goals[0])[0] is first[0]
    again = reset_state(kind, goals[1])[0]  # the one that had to go
    assert again is not first[1]
    assert np.array_equal(again.physics, first[1].physics)
    assert len(catalogue._starts) == 2
