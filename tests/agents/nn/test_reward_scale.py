"""Rewards whose size differs from class to class: what the memory sees of them, what the objective makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metarl.agent import Agent, State, TimeStep
from metarl.agents.nn.reward_scale import ClassScale, TrialScale
from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import INPUT_CLIP, RL2, RL2Config
from metarl.checkpoint import join_state, split_state, state_fingerprint
from metarl.episodes import pre_post
from metarl.errors import CheckpointError, ConfigError
from metarl.rollout import Trial
from metarl.seeding import generator
from metarl.tasks import Tasks
from metarl.trial import run_trial
from tests.agents.toy_world import ToyWorld, toy_tasks, toy_trial

SMALL = RL2Config(episodes_per_trial=3, hidden=8, ppo=PPOConfig(epochs=2, minibatches=2))
SEEN = replace(SMALL, reward_input="trial")
FAIR = replace(SEEN, reward_objective="class")


def rewards(seed: int = 0, n_steps: int = 30, n: int = 3) -> Tensor:
    """Return rewards after the opening of a trial [T, n], sparse in column 0, shaped in 1, negative too in 2."""
    out = torch.randn(n_steps, n, generator=generator(seed, "reward"))
    out[:, 0] = (out[:, 0] > 1.2).float()
    out[:, 1] = out[:, 1].abs().cumsum(0)
    out[0] = 0.0
    return out


# ---------------------------------------------------------------- in the trial


def test_a_trials_rewards_are_divided_by_the_root_mean_square_so_far() -> None:
    r = rewards()
    seen = TrialScale("cpu").sequence(r).numpy()
    for t in range(1, len(r)):
        past = r[1 : t + 1].double().numpy()
        rms = np.sqrt((past**2).mean(0))
        np.testing.assert_allclose(seen[t], np.divide(past[-1], rms, out=np.zeros(3), where=rms > 0), rtol=1e-6)
    assert (seen[0] == 0).all()
    assert np.abs(seen).max() <= np.sqrt(len(r) - 1)


def test_step_by_step_and_all_at_once_agree_bit_for_bit() -> None:
    scale, r = TrialScale("cpu"), rewards()
    state, steps = scale.start(3), []
    for row in r:
        seen, state = scale.step(row, state)
        steps.append(seen)
    assert torch.equal(torch.stack(steps), scale.sequence(r))


@settings(max_examples=20, deadline=None)
@given(at=st.integers(2, 29), what=st.sampled_from([0.0, -7.0, 1e6]))
def test_no_input_depends_on_a_later_reward(at: int, what: float) -> None:
    r = rewards()
    other = r.clone()
    other[at] = what
    a, b = TrialScale("cpu").sequence(r), TrialScale("cpu").sequence(other)
    assert torch.equal(a[:at], b[:at])
    assert not torch.equal(a[at:], b[at:])


@settings(max_examples=20, deadline=None)
@given(factor=st.sampled_from([2.0**-20, 1e-3, 0.3, 120.0, 2.0**10, 1e15]))
def test_the_units_of_a_tasks_rewards_leave_no_trace(factor: float) -> None:
    a, b = TrialScale("cpu").sequence(rewards()), TrialScale("cpu").sequence(rewards() * factor)
    torch.testing.assert_close(a, b, rtol=1e-6, atol=0.0)


def _play(agent: Agent, pay: Tensor) -> tuple[State, Tensor]:
    """Feed the agent rewards `pay` [T, n] whatever it does; return its last state and its log-probabilities."""
    n = pay.shape[1]
    state, noise, said = agent.init(n), generator(1), []
    for t, row in enumerate(pay):
        step = TimeStep(torch.full((n, 1), float(t % 4)), torch.zeros(n, 3), row, torch.zeros(n, dtype=torch.bool))
        state, decision = agent.act(state, step, generator=noise)
        said.append(decision.log_prob)
    return state, torch.stack(said)


def _trained(config: RL2Config, seed: int = 0) -> RL2:
    """Return an agent with one update behind it, so that running statistics are no longer those of the start."""
    agent, trial = toy_trial(config, seed=seed)
    agent.update(trial, generator=generator(0))
    trained: RL2 = agent
    return trained


@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("see_transition", [False, True])
def test_trap_5_5_an_agent_plays_a_class_of_any_reward_size_alike(memory: Any, see_transition: bool) -> None:
    agent = _trained(replace(SEEN, memory=memory, see_transition=see_transition))
    (small, said), (large, same) = _play(agent, rewards()), _play(agent, rewards() * 1024)
    assert torch.equal(said, same)
    assert all(torch.equal(small[k], large[k]) for k in ("h", *(["c"] if memory == "lstm" else [])))


def test_trap_5_5_one_scale_for_all_classes_shows_a_new_one_nothing_or_saturates() -> None:
    agent = _trained(SMALL)
    quiet, silent = (_play(agent, rewards() * f)[1] for f in (1e-6, 0.0))
    torch.testing.assert_close(quiet, silent, rtol=0, atol=1e-4)  # it cannot tell rewards from none
    loud = _play(agent, rewards() * 1024)[1]
    assert (loud - _play(agent, rewards())[1]).abs().max() > 1e-3
    agent = _trained(SEEN)
    assert (_play(agent, rewards() * 1e-6)[1] - _play(agent, rewards() * 0.0)[1]).abs().max() > 1e-3


def test_the_clip_bounds_the_first_reward_after_a_long_silence() -> None:
    agent, trial = toy_trial(replace(SEEN, episodes_per_trial=60), n=4)
    late = torch.zeros_like(trial.query.reward)
    late[200] = 1.0
    rollout = replace(trial.query, reward=late, valid=torch.ones_like(trial.query.valid))
    assert float(TrialScale("cpu").sequence(torch.cat([late[:1], late[:-1]]))[201, 0]) > INPUT_CLIP
    assert float(agent.sequence_inputs(rollout)[201, 0, -2]) == INPUT_CLIP


def test_the_update_sees_the_very_inputs_that_acted() -> None:
    agent = _trained(SEEN)
    trial = run_trial(ToyWorld(6), agent, toy_tasks(6), agent.train_phases, seed=3)
    rollout = trial.query
    x = agent.sequence_inputs(rollout)
    unscaled = x.clone()
    unscaled[1:, :, -2] = rollout.reward[:-1]
    seen, misread = (
        (agent.evaluate_actions(inputs, rollout.action, None, agent.start_memories(6))[0].detach() - rollout.log_prob)
        for inputs in (x, unscaled)
    )
    assert not rollout.valid.all()  # some trials end early and idle
    # A product over all steps need not round as those step by step did; inputs in other units are another matter.
    assert float(seen[rollout.valid].abs().max()) < 1e-6
    assert float(misread[rollout.valid].abs().max()) > 1e-4
    hostile = torch.where(rollout.valid, rollout.reward, torch.inf)
    assert torch.equal(agent.sequence_inputs(replace(rollout, reward=hostile)), x)


def test_the_scale_starts_afresh_with_each_trial_and_each_row_has_its_own() -> None:
    agent = _trained(SEEN)
    state, _ = _play(agent, rewards())
    assert set(state) == {"h", "reward_squares", "reward_count"}
    assert all(len(v) == 3 and not v.isnan().any() for v in state.values())
    assert not any(v.any() for v in agent.init(3).values())
    alone = _play(agent, rewards()[:, 1:2])[0]
    torch.testing.assert_close(alone["reward_squares"][0], state["reward_squares"][1], rtol=0, atol=0)


# ---------------------------------------------------------------- in the objective


def test_the_scale_of_a_class_is_the_root_mean_square_of_all_its_rewards() -> None:
    scale, r = ClassScale("cpu"), rewards(n=4) * torch.tensor([1.0, 1200.0, 1.0, 0.0])
    groups, valid = ("a", "b", "a", "still"), torch.rand(30, 4, generator=generator(5)) < 0.8
    scale.update(torch.where(valid, r, torch.nan)[:11], valid[:11], groups)
    scale.update(r[11:, [1, 0]], valid[11:, [1, 0]], ("b", "a"))
    scale.update(r[11:, 2:], valid[11:, 2:], ("a", "still"))
    x, v = r.double().numpy(), valid.numpy()
    a = np.concatenate([x[v[:, 0], 0], x[v[:, 2], 2]])
    expected = [np.sqrt((a**2).mean()), np.sqrt((x[v[:, 1], 1] ** 2).mean()), 1.0]
    assert scale.names == ["a", "b", "still"]
    np.testing.assert_allclose(scale.rms.numpy(), expected, rtol=1e-12)
    found = scale(r, groups).numpy()
    np.testing.assert_allclose(found, x / np.array(expected)[[0, 1, 0, 2]], rtol=1e-6)


def _two_classes(factor: float, config: RL2Config) -> tuple[RL2, Trial, dict[str, float]]:
    """Train one update on two classes, the second of which pays `factor` times as much."""
    agent, trial = toy_trial(config)
    tasks = Tasks(trial.tasks.values, trial.tasks.names, ("a", "b") * 3)
    size = torch.tensor([1.0, factor] * 3)
    paid = Trial(tasks, (replace(trial.query, reward=trial.query.reward * size),))
    metrics = agent.update(paid, generator=generator(0))
    return agent, paid, metrics


def test_trap_5_5_the_units_of_a_class_do_not_move_the_update() -> None:
    weights = [_two_classes(f, FAIR)[0].state_dict()["weights"] for f in (1.0, 1024.0)]
    assert state_fingerprint(weights[0]) == state_fingerprint(weights[1])
    raw = [_two_classes(f, SEEN)[0].state_dict()["weights"] for f in (1.0, 1024.0)]
    assert state_fingerprint(raw[0]) != state_fingerprint(raw[1])  # the loud class drowns the other


def test_reported_returns_are_never_scaled() -> None:
    agent, trial, _ = _two_classes(1024.0, FAIR)
    valid = trial.query.valid
    by_hand = (trial.query.reward * valid).sum(0).double()
    per_task = pre_post(trial, agent)
    assert per_task["post_return"] > 100
    assert float(by_hand.mean()) == pytest.approx(per_task["pre_return"] + _middle(trial) + per_task["post_return"])


def _middle(trial: Trial) -> float:
    """Return the mean return of the second of three episodes."""
    rollout = trial.query
    return float((rollout.reward * rollout.valid * (rollout.episode == 1)).sum(0).double().mean())


def test_a_positive_factor_keeps_the_order_of_outcomes_and_the_sign_of_every_reward() -> None:
    scale, r = ClassScale("cpu"), rewards()
    scale.update(r, torch.ones_like(r, dtype=torch.bool), ("a", "b", "c"))
    found = scale(r, ("a", "b", "c"))
    assert torch.equal(found.sign(), r.sign())
    assert torch.equal(found.argsort(dim=0, stable=True), r.argsort(dim=0, stable=True))


# ---------------------------------------------------------------- checkpoints and settings


def test_the_scales_of_classes_come_back_bit_for_bit() -> None:
    agent = _two_classes(1024.0, FAIR)[0]
    tensors, tree = split_state(agent.state_dict())
    other = FAIR.build(agent.spec, seed=5)
    other.load_state_dict(join_state(tensors, tree))
    for one in (agent, other):
        trial = run_trial(ToyWorld(6), one, toy_tasks(6), one.train_phases, seed=4)
        one.update(trial, generator=generator(1))
    assert state_fingerprint(agent.state_dict()) == state_fingerprint(other.state_dict())
    assert agent.state_dict()["class_scale"]["names"] == ["a", "b", "toy"]


def test_a_checkpoint_without_class_scales_is_refused_and_acting_changes_none() -> None:
    plain, fair = _trained(SEEN), _trained(FAIR)
    assert "class_scale" not in plain.state_dict()
    with pytest.raises(CheckpointError, match="reward scale per class"):
        fair.load_state_dict(plain.state_dict())
    before = state_fingerprint(fair.state_dict())
    run_trial(ToyWorld(6), fair, toy_tasks(6), (2, 1), seed=0)
    assert state_fingerprint(fair.state_dict()) == before


@pytest.mark.parametrize("wrong", [{"reward_input": "global"}, {"reward_objective": "task"}])
def test_unknown_units_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"rl2.{next(iter(wrong))}"):
        RL2Config(**wrong)
