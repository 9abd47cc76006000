"""The multi-task baseline: what time limits do to its targets, and fine-tuning task by task."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.agent import TimeStep
from metarl.agents.baselines.finetune import Finetune, FinetuneConfig
from metarl.agents.ppo import PPOConfig
from metarl.checkpoint import join_state, split_state, state_fingerprint
from metarl.episodes import episode_table
from metarl.errors import CheckpointError, ConfigError
from metarl.rollout import Rollout, Trial
from metarl.seeding import derive, generator
from metarl.trial import run_trial
from tests.agents.toy_world import ACTION_SPACES, ToyWorld, toy_tasks

SMALL = FinetuneConfig(hidden=(8,), episodes_per_task=2, episodes_per_adapt=2, ppo=PPOConfig(epochs=1, minibatches=2))


def _trial(
    config: FinetuneConfig = SMALL, actions: str = "discrete", n: int = 6, seed: int = 0
) -> tuple[Finetune, Trial]:
    world = ToyWorld(2 * n, actions)
    agent = config.build(world.spec, seed=seed)
    return agent, run_trial(world, agent, toy_tasks(n), agent.train_phases, seed=seed)


# --- training -------------------------------------------------------------------------------------------------------


def _one_step(terminated: bool, value_bias: float) -> float:
    """Return the advantage of one step that pays 1 and ends its episode, when V is `value_bias` everywhere."""
    config = replace(SMALL, ppo=PPOConfig(gamma=0.9, standardise_advantages=False, normalise_values=False))
    agent, trial = _trial(config, n=1)
    state = agent.state_dict()
    state["value"] = {k: torch.zeros_like(v) for k, v in state["value"].items()}
    state["value"]["value.1.bias"] += value_bias
    agent.load_state_dict(state)
    first = {k: v[:1] if isinstance(v, Tensor) else v for k, v in vars(trial.query).items()}
    yes = torch.ones(1, 2, dtype=torch.bool)
    ended = Rollout(**{**first, "aux": {}, "reward": yes.float(), "terminated": yes & terminated,
                       "truncated": yes & (not terminated), "valid": yes})  # fmt: skip
    return float(agent.targets(ended)[0].advantage[0, 0])


def test_a_time_limit_keeps_the_bootstrap_and_a_termination_does_not() -> None:
    assert _one_step(terminated=True, value_bias=10.0) == pytest.approx(1.0 - 10.0)
    assert _one_step(terminated=False, value_bias=10.0) == pytest.approx(1.0 + 0.9 * 10.0 - 10.0)


def test_advantages_stop_at_the_end_of_an_episode() -> None:
    """Other than the recurrent agent's: here what comes after an episode is no consequence of it."""
    config = replace(SMALL, ppo=PPOConfig(gamma=1.0, lam=1.0, standardise_advantages=False, normalise_values=False))
    agent, trial = _trial(config, n=3)
    rollout = trial.query
    last = replace(rollout, terminated=rollout.last, truncated=torch.zeros_like(rollout.last))
    targets, _ = agent.targets(last)
    prize = toy_tasks(3).values["prize"].repeat_interleave(2)
    torch.testing.assert_close(targets.value[0], prize)  # one episode's prize, however many follow


@pytest.mark.parametrize("actions", list(ACTION_SPACES))
def test_an_update_moves_every_parameter_for_every_action_space(actions: str) -> None:
    agent, trial = _trial(actions=actions)
    before = agent.state_dict()
    metrics = agent.update(trial, generator=generator(1))
    after = agent.state_dict()
    for part in ("policy", "value"):
        assert [k for k, v in after[part].items() if torch.equal(v, before[part][k])] == []
    assert all(math.isfinite(v) for v in metrics.values())


def test_steps_after_a_copys_last_episode_do_not_matter() -> None:
    agent, trial = _trial()
    twin = SMALL.build(agent.spec, seed=0)
    rollout, valid = trial.query, trial.query.valid
    assert not bool(valid.all())
    noise = replace(
        rollout, reward=torch.where(valid, rollout.reward, 1e3), obs=torch.where(valid[..., None], rollout.obs, -7.0)
    )
    assert agent.update(trial, generator=generator(0)) == twin.update(
        Trial(trial.tasks, (noise,)), generator=generator(0)
    )


@pytest.mark.learning
def test_multi_task_training_improves_the_mean_over_tasks() -> None:
    """2-D navigation: the best policy that knows nothing stays near the start; a fresh one wanders off with noise."""
    family = envs.make("navigation")
    world = family.make_world(40)
    config = FinetuneConfig(hidden=(32,), episodes_per_task=2, init_std=0.3, ppo=PPOConfig(lr=3e-3, epochs=4))
    agent, returns = config.build(world.spec, seed=0), []
    for i in range(25):
        trial = run_trial(world, agent, family.sample("train", 20, generator(0, i)), (2,), seed=derive(0, "trial", i))
        returns.append(episode_table(trial.query).returns.flatten())
        agent.update(trial, generator=generator(0, "update", i))
    early, late = torch.cat(returns[:5]), torch.cat(returns[-5:])
    gain = late.mean() - early.mean()
    error = (early.var() / len(early) + late.var() / len(late)).sqrt()
    assert float(gain) > 2.33 * float(error)  # one-sided 99 %


# --- fine-tuning ----------------------------------------------------------------------------------------------------


def _policies(agent: Finetune, state: dict[str, Tensor], n: int) -> Tensor:
    """Return log-probabilities [n] of greedy-free actions of each task's policy, the same noise for all."""
    step = TimeStep(torch.full((n, 1), 0.5), torch.zeros(n, 3), torch.zeros(n), torch.zeros(n, dtype=torch.bool))
    return agent.act(state, step, generator=generator(3))[1].log_prob


def test_each_task_adapts_to_its_own_episodes_only() -> None:
    agent, trial = _trial(n=4)
    rollout, state = trial.query, agent.init(4)
    changed = replace(rollout, reward=rollout.reward.clone())
    changed.reward[:, 2:4] = torch.randn(changed.reward[:, 2:4].shape, generator=generator(0))  # task 1's two envs
    a, b = agent.adapt(state, rollout), agent.adapt(state, changed)
    for key in a:
        assert torch.equal(a[key][[0, 2, 3]], b[key][[0, 2, 3]])
    assert any(not torch.equal(a[key][1], b[key][1]) for key in a)


def test_adapting_leaves_the_old_state_and_the_trained_policy_alone() -> None:
    agent, trial = _trial(n=4)
    state = agent.init(4)
    before, weights = state_fingerprint(state), state_fingerprint(agent.state_dict())
    adapted = agent.adapt(state, trial.query)
    assert state_fingerprint(state) == before != state_fingerprint(adapted)
    assert state_fingerprint(agent.state_dict()) == weights
    assert not any(v.requires_grad for v in adapted.values())


def test_no_step_size_or_no_reward_means_no_adaptation() -> None:
    agent, trial = _trial(n=4)
    state = agent.init(4)
    silent = replace(trial.query, reward=torch.zeros_like(trial.query.reward))
    for key, value in agent.adapt(state, silent).items():
        torch.testing.assert_close(value, state[key])
    still = replace(SMALL, finetune_lr=0.0).build(agent.spec, seed=0)
    assert state_fingerprint(still.adapt(state, trial.query)) == state_fingerprint(state)


def test_fine_tuning_raises_the_probability_of_what_paid() -> None:
    agent, trial = _trial(replace(SMALL, finetune_steps=3), n=4)
    rollout = trial.query
    paid = (rollout.action == 1).float() * rollout.valid
    once = replace(rollout, reward=paid, terminated=rollout.valid, truncated=torch.zeros_like(rollout.valid))
    state = agent.init(4)
    adapted = agent.adapt(state, once)
    step = TimeStep(rollout.obs[0, ::2], torch.zeros(4, 3), torch.zeros(4), torch.zeros(4, dtype=torch.bool))
    counts = []
    for s in (state, adapted):
        actions = [agent.act(s, step, generator=generator(i))[1].action for i in range(200)]
        counts.append((torch.stack(actions) == 1).float().mean(0))
    by_task = paid[rollout.valid.any(1)].reshape(-1, 4, 2)
    mixed = (by_task.amax((0, 2)) > 0) & (by_task.mean((0, 2)) < rollout.valid.float().reshape(-1, 4, 2).mean((0, 2)))
    assert int(mixed.sum()) >= 3  # a task whose every action paid alike has nothing to learn
    assert bool((counts[1] > counts[0])[mixed].all())


def test_one_task_can_be_taken_out_of_the_state_without_touching_the_others() -> None:
    agent, trial = _trial(n=4)
    adapted, fresh = agent.adapt(agent.init(4), trial.query), agent.init(4)
    forgotten = {k: torch.cat([v[:1], fresh[k][1:2], v[2:]]) for k, v in adapted.items()}
    a, b, c = (_policies(agent, s, 4) for s in (adapted, forgotten, fresh))
    assert torch.equal(a[[0, 2, 3]], b[[0, 2, 3]])
    assert torch.equal(b[1], c[1])


def test_copies_of_a_task_share_its_policy() -> None:
    agent, trial = _trial(n=3)
    state = agent.adapt(agent.init(3), trial.query)
    step = TimeStep(torch.full((6, 1), 0.5), torch.zeros(6, 3), torch.zeros(6), torch.zeros(6, dtype=torch.bool))
    modes = agent.act(state, step, generator=generator(0), greedy=True)[1].action
    assert torch.equal(modes[::2], modes[1::2])


@pytest.mark.learning
def test_fine_tuning_improves_returns_on_a_task_with_dense_rewards() -> None:
    family = envs.make("navigation")
    agent = FinetuneConfig(hidden=(32,), init_std=0.1, finetune_steps=5, finetune_lr=0.02).build(family.spec, seed=0)
    tasks = family.sample("test", 20, generator(1))
    trial = run_trial(family.make_world(400), agent, tasks, (20, 20, 20, 20), seed=2)
    before, after = (episode_table(r).returns.mean(1) for r in (trial.rollouts[0], trial.query))
    gain = after - before
    assert float(gain.mean()) > 2.54 * float(gain.std() / math.sqrt(20))  # one-sided 99 % t-bound, 19 d.o.f.


# --- contract -------------------------------------------------------------------------------------------------------


def test_a_restored_agent_goes_on_bit_for_bit() -> None:
    agent, trial = _trial()
    agent.update(trial, generator=generator(0))
    other = SMALL.build(agent.spec, seed=5)
    other.load_state_dict(join_state(*split_state(agent.state_dict())))
    for one in (agent, other):
        fresh = run_trial(ToyWorld(12), one, toy_tasks(6), (2,), seed=8)
        one.update(fresh, generator=generator(2))
    assert state_fingerprint(agent.state_dict()) == state_fingerprint(other.state_dict())


def test_adaptation_is_split_into_equal_phases_or_refused() -> None:
    agent = SMALL.build(ToyWorld(1).spec, seed=0)
    assert [agent.phases(n) for n in (0, 1, 2, 6)] == [(), (1,), (2,), (2, 2, 2)]
    with pytest.raises(ConfigError, match="ask for 4"):
        agent.phases(5)


def test_a_checkpoint_of_another_size_is_refused() -> None:
    agent, _ = _trial()
    with pytest.raises(CheckpointError, match="does not fit"):
        replace(SMALL, hidden=(9,)).build(agent.spec, seed=0).load_state_dict(agent.state_dict())


@pytest.mark.parametrize(
    "wrong",
    [
        {"episodes_per_task": 0},
        {"episodes_per_adapt": 0},
        {"finetune_steps": 0},
        {"finetune_lr": -1.0},
        {"init_std": 0.0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"finetune.{next(iter(wrong))}"):
        FinetuneConfig(**wrong)
