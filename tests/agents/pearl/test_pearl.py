"""PEARL: what is stored and read, when z changes, whom gradients reach, determinism, resuming and refusals."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.agent import State, TimeStep
from metarl.agents import AGENTS
from metarl.agents.pearl.agent import PEARL, PEARLConfig
from metarl.agents.pearl.sac import SACConfig
from metarl.checkpoint import state_fingerprint
from metarl.errors import CheckpointError, ConfigError
from metarl.rollout import Trial
from metarl.seeding import generator
from metarl.trial import run_trial
from tests.agents.toy_world import ToyWorld, toy_tasks

SMALL = PEARLConfig(
    prior_episodes=2, posterior_episodes=1, extra_episodes=1, latent=3, encoder_hidden=(8, 8), context_size=10,
    meta_batch=4, grad_steps=3, replay_tasks=8, replay_steps=200, sac=SACConfig(hidden=(8, 8), batch_size=6, lr=1e-2),
)  # fmt: skip
GRU = dataclasses.replace(SMALL, encoder="gru", context_order="trial")


def toy(config: PEARLConfig = SMALL, n: int = 6, *, seed: int = 0, **options: Any) -> tuple[PEARL, Trial]:
    """Return an agent and a training trial of it on n toy tasks with episodes of 1 to 4 steps."""
    world = ToyWorld(n, "box", **options)
    agent = config.build(world.spec, seed=seed)
    return agent, run_trial(world, agent, toy_tasks(n, world.horizon), agent.train_phases, seed=seed)


def latents(agent: PEARL, state: State, *, done_at: int, greedy: bool = False) -> list[Tensor]:
    """Act five steps on 2 tasks, an episode of which ended before step `done_at`; return z at each."""
    seen, g = [], generator(0, "act")
    for t in range(5):
        step = TimeStep(torch.zeros(2, 1), torch.zeros(2, 2), torch.zeros(2), torch.full((2,), t == done_at))
        state, _ = agent.act(state, step, generator=g, greedy=greedy)
        seen.append(state["z"])
    return seen


def test_z_is_drawn_once_per_episode() -> None:
    agent, _ = toy()
    z = latents(agent, agent.init(2), done_at=3)
    assert torch.equal(z[0], z[1])
    assert torch.equal(z[1], z[2])
    assert not torch.equal(z[2], z[3])
    assert torch.equal(z[3], z[4])


def test_z_may_be_drawn_anew_within_an_episode() -> None:
    """Every second step; the episode that begins at step 3 counts from there."""
    agent, _ = toy(dataclasses.replace(SMALL, redraw_steps=2))
    z = latents(agent, agent.init(2), done_at=3)
    assert [torch.equal(a, b) for a, b in pairwise(z)] == [True, False, False, True]
    assert {tuple(v.flatten().tolist()) for v in latents(agent, agent.init(2), done_at=3, greedy=True)} == {(0.0,) * 6}


def test_z_is_drawn_anew_after_each_adaptation_from_the_belief_over_all_transitions_so_far() -> None:
    agent, trial = toy()
    state = agent.init(6)
    assert agent.belief(state)[0].tolist() == [[0.0] * 3] * 6
    assert agent.belief(state)[1].tolist() == [[1.0] * 3] * 6
    for rollout in trial.supports:
        state = agent.adapt(state, rollout)
        assert state["fresh"].all()
    rows = [
        torch.cat([r.obs[:, 0], agent.sac.scale.from_world(r.action, 2)[:, 0], r.reward[:, :1]], 1)[r.valid[:, 0]]
        for r in trial.supports
    ]
    x = torch.cat(rows)[None]
    expected = agent.infer(x, torch.tensor([x.shape[1]]))
    for ours, wanted in zip(agent.belief(state), expected, strict=True):
        assert torch.allclose(ours[:1], wanted.detach(), rtol=1e-4, atol=1e-6)


def test_draws_of_z_have_the_moments_of_the_belief() -> None:
    agent, trial = toy(n=1)
    state = agent.adapt(agent.init(1), trial.rollouts[0])
    mean, variance = agent.belief(state)
    n = 20_000
    many = {k: v.expand(n, *v.shape[1:]) for k, v in state.items()}
    step = TimeStep(torch.zeros(n, 1), torch.zeros(n, 2), torch.zeros(n), torch.zeros(n, dtype=torch.bool))
    z = agent.act(many, step, generator=generator(0))[0]["z"]
    assert torch.allclose(z.mean(0), mean[0], atol=5 * float(variance.max().sqrt()) / n**0.5)
    assert torch.allclose(z.var(0), variance[0], rtol=0.05)


def test_trap_5_16_greedy_evaluation_is_the_same_whatever_the_noise() -> None:
    family = envs.make("sparse-point-robot")
    for mode, same in (("mean", True), ("sample", False)):
        world = family.make_world(3)
        agent = dataclasses.replace(SMALL, greedy_latent=mode).build(world.spec, seed=0)
        state = agent.adapt(agent.init(3), run_trial(world, agent, family.all("test")[:3], (1,), seed=0).query)
        step = TimeStep(torch.ones(3, 2), torch.zeros(3, 2), torch.zeros(3), torch.zeros(3, dtype=torch.bool))
        actions = [agent.act(state, step, generator=generator(i), greedy=True)[1].action for i in range(2)]
        assert torch.equal(*actions) == same
        sampled = [agent.act(state, step, generator=generator(i))[1].action for i in range(2)]
        assert not torch.equal(*sampled)


def test_no_task_hears_of_anothers_phase() -> None:
    agent, trial = toy()
    rollout = trial.rollouts[0]
    other = dataclasses.replace(rollout, reward=torch.cat([rollout.reward[:, :1], -rollout.reward[:, 1:]], 1))
    one, two = (agent.belief(agent.adapt(agent.init(6), r))[0] for r in (rollout, other))
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[1:], two[1:])


def test_stored_transitions_are_those_that_happened() -> None:
    """The toy pays a task's prize at an episode's last step, which terminates it unless it has full length."""
    agent, trial = toy()
    agent.remember(trial)
    steps = [sum(int(r.valid[:, i].sum()) for r in trial.rollouts) for i in range(6)]
    assert agent.replay.size[:6].tolist() == steps == [4 * (1 + i % 4) for i in range(6)]
    for slot in range(6):
        rows = agent.replay.oldest(torch.tensor([slot]), steps[slot])[0]
        obs, reward, next_obs, over = rows[:, 0], rows[:, 3], rows[:, 4], rows[:, 5]
        length, horizon = 1 + slot % 4, 4
        assert obs.tolist() == [float(t) for t in range(length)] * 4
        assert torch.equal(next_obs, obs + 1)
        assert torch.equal(reward, (next_obs == length) * float(slot + 1))
        assert torch.equal(over, ((next_obs == length) & (length < horizon)).float())  # truncation is no termination
        assert bool((rows[:, 1:3].abs() <= 1).all())


def test_trap_5_15_the_encoder_reads_the_latest_trial_only_and_not_its_extra_episodes() -> None:
    agent, old = toy(ends=False)
    agent.remember(old)
    newer = Trial(old.tasks, tuple(dataclasses.replace(r, reward=r.reward + 100.0) for r in old.rollouts))
    agent.remember(newer)
    slots, per_episode = torch.arange(6), 4
    assert agent.replay.size[:6].tolist() == [2 * 4 * per_episode] * 6
    assert agent.context.size[:6].tolist() == [3 * per_episode] * 6  # two prior episodes and one posterior one
    rewards = agent.context.oldest(slots, 3 * per_episode)[..., 3]
    assert float(rewards.min()) >= 100.0
    assert float(agent.replay.oldest(slots, 32)[..., 3].min()) < 100.0  # the critics keep the older trial
    x, count = agent.draw_context(slots, generator(0))
    assert count.tolist() == [10] * 6
    assert float(x[..., 3].min()) >= 100.0


def test_of_several_trials_one_is_drawn_whole_and_the_oldest_makes_room() -> None:
    """Trial k of a task pays 100 k more; of five trials the last three are kept."""
    config = dataclasses.replace(SMALL, context_trials=3, context_order="trial", context_size=12)
    agent, first = toy(config, ends=False)
    for k in range(5):
        rollouts = tuple(dataclasses.replace(r, reward=r.reward * 0.0 + 100.0 * k) for r in first.rollouts)
        agent.remember(Trial(first.tasks, rollouts))
    drawn = torch.stack([agent.draw_context(torch.arange(6), generator(i))[0][..., 3] for i in range(300)])
    assert torch.equal(drawn.amin(-1), drawn.amax(-1))  # never two trials in one context
    share = torch.stack([(drawn[..., 0] == 100.0 * k).double().mean(0) for k in range(5)])  # [trial, task]
    assert share[:2].sum() == 0
    assert bool(((share[2:] - 1 / 3).abs() < 0.12).all())  # over four standard errors


def test_a_task_that_makes_room_takes_all_its_trials_along() -> None:
    world = ToyWorld(2, "box", ends=False)
    config = dataclasses.replace(SMALL, context_trials=3, context_order="trial", context_size=12, replay_tasks=2)
    agent = config.build(world.spec, seed=0)
    for ids in ([0, 1], [0, 1], [2, 3]):
        agent.remember(run_trial(world, agent, toy_tasks(4)[ids], agent.train_phases, seed=0))
    assert (agent.context.size.reshape(2, 3) > 0).sum(1).tolist() == [1, 1]
    prizes = agent.draw_context(torch.arange(2), generator(0))[0][..., 3].amax(1)
    assert sorted(prizes.tolist()) == [3.0, 4.0]  # of tasks 2 and 3


def test_a_task_that_is_in_the_batch_twice_keeps_both_trials_and_its_later_context() -> None:
    world = ToyWorld(2, "box", ends=False)
    agent = SMALL.build(world.spec, seed=0)
    tasks = toy_tasks(2)[[1, 1]]
    trial = run_trial(world, agent, tasks, agent.train_phases, seed=0)
    agent.remember(trial)
    assert agent.replay.size.tolist() == [32, *[0] * 7]
    wanted = torch.cat([agent.sac.scale.from_world(r.action, 2)[:, 1] for r in trial.rollouts[:2]])
    assert torch.equal(agent.context.oldest(torch.tensor([0]), 12)[0, :, 1:3], wanted)


def test_contexts_are_of_every_length_when_asked_and_in_order() -> None:
    config = dataclasses.replace(SMALL, context_order="trial", context_size=12, context_least=2)
    agent, trial = toy(config, ends=False)
    agent.remember(trial)
    slots = torch.arange(6)
    counts = torch.cat([agent.draw_context(slots, generator(i))[1] for i in range(200)])
    assert sorted(set(counts.tolist())) == list(range(2, 13))
    x, _ = agent.draw_context(slots, generator(0))
    assert torch.equal(x[..., 0], torch.arange(4.0).repeat(3).expand(6, 12))


def test_the_critics_loss_trains_the_encoder_and_the_actors_does_not() -> None:
    agent, trial = toy(dataclasses.replace(SMALL, kl_weight=0.0))
    agent.remember(trial)
    slots, g = torch.arange(4), generator(0)
    batch = agent._batch(agent.replay.sample(slots, 6, g))
    mean, variance = agent.infer(*agent.draw_context(slots, g))
    z = (mean + variance.sqrt())[:, None].expand(-1, 6, -1)
    agent.sac.update_actor(batch.obs, z, g)
    assert all(p.grad is None for p in agent.encoder.parameters())
    agent.sac.critic_loss(batch, z, agent.sac.target(batch, z.detach(), g)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and bool(p.grad.any()) for p in agent.encoder.parameters())


def test_the_price_of_information_is_summed_over_tasks_and_is_a_part_of_the_loss() -> None:
    """KL(N(2, 1) || N(0, 1)) = 2 in each of 3 dimensions; 4 tasks at a price of 0.1: 0.1 * 4 * 6."""
    agent, trial = toy(dataclasses.replace(SMALL, kl_weight=0.1))
    price = agent.kl_penalty(torch.full((4, 3), 2.0), torch.ones(4, 3))
    assert float(price) == pytest.approx(2.4)
    kl = []
    for weight in (0.0, 1e3):
        agent, trial = toy(dataclasses.replace(SMALL, kl_weight=weight, grad_steps=40))
        agent.update(trial, generator=generator(0))
        kl.append(agent.update(trial, generator=generator(1))["kl"])
    assert kl[1] < 0.2 * kl[0]


def test_the_price_may_start_low_and_rise_geometrically() -> None:
    """From 0.01 to 1 in 2 updates: 0.01, 0.1, 1, 1."""
    agent, trial = toy(dataclasses.replace(SMALL, kl_first=0.01, kl_weight=1.0, kl_iters=2, grad_steps=1))
    seen = []
    for i in range(4):
        agent.update(trial, generator=generator(i))
        seen.append(agent.kl_weight)
    assert seen == pytest.approx([0.01, 0.1, 1.0, 1.0])


def test_the_step_size_of_all_networks_falls_linearly_when_asked() -> None:
    """From 0.01 to a fifth of it in 2 updates: 0.01, 0.006, 0.002, 0.002; by default it stays."""
    config = dataclasses.replace(SMALL, anneal_iters=2, anneal_to=0.2, grad_steps=1)
    agent, trial = toy(config)
    assert SMALL.anneal_iters is None
    for i, lr in enumerate((0.01, 0.006, 0.002, 0.002)):
        agent.update(trial, generator=generator(i))
        used = [g["lr"] for o in (agent._adam, *agent.sac.optimisers) for g in o.param_groups]
        assert used == pytest.approx([lr] * 3)
    agent, trial = toy(dataclasses.replace(config, anneal_to=0.0, anneal_iters=1))
    agent.update(trial, generator=generator(0))
    weights = [p.detach().clone() for p in (*agent.encoder.parameters(), *agent.sac.actor.values())]
    agent.update(trial, generator=generator(1))  # at a step size of 0
    after = (*agent.encoder.parameters(), *agent.sac.actor.values())
    assert all(torch.equal(a, b) for a, b in zip(weights, after, strict=True))


def test_critics_learn_from_the_dense_reward_and_the_encoder_reads_the_worlds() -> None:
    family = envs.make("sparse-point-robot")
    world = family.make_world(3)
    agent = dataclasses.replace(SMALL, dense_reward=True).build(world.spec, seed=0)
    trial = run_trial(world, agent, family.all("train")[:3], agent.train_phases, seed=0)
    agent.remember(trial)
    stored = agent.replay.oldest(torch.arange(3), 80)[..., 4]
    dense = torch.cat([r.dense_reward for r in trial.rollouts if r.dense_reward is not None]).T
    assert torch.equal(stored, dense)
    assert float(dense.max()) < 0
    world_reward = torch.cat([r.reward for r in trial.rollouts[:2]]).T
    assert torch.equal(agent.context.oldest(torch.arange(3), 60)[..., 4], world_reward)


@pytest.mark.parametrize("config", [
    SMALL, GRU, dataclasses.replace(SMALL, encoder_next_obs=True), dataclasses.replace(SMALL, context_trials=2),
])  # fmt: skip
def test_saved_restored_and_continued_equals_never_stopped_bit_for_bit(config: PEARLConfig) -> None:
    config = dataclasses.replace(config, normaliser=dataclasses.replace(config.normaliser, observations=True))
    whole, trial = toy(config)
    whole.update(trial, generator=generator(0))
    resumed, _ = toy(config, seed=1)
    assert state_fingerprint(resumed.state_dict()) != state_fingerprint(whole.state_dict())
    resumed.load_state_dict(whole.state_dict())
    for agent in (whole, resumed):
        agent.update(trial, generator=generator(1))
    assert state_fingerprint(resumed.state_dict()) == state_fingerprint(whole.state_dict())
    with pytest.raises(CheckpointError):
        toy(dataclasses.replace(config, latent=4))[0].load_state_dict(whole.state_dict())


def test_weights_move_and_acting_and_adapting_leave_them_alone() -> None:
    agent, trial = toy()
    before = state_fingerprint(agent.state_dict())
    agent.adapt(agent.init(6), trial.rollouts[0])
    run_trial(ToyWorld(6, "box"), agent, toy_tasks(6), (1, 1), seed=3)
    assert state_fingerprint(agent.state_dict()) == before
    weights = [p.clone() for p in (*agent.encoder.parameters(), *agent.sac.actor.values())]
    agent.update(trial, generator=generator(0))
    after = (*agent.encoder.parameters(), *agent.sac.actor.values())
    assert not any(torch.equal(a, b) for a, b in zip(weights, after, strict=True))


def test_warm_up_fills_the_replay_and_moves_nothing() -> None:
    agent, trial = toy(dataclasses.replace(SMALL, warmup_iters=1))
    weights = [p.detach().clone() for p in agent.encoder.parameters()]
    assert agent.update(trial, generator=generator(0))["replay_steps"] > 0
    assert all(torch.equal(a, b) for a, b in zip(weights, agent.encoder.parameters(), strict=True))
    assert "critic_loss" in agent.update(trial, generator=generator(1))


def test_phases_explore_first_and_then_move_the_belief_after_each_episode() -> None:
    agent, _ = toy(dataclasses.replace(SMALL, explore_episodes=3))
    assert agent.phases(5) == (3, 1, 1)
    assert agent.phases(2) == (2,)
    assert agent.phases(0) == ()
    assert agent.train_phases == (2, 1, 1)
    assert toy(dataclasses.replace(SMALL, posterior_episodes=0, extra_episodes=0))[0].train_phases == (2,)


def test_the_registry_builds_it_and_what_cannot_work_is_refused() -> None:
    assert AGENTS.make("pearl") == PEARLConfig()
    with pytest.raises(ConfigError, match="finite bounds"):  # this Box is unbounded
        PEARLConfig().build(ToyWorld(1, "matrix-box").spec, seed=0)
    with pytest.raises(ConfigError, match="dense reward"):
        PEARLConfig(dense_reward=True).build(ToyWorld(1, "box").spec, seed=0)
    agent, trial = toy()
    with pytest.raises(ConfigError, match="train_phases"):
        agent.update(Trial(trial.tasks, trial.rollouts[:1]), generator=generator(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"prior_episodes": 0}, {"extra_episodes": -1}, {"latent": 0}, {"encoder_hidden": ()}, {"kl_weight": -1.0},
        {"context_least": 65}, {"kl_first": 0.0}, {"encoder": "lstm"}, {"greedy_latent": "mode"}, {"encoder": "gru"},
        {"meta_batch": 0}, {"context_trials": 0}, {"anneal_iters": 0}, {"anneal_to": 1.5}, {"redraw_steps": 0},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PEARLConfig(**wrong)
