"""Our estimates are rliable's wherever both define the same thing: on matrices with its answers, and on itself.

`python -m tools.rliable_answers` wrote the answers; where rliable is installed, it is asked again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.statistics import iqm, mean, median, optimality_gap, performance_profile, probability_of_improvement
from tools.rliable_answers import N_MATRICES, answers

STORED = json.loads((Path(__file__).parent / "rliable_answers.json").read_text())["matrices"]
STATISTICS = {"mean": mean, "median": median, "iqm": iqm, "optimality_gap": optimality_gap}


def check(x: Any, y: Any, theirs: dict[str, Any]) -> None:
    for name, statistic in STATISTICS.items():
        assert float(statistic(x)) == pytest.approx(theirs[name], rel=1e-12, abs=1e-12), name
    improvement = float(probability_of_improvement(x, y))
    assert improvement == pytest.approx(theirs["probability_of_improvement"], rel=1e-12, abs=1e-12)
    profile = performance_profile(x, np.array(theirs["thresholds"]))
    np.testing.assert_allclose(profile, theirs["performance_profile"], rtol=1e-12, atol=1e-12)


def test_estimates_equal_rliables_stored_answers() -> None:
    assert len(STORED) == N_MATRICES == 20
    for entry in STORED:
        check(np.array(entry["x"]), np.array(entry["y"]), entry)


def test_estimates_equal_those_of_the_rliable_that_is_installed() -> None:
    pytest.importorskip("rliable", reason="needs rliable, in an environment of its own: see tools/rliable_answers.py")
    for entry in STORED:
        x, y = np.array(entry["x"]), np.array(entry["y"])
        check(x, y, answers(x, y))
