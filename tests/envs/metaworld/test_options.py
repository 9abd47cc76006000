"""Horizon, action repeat, the end at success: what a decision is, against upstream's environments stepped by hand."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.agents.baselines.random_policy import RandomConfig
from metarl.envs.metaworld.options import EpisodeRules, RuledEpisodes
from metarl.envs.metaworld.tasks import MAX_STEPS, goal_of
from metarl.envs.metaworld.upstream import apply_task, make_env
from metarl.envs.metaworld.upstream_evaluation import make_test_envs
from metarl.episodes import episode_table
from metarl.errors import ConfigError
from metarl.evaluation import Protocol, evaluate
from metarl.tasks import Tasks
from metarl.trial import run_trial
from metarl.world import World
from tests.envs.scripted import Reacher

pytestmark = pytest.mark.metaworld


BACKENDS = ("upstream", "engine")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ml1(task: str = "reach-v3", **options: Any) -> Any:
    return envs.make("metaworld/ML1", task=task, **({"n_workers": 0, "n_threads": 1, "backend": "upstream"} | options))


def world_of(n: int = 1, task: str = "reach-v3", **options: Any) -> tuple[World, Tasks]:
    """Return a world that has begun its first episodes, and its tasks."""
    family = ml1(task, **options)
    world, tasks = family.make_world(n), family.all("train")[list(range(n))]
    world.set_tasks(tasks)
    world.reset(seed=0)
    return world, tasks


def by_hand(task: Tasks, actions: Tensor, repeat: int, n_env_steps: int) -> list[list[tuple[Any, float, bool]]]:
    """Step upstream's own environment; return (observation, reward, success) of each env step, decision by decision."""
    env = make_env(task, reward_version="v2")
    apply_task(env, task)
    env.reset()
    played, found = 0, []
    for action in actions.numpy():
        steps = []
        for _ in range(min(repeat, n_env_steps - played)):
            obs, reward, _, _, info = env.step(action.copy())
            steps.append((obs.copy(), float(reward), bool(info["success"])))
            played += 1
        found.append(steps)
    env.close()
    return found


def jerky(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def towards(task: Tasks, n_env_steps: int) -> tuple[Tensor, int]:
    """Return actions that reach the goal of a reach task one env step each, and the env step of the first success."""
    env = make_env(task, reward_version="v2")
    apply_task(env, task)
    obs, goal, actions, first = env.reset()[0], goal_of(task)[1][3:6], [], 0
    for t in range(n_env_steps):
        action = np.append(np.clip(10 * (goal - obs[:3]), -1, 1), -1).astype(np.float32)
        obs, _, _, _, info = env.step(action)
        actions.append(torch.from_numpy(action))
        first = first or (t + 1) * bool(info["success"])
    env.close()
    assert first, "the script never reaches the goal"
    return torch.stack(actions), first


# ---------------------------------------------------------------- action repeat


@pytest.mark.parametrize("task", ["push-v3", "drawer-open-v3"])
def test_a_decision_is_k_env_steps_of_one_action_and_its_reward_their_sum(task: str, backend: str) -> None:
    world, tasks = world_of(1, task, action_repeat=3, backend=backend)
    actions = jerky(12)
    for action, steps in zip(actions, by_hand(tasks, actions, 3, 36), strict=True):
        obs, reward, terminated, truncated, info = world.step(action[None])
        assert torch.equal(reward, torch.tensor([sum(r for _, r, _ in steps)], dtype=torch.float64).float())
        assert torch.equal(obs[0], torch.from_numpy(steps[-1][0]).float())
        assert torch.equal(info["final_obs"], obs)
        assert not terminated.any() | truncated.any()
        assert len({r for _, r, _ in steps}) > 1  # negative control: k times the last reward is another number
    world.close()


def test_a_decision_succeeds_if_any_of_its_env_steps_does(backend: str) -> None:
    task = ml1().all("train")[0]
    world, _ = world_of(1, action_repeat=120, backend=backend)
    action = _through(task)
    (steps,) = by_hand(task, action[None], 120, 120)
    assert any(success for _, _, success in steps)
    assert not steps[-1][2]  # negative control: its last env step alone says no
    assert bool(world.step(action[None])[4]["success"])
    world.close()


def _through(task: Tasks) -> Tensor:
    """Return the one action that, played all along, leads through the goal of a reach task and on."""
    env = make_env(task, reward_version="v2")
    apply_task(env, task)
    gap = torch.from_numpy(goal_of(task)[1][3:6] - env.reset()[0][:3]).float()
    env.close()
    return torch.cat([gap / gap.abs().max(), torch.tensor([-1.0])])


def test_the_horizon_counts_env_steps_and_the_world_decisions(backend: str) -> None:
    family = ml1("push-v3", horizon=10, action_repeat=4)
    assert family.horizon == 10
    world, tasks = world_of(2, "push-v3", horizon=10, action_repeat=4, backend=backend)
    assert world.horizon == 3
    assert world.fixed_horizon
    actions = jerky(6)
    reference = by_hand(tasks[0], actions[:3], 4, 10)
    assert [len(steps) for steps in reference] == [4, 4, 2]
    first = world.reset(seed=1)[0]
    for t, action in enumerate(actions):
        obs, reward, terminated, truncated, info = world.step(action.expand(2, 4))
        assert not terminated.any()
        assert truncated.tolist() == [t % 3 == 2] * 2
        if t == 2:  # the short one
            assert float(reward[0]) == np.float32(sum(r for _, r, _ in reference[2]))
            assert torch.equal(info["final_obs"][0], torch.from_numpy(reference[2][-1][0]).float())
            assert torch.equal(obs, first)
    world.close()


def test_an_episode_of_500_env_steps_ends_in_time_whatever_divides_it(backend: str) -> None:
    world, _ = world_of(1, action_repeat=7, backend=backend)
    assert world.horizon == 72  # 71 * 7 + 3
    ends = [bool(world.step(torch.zeros(1, 4))[3]) for _ in range(73)]  # upstream raises at env step 501
    assert [i for i, end in enumerate(ends) if end] == [71]
    world.close()


# ---------------------------------------------------------------- the end at success


@pytest.mark.parametrize("repeat", [1, 4])
def test_the_first_success_ends_the_episode_and_the_rest_of_its_decision_is_not_played(
    repeat: int, backend: str
) -> None:
    task = ml1().all("train")[0]
    actions, _ = towards(task, 120)
    decisions = actions[::repeat]
    steps = by_hand(task, decisions, repeat, 120)
    flat = [(d, i) for d, part in enumerate(steps) for i, (_, _, success) in enumerate(part) if success]
    at, within = flat[0]
    assert repeat == 1 or within < repeat - 1  # else the test would show nothing
    world, _ = world_of(1, action_repeat=repeat, terminate_on_success=True, backend=backend)
    assert not world.fixed_horizon
    first = world.reset(seed=3)[0]
    for d in range(at + 1):
        obs, reward, terminated, truncated, info = world.step(decisions[d][None])
        assert bool(terminated) == bool(info["success"]) == (d == at)
        assert not truncated.any()
    played = steps[at][: within + 1]
    assert float(reward) == np.float32(sum(r for _, r, _ in played))
    assert torch.equal(info["final_obs"][0], torch.from_numpy(played[-1][0]).float())
    assert torch.equal(obs, first)  # the next episode has begun
    world.close()


def test_a_success_in_the_last_env_step_terminates_and_does_not_truncate(backend: str) -> None:
    task = ml1().all("train")[0]
    actions, first = towards(task, 120)
    for rules, expected in (({"terminate_on_success": True}, (True, False)), ({}, (False, True))):
        world, _ = world_of(1, horizon=first, backend=backend, **rules)
        for action in actions[:first]:
            _, _, terminated, truncated, info = world.step(action[None])
        assert bool(info["success"])
        assert (bool(terminated), bool(truncated)) == expected
        world.close()
    env = EpisodeRules(horizon=first, terminate_on_success=True).wrap(make_env(task, reward_version="v2"))
    apply_task(env, task)
    env.reset()
    ends = [env.step(action.numpy())[2:4] for action in actions[:first]]
    env.close()
    assert ends[-1] == (True, False)  # what Gymnasium's own users see
    assert set(ends[:-1]) == {(False, False)}


def test_a_trial_counts_each_episode_once_though_they_end_at_success(backend: str) -> None:
    family = ml1(horizon=100, terminate_on_success=True, backend=backend)
    tasks = family.all("train")[[0, 1, 2]]
    world = family.make_world(3)
    targets = torch.stack([torch.from_numpy(goal_of(tasks[i])[1][3:6]) for i in range(3)]).float()
    targets[2] = torch.tensor([0.0, 0.5, 0.4])  # never gets there
    trial = run_trial(world, Reacher(world.spec, targets), tasks, (2,), seed=0)
    table = episode_table(trial.query)
    assert table.success_any is not None
    assert table.first_success is not None
    assert table.success_any.tolist() == [[True, True]] * 2 + [[False, False]]
    assert torch.equal(table.length[:2], table.first_success[:2])
    assert table.length[2].tolist() == [100, 100]
    assert (table.length[:2] < 100).all()
    ended = trial.query.terminated & trial.query.valid
    assert ended.sum(0).tolist() == [2, 2, 0]
    world.close()


# ---------------------------------------------------------------- the same in every way of running


def test_a_snapshot_in_mid_episode_goes_on_bit_for_bit_and_ends_in_time(backend: str) -> None:
    world, _ = world_of(2, "push-v3", horizon=9, action_repeat=2, backend=backend)
    other, _ = world_of(2, "push-v3", horizon=9, action_repeat=2, backend=backend)
    actions = jerky(8)[:, None].expand(8, 2, 4)
    for action in actions[:2]:
        world.step(action)
    other.load_state_dict(world.state_dict())
    ends = []
    for action in actions[2:]:
        a, b = world.step(action), other.step(action)
        assert all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))
        ends.append(bool(a[3].all()))
    assert ends == [False, False, True, False, False, False]
    world.close()
    other.close()


def test_engine_and_upstream_play_the_same_trial_where_copies_end_within_different_decisions() -> None:
    played = []
    for backend in BACKENDS:
        family = ml1(horizon=100, action_repeat=3, terminate_on_success=True, backend=backend)
        tasks = family.all("train")[list(range(6))]
        world = family.make_world(6)
        targets = torch.stack([torch.from_numpy(goal_of(tasks[i])[1][3:6]) for i in range(6)]).float()
        played.append(run_trial(world, Reacher(world.spec, targets), tasks, (2,), seed=0).query)
        world.close()
    upstream, engine = played
    assert len(set(episode_table(upstream).length.flatten().tolist())) > 2
    for name in ("obs", "reward", "terminated", "truncated", "next_obs", "success", "valid"):
        a, b, valid = getattr(upstream, name), getattr(engine, name), upstream.valid
        assert torch.equal(a[valid], b[valid]), name


def test_worker_processes_follow_the_same_rules() -> None:
    rules: dict[str, Any] = {"action_repeat": 4, "terminate_on_success": True}
    here, tasks = world_of(1, **rules)
    there, _ = world_of(1, n_workers=1, **rules)
    actions, _ = towards(tasks, 120)
    terminated = False
    for action in actions[::4]:
        a, b = here.step(action[None]), there.step(action[None])
        assert all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))
        terminated |= bool(a[2])
    assert terminated
    here.close()
    there.close()


# ---------------------------------------------------------------- another family


def test_other_rules_are_another_family_and_upstreams_own_are_the_one_they_always_were() -> None:
    rules: list[dict[str, Any]] = [
        {}, {"action_repeat": 2}, {"action_repeat": 5}, {"terminate_on_success": True},
        {"action_repeat": 2, "terminate_on_success": True}, {"horizon": 250}, {"horizon": 250, "action_repeat": 2},
    ]  # fmt: skip
    prints = [ml1(**rule).fingerprint() for rule in rules]
    assert len(set(prints)) == len(rules)
    assert prints[0] == "56f881785db1bafb"  # of the release before there were such options
    assert ml1(action_repeat=1, terminate_on_success=False, horizon=MAX_STEPS).fingerprint() == prints[0]
    env = gym.Env[Any, Any]()
    assert EpisodeRules().wrap(env) is env
    assert isinstance(EpisodeRules(action_repeat=2).wrap(env), RuledEpisodes)


def test_results_say_under_which_rules_they_were_played() -> None:
    family = ml1(horizon=6, action_repeat=4, terminate_on_success=True)
    agent = RandomConfig().build(family.spec, seed=0)
    protocol = Protocol(adapt_episodes=0, n_seeds=1, n_tasks=1)
    world = evaluate(agent, family, protocol, references=True).world
    told = {k: world["settings"][k] for k in ("horizon", "action_repeat", "terminate_on_success")}
    assert told == {"horizon": 6, "action_repeat": 4, "terminate_on_success": True}
    assert (world["horizon"], world["fixed_horizon"]) == (2, False)
    assert world["fingerprint"] == family.fingerprint()


def test_upstreams_own_evaluation_refuses_actions_that_it_would_play_once() -> None:
    with pytest.raises(ConfigError, match="action_repeat"):
        make_test_envs(ml1(action_repeat=2), goals_per_class=1, num_evals=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"action_repeat": 0}, "action_repeat must be a whole number from 1"),
        ({"action_repeat": 2.0}, "action_repeat must be a whole number"),
        ({"action_repeat": True}, "action_repeat must be a whole number"),
        ({"action_repeat": 11, "horizon": 10}, "action_repeat must be a whole number from 1 to 10"),
        ({"horizon": 501}, "horizon must be a whole number from 1 to 500"),
        ({"terminate_on_success": 1}, "terminate_on_success is True or False"),
        ({"action_repeats": 2}, "no option 'action_repeats'.*action_repeat"),
    ],
)
def test_rules_that_cannot_be_played_are_refused_in_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        ml1(**options)
    assert "\n" not in str(caught.value)
