"""`collect`: each episode once, whenever it ends, and the agent sees every step including the last one."""

import pytest
import torch

from metarl import envs
from metarl.collect import collect, first_step
from metarl.errors import ConfigError
from metarl.seeding import generator
from metarl.tasks import Tasks
from tests.metarl.scripted import Uniform, Walker

GOALS = torch.tensor([[0.1, 0.0], [0.35, -0.5], [-0.25, 0.2]])
LENGTHS = [1, 5, 3]
"""Steps a walker of speed 0.1 needs to each goal."""


def walk(n_episodes, copies=1, parallel=False, goals=GOALS):
    """Collect from navigation with a walker that knows the goals."""
    world = envs.make("navigation").make_world(len(goals) * copies)
    world.set_tasks(Tasks.of("navigation", goal=goals).repeat(copies))
    agent = Walker(world.spec, goals, parallel=parallel)
    obs, _ = world.reset(seed=0)
    state = agent.init(len(goals))
    return collect(world, agent, state, first_step(world, obs), n_episodes, n_tasks=len(goals), generator=generator(0))


def test_each_copy_plays_exactly_its_episodes_however_early_they_end():
    _, _, rollout = walk(n_episodes=4)
    valid = rollout.valid
    assert (rollout.last & valid).sum(0).tolist() == [4, 4, 4]
    assert valid.sum(0).tolist() == [4 * n for n in LENGTHS]
    assert rollout.n_steps == 4 * sum(LENGTHS)
    for copy, length in enumerate(LENGTHS):
        assert rollout.episode[valid[:, copy], copy].tolist() == [e for e in range(4) for _ in range(length)]
    assert len(rollout.obs) <= 100  # it does not go on for 4 full horizons once all envs are done


def test_valid_rows_come_first_and_idle_rows_after():
    _, _, rollout = walk(n_episodes=3)
    assert not (rollout.valid[1:] & ~rollout.valid[:-1]).any()
    assert (rollout.episode < 3).all()


def test_copies_of_a_task_share_its_episodes():
    _, _, rollout = walk(n_episodes=6, copies=2, parallel=True)
    assert rollout.envs_per_task == 2
    assert rollout.n_tasks == 3
    assert (rollout.last & rollout.valid).sum(0).tolist() == [3] * 6
    assert rollout.valid.sum(0).tolist() == [3 * n for n in LENGTHS for _ in range(2)]


def test_episodes_that_the_copies_cannot_share_evenly_are_refused():
    with pytest.raises(ConfigError, match="5 episodes per task cannot be shared by 2 envs"):
        walk(n_episodes=5, copies=2, parallel=True)


def test_a_memory_counts_its_own_valid_steps_and_no_idle_ones():
    state, _, rollout = walk(n_episodes=4)
    assert state["steps"].tolist() == [4.0 * n for n in LENGTHS]
    for copy in range(3):
        seen = rollout.aux["steps"][rollout.valid[:, copy], copy]
        assert seen.tolist() == list(range(4 * LENGTHS[copy]))


def test_trap_5_3_the_agent_sees_the_action_reward_and_end_of_every_step_before_the_next():
    _, after, rollout = walk(n_episodes=4)
    for copy in range(3):
        n = int(rollout.valid[:, copy].sum())
        reward, done, action = rollout.reward[:n, copy], rollout.last[:n, copy], rollout.action[:n, copy]
        aux = {k: v[:n, copy] for k, v in rollout.aux.items()}
        assert aux["prev_reward"][0] == 0
        assert not aux["prev_done"][0]
        assert torch.equal(aux["prev_action"][0], torch.zeros(2))
        assert torch.equal(aux["prev_reward"][1:], reward[:-1])
        assert torch.equal(aux["prev_done"][1:], done[:-1])
        assert torch.equal(aux["prev_action"][1:], action[:-1])
        # Even after the last step of all: the next phase's first step carries it.
        assert after.prev_reward[copy] == reward[-1]
        assert after.prev_done[copy]
        assert torch.equal(after.prev_action[copy], action[-1])


def test_the_first_step_of_an_episode_shows_the_new_observation_and_the_old_reward():
    _, _, rollout = walk(n_episodes=2)
    first = LENGTHS[1]  # of the second episode of env 1
    assert torch.equal(rollout.obs[first, 1], torch.zeros(2))
    assert rollout.aux["prev_done"][first, 1]
    assert torch.allclose(rollout.next_obs[first - 1, 1], GOALS[1], atol=1e-6)
    assert rollout.terminated[first - 1, 1]


def test_next_obs_is_the_observation_reached_and_obs_continues_from_it():
    _, _, rollout = walk(n_episodes=3)
    goes_on = ~rollout.last[:-1] & rollout.valid[1:]
    assert goes_on.any()
    assert torch.equal(rollout.next_obs[:-1][goes_on], rollout.obs[1:][goes_on])


def test_one_tasks_rows_do_not_depend_on_the_other_tasks():
    others = torch.tensor([[0.45, 0.45], [0.35, -0.5], [0.05, 0.0]])
    (_, _, a), (_, _, b) = walk(n_episodes=3), walk(n_episodes=3, goals=others)
    n = int(a.valid[:, 1].sum())
    assert int(b.valid[:, 1].sum()) == n
    for name in ("obs", "action", "reward", "terminated", "truncated", "next_obs", "episode"):
        assert torch.equal(getattr(a, name)[:n, 1], getattr(b, name)[:n, 1]), name
    assert all(torch.equal(a.aux[k][:n, 1], b.aux[k][:n, 1]) for k in a.aux)


def gridworld_rollout(n_episodes, parallel=False):
    world = envs.make("gridworld").make_world(4)
    world.set_tasks(envs.make("gridworld").all("train")[:4])
    agent = Uniform(world.spec, parallel=parallel)
    obs, _ = world.reset(seed=0)
    return collect(world, agent, agent.init(4), first_step(world, obs), n_episodes, n_tasks=4, generator=generator(1))


def test_worlds_in_step_are_valid_throughout():
    state, step, rollout = gridworld_rollout(3)
    assert rollout.valid.all()
    assert rollout.reward.shape == (45, 4)
    assert rollout.action.dtype == torch.int64
    assert state["steps"].tolist() == [45.0] * 4
    assert rollout.last.nonzero()[:, 0].unique().tolist() == [14, 29, 44]
    assert rollout.truncated.sum() == 12
    assert not rollout.terminated.any()
    # Discrete actions come back to the agent as one-hot vectors.
    assert torch.equal(rollout.aux["prev_action"][1:].argmax(-1), rollout.action[:-1])
    assert torch.equal(rollout.aux["prev_action"][1:].sum(-1), torch.ones(44, 4))
    assert step.prev_done.all()


def test_rows_already_written_are_not_changed_by_later_steps():
    _, _, short = gridworld_rollout(1)
    _, _, long = gridworld_rollout(2)
    for name in ("obs", "action", "reward", "next_obs"):
        assert torch.equal(getattr(short, name), getattr(long, name)[:15]), name


def test_collecting_records_no_gradients_and_uses_no_global_randomness():
    before = torch.get_rng_state()
    _, _, rollout = gridworld_rollout(1)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(t.requires_grad for t in (rollout.obs, rollout.log_prob, *rollout.aux.values()))
