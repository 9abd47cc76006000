"""MAML's relatives learn to adapt: seeded training runs with a statistical bound and a negative control."""

import math

import pytest
from torch import Tensor

import envs
from agents.learned_optimiser import LSTMRuleConfig
from agents.maml import MAMLConfig
from agents.promp import OuterPPOConfig
from metarl.agent import WorldSpec
from metarl.episodes import episode_table
from metarl.seeding import derive, generator
from metarl.trial import run_trial

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


def _returns(options: dict[str, object], n_iterations: int) -> tuple[Tensor, Tensor]:
    """Meta-train on 2-D navigation at a small scale; return held-out returns before and after one inner step [40]."""
    family, n_tasks, episodes = envs.make("navigation"), 10, 10
    world = family.make_world(n_tasks * episodes)
    config = MAMLConfig(hidden=(32, 32), episodes_per_step=episodes, **options)  # type: ignore[arg-type]
    agent = config.build(WorldSpec.of(world), seed=0)
    for i in range(n_iterations):
        tasks = family.sample("train", n_tasks, generator(0, "tasks", i))
        trial = run_trial(world, agent, tasks, agent.train_phases, seed=derive(0, "trial", i))
        agent.update(trial, generator=generator(0, "update", i))
    test = family.sample("test", 40, generator(1))
    trial = run_trial(family.make_world(40 * episodes), agent, test, (episodes, episodes), seed=2)
    before, after = (episode_table(rollout).returns.mean(1) for rollout in trial.rollouts)
    return before, after


def _half_width(values: Tensor) -> float:
    """Return the distance of the one-sided 99 % t-bound from the mean of 40 values (t quantile 2.426 at 39 d.o.f.)."""
    return float(2.426 * values.std() / math.sqrt(len(values)))


@pytest.mark.learning
@pytest.mark.parametrize("name", FAMILY)
def test_a_relative_of_maml_learns_to_adapt_to_held_out_goals(name: str) -> None:
    before, after = _returns(*FAMILY[name])
    assert float(after.mean()) - _half_width(after) > LEVEL
    assert float((after - before).mean()) - _half_width(after - before) > GAIN


@pytest.mark.learning
@pytest.mark.parametrize("name", FAMILY)
def test_without_meta_training_it_does_not(name: str) -> None:
    """Negative control: the inner step alone is not enough."""
    _, after = _returns(FAMILY[name][0], n_iterations=0)
    assert float(after.mean()) + _half_width(after) < LEVEL
