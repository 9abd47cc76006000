"""Worlds that show the task or the exact belief: Bayes' rule found in other ways, and nothing shown unasked."""

import pytest
import torch

from metarl import envs
from metarl.conformance import check_world
from metarl.envs.beliefs import BetaBelief, FiniteBelief, Seen
from metarl.errors import ConfigError
from metarl.seeding import generator

BELIEF = {"gridworld": {"trial_episodes": 2}, "bandit": {"trial_episodes": 12, "n_arms": 3, "n_pulls": 12}}


def belief_world(name, num_envs):
    family = envs.make("revealed", world=name, what="belief", **BELIEF[name])
    return family, family.make_world(num_envs)


def walk(n_steps, key):
    return torch.randint(0, 5, (n_steps,), generator=generator(0, "walk", key))


@pytest.mark.parametrize("key", range(3))
def test_the_gridworlds_belief_is_that_of_trying_every_goal(key):
    family, world = belief_world("gridworld", 21)
    tasks, actions = family.all("train"), walk(30, key)
    honest = envs.make("gridworld").make_world(21)
    for w in (world, honest):
        w.set_tasks(tasks)
        w.reset(seed=key)
    agrees = torch.ones(21, 21, dtype=torch.bool)  # [true goal, supposed goal]
    for action in actions:
        obs, reward, *_, info = world.step(action.repeat(21))
        told = honest.step(action.repeat(21))[1]
        assert reward.equal(told)
        agrees &= told[:, None] == told[None, :]
        expected = agrees.float() / agrees.sum(1, keepdim=True)
        torch.testing.assert_close(obs[:, 2:23], expected)
        torch.testing.assert_close(info["final_obs"][:, 2:23], expected)
    assert agrees.sum(1).unique().numel() > 1  # some goals were found, others not


def test_the_bandits_belief_is_that_of_integrating_over_all_chances():
    family, world = belief_world("bandit", 50)
    world.set_tasks(family.sample("train", 50, generator(1)))
    world.reset(seed=1)
    p = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    density = torch.ones(50, 3, len(p), dtype=torch.float64)
    for t in range(12):
        arms = torch.randint(0, 3, (50,), generator=generator(2, t))
        obs, reward, *_ = world.step(arms)
        density[torch.arange(50), arms] *= torch.where(reward[:, None] > 0, p, 1 - p)
        chance = density / density.sum(-1, keepdim=True)
        mean = (chance * p).sum(-1)
        spread = (chance * (p - mean[..., None]).square()).sum(-1).sqrt() * 12**0.5
        torch.testing.assert_close(obs[:, 1:4].double(), mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(obs[:, 4:7].double(), spread, rtol=1e-4, atol=1e-5)


def test_the_clock_counts_steps_of_the_episode_and_episodes_of_the_trial():
    family, world = belief_world("gridworld", 1)
    world.set_tasks(family.all("train")[:1])
    clock = [world.reset(seed=0)[0][0, 23:]]
    for t in range(31):
        obs, *_, info = world.step(torch.tensor([0]))
        clock.append(obs[0, 23:])
        assert info["final_obs"][0, 23:].tolist() == pytest.approx([(t % 15 + 1) / 15, t // 15 / 2])
    assert torch.stack(clock).flatten().tolist() == pytest.approx(
        [x for t in range(32) for x in (t % 15 / 15, t // 15 / 2)]
    )


def test_a_belief_lives_as_long_as_its_task():
    family, world = belief_world("gridworld", 2)
    tasks = family.all("train")
    world.set_tasks(tasks[:2])
    fresh = world.reset(seed=0)[0]
    for action in (1, 1, 2):
        learnt = world.step(torch.tensor([action, action]))[0]
    assert not learnt[:, 2:23].equal(fresh[:, 2:23])
    assert world.reset(seed=5)[0][:, 2:23].equal(learnt[:, 2:23])  # another episode of the same trial
    world.set_tasks(tasks[2:4])
    masked = world.reset(options={"mask": torch.tensor([False, True])})[0]
    assert masked[0, 2:23].equal(learnt[0, 2:23])  # in mid-episode, with its old task
    assert masked[1].equal(fresh[1])


@pytest.mark.parametrize("name", BELIEF)
def test_the_task_itself_never_stands_in_a_belief(name):
    found = {f.check: f for f in check_world(lambda: belief_world(name, 1)[0])}
    assert found["hidden tasks"].status == "pass"
    # An episode that starts with what earlier ones taught starts unlike a first one; that is the point of it.
    assert {check for check, f in found.items() if f.status == "fail"} == {"autoreset"}


def test_until_something_is_paid_all_goals_look_alike():
    family, world = belief_world("gridworld", 2)
    names = family.all("train").names
    world.set_tasks(family.all("train")[[names.index("goal(4,4)"), names.index("goal(4,0)")]])
    seen = [world.reset(seed=0)[0], *(world.step(torch.tensor([a, a]))[0] for a in (1, 1, 2, 1, 2, 3))]
    assert all(obs[0].equal(obs[1]) for obs in seen)


@pytest.mark.parametrize("name", ["gridworld", "bandit", "navigation", "point-robot"])
def test_a_shown_task_is_the_task_of_the_episode(name):
    family = envs.make("revealed", world=name, what="task")
    assert [f for f in check_world(lambda: family) if f.status == "fail"] == []
    world, inner = family.make_world(3), envs.make(name)
    first, second = (family.sample("train", 3, generator(k)) for k in range(2))
    world.set_tasks(first)
    d = inner.task_features(first).shape[1]
    assert world.reset(seed=0)[0][:, -d:].equal(inner.task_features(first))
    world.set_tasks(second)
    masked = world.reset(options={"mask": torch.tensor([False, True, False])})[0][:, -d:]
    assert masked[[0, 2]].equal(inner.task_features(first)[[0, 2]])
    assert masked[1].equal(inner.task_features(second)[1])


def test_a_revealed_family_has_the_tasks_of_the_honest_one_and_another_name_and_fingerprint():
    honest = envs.make("gridworld", held_out=3)
    shown = [envs.make("revealed", world="gridworld", what="task", held_out=3)]
    shown += [envs.make("revealed", world="gridworld", what="belief", held_out=3, trial_episodes=e) for e in (1, 2)]
    assert [f.name for f in shown] == ["gridworld+task", "gridworld+belief", "gridworld+belief"]
    assert len({honest.fingerprint(), *(f.fingerprint() for f in shown)}) == 4
    for family in shown:
        assert family.all("test") == honest.all("test")
        assert family.sample("train", 5, generator(0)) == honest.sample("train", 5, generator(0))
        assert family.make_world(1).name == family.name
        assert family.references("test", 2) == honest.references("test", 2)


def test_the_honest_worlds_are_as_they_were():
    shapes = {n: envs.make(n).make_world(1).single_observation_space.shape for n in ("gridworld", "bandit")}
    assert shapes == {"gridworld": (2,), "bandit": (1,)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"world": "tabular-mdp", "what": "belief", "trial_episodes": 2}, "no belief to show"),
        ({"world": "gridworld", "what": "everything"}, "'task' or 'belief'"),
        ({"world": "gridworld", "what": "belief"}, "give trial_episodes"),
        ({"world": "gridworld", "what": "belief", "trial_episodes": 0}, "trial_episodes"),
        ({"world": "gridworld", "what": "task", "trial_episodes": 2}, "leave it out"),
        ({"world": "gridwrld"}, "gridworld"),
        ({"world": "gridworld", "held_uot": 3}, "held_out"),
    ],
)
def test_what_cannot_be_shown_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        envs.make("revealed", **options)


def test_a_step_that_nothing_explains_leaves_a_finite_belief_alone():
    rule = FiniteBelief(3, lambda seen: torch.zeros(1, 3))
    nothing = torch.zeros(1, 1)
    assert rule.update(rule.prior(1), Seen(nothing, nothing, nothing[0], nothing)).equal(rule.prior(1))


def test_updating_returns_new_tensors():
    rule = BetaBelief(2)
    prior = rule.prior(1)
    after = rule.update(prior, Seen(torch.zeros(1, 1), torch.tensor([1]), torch.tensor([1.0]), torch.zeros(1, 1)))
    assert prior.equal(torch.ones(1, 2, 2))
    assert after.tolist() == [[[1.0, 1.0], [2.0, 1.0]]]
    assert rule.features(after).tolist()[0] == pytest.approx([1 / 2, 2 / 3, 1.0, (12 / 18) ** 0.5])
