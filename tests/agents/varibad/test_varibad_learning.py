"""VariBAD learns to infer and to use what it infers: seeded training runs with bounds and negative controls."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.agents.ppo import PPOConfig
from metarl.agents.varibad.agent import VariBADConfig
from metarl.agents.varibad.vae import VAEConfig
from metarl.episodes import episode_table
from metarl.rollout import Rollout
from metarl.seeding import derive, generator
from metarl.trial import run_trial
from tests.agents.learning_bounds import half_width

N_PULLS, N_TASKS = 20, 2000
MARGIN = 0.03
"""Reward per pull by which the last 5 of 20 pulls of a bandit with 2 arms beat the first 2, with 99 % confidence. Of 8
seeds (40 iterations) gains were 0.031 to 0.103, median 0.084, half-width 0.02, so that 7 pass; untrained -0.004 to
0.021."""


def bandit_gains(n_iterations: int, seed: int = 3) -> Tensor:
    """Meta-train on bandits with 2 arms; return the gain from the first 2 to the last 5 pulls of new ones: [2000].

    No policy without a belief can gain anything.
    """
    family, n = envs.make("bandit", n_arms=2, n_pulls=N_PULLS), 128
    world = family.make_world(n)
    vae = VAEConfig(latent=4, kl_weight=0.05, lr=3e-3, updates=4, horizons=8)
    ppo = PPOConfig(lr=3e-3, gamma=0.95, lam=0.9, entropy_coef=0.02)
    config = VariBADConfig(episodes_per_trial=N_PULLS, hidden=(32,), vae=vae, ppo=ppo)
    agent = config.build(world.spec, seed=seed)
    for i in range(n_iterations):
        tasks = family.sample("train", n, generator(seed, "tasks", i))
        trial = run_trial(world, agent, tasks, agent.train_phases, seed=derive(seed, "trial", i))
        agent.update(trial, generator=generator(seed, "update", i))
    test = family.sample("train", N_TASKS, generator(seed, "test"))
    returns = episode_table(
        run_trial(family.make_world(N_TASKS), agent, test, (N_PULLS,), seed=derive(seed, "test")).query
    ).returns
    return returns[:, -5:].mean(1) - returns[:, :2].mean(1)


@pytest.mark.learning
def test_varibad_learns_to_find_the_better_arm() -> None:
    gain = bandit_gains(n_iterations=40)
    assert float(gain.mean()) - half_width(gain) > MARGIN


@pytest.mark.learning
def test_without_training_no_arm_is_found() -> None:
    """Negative control: the gain comes from the updates."""
    gain = bandit_gains(n_iterations=0)
    assert float(gain.mean()) + half_width(gain) < MARGIN


N_TRIALS = 200


def log_likelihoods(n_steps: int) -> tuple[Tensor, Tensor, float]:
    """Train encoder and reward decoder on trials of an untrained policy on the gridworld; return what they make of new
    trials: the mean log-likelihood of all 60 rewards given the first belief, and given the last one [200 each], and the
    best that a constant chance of reward has.
    """
    family, seed = envs.make("gridworld"), 0
    vae = VAEConfig(
        reward_from="next_obs", reward_likelihood="bernoulli", kl_weight=0.05, horizons=16, lr=3e-3,
        buffer_trials=400,
    )  # fmt: skip
    world = family.make_world(N_TRIALS)
    agent = VariBADConfig(episodes_per_trial=4, vae=vae).build(world.spec, seed=seed)

    def play(key: str) -> Rollout:
        tasks = family.sample("train", N_TRIALS, generator(seed, key))
        return run_trial(world, agent, tasks, (4,), seed=derive(seed, key)).query

    new, seen = agent.rows(play("test")), play("train")
    agent.normaliser.update(seen)
    agent.buffer.add(agent.rows(seen))
    for i in range(n_steps):
        agent.improve_vae(generator(seed, "vae", i))
    with torch.no_grad():
        means = agent.encoder.beliefs(agent.transitions(new)).mean
        first, last = agent.log_likelihoods(new, means[[0, -1]])["reward"].mean(1)
    share = float((new["reward"] > 0).double().mean())
    return first, last, share * math.log(share) + (1 - share) * math.log(1 - share)


@pytest.mark.learning
def test_the_reward_decoder_learns_to_read_the_belief() -> None:
    """From -0.69 nats per reward to -0.06 (seeds 0 and 1); a constant has -0.10, beliefs before any step have -0.13."""
    first, last, constant = log_likelihoods(n_steps=300)
    assert float(last.mean()) - half_width(last) > constant
    assert float((last - first).mean()) - half_width(last - first) > 0.03


@pytest.mark.learning
def test_an_untrained_decoder_knows_less_than_a_constant_whatever_the_belief() -> None:
    """Negative control."""
    first, last, constant = log_likelihoods(n_steps=0)
    assert float(last.mean()) + half_width(last) < constant
    assert abs(float((last - first).mean())) < 0.03
