"""Normalised scores of NPC worlds, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from metarl.errors import ConfigError
from metarl.experiments.npc.scores import beyond_forgetful, last_share, normalised


def evaluation(returns: Any, **references: list[float]) -> Any:
    """Return what the scores need of an evaluation: returns [seeds, tasks, episodes]."""
    trials = SimpleNamespace(returns=np.asarray(returns, dtype=float))
    return SimpleNamespace(trials=trials, references=references, world={"name": "toy"})


FLAT = {"non_adaptive": [1.0, 1.0], "forgetful": [2.0, 2.0], "oracle": [5.0, 3.0], "persona_oracle": [3.0, 2.0]}


def test_the_share_of_the_gap_is_taken_episode_by_episode() -> None:
    played = evaluation([[[0.0, 2.5], [4.0, 2.5]], [[2.0, 2.5], [2.0, 2.5]]], **FLAT)
    found = normalised(played)
    assert found["curve"] == [0.25, 0.75]
    assert found["area"] == 0.5
    assert found["exploration_price"] == -1.0
    assert last_share()(played) == 0.75
    assert last_share("persona_oracle")(played) == 1.5
    # All visitors gave 2.5 in the last episode, which says nothing of how much visitors differ.
    assert found["beyond_forgetful"] == {"value": 0.5, "low": None, "high": None}
    assert found["low"][1] is found["high"][1] is None
    assert found["low"][0] < 0.25 < found["high"][0]


def test_intervals_have_the_width_of_a_standard_error() -> None:
    returns = np.random.default_rng(1).normal(2.0, 1.0, (1, 400, 2))
    last = normalised(evaluation(returns, **FLAT))["beyond_forgetful"]
    expected = stats.t.interval(0.95, 399, loc=returns[0, :, 1].mean() - 2.0, scale=stats.sem(returns[0, :, 1]))
    assert (last["low"], last["high"]) == pytest.approx(expected, rel=1e-4)


def test_an_agent_that_forgets_is_not_beyond_the_forgetful() -> None:
    rng = np.random.default_rng(0)
    same = evaluation(rng.normal(2.0, 1.0, (1, 300, 2)), **FLAT)
    better = evaluation(rng.normal(2.4, 1.0, (1, 300, 2)), **FLAT)
    assert beyond_forgetful(same) < 0 < beyond_forgetful(better)


def test_a_world_without_references_is_refused() -> None:
    with pytest.raises(ConfigError, match="no reference 'non_adaptive' on this split \\(it has: none\\)"):
        normalised(evaluation([[[1.0, 2.0]]]))
    with pytest.raises(ConfigError, match="no reference 'forgetful'"):
        beyond_forgetful(evaluation([[[1.0, 2.0]]], non_adaptive=[0.0, 0.0], oracle=[1.0, 1.0]))
