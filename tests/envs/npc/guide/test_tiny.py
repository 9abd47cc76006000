"""The tiny guide: its exact solution is what playing it gives, and no reference beats it."""

from __future__ import annotations

import pytest
import torch

from metarl import envs
from metarl.conformance import check_world
from metarl.envs.npc.guide.exact import Room, Solver
from metarl.envs.npc.guide.tiny import SETTINGS, kinds, rooms, solver
from metarl.envs.npc.measure import play
from metarl.errors import ConfigError


def test_it_keeps_the_contract() -> None:
    findings = check_world(lambda: envs.make("npc/guide-tiny"), n_steps=24)
    assert [f for f in findings if f.status == "fail"] == []


def test_the_exact_value_is_what_the_policy_gets() -> None:
    family = envs.make("npc/guide-tiny")
    played = play(family, family.policies("test")["bayes_optimal"](), "test", n=1500)  # type: ignore[attr-defined]
    total = played.returns.sum(1)
    error = float(total.std()) / len(total) ** 0.5
    assert float(total.mean()) == pytest.approx(sum(solver().returns()), abs=4 * error)
    for episode, value in enumerate(solver().returns()):
        spread = float(played.returns[:, episode].std()) / len(total) ** 0.5
        assert float(played.returns[:, episode].mean()) == pytest.approx(value, abs=4 * spread)


@pytest.mark.parametrize("name", ["random", "non_adaptive", "bayes_greedy", "bayes_explore", "thompson"])
def test_no_reference_beats_the_optimum(name: str) -> None:
    family = envs.make("npc/guide-tiny")
    total = play(family, family.policies("test")[name](), "test", n=1500).returns.sum(1)  # type: ignore[attr-defined]
    error = float(total.std()) / len(total) ** 0.5
    assert float(total.mean()) <= sum(solver().returns()) + 4 * error


def test_whoever_never_explores_gets_nothing() -> None:
    family = envs.make("npc/guide-tiny")
    played = play(family, family.policies("test")["bayes_greedy"](), "test", n=100)  # type: ignore[attr-defined]
    assert played.returns.abs().sum() == 0
    assert sum(solver().returns()) > 0.9


def test_beliefs_follow_bayes_rule_and_theme_names_do_not_matter() -> None:
    exact = solver()
    loved, other = exact.chances[1], exact.chances[0]
    weights = torch.tensor([loved[1] ** 2 * other[0], other[1] ** 2 * loved[0], other[1] ** 2 * other[0]])
    assert exact.belief(((0, 2), (1, 0), (0, 0))) == pytest.approx((weights / weights.sum()).tolist())
    assert exact.value(1, ((0, 2), (1, 0), (0, 0))) == exact.value(1, ((1, 0), (0, 0), (0, 2)))


def test_one_episode_is_worth_what_trying_every_plan_gives() -> None:
    """With a single episode left nothing is learned for later: the better theme first, if it is worth it."""
    exact = solver()
    counts = ((0, 3), (3, 0), (3, 0))
    expected = [sum(b * exact.felt[i == t] for i, b in enumerate(exact.belief(counts))) for t in range(3)]
    room = Room(1, (1, 0), 2, (False, False), float(SETTINGS.patience))
    decision, returns = exact.decide(exact.n_episodes - 1, counts, room)
    assert expected[0] > 0 > expected[1]
    assert decision == 1
    assert sum(returns) == pytest.approx(expected[0])


def test_kinds_that_differ_in_more_than_their_love_are_refused() -> None:
    odd = kinds().clone()
    odd[0, 0] = 3.0
    with pytest.raises(ValueError, match="which theme they love"):
        Solver(SETTINGS, rooms(), odd)


def test_it_has_no_options() -> None:
    with pytest.raises(ConfigError, match="no options"):
        envs.make("npc/guide-tiny", noise=0.1)
