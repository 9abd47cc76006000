"""MAML's relatives learn to adapt: seeded training runs with a statistical bound and a negative control."""

import pytest

from metarl.agents.maml.learned_optimiser import LSTMRuleConfig
from metarl.agents.maml.promp import OuterPPOConfig
from tests.agents.learning_bounds import half_width
from tests.agents.maml.navigation_learning import learned_returns

LEVEL, GAIN = -36.0, 5.0
"""With 99 % confidence a trained agent's return after one inner step exceeds `LEVEL` (standing still: -37.5), and its
return before by more than `GAIN`. Calibrated with at least 4 seeds each: returns of -31 to -18 after the step (lower
bounds -35.2 to -20), -46 to -37 before, lower bounds of the gain 7 to 17. Untrained agents reach -206 to -66."""

FAMILY: dict[str, tuple[dict[str, object], int]] = {
    "first-order": ({"second_order": False}, 10),
    "anil": ({"adapt": ("head",), "alpha": 0.3}, 10),
    "meta-sgd": ({"step_sizes": "per-parameter"}, 10),
    "cavia": ({"adapt": ("context",), "context": 5, "alpha": 0.3}, 10),
    "reptile": ({"outer": "reptile", "second_order": False, "alpha": 1.0, "reptile_step": 1.0}, 10),
    "lstm": ({"inner_rule": "lstm", "second_order": False, "lstm": LSTMRuleConfig()}, 10),
    "promp": ({"outer": "ppo", "ppo": OuterPPOConfig(lr=1e-2)}, 20),
}
"""Settings, and meta-updates: ProMP's clipped steps come slower."""


@pytest.mark.learning
@pytest.mark.parametrize("name", FAMILY)
def test_a_relative_of_maml_learns_to_adapt_to_held_out_goals(name: str) -> None:
    options, n_iterations = FAMILY[name]
    before, after = learned_returns(n_iterations, **options)
    assert float(after.mean()) - half_width(after) > LEVEL
    assert float((after - before).mean()) - half_width(after - before) > GAIN


@pytest.mark.learning
@pytest.mark.parametrize("name", FAMILY)
def test_without_meta_training_it_does_not(name: str) -> None:
    """Negative control: the inner step alone is not enough."""
    _, after = learned_returns(0, **FAMILY[name][0])
    assert float(after.mean()) + half_width(after) < LEVEL
