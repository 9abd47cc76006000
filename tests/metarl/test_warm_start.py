"""A fresh agent takes over what another one learnt, and nothing of how it learnt."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from metarl.errors import ConfigError
from metarl.warm_start import warm_state


class Held:
    """Anything with a name and a state."""

    def __init__(self, state: Any, learning_state: tuple[str, ...] = ()) -> None:
        self.name, self.state, self.learning_state = "held", state, learning_state

    def state_dict(self) -> Any:
        return self.state


def take(fresh: Any, stored: Any, *learning_state: str) -> Any:
    return warm_state(Held(fresh, learning_state), stored)  # type: ignore[arg-type]  # state_dict is all that is asked


ZERO, ONE = torch.zeros(2), torch.ones(2)


def test_parameters_come_from_the_earlier_run_and_what_belongs_to_learning_stays_fresh() -> None:
    fresh = {"net": {"w": ZERO, "adam": {}}, "adam": {"step": 0}, "count": 0}
    stored = {"net": {"w": ONE, "adam": {0: ONE}}, "adam": {"step": 7, "m": ONE}, "count": 5}
    found = take(fresh, stored, "adam", "net/adam")
    assert found["net"]["w"].equal(ONE)
    assert (found["net"]["adam"], found["adam"], found["count"]) == ({}, {"step": 0}, 5)
    assert take({**fresh, "adam": {}}, stored)["adam"] == stored["adam"]  # an agent that says nothing takes all


def test_what_is_empty_in_a_fresh_agent_may_have_grown() -> None:
    fresh = {"keys": [], "rows": torch.zeros(0, 2), "w": ZERO}
    found = take(fresh, {"keys": ["a"], "rows": torch.ones(1, 2), "w": ONE})
    assert found["keys"] == ["a"]
    assert found["rows"].equal(torch.ones(1, 2))
    with pytest.raises(ConfigError, match=r"'rows' is float32 \[1, 3\] in the earlier run and float32 \[0, 2\] here"):
        take(fresh, {"keys": [], "rows": torch.ones(1, 3), "w": ONE})


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"a": {"w": torch.ones(3)}}, r"'a/w' is float32 \[3\] in the earlier run and float32 \[2\] here"),
        ({"a": {"w": ONE.double()}}, r"'a/w' is float64 \[2\] in the earlier run and float32 \[2\] here"),
        ({"a": {}}, "'a/w' is in this agent and not in the earlier run"),
        ({"a": {"w": ONE, "v": ONE}}, "'a/v' is in the earlier run and not in this agent"),
        ({"a": [ONE]}, "'a' is a list of 1 in the earlier run and a dict here"),
    ],
)
def test_the_first_entry_that_does_not_fit_is_named(stored: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        take({"a": {"w": ZERO}}, stored)


def test_an_agent_that_learns_nothing_cannot_be_started_from() -> None:
    with pytest.raises(ConfigError, match="agent 'held' keeps nothing between tasks"):
        take({"seed": 0}, {"seed": 1})
