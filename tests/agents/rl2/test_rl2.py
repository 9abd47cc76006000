"""RL²: what its memory sees, what its update optimises, and that both hold together. Traps: facts of the field, 5.x."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.agent import TimeStep
from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2, RL2Config, trial_advantages
from metarl.checkpoint import join_state, split_state, state_fingerprint
from metarl.errors import CheckpointError, ConfigError
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator
from metarl.trial import run_trial
from tests.agents.toy_world import ACTION_SPACES, ToyWorld, toy_tasks, toy_trial

SMALL = RL2Config(episodes_per_trial=3, hidden=8, ppo=PPOConfig(epochs=1, minibatches=1))
KINDS = ("gru", "lstm")


def _evaluate(agent: RL2, rollout: Rollout, chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and head values [T, B] as the update computes them, walking in chunks."""
    x, memories = agent.sequence_inputs(rollout), agent.start_memories(rollout.obs.shape[1])
    log_probs, values = [], []
    for begin in range(0, len(x), chunk or len(x)):
        part = slice(begin, begin + (chunk or len(x)))
        mask = None if rollout.action_mask is None else rollout.action_mask[part]
        action = rollout.action[part].flatten(2) if rollout.action.dim() > 2 else rollout.action[part]
        log_prob, _, value, memories = agent.evaluate_actions(x[part], action, mask, memories)
        log_probs.append(log_prob.detach())
        values.append(value.detach())
    return torch.cat(log_probs), torch.cat(values)


# --- what the memory sees -------------------------------------------------------------------------------------------


def test_trap_5_3_the_terminal_reward_and_the_end_of_the_episode_reach_the_memory() -> None:
    agent, trial = toy_trial(replace(SMALL, normalise_inputs=False), n=4)
    rollout = trial.query
    x = agent.sequence_inputs(rollout)
    reward, done, age = x[..., -2], x[..., -1], x[..., 0]
    for task in range(4):
        ends = [t for t in range(len(x) - 1) if rollout.last[t, task] and rollout.valid[t + 1, task]]
        assert len(ends) == 2  # three episodes, the last one is followed by nothing
        for t in ends:
            assert float(rollout.reward[t, task]) == task + 1  # the only payment there is
            assert float(reward[t + 1, task]) == task + 1
            assert float(done[t + 1, task]) == 1.0
            assert float(age[t + 1, task]) == 0.0  # together with the next episode's first observation
            assert torch.equal(x[t + 1, task, 1:4], torch.eye(3)[rollout.action[t, task]])
    first = x[0]
    assert float(first[:, 1:].abs().sum()) == 0.0


def test_two_worlds_that_differ_in_the_terminal_reward_only_are_told_apart() -> None:
    agent, _ = toy_trial(SMALL, n=4)
    world, memories = ToyWorld(4), []
    for prize in (1.0, 2.0):
        tasks = toy_tasks(4)
        tasks = replace(tasks, values={**tasks.values, "prize": torch.full((4,), prize)})
        state, seen = agent.init(4), run_trial(world, agent, tasks, (3,), seed=3).query
        for row in agent.sequence_inputs(seen)[: int(seen.valid[:, 0].sum())]:
            _, state = agent.network.step(row, state)
        memories.append(state["h"][0])
    assert float((memories[0] - memories[1]).detach().abs().max()) > 1e-3


def test_a_transition_shows_the_observation_in_which_the_previous_action_was_taken() -> None:
    agent, trial = toy_trial(replace(SMALL, normalise_inputs=False, see_transition=True), n=4)
    x, obs = agent.sequence_inputs(trial.query), trial.query.obs
    d = obs.shape[-1]
    torch.testing.assert_close(x[..., :d], obs)
    torch.testing.assert_close(x[1:, :, d : 2 * d], obs[:-1])
    assert not x[0, :, d : 2 * d].any()


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_trap_5_5_the_reward_is_scaled_before_the_memory_sees_it(scale: float) -> None:
    agent, trial = toy_trial(replace(SMALL, normalise_inputs=False, reward_scale=scale), n=4)
    x = agent.sequence_inputs(trial.query)
    torch.testing.assert_close(x[1:, :, -2], trial.query.reward[:-1] * scale)


def test_trap_5_5_huge_rewards_are_normalised_clipped_and_the_statistics_are_stored() -> None:
    agent, trial = toy_trial(SMALL, n=4)
    rollout = trial.query
    huge = replace(rollout, reward=rollout.reward * 1200)
    agent.update(Trial(trial.tasks, (huge,)), generator=generator(0))
    x = agent.sequence_inputs(huge)
    assert 0.5 < float(x[1:, :, -2].square().mean().sqrt()) < 2.0
    torch.testing.assert_close(x[..., 0][huge.valid].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    outlier = replace(rollout, reward=rollout.reward * 1e9)
    assert float(agent.sequence_inputs(outlier)[..., -2].max()) == 10.0
    other = SMALL.build(agent.spec, seed=99)
    other.load_state_dict(agent.state_dict())
    assert torch.equal(other.sequence_inputs(huge), x)


# --- memory and state -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", KINDS)
def test_trap_5_4_the_memory_lives_through_episode_ends_and_starts_afresh_with_each_trial(memory: Any) -> None:
    config = replace(SMALL, memory=memory)
    agent, trial = toy_trial(config, n=4, ends=False)  # episodes of 4 steps, all in step
    log_prob, _ = _evaluate(agent, trial.query)
    torch.testing.assert_close(log_prob, trial.query.log_prob, rtol=1e-5, atol=1e-6)
    cut = agent.start_memories(4)
    inputs, action = agent.sequence_inputs(trial.query), trial.query.action
    forgetful, _, _, _ = agent.evaluate_actions(inputs[4:8], action[4:8], None, cut)
    assert float((forgetful - log_prob[4:8]).detach().abs().max()) > 1e-6
    again = run_trial(ToyWorld(4, ends=False), agent, toy_tasks(4), (3,), seed=0).query
    assert torch.equal(again.log_prob, trial.query.log_prob)


@pytest.mark.parametrize("memory", KINDS)
def test_one_trial_can_be_taken_out_of_the_state_without_touching_the_others(memory: Any) -> None:
    agent = replace(SMALL, memory=memory).build(ToyWorld(1).spec, seed=0)
    g = generator(0)
    state = {k: torch.randn(3, 8, generator=g) for k in agent.init(3)}
    changed = {k: v.clone() for k, v in state.items()}
    for value in changed.values():
        value[1] = 0.0  # forget visitor 1
    step = TimeStep(torch.rand(3, 1), torch.zeros(3, 3), torch.zeros(3), torch.zeros(3, dtype=torch.bool))
    after, _ = agent.act(state, step, generator=generator(1))
    forgot, _ = agent.act(changed, step, generator=generator(1))
    fresh, _ = agent.act(agent.init(3), step, generator=generator(1))
    for key in after:
        assert torch.equal(after[key][[0, 2]], forgot[key][[0, 2]])
        assert torch.equal(forgot[key][1], fresh[key][1])  # nothing of visitor 1 is left
        assert not torch.equal(after[key][1], fresh[key][1])


def test_acting_and_adapting_leave_the_given_state_alone() -> None:
    agent, trial = toy_trial(SMALL, n=2)
    state = agent.init(2)
    step = TimeStep(torch.rand(2, 1), torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, dtype=torch.bool))
    after, _ = agent.act(state, step, generator=generator(0))
    assert not state["h"].any()
    assert agent.adapt(after, trial.query) is after
    assert agent.phases(5) == (5,)
    assert agent.phases(0) == ()


# --- the objective --------------------------------------------------------------------------------------------------


def test_trap_5_4_advantages_run_across_episode_ends_and_stop_at_the_trials_end() -> None:
    # Two episodes of one step each, then an idle row: A_1 = 2 - 0.5, A_0 = (1 + 0.9 * 0.5 - 0.25) + 0.9 * 0.8 * A_1
    reward = torch.tensor([[1.0], [2.0], [77.0]])
    value = torch.tensor([[0.25], [0.5], [99.0]])
    valid = torch.tensor([[True], [True], [False]])
    got = trial_advantages(reward, value, valid, gamma=0.9, lam=0.8)
    assert got[:, 0].tolist() == pytest.approx([1.2 + 0.72 * 1.5, 1.5, 0.0])


def test_the_objective_of_an_update_uses_them() -> None:
    """A value target is advantage plus value: with gamma = lam = 1 it is the return of the rest of the *trial*."""
    config = replace(SMALL, ppo=PPOConfig(gamma=1.0, lam=1.0, epochs=1, minibatches=1))
    agent, trial = toy_trial(config, n=4)
    rollout = trial.query
    value, valid = agent.value_in_returns(rollout.aux["value"]), rollout.valid
    rest = (rollout.reward * valid).flip(0).cumsum(0).flip(0)
    advantage = trial_advantages(rollout.reward, value, valid, 1.0, 1.0)
    torch.testing.assert_close((advantage + value)[valid], rest[valid])
    prize = toy_tasks(4).values["prize"]
    torch.testing.assert_close(rest[0], 3 * prize)  # three episodes' prizes, not one


@pytest.mark.parametrize("actions", list(ACTION_SPACES))
@pytest.mark.parametrize(
    "options",
    [
        {"memory": "gru"},
        {"memory": "lstm", "separate_value": True, "encoder": (5,), "readout": (7,)},
        {"see_transition": True},
    ],
)
def test_unchanged_parameters_give_a_ratio_of_one_whatever_the_action_space(
    actions: str, options: dict[str, Any]
) -> None:
    agent, trial = toy_trial(replace(SMALL, **options), actions=actions)
    agent.update(trial, generator=generator(1))  # statistics and units are no longer their start values
    trial = run_trial(ToyWorld(6, actions), agent, toy_tasks(6), (3,), seed=5)
    rollout = trial.query
    for chunk in (None, 5):
        log_prob, value = _evaluate(agent, rollout, chunk)
        ratio = (log_prob - rollout.log_prob).exp()[rollout.valid]
        torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-5)
    if "value" in rollout.aux:
        stored = rollout.aux["value"][rollout.valid]
        torch.testing.assert_close(value[rollout.valid], stored, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("actions", list(ACTION_SPACES))
@pytest.mark.parametrize("separate", [False, True])
def test_an_update_moves_every_parameter_for_every_action_space(actions: str, separate: bool) -> None:
    config = replace(SMALL, separate_value=separate, state_dependent_std=separate, encoder=(5,), layer_norm=True)
    agent, trial = toy_trial(config, actions=actions)
    before = agent.state_dict()["weights"]
    metrics = agent.update(trial, generator=generator(1))
    after = agent.state_dict()["weights"]
    still = [name for name, value in after.items() if torch.equal(value, before[name])]
    assert still == []
    assert all(torch.isfinite(torch.tensor(v)) for v in metrics.values())
    assert {"kl", "entropy", "value_loss", "grad_norm", "explained_variance"} <= metrics.keys()


def test_illegal_actions_are_never_taken() -> None:
    _, trial = toy_trial(SMALL, n=32, actions="masked")
    rollout = trial.query
    assert rollout.action_mask is not None
    legal = rollout.action_mask.gather(2, rollout.action.unsqueeze(2)).squeeze(2)
    assert bool(legal.all())
    assert not bool(rollout.action_mask.all())
    assert bool((rollout.action == 2).any())


def test_a_fresh_box_policy_explores_in_units_of_the_box() -> None:
    _, trial = toy_trial(replace(SMALL, init_std=0.5), n=256, actions="box")
    action = trial.query.action[0]
    assert action.mean(0).tolist() == pytest.approx([2.0, 2.0], abs=0.5)
    assert action.std(0).tolist() == pytest.approx([2.0, 2.0], rel=0.2)


def test_the_standard_deviation_never_falls_below_its_floor() -> None:
    _, trial = toy_trial(replace(SMALL, init_std=0.01, min_std=0.25), n=256, actions="box")
    assert trial.query.action[0].std(0).tolist() == pytest.approx([1.0, 1.0], rel=0.2)


def test_steps_after_a_trials_last_episode_do_not_matter() -> None:
    agent, trial = toy_trial(SMALL, n=4)
    twin = SMALL.build(agent.spec, seed=0)
    rollout, valid = trial.query, trial.query.valid
    assert not bool(valid.all())
    noise = replace(
        rollout,
        reward=torch.where(valid, rollout.reward, 1e3),
        log_prob=torch.where(valid, rollout.log_prob, -3.0),
        aux={"value": torch.where(valid, rollout.aux["value"], 5.0)},
        obs=torch.where(valid[..., None], rollout.obs, -7.0),
    )
    first = agent.update(trial, generator=generator(0))
    second = twin.update(Trial(trial.tasks, (noise,)), generator=generator(0))
    assert first == second
    assert state_fingerprint(agent.state_dict()) == state_fingerprint(twin.state_dict())


# --- truncated back-propagation -------------------------------------------------------------------------------------


def _first_update(bptt_steps: int | None, n_steps: int = 12) -> dict[str, Tensor]:
    """Return the weights after one gradient step on trials of 3 episodes of 4 steps."""
    config = replace(SMALL, bptt_steps=bptt_steps, ppo=PPOConfig(epochs=1, minibatches=1, max_grad_norm=1e9))
    agent, trial = toy_trial(config, n=4, ends=False)
    assert len(trial.query.obs) == n_steps
    agent.update(trial, generator=generator(0))
    return dict(agent.state_dict()["weights"])


def test_chunks_as_long_as_the_trial_change_nothing_and_shorter_ones_do() -> None:
    full, long, short = _first_update(None), _first_update(12), _first_update(4)
    assert all(torch.equal(full[k], long[k]) for k in full)
    assert any(not torch.allclose(full[k], short[k], atol=1e-6) for k in full)


@pytest.mark.parametrize("memory", KINDS)
def test_chunks_of_one_step_still_carry_the_memory_of_the_whole_trial(memory: Any) -> None:
    agent, trial = toy_trial(replace(SMALL, memory=memory, bptt_steps=1), n=4)
    metrics = agent.update(trial, generator=generator(0))
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-8)  # ratio 1 everywhere: the carries are those of collection
    assert metrics["clip_fraction"] == 0.0


def test_carries_belong_to_the_current_parameters_not_to_those_that_collected() -> None:
    """After several steps in one update, chunked and full walks under the new parameters still agree."""
    config = replace(SMALL, bptt_steps=2, ppo=PPOConfig(epochs=4, minibatches=2, lr=0.05))
    agent, trial = toy_trial(config, n=4)
    agent.update(trial, generator=generator(0))
    full, _ = _evaluate(agent, trial.query)
    chunked, _ = _evaluate(agent, trial.query, chunk=2)
    torch.testing.assert_close(chunked, full, rtol=1e-5, atol=1e-6)
    assert float((full - trial.query.log_prob).abs().max()) > 1e-3  # the parameters did move


# --- reproducibility ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"memory": "lstm", "separate_value": True}, {"see_transition": True}])
def test_a_restored_agent_goes_on_bit_for_bit(options: dict[str, Any]) -> None:
    config = replace(SMALL, ppo=PPOConfig(epochs=2, minibatches=3, anneal_iters=5), **options)
    agent, trial = toy_trial(config)
    agent.update(trial, generator=generator(0))
    tensors, tree = split_state(agent.state_dict())
    other = config.build(agent.spec, seed=1)
    other.load_state_dict(join_state(tensors, tree))
    for round_ in range(2):
        for one in (agent, other):
            fresh = run_trial(ToyWorld(6), one, toy_tasks(6), (3,), seed=round_)
            one.update(fresh, generator=generator(round_))
    assert state_fingerprint(agent.state_dict()) == state_fingerprint(other.state_dict())


def test_a_stored_state_does_not_change_when_training_goes_on() -> None:
    agent, trial = toy_trial(SMALL)
    agent.update(trial, generator=generator(0))
    state = agent.state_dict()
    before = state_fingerprint(state)
    agent.update(trial, generator=generator(1))
    assert state_fingerprint(state) == before != state_fingerprint(agent.state_dict())


def test_the_global_generator_has_no_say() -> None:
    fingerprints = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        agent, trial = toy_trial(SMALL)
        agent.update(trial, generator=generator(0))
        fingerprints.append(state_fingerprint(agent.state_dict()))
    assert fingerprints[0] == fingerprints[1]


def test_greedy_takes_the_mode_and_says_probability_nothing() -> None:
    agent, _ = toy_trial(SMALL, n=8)
    first, second = (run_trial(ToyWorld(8), agent, toy_tasks(8), (1,), seed=s, greedy=True).query for s in (1, 2))
    assert torch.equal(first.action, second.action)
    assert not first.log_prob.any()


# --- bad input ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_size_is_refused_in_one_line() -> None:
    agent, _ = toy_trial(SMALL)
    other = replace(SMALL, hidden=9).build(agent.spec, seed=0)
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        other.load_state_dict(agent.state_dict())
    assert "\n" not in str(caught.value)


def test_a_trial_of_several_phases_is_refused() -> None:
    agent, trial = toy_trial(SMALL)
    with pytest.raises(ConfigError, match="train_phases"):
        agent.update(Trial(trial.tasks, (trial.query, trial.query)), generator=generator(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden": 0},
        {"episodes_per_trial": 0},
        {"memory": "rnn"},
        {"encoder": (0,)},
        {"readout": (4, 0)},
        {"memory_steps": 1},
        {"bptt_steps": 0},
        {"reward_scale": 0.0},
        {"init_std": -1.0},
        {"min_std": 0.0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"rl2.{next(iter(wrong))}"):
        RL2Config(**wrong)
