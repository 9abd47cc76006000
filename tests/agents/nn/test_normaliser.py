"""Observation statistics: the right numbers, frozen at the right times, and back bit for bit after a kill."""

from __future__ import annotations

import dataclasses
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from metarl import envs
from metarl.agent import Agent, State, TimeStep, WorldSpec
from metarl.agents.baselines.finetune import FinetuneConfig
from metarl.agents.maml.agent import MAML, MAMLConfig
from metarl.agents.nn.normaliser import Moments, Normaliser, NormaliserConfig
from metarl.agents.ppo import PPOConfig
from metarl.agents.rl2.agent import RL2Config
from metarl.checkpoint import join_state, split_state, state_fingerprint
from metarl.errors import CheckpointError, ConfigError, MetarlError
from metarl.evaluation import Protocol, evaluate
from metarl.loop import LoopSettings, NullRecorder, meta_train
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator
from metarl.trial import run_trial
from tests.experiments.process_settings import process_settings  # noqa: F401
from tests.experiments.runs.test_resume import finish, numbers, parameters, start, wait_for_records

ON = NormaliserConfig(observations=True)
AGENTS: dict[str, Any] = {
    "rl2": RL2Config(episodes_per_trial=2, hidden=8, ppo=PPOConfig(epochs=1, minibatches=1), normaliser=ON),
    "maml": MAMLConfig(hidden=(8,), episodes_per_step=2, normaliser=ON),
    "finetune": FinetuneConfig(hidden=(8,), episodes_per_task=2, episodes_per_adapt=2, normaliser=ON),
}
LOOP = LoopSettings(n_iterations=2, n_tasks=4, validate_every_iters=0)


def off(config: Any) -> Any:
    return dataclasses.replace(config, normaliser=NormaliserConfig())


def navigation() -> Any:
    return envs.make("navigation", n_validation=4, n_test=4)


def trained(config: Any, n_iterations: int = 2) -> Any:
    """Return an agent after a little training on 2-D navigation."""
    family = navigation()
    with_world = family.make_world(1)
    agent = config.build(with_world.spec, seed=0)
    meta_train(agent, family, dataclasses.replace(LOOP, n_iterations=n_iterations), NullRecorder(), seed=0)
    return agent


def batch_of(seed: int, loc: float = 0.0, scale: float = 1.0, shape: tuple[int, ...] = (20, 3, 2)) -> Tensor:
    return loc + scale * torch.randn(shape, generator=generator(seed, "obs"))


def rollout_of(obs: Tensor) -> Rollout:
    """Return a rollout of which only the observations matter."""
    flat = torch.zeros(obs.shape[:2])
    no = flat.bool()
    first = TimeStep(obs[0], torch.zeros(obs.shape[1], 2), flat[0], no[0])
    return Rollout(obs, torch.zeros(*obs.shape[:2], 2), flat, flat, no, no, obs + 1, flat.long(), ~no, None, None, {},
                   first, obs.shape[1], 1)  # fmt: skip


# ---------------------------------------------------------------- the numbers


def reference(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return rows.mean(0), rows.var(0)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 60), max_size=6),
    loc=st.sampled_from([0.0, 3.0, -1e4]),
    scale=st.sampled_from([1e-2, 1.0, 1e3]),
)
def test_moments_of_any_split_are_those_of_the_whole(cuts: list[int], loc: float, scale: float) -> None:
    rows = batch_of(1, loc, scale, (60, 3))
    moments = Moments(3, "cpu")
    edges = [0, *sorted(cuts), 60]
    for a, b in pairwise(edges):  # empty parts too
        moments.update(rows[a:b], torch.ones(b - a, dtype=torch.bool))
    mean, var = reference(rows.double().numpy())
    assert float(moments.count) == 60
    np.testing.assert_allclose(moments.mean.numpy(), mean, rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_allclose(moments.var.numpy(), var, rtol=1e-9)


def test_rows_that_do_not_count_may_hold_anything() -> None:
    rows, valid = batch_of(1), torch.rand(20, 3, generator=generator(2)) < 0.7
    moments, other = Moments(2, "cpu"), Moments(2, "cpu")
    moments.update(torch.where(valid[..., None], rows, torch.nan), valid)
    other.update(rows[valid], torch.ones(int(valid.sum()), dtype=torch.bool))
    assert float(moments.count) == float(valid.sum())
    torch.testing.assert_close(moments.mean, other.mean, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(moments.var, other.var, rtol=1e-13, atol=1e-13)


def test_a_mean_far_from_zero_costs_no_digits_where_the_textbook_sums_lose_them_all() -> None:
    parts = [batch_of(seed, 1e4, 1.0, (2000, 1, 1)) for seed in range(20)]
    moments, n, total, squares = Moments(1, "cpu"), 0, torch.zeros(1), torch.zeros(1)
    for part in parts:
        moments.update(part, torch.ones(2000, 1, dtype=torch.bool))
        n, total, squares = n + 2000, total + part.sum(0)[0], squares + part.square().sum(0)[0]
    _, var = reference(torch.cat(parts).double().numpy()[:, 0])
    np.testing.assert_allclose(moments.var.numpy(), var, rtol=1e-9)
    textbook = float(squares / n - (total / n).square())
    assert abs(textbook / var[0] - 1) > 0.5


def test_normalised_observations_have_the_closed_form() -> None:
    normaliser = Normaliser(NormaliserConfig(observations=True, clip=1.5), 2, "cpu")
    first, second = batch_of(1, 5.0, 2.0), batch_of(2, -3.0, 0.5)
    normaliser.update(rollout_of(first), rollout_of(second))
    rows = torch.cat([first, second]).double().numpy()
    mean, var = reference(rows.reshape(-1, 2))
    seen = normaliser(first).numpy()
    np.testing.assert_allclose(seen, np.clip((first.numpy() - mean) / np.sqrt(var), -1.5, 1.5), rtol=1e-5, atol=1e-6)
    assert np.abs(seen).max() == np.float32(1.5)
    passed = normaliser.rollout(rollout_of(first))
    assert torch.equal(passed.obs, normaliser(first))
    assert torch.equal(passed.next_obs, normaliser(first + 1))


@settings(max_examples=25, deadline=None)
@given(factor=st.sampled_from([1e-1, 1.0, -3.0, 1e4]), shift=st.sampled_from([0.0, -20.0, 1e3]))
def test_shifting_and_scaling_all_observations_changes_nothing(factor: float, shift: float) -> None:
    plain, moved = (Normaliser(NormaliserConfig(observations=True, min_std=1e-6), 2, "cpu") for _ in range(2))
    obs = batch_of(1).double()
    plain.update(rollout_of(obs))
    moved.update(rollout_of(shift + factor * obs))
    fresh = batch_of(2).double()
    sign = 1.0 if factor > 0 else -1.0
    torch.testing.assert_close(moved(shift + factor * fresh), sign * plain(fresh), rtol=1e-8, atol=1e-8)


def test_what_never_varied_stays_finite_when_a_new_class_moves_it() -> None:
    normaliser = Normaliser(ON, 2, "cpu")
    obs = batch_of(1)
    obs[..., 1] = 0.3  # an object that no training class has
    normaliser.update(rollout_of(obs))
    assert not normaliser(obs)[..., 1].abs().max() > 1e-4
    new = torch.tensor([[0.0, 0.35], [0.0, 90.0]])
    torch.testing.assert_close(normaliser(new)[:, 1], torch.tensor([5.0, 10.0]), rtol=1e-4, atol=1e-4)


def test_before_the_first_batch_only_the_clip_acts_and_off_means_off() -> None:
    obs = batch_of(1, 0.0, 8.0)
    assert torch.equal(Normaliser(ON, 2, "cpu")(obs), obs.clamp(-10, 10))
    idle = Normaliser(NormaliserConfig(), 2, "cpu")
    idle.update(rollout_of(obs))
    assert idle(obs) is obs
    assert idle.state_dict() == {}


# ---------------------------------------------------------------- in the agents


def respond(agent: Agent, obs: Tensor) -> Tensor:
    """Return greedy actions at observations [B, 2], one trial each."""
    n = len(obs)
    zero = torch.zeros(n)
    step = TimeStep(obs, torch.zeros(n, agent.spec.action_dim), zero, zero.bool())
    return agent.act(agent.init(n), step, generator=generator(0), greedy=True)[1].action


@pytest.mark.parametrize("name", ["rl2", "maml", "finetune"])
def test_an_agent_in_shifted_and_scaled_units_acts_and_adapts_alike(name: str) -> None:
    box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    agents = [AGENTS[name].build(WorldSpec(box, spaces.Box(-1, 1, (2,), np.float32), 4), seed=3) for _ in range(2)]
    obs, fresh = batch_of(1), batch_of(2)[0]
    for agent, (shift, factor) in zip(agents, ((0.0, 1.0), (50.0, 256.0)), strict=True):
        agent.normaliser.update(rollout_of(shift + factor * obs))
    here, there = respond(agents[0], fresh), respond(agents[1], 50.0 + 256.0 * fresh)
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-5)
    bare = off(AGENTS[name]).build(agents[0].spec, seed=3)
    assert (respond(bare, fresh) - respond(bare, 50.0 + 256.0 * fresh)).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["rl2", "maml", "finetune"])
def test_inner_and_outer_steps_are_those_of_an_agent_without_it_on_normalised_observations(name: str) -> None:
    config = AGENTS[name] if name != "rl2" else dataclasses.replace(AGENTS[name], normalise_inputs=False)
    agent, family = trained(config), navigation()
    tasks = family.sample("train", 4, generator(0))
    trial = run_trial(family.make_world(4), agent, tasks, agent.train_phases, seed=5)
    seen = Trial(tasks, tuple(agent.normaliser.rollout(rollout) for rollout in trial.rollouts))

    def bare() -> Any:
        other = off(config).build(agent.spec, seed=9)
        other.load_state_dict({k: v for k, v in agent.state_dict().items() if k != "normaliser"})
        return other

    def outcome(one: Any, played: Trial) -> list[str]:
        adapted = one.adapt(one.init(4), played.rollouts[0])
        one.update(played, generator=generator(1))
        learnt = {k: v for k, v in one.state_dict().items() if k not in ("normaliser", "obs_moments")}
        return [state_fingerprint(adapted), state_fingerprint(learnt)]

    wrong = outcome(bare(), trial)  # the trap: the policy saw one thing, the loss another
    expected = outcome(bare(), seen)
    assert outcome(agent, trial) == expected
    assert wrong[1] != expected[1]
    if name != "rl2":  # its memory adapts while acting
        assert wrong[0] != expected[0]


def test_the_first_pass_of_rl2_sees_the_inputs_that_acted_and_newer_statistics_would_not() -> None:
    agent, family = trained(AGENTS["rl2"], n_iterations=3), navigation()
    world = family.make_world(4)
    trial = run_trial(world, agent, family.sample("train", 4, generator(0)), agent.train_phases, seed=5)
    rollout = trial.query

    def ratio_error() -> float:
        log_prob = agent.evaluate_actions(agent.sequence_inputs(rollout), rollout.action, None, agent.start_memories(4))
        return float(torch.where(rollout.valid, log_prob[0].detach() - rollout.log_prob, 0.0).abs().max())

    assert ratio_error() < 1e-5  # float32 rounding: acting goes step by step, learning by whole sequences
    agent.normaliser.update(dataclasses.replace(rollout, obs=rollout.obs + 3.0))  # the trap: before the pass
    assert ratio_error() > 1e-3


def test_training_counts_each_valid_step_of_every_phase_once() -> None:
    agent, family = trained(AGENTS["maml"], n_iterations=1), navigation()
    world = family.make_world(8)
    before = agent.state_dict()["normaliser"]
    trial = run_trial(world, agent, family.sample("train", 4, generator(0)), agent.train_phases, seed=5)
    agent.update(trial, generator=generator(0))
    after = agent.state_dict()["normaliser"]
    assert len(trial.rollouts) == 2
    assert float(after["count"] - before["count"]) == trial.n_steps
    rows = torch.cat([r.obs[r.valid] for r in trial.rollouts]).double().numpy()
    mean = (before["mean"].numpy() * float(before["count"]) + rows.sum(0)) / float(after["count"])
    np.testing.assert_allclose(after["mean"].numpy(), mean, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["rl2", "maml", "finetune"])
def test_held_out_evaluation_and_validation_change_no_statistic(name: str) -> None:
    agent, family = trained(AGENTS[name]), navigation()
    before = state_fingerprint(agent.state_dict())
    evaluate(agent, family, Protocol(adapt_episodes=2, n_seeds=1), references=False)
    assert state_fingerprint(agent.state_dict()) == before
    validated = AGENTS[name].build(agent.spec, seed=0)
    looks = dataclasses.replace(LOOP, validate_every_iters=1, n_validation_tasks=3, validation_adapt_episodes=2)
    meta_train(validated, family, looks, NullRecorder(), seed=0)
    assert state_fingerprint(validated.state_dict()) == before


def test_an_agent_that_learnt_statistics_from_held_out_tasks_would_be_refused() -> None:
    class Leaking(MAML):
        def adapt(self, state: State, rollout: Rollout) -> State:
            self.normaliser.update(rollout)
            return super().adapt(state, rollout)

    family = navigation()
    agent = Leaking(AGENTS["maml"], family.spec, seed=0)
    with pytest.raises(MetarlError, match="parameters"):
        evaluate(agent, family, Protocol(adapt_episodes=2, n_seeds=1), references=False)


# ---------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("name", ["rl2", "maml", "finetune"])
def test_a_restored_agent_goes_on_bit_for_bit(name: str) -> None:
    agent = trained(AGENTS[name])
    tensors, tree = split_state(agent.state_dict())
    other = AGENTS[name].build(agent.spec, seed=9)
    other.load_state_dict(join_state(tensors, tree))
    for one in (agent, other):
        meta_train(
            one, navigation(), dataclasses.replace(LOOP, n_iterations=4), NullRecorder(), seed=0, start_iteration=2
        )
    assert state_fingerprint(agent.state_dict()) == state_fingerprint(other.state_dict())
    forgetful = AGENTS[name].build(agent.spec, seed=9)  # negative control: without its statistics it goes elsewhere
    forgetful.load_state_dict(join_state(tensors, tree))
    forgetful.normaliser = Normaliser(ON, agent.spec.obs_dim, "cpu")
    meta_train(
        forgetful, navigation(), dataclasses.replace(LOOP, n_iterations=4), NullRecorder(), seed=0, start_iteration=2
    )
    assert state_fingerprint(agent.state_dict()) != state_fingerprint(forgetful.state_dict())


@pytest.mark.usefixtures("process_settings")
def test_a_run_killed_with_its_statistics_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, broken, words = tmp_path / "whole", tmp_path / "broken", "tests.agents.normalised_presets:rl2"
    finish(words, "--run-dir", str(whole))
    process = start(words, "--run-dir", str(broken))
    wait_for_records(process, broken, 5)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    n, done = len(numbers(whole)), len((broken / "metrics.jsonl").read_bytes().splitlines())
    assert done < n
    assert "going on after iteration" in finish(words, "--run-dir", str(broken), "--resume", "auto")
    assert parameters(broken, n) == parameters(whole, n)
    assert numbers(broken) == numbers(whole)


@pytest.mark.parametrize("name", ["rl2", "maml", "finetune"])
def test_a_checkpoint_of_the_other_setting_is_refused_in_one_line(name: str) -> None:
    agent = trained(AGENTS[name], n_iterations=1)
    bare = off(AGENTS[name]).build(agent.spec, seed=0)
    assert "normaliser" not in bare.state_dict()
    for reads, written in ((bare, agent), (agent, bare)):
        with pytest.raises(CheckpointError, match=r"normaliser\.observations") as caught:
            reads.load_state_dict(written.state_dict())
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="expected"):
        Normaliser(ON, 5, "cpu").load_state_dict(agent.state_dict())


@pytest.mark.parametrize("wrong", [{"clip": 0.0}, {"clip": float("inf")}, {"min_std": -1.0}, {"min_std": float("nan")}])
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=rf"normaliser\.{next(iter(wrong))}"):
        NormaliserConfig(**wrong)
