"""Worlds under stable-baselines3: ends of episodes, actions, memory, and the same numbers each time."""

from __future__ import annotations

import random  # noqa: TID251 - to see that its global stream is left alone
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

pytest.importorskip("stable_baselines3", reason="needs the extra `baselines` (pip install -e '.[baselines]')")
pytest.importorskip("sb3_contrib", reason="needs the extra `baselines` (pip install -e '.[baselines]')")

from stable_baselines3.common.vec_env import VecMonitor

from metarl import envs
from metarl.agent import TimeStep
from metarl.errors import ConfigError
from metarl.evaluation import Protocol
from metarl.experiments.baselines import main, run_baseline
from metarl.experiments.baselines.sb3_agent import SB3Agent, build_model, own_random_streams
from metarl.experiments.baselines.sb3_options import SB3Config
from metarl.experiments.baselines.sb3_world import WorldVecEnv
from metarl.results import Evaluation
from metarl.seeding import generator
from metarl.tasks import Tasks
from tests.agents import toy_world
from tests.agents.toy_world import ToyWorld

SMALL = SB3Config(num_envs=2, rollout_steps=4, minibatches=2, hidden=(4,), steps=8)


def toy(lengths: list[float], actions: str = "discrete", seed: int = 0) -> WorldVecEnv:
    """Episodes of these lengths, with the prizes 1, 2, ...; only one of 4 steps, the horizon, is cut by time."""
    tasks = Tasks.of("toy", length=torch.tensor(lengths), prize=1.0 + torch.arange(len(lengths)))
    return WorldVecEnv(ToyWorld(len(lengths), actions), tasks, seed=seed)


def still(env: WorldVecEnv) -> np.ndarray[Any, Any]:
    """Return a legal action for each env."""
    return np.zeros((env.num_envs, *(env.action_space.shape or ())), dtype=env.action_space.dtype)


# --- ends of episodes -----------------------------------------------------------------------------------------------


def test_the_end_of_an_episode_is_told_as_sb3_wants_it() -> None:
    env = toy([2, 4])
    assert env.reset().tolist() == [[0.0], [0.0]]
    steps = [env.step(still(env)) for _ in range(4)]
    assert [s[2].tolist() for s in steps] == [[False, False], [True, False], [False, False], [True, True]]
    assert [s[1].tolist() for s in steps] == [[0, 0], [1, 0], [0, 0], [1, 2]]
    assert [s[0].ravel().tolist() for s in steps] == [[1, 1], [0, 2], [1, 3], [0, 0]]  # after the reset
    infos = steps[3][3]
    assert [i["terminal_observation"].tolist() for i in infos] == [[2.0], [4.0]]
    assert [i["TimeLimit.truncated"] for i in infos] == [False, True]
    assert not any("terminal_observation" in i or i["TimeLimit.truncated"] for i in steps[0][3])


def test_a_task_that_ends_in_its_last_step_was_not_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    env, yes = toy([4]), torch.tensor([True])
    env.reset()
    answer = (torch.zeros(1, 1), torch.ones(1), yes, yes, {"final_obs": torch.ones(1, 1)})
    monkeypatch.setattr(env.world, "step", lambda actions: answer)
    assert env.step(still(env))[3][0]["TimeLimit.truncated"] is False


def test_ppo_bootstraps_where_time_ran_out_and_not_where_the_task_ended() -> None:
    env = toy([2, 4])
    model = build_model(SMALL, env, seed=0)
    with torch.no_grad():
        model.policy.value_net.weight.zero_()
        model.policy.value_net.bias.fill_(10.0)
    with own_random_streams(0):
        _, callback = model._setup_learn(8)
        model.collect_rollouts(env, callback, model.rollout_buffer, n_rollout_steps=4)
    rewards = model.rollout_buffer.rewards
    assert rewards[:, 0].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert rewards[:, 1] == pytest.approx([0.0, 0.0, 0.0, 2.0 + 0.99 * 10.0])


def test_sacs_replay_knows_time_limits_and_the_observation_reached() -> None:
    env = toy([2, 4], "box")
    model = build_model(SB3Config("sac", num_envs=2, hidden=(4,), steps=8), env, seed=0)
    with own_random_streams(0):
        model.learn(8)
    replay = model.replay_buffer
    assert replay.dones[:4].T.tolist() == [[0, 1, 0, 1], [0, 0, 0, 1]]
    assert replay.timeouts[:4].T.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]
    assert replay.next_observations[:4, :, 0].T.tolist() == [[1, 2, 1, 2], [1, 2, 3, 4]]


def test_sb3s_own_monitor_counts_the_same_episodes() -> None:
    env = VecMonitor(toy([2, 3]))
    env.reset()
    found = [info["episode"] for _ in range(6) for info in env.step(still(env))[3] if "episode" in info]
    assert sorted((e["r"], e["l"]) for e in found) == [(1.0, 2)] * 3 + [(2.0, 3)] * 2


# --- arrays and actions ---------------------------------------------------------------------------------------------


def test_arrays_are_copies_that_sb3_may_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    env, given = toy([2, 4]), []
    step = env.world.step
    monkeypatch.setattr(env.world, "step", lambda actions: given.append(step(actions)) or given[-1])
    env.reset()
    for _ in range(4):
        obs, reward, _, infos = env.step(still(env))
        kept_obs, kept_reward = given[-1][0].clone(), given[-1][1].clone()
        obs += 7.0
        reward += 7.0
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] += 7.0
        assert torch.equal(given[-1][0], kept_obs)
        assert torch.equal(given[-1][1], kept_reward)
        assert float(given[-1][4]["final_obs"].max()) <= 4.0


@pytest.mark.parametrize(
    ("space", "chosen", "expected"),
    [
        (spaces.Discrete(3, start=5), [0, 2], [5, 7]),
        (spaces.MultiDiscrete([2, 3], start=[1, -1]), [[0, 0], [1, 2]], [[1, -1], [2, 1]]),
        (spaces.Box(-1.0, 1.0, (2,), np.float32), [[0.5, 1.0], [-1.0, 0.0]], [[0.5, 1.0], [-1.0, 0.0]]),
    ],
)
def test_actions_reach_the_world_as_it_counts_them(
    space: gym.Space[Any], chosen: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(toy_world.ACTION_SPACES, "discrete", space)
    env, seen = toy([2, 4]), []
    step = env.world.step
    monkeypatch.setattr(env.world, "step", lambda actions: seen.append(actions) or step(actions))
    env.reset()
    env.step(np.array(chosen))
    assert seen[0].tolist() == expected
    agent = SB3Agent(build_model(SMALL, env, seed=0), env.world.spec, "x")
    step_of = TimeStep(torch.zeros(9, 1), torch.zeros(9, 3), torch.zeros(9), torch.zeros(9, dtype=torch.bool))
    action = agent.act({}, step_of, generator=generator(0))[1].action
    assert all(space.contains(a.numpy().astype(space.dtype)) for a in action)


def test_what_sb3_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="bounded Box"):
        toy([2], "matrix-box")
    with pytest.raises(ConfigError, match="forbids some actions"):
        toy([2], "masked").reset()
    with pytest.raises(ConfigError, match="SAC needs Box"):
        build_model(SB3Config("sac"), toy([2]), seed=0)


# --- playing and learning -------------------------------------------------------------------------------------------


def test_a_recurrent_policy_plays_as_sb3_plays_it_and_forgets_between_episodes() -> None:
    env = toy([2, 4])
    model = build_model(SB3Config("recurrent-ppo", num_envs=2, rollout_steps=4, hidden=(4,)), env, seed=0)
    agent = SB3Agent(model, env.world.spec, "x")
    state, theirs = agent.init(2), None
    noise = torch.randn(3, 2, 1, generator=generator(1))
    for t, done in enumerate((False, False, True)):
        starts = torch.full((2,), done)
        step = TimeStep(noise[t], torch.zeros(2, 3), torch.zeros(2), starts)
        before = state
        state, decision = agent.act(state, step, generator=generator(0), greedy=True)
        action, theirs = model.predict(noise[t].numpy(), theirs, starts.numpy(), deterministic=True)
        assert decision.action.tolist() == action.tolist()
        assert torch.equal(state["h"].transpose(0, 1), torch.from_numpy(theirs[0]))
    fresh, _ = agent.act(agent.init(2), step, generator=generator(0), greedy=True)
    assert torch.equal(fresh["c"], state["c"])
    going_on = TimeStep(step.obs, step.prev_action, step.prev_reward, ~step.prev_done)
    assert not torch.equal(agent.act(before, going_on, generator=generator(0), greedy=True)[0]["c"], state["c"])


def scores(seed: int) -> tuple[dict[str, Any], list[float]]:
    found = run_baseline(envs.make("point-robot"), Protocol(n_tasks=2, n_seeds=2, seed=3), SMALL, seed=seed)
    return found, Evaluation.from_json(found["after"]).trials.returns.ravel().tolist()


def test_a_baseline_repeats_itself_and_leaves_global_random_streams_alone() -> None:
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    found, first = scores(seed=0)
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    torch.rand(3)
    assert scores(seed=0)[1] == first
    assert scores(seed=1)[1] != first
    assert found["train_env_steps"] == [8, 8]
    after = Evaluation.from_json(found["after"])
    assert after.trials.returns.shape == (2, 2, 1)
    assert len(set(after.task_names)) == 2
    assert after.trials.returns[0, 0, 0] != after.trials.returns[0, 1, 0]


def test_the_command_writes_what_it_measured(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    target = tmp_path / "found.json"
    words = "bandit --n-tasks 1 --steps 8 --copies 2 --rollout-steps 4 --minibatches 2 --hidden 4"
    assert main([*words.split(), "--into", str(target)]) == 0
    torch.set_num_threads(threads)
    assert target.read_text().count('"metarl.baseline"') == 1
    assert "after training:" in capsys.readouterr().out


@pytest.mark.learning
def test_ppo_finds_the_better_arms_of_a_bandit() -> None:
    config = SB3Config(steps=2048, num_envs=8, rollout_steps=32, lr=1e-2, hidden=(16,))
    protocol = Protocol(n_tasks=1, n_seeds=1, eval_episodes=200)
    found = run_baseline(envs.make("bandit"), protocol, config)
    before, after = (Evaluation.from_json(found[k]).trials.returns.ravel() for k in ("before", "after"))
    error = np.sqrt(before.var() / before.size + after.var() / after.size)
    assert after.mean() - before.mean() > 2.33 * error  # one-sided 99 %
