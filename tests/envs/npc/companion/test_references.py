"""Who could know the companion's visitors best: filters checked by counting, the tiny world by its exact solution."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import product

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs.npc.companion.audit import audit_companion, no_trace
from metarl.envs.npc.companion.exact import solve
from metarl.envs.npc.companion.references import Filter, FilterModel, Oracle
from metarl.envs.npc.companion.styles import TINY, Styles
from metarl.envs.npc.measure import play
from metarl.envs.npc.reference import Policy
from metarl.errors import ConfigError
from metarl.seeding import generator

STYLES = Styles()


def family(**options: object):
    return envs.make("npc/companion", **{"identity": "id", **options})


def walk(policy: Policy, n: int, n_turns: int, **options: object) -> tuple[object, list[dict[str, Tensor]]]:
    """Play `n_turns` turns; return the world and what was shown in each."""
    source = family(**options)
    world = source.make_world(n)
    world.set_tasks(source.sample("train", n, generator(0)))
    world.reset(seed=1)
    policy.start(world, generator(2))
    shown = []
    for _ in range(n_turns):
        before, actions = world.state, policy.act()
        _, _, terminated, truncated, _ = world.step(actions)
        policy.see(before, actions, world.reached, terminated | truncated)
        reached = world.reached
        shown.append({"who": before["visitor"], "action": reached["last"], "mood": reached["mood"]})
    return world, shown


def by_counting(model: FilterModel, world: object, shown: list[dict[str, Tensor]], copy: int, drift: bool) -> Tensor:
    """Return the posterior of the present visitor's style, by plain loops over what was shown, [n]."""
    who = int(world.state["visitor"][copy])
    belief, met = model.prior.clone(), [int(row["who"][copy]) for row in shown]
    for t, row in enumerate(shown):
        if t % 6 == 0 and t and met[t] == who and drift:
            belief = belief @ model.drift
        if met[t] == who:
            belief = belief * model.moods[int(row["action"][copy]) * STYLES.moods + int(row["mood"][copy])]
            belief = belief / belief.sum()
    return belief @ model.drift if len(shown) % 6 == 0 and drift else belief


@pytest.mark.parametrize(("rho", "n_turns"), [(0.0, 16), (0.0, 18), (0.3, 21), (0.3, 24)])
def test_the_filter_is_bayes_rule(rho: float, n_turns: int) -> None:
    model = FilterModel.of(STYLES, family().prior, rho, None)
    policy = Filter(model)
    world, shown = walk(policy, 12, n_turns, rho=rho)
    for copy in range(12):
        expected = by_counting(model, world, shown, copy, drift=rho > 0)
        assert torch.allclose(policy.belief[copy].double(), expected, atol=1e-4)


def test_looking_ahead_values_the_next_choice_as_plain_loops_do() -> None:
    policy = Filter(FilterModel.of(STYLES, family().prior, 0.0, None), play="look-ahead")
    walk(policy, 5, 8)
    found, moods, e = policy._next(policy.belief), STYLES.mood_probabilities().float(), STYLES.engagement.float()
    for copy, action in product(range(5), (0, 17, 63)):
        joint = moods[action] * policy.belief[copy]
        assert float(found[copy, action]) == pytest.approx(float((joint @ e).amax(1).sum()), abs=1e-4)


def test_what_is_known_of_a_visitor_stays_what_it_is_while_others_come() -> None:
    per_visitor, pooled, brief = (Filter(FilterModel.of(STYLES, family().prior, 0.0, None), memory=m)
                                  for m in ("visitor", "pooled", "encounter"))  # fmt: skip
    for policy in (per_visitor, pooled, brief):
        walk(policy, 64, 12)
    certainty = [float(p.beliefs.amax(-1).mean()) for p in (brief, per_visitor)]
    assert torch.allclose(brief.beliefs, brief.prior.expand_as(brief.beliefs), atol=1e-6)
    assert certainty[1] > certainty[0] + 0.2
    assert pooled.beliefs.shape[1] == 1


MAKERS = sorted(set(envs.make("npc/companion", identity="id").policies("test-combinations")) - {"oracle"})


@pytest.mark.parametrize("name", MAKERS)
def test_no_policy_but_the_oracle_looks_at_what_is_hidden(name: str) -> None:
    policy = family().policies("test-combinations")[name]()
    world, _ = walk(policy, 16, 9)
    order = torch.arange(16).roll(1)
    answers = []
    for _ in range(2):
        policy.generator = generator(5)
        answers.append(policy.act())
        world.params = {k: v[order] if k in ("style", "later") else v for k, v in world.params.items()}
        world._state = world._state | {"style": world._state["style"][order]}
    assert torch.equal(answers[0], answers[1])
    oracle = Oracle(FilterModel.of(STYLES, family().prior, 0.0, None))
    oracle.start(world, generator(5))
    assert torch.equal(oracle.act(), STYLES.factors[world.state["style"]])


def test_a_filter_that_reckons_with_a_shift_recovers_from_it_and_one_that_does_not_stays_behind() -> None:
    source = family(shift="visitor@6")
    made = source.policies("test")
    aware, unaware = (play(source, made[k](), "test", n=192).returns for k in ("bayes_look_ahead", "bayes_unaware"))
    assert float(unaware[:, 6:].mean()) < float(aware[:, 6:].mean()) - 0.5
    assert float(unaware[:, :6].mean()) > float(aware[:, :6].mean())


def test_combinations_kept_from_training_are_understood_by_a_filter_that_holds_them_possible() -> None:
    source = family()
    made = source.policies("test-combinations")
    means = {k: float(play(source, made[k](), "test-combinations", n=128).returns[:, 6:].mean())
             for k in ("non_adaptive", "bayes_look_ahead", "bayes_smoothed")}  # fmt: skip
    assert means["non_adaptive"] < 2.0 < means["bayes_look_ahead"] < means["bayes_smoothed"] - 0.2


@pytest.mark.parametrize("options", [{"memory": "none"}, {"play": "best"}])
def test_unknown_ways_to_filter_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="a companion's filter has memory"):
        Filter(FilterModel.of(STYLES, family().prior, 0.0, None), **options)


# --- the tiny world ---------------------------------------------------------------------------------------------------


def by_recursion(n_turns: int) -> float:
    """Return the best expected return of a trial by recursion over histories, without any counting of states."""
    moods, e = TINY.mood_probabilities(), TINY.engagement

    @cache
    def best(history: tuple[tuple[int, int], ...]) -> float:
        belief = torch.ones(TINY.n, dtype=torch.float64)
        for action, mood in history:
            belief = belief * moods[action, mood]
        belief = belief / belief.sum()
        values = []
        for action in range(TINY.n):
            value = float(belief @ e[:, action])
            if len(history) + 1 < n_turns:
                for mood in range(TINY.moods):
                    chance = float(belief @ moods[action, mood])
                    value += chance * best((*history, (action, mood)))
            values.append(value)
        return max(values)

    return best(())


@pytest.mark.parametrize("n_turns", [1, 2, 3])
def test_the_solution_is_that_of_plain_recursion(n_turns: int) -> None:
    assert solve(TINY, n_turns).value == pytest.approx(by_recursion(n_turns), abs=1e-9)


def test_the_best_policy_of_all_reaches_its_exact_value_and_nobody_beats_it() -> None:
    tiny = envs.make("npc/companion-tiny")
    solution = solve(TINY, 6)
    assert solution.n_states == 33_649
    returns = {name: play(tiny, make(), "test", n=3000).returns.sum(1) for name, make in tiny.policies("test").items()}
    optimal = returns.pop("bayes_optimal")
    error = float(optimal.std()) / len(optimal) ** 0.5
    assert float(optimal.mean()) == pytest.approx(solution.value, abs=4 * error)
    oracle = returns.pop("oracle")
    assert torch.allclose(oracle, torch.full_like(oracle, 6.0))
    for name, found in returns.items():
        assert float(found.mean()) < solution.value + 4 * error, name
    assert float(returns["bayes_look_ahead"].mean()) > solution.value - 0.05
    assert float(returns["non_adaptive"].mean()) == pytest.approx(6 * 0.5393, abs=4 * error)


def test_too_many_turns_to_solve_are_refused() -> None:
    with pytest.raises(ConfigError, match="too many to solve"):
        solve(Styles(), 6).value  # noqa: B018


# --- the benchmark ----------------------------------------------------------------------------------------------------


def test_the_benchmark_holds_what_it_promises() -> None:
    failed = [c for c in audit_companion(192, golden=False) if not c.holds]
    assert failed == []


def test_the_committed_values_are_those_of_now() -> None:
    source = envs.make("npc/companion")
    known = source.references("test", 12)
    assert set(known) >= {"random", "non_adaptive", "forgetful", "bayes_look_ahead", "oracle"}
    for name in ("non_adaptive", "forgetful", "bayes_greedy"):
        played = play(source, source.policies("test")[name](), "test", n=256, seed=9)
        per_trial = played.returns.mean(1)
        error = float(per_trial.std()) / 256**0.5
        assert float(per_trial.mean()) == pytest.approx(sum(known[name]) / 12, abs=4.5 * error), name


def test_a_filter_that_ignores_rings_is_found_out() -> None:
    model = FilterModel.of(STYLES, family().prior, 0.0, None)
    makers: list[Callable[[], Policy]] = [partial(Filter, model, respect_rings=r) for r in (True, False)]
    checks = [no_trace(make, n=48) for make in makers]
    assert [c.holds for c in checks] == [True, False]
    assert checks[1].value > 0.2
