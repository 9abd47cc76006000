"""Planner, filter and reference policies of the guide: against brute force, Bayes' rule by hand, and each other."""

from __future__ import annotations

import math
from itertools import combinations, permutations
from typing import Any

import pytest
import torch

from metarl.envs.npc.guide.planner import NEVER, best_tour
from metarl.envs.npc.guide.references import Belief, Filter, Prior
from metarl.envs.npc.guide.tasks import GuideTasks, make, make_macro
from metarl.envs.npc.guide.visitor_model import Visitors, pace_pairs, reaction_probabilities, satisfaction
from metarl.envs.npc.measure import play
from metarl.seeding import generator
from metarl.tasks import Tasks

RULED_OUT = math.exp(-20.0)
"""The filter's likelihood of what a hypothesis rules out."""


def brute_force(prize: Any, stay: Any, between: Any, here: Any, budget: float) -> float:
    """Return the value of the best tour by trying every order of every subset."""
    m, best = len(prize), 0.0
    for size in range(1, m + 1):
        for chosen in combinations(range(m), size):
            for order in permutations(chosen):
                time, at = 0.0, None
                for j in order:
                    time += float(here[j] if at is None else between[at, j]) + float(stay[j])
                    at = j
                if time <= budget:
                    best = max(best, float(sum(prize[j] for j in order)))
    return best


def test_the_planner_finds_what_trying_everything_finds() -> None:
    noise = generator(1, "planner")
    prize, stay = torch.randn(20, 5, generator=noise), torch.randint(1, 6, (20, 5), generator=noise).float()
    between = torch.randint(1, 12, (20, 5, 5), generator=noise).float()
    here, budget = torch.randint(1, 12, (20, 5), generator=noise).float(), torch.linspace(0, 40, 20)
    tour = best_tour(prize, stay, between, here, budget)
    for b in range(20):
        expected = brute_force(prize[b], stay[b], between[b], here[b], float(budget[b]))
        assert float(tour.value[b]) == pytest.approx(expected, abs=1e-5)
        assert (int(tour.first[b]) == 5) == (expected == 0.0)


def test_the_planner_leaves_out_what_cannot_be_visited() -> None:
    prize = torch.tensor([[5.0, 1.0]])
    tour = best_tour(prize, torch.tensor([[NEVER, 1.0]]), torch.ones(1, 2, 2), torch.ones(1, 2), torch.tensor([10.0]))
    assert (float(tour.value), int(tour.first)) == (1.0, 1)


def belief_after(family: GuideTasks, prior: Prior, n_steps: int) -> tuple[Any, Belief, list[tuple[Any, Any]]]:
    """Return a world, the belief after `n_steps` random legs, and what happened in them."""
    world = family.make_world(6)
    world.set_tasks(family.sample("train", 6, generator(0, "belief")))
    world.reset(seed=4)
    belief, seen = Belief(world, prior), []
    for step in range(n_steps):
        before = world.state
        world.step(torch.full((6,), step % 8))
        belief.see(before, world.reached)
        seen.append((before, world.reached))
    return world, belief, seen


def test_the_filter_is_bayes_rule() -> None:
    family = make_macro()
    prior = Prior(family.people.bank("train")[:7], pace_pairs(held_out=False))
    world, belief, seen = belief_after(family, prior, 9)
    weights = belief.weights()
    assert torch.allclose(weights.sum((1, 2)), torch.ones(6), atol=1e-5)
    pace = world.latent()["pace"]
    for copy in range(6):
        joint = torch.zeros(7, 3, dtype=torch.float64)
        for person in range(7):
            for a, aversion in enumerate((0.0, 0.6, 1.2)):
                known = float(world.state["speed"][copy]) > 0
                fitting = [p for p in prior.pairs.tolist() if not known or p[0] == float(pace[copy])]
                chance = sum(abs(p[1] - aversion) < 1e-6 for p in fitting) / len(fitting)
                for before, reached in seen:
                    y = int(reached["reaction"][copy])
                    if y:
                        themes = world.places.themes.rows[reached["last_theme"][copy]]
                        felt = satisfaction(prior.bank[person] @ themes, torch.tensor(aversion),
                                            reached["last_crowd"][copy])  # fmt: skip
                        chance *= max(float(reaction_probabilities(felt, family.guide)[y - 1]), RULED_OUT)
                        disliked = bool(world.dislike_shown(before, reached)[copy])
                        chance *= 1.0 if disliked == bool(felt < 0) else RULED_OUT
                joint[person, a] = chance
        assert torch.allclose(weights[copy].double(), joint / joint.sum(), atol=1e-4)


def test_a_doubting_filter_mixes_in_the_prior_and_a_forgetful_one_returns_to_it() -> None:
    family = make_macro()
    prior = Prior(family.people.bank("train")[:5], pace_pairs(held_out=False))
    for keep in (0.0, 0.7):
        _, belief, _ = belief_after(family, prior, 3)
        before = torch.softmax(belief.shown.flatten(1), 1)
        where = torch.tensor([True, False] * 3)
        belief.forget(where, keep)
        after = torch.softmax(belief.shown.flatten(1), 1)
        flat = torch.full_like(after, 1 / 15)
        assert torch.allclose(after[where], keep * before[where] + (1 - keep) * flat[where], atol=1e-5)
        assert torch.allclose(after[~where], before[~where], atol=1e-5)


@pytest.mark.parametrize("make_family", [make, make_macro])
@pytest.mark.parametrize("name", ["non_adaptive", "forgetful", "bayes_greedy", "bayes_explore", "thompson"])
def test_policies_do_not_look_at_visitors(make_family: Any, name: str) -> None:
    """With permuted visitors, actions are the same until the first reaction; the oracle's are not."""
    family = make_family()
    tasks = family.fixed_tasks("train")[:16]

    def first_actions(policy_name: str, order: list[int]) -> torch.Tensor:
        world = family.make_world(16)
        world.set_tasks(tasks[order])
        world.reset(seed=2)
        policy = family.policies("train")[policy_name]()
        if isinstance(policy, Filter):
            policy.prior = Prior(policy.prior.bank[:30], policy.prior.pairs)
        policy.start(world, generator(0, "look"))
        return policy.act()

    plain, turned = list(range(16)), list(range(16))[::-1]
    assert torch.equal(first_actions(name, plain), first_actions(name, turned))
    assert not torch.equal(first_actions("oracle", plain), first_actions("oracle", turned))


def test_a_filter_sees_only_what_is_shown() -> None:
    """Two visitors with the same history get the same decision, whoever they are."""
    family = make_macro()
    world = family.make_world(8)
    world.set_tasks(family.fixed_tasks("train")[:8])
    world.reset(seed=0)
    policy = Filter(family.prior("train")[0])
    policy.start(world, generator(0, "same"))
    before = world.state
    world.step(torch.zeros(8, dtype=torch.int64))
    policy.see(before, torch.zeros(8, dtype=torch.int64), world.reached, torch.zeros(8, dtype=torch.bool))
    chosen, beliefs = policy.act(), policy.belief.weights()
    shuffled = Tasks({k: v.flip(0) for k, v in world.params.items()}, tuple(map(str, range(8))), ("a",) * 8)
    world.params = dict(shuffled.values)
    assert torch.equal(policy.act(), chosen)
    assert torch.equal(policy.belief.weights(), beliefs)


def test_the_oracles_return_is_the_planners_value() -> None:
    family = make_macro()
    world = family.make_world(64)
    world.set_tasks(family.fixed_tasks("train")[:64])
    world.reset(seed=0)
    oracle: Any = family.policies("train")["oracle"]()
    oracle.start(world, generator(0, "o"))
    promised = oracle.plan().value
    total, going = torch.zeros(64), torch.ones(64, dtype=torch.bool)
    for _ in range(9):
        _, reward, terminated, truncated, _ = world.step(oracle.act())
        total += reward * going
        going &= ~(terminated | truncated)
    assert torch.allclose(total, promised, atol=1e-4)


def test_after_a_change_of_visitor_a_doubting_filter_recovers_and_a_sure_one_is_caught() -> None:
    family = make_macro(shift="visitor@2", n_episodes=4)
    found = {k: play(family, family.policies("train")[k](), "train", n=96).returns.mean(0)
             for k in ("bayes_explore", "bayes_hazard", "oracle")}  # fmt: skip
    assert found["bayes_explore"][1] > found["bayes_explore"][2] + 0.5
    assert found["bayes_hazard"][2:].sum() > found["bayes_explore"][2:].sum() + 0.5


def test_visitors_are_drawn_without_repeats_until_all_came() -> None:
    law = Visitors(torch.randn(5, 10, generator=generator(0, "v")), pace_pairs(held_out=True))
    drawn = law.draw(10, generator(0, "d"))
    assert len({(*u, p) for u, p in zip(drawn["interests"].tolist(), drawn["pace"].tolist(), strict=True)}) == 10
