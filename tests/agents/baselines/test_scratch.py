"""The reference that starts anew on each task: PPO and Adam by the book, task by task."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.agent import TimeStep
from metarl.agents.baselines.scratch import Scratch, ScratchConfig
from metarl.agents.maml.inner_loop import make_batch
from metarl.checkpoint import join_state, split_state, state_fingerprint
from metarl.episodes import episode_table
from metarl.errors import CheckpointError, ConfigError
from metarl.rollout import Trial
from metarl.seeding import generator
from metarl.trial import run_trial
from tests.agents.toy_world import ACTION_SPACES, ToyWorld, toy_tasks

SMALL = ScratchConfig(hidden=(8,), episodes_per_adapt=2, steps=3)


def _trial(
    config: ScratchConfig = SMALL, actions: str = "discrete", n: int = 4, seed: int = 0
) -> tuple[Scratch, Trial]:
    """Return an agent and a phase of it with random rewards, which no baseline can foretell."""
    world = ToyWorld(2 * n, actions)
    agent = config.build(world.spec, seed=seed)
    trial = run_trial(world, agent, toy_tasks(n), (2,), seed=seed)
    reward = torch.randn(trial.query.reward.shape, generator=generator(seed, "reward"))
    return agent, Trial(trial.tasks, (replace(trial.query, reward=reward),))


def _params(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("param/"): v for k, v in state.items() if k.startswith("param/")}


def test_each_task_starts_with_parameters_of_its_own_that_follow_from_the_seed() -> None:
    agent, _ = _trial()
    fresh = agent.init(3)["param/policy.0.weight"]
    assert not torch.equal(fresh[0], fresh[1])
    assert torch.equal(agent.init(7)["param/policy.0.weight"][:3], fresh)
    assert not torch.equal(_trial(seed=1)[0].init(3)["param/policy.0.weight"], fresh)


@pytest.mark.parametrize("actions", list(ACTION_SPACES))
def test_a_round_of_learning_is_torchs_adam_on_the_clipped_surrogate(actions: str) -> None:
    """Two rounds, so that Adam's memory has to travel in the state; one task at a time is the independent check."""
    config = replace(SMALL, entropy_coef=0.01, max_grad_norm=0.05)
    agent, trial = _trial(config, actions)
    state = agent.adapt(agent.adapt(agent.init(4), trial.query), trial.query)
    batch = make_batch(agent.net, trial.query, config.gamma, config.lam)
    task = 3
    one = {k: v[task : task + 1].clone().requires_grad_() for k, v in _params(agent.init(4)).items()}
    adam = torch.optim.Adam(one.values(), lr=config.lr)
    row = replace(batch, **{k: None if v is None else v[task : task + 1] for k, v in vars(batch).items()})
    for _ in range(2 * config.steps):
        out = agent.net(one, row.obs, row.action_mask)
        ratio = (agent.net.distribution.log_prob(out, row.action) - row.log_prob).exp()
        clipped = torch.minimum(ratio * row.advantage, ratio.clamp(0.8, 1.2) * row.advantage)
        gain = clipped + 0.01 * agent.net.distribution.entropy(out)
        adam.zero_grad()
        (-gain[row.valid].mean()).backward()
        torch.nn.utils.clip_grad_norm_(one.values(), config.max_grad_norm)
        adam.step()
    for name, value in _params(state).items():
        torch.testing.assert_close(value[task], one[name][0].detach(), rtol=1e-4, atol=1e-6)
    forgetful = {k: v if k.startswith("param/") else torch.zeros_like(v) for k, v in agent.init(4).items()}
    once = agent.adapt(forgetful, trial.query)
    reset = agent.adapt({k: once[k] if k.startswith("param/") else v for k, v in forgetful.items()}, trial.query)
    name = "policy.1.bias"
    assert float((_params(reset)[name][task] - one[name][0]).detach().abs().max()) > 1e-5  # without Adam's memory


def test_the_first_step_of_adam_moves_each_parameter_by_the_step_size() -> None:
    agent, trial = _trial(replace(SMALL, steps=1, lr=0.01, max_grad_norm=1e6))
    fresh, adapted = agent.init(4), agent.adapt(agent.init(4), trial.query)
    moved = (adapted["param/policy.1.bias"] - fresh["param/policy.1.bias"]).abs()
    # The first tasks' episodes are so short that the baseline explains them all: what is left of theirs is rounding.
    assert moved[3] == pytest.approx(0.01, rel=1e-3)
    assert float(moved.max()) <= 0.01 * (1 + 1e-3)


def test_each_task_learns_from_its_own_episodes_only() -> None:
    agent, trial = _trial()
    rollout, state = trial.query, agent.init(4)
    changed = replace(rollout, reward=rollout.reward.clone())
    changed.reward[:, 2:4] = torch.randn(changed.reward[:, 2:4].shape, generator=generator(0))  # task 1's two envs
    a, b = agent.adapt(state, rollout), agent.adapt(state, changed)
    assert all(torch.equal(a[key][[0, 2, 3]], b[key][[0, 2, 3]]) for key in a)
    assert any(not torch.equal(a[key][1], b[key][1]) for key in a)


def test_steps_after_a_copys_last_episode_do_not_matter() -> None:
    agent, trial = _trial()
    rollout, valid = trial.query, trial.query.valid
    assert not bool(valid.all())
    noise = replace(
        rollout, reward=torch.where(valid, rollout.reward, 1e3), obs=torch.where(valid[..., None], rollout.obs, -7.0)
    )
    a, b = (agent.adapt(agent.init(4), r) for r in (rollout, noise))
    assert state_fingerprint(a) == state_fingerprint(b)


def test_adapting_leaves_the_old_state_alone_and_training_changes_nothing() -> None:
    agent, trial = _trial()
    state = agent.init(4)
    before = state_fingerprint(state)
    adapted = agent.adapt(state, trial.query)
    assert state_fingerprint(state) == before != state_fingerprint(adapted)
    assert not any(v.requires_grad for v in adapted.values())
    assert agent.update(trial, generator=generator(0)) == {}
    assert state_fingerprint(agent.init(4)) == before


def test_copies_of_a_task_share_its_policy() -> None:
    agent, trial = _trial(n=3)
    state = agent.adapt(agent.init(3), trial.query)
    step = TimeStep(torch.full((6, 1), 0.5), torch.zeros(6, 3), torch.zeros(6), torch.zeros(6, dtype=torch.bool))
    modes = agent.act(state, step, generator=generator(0), greedy=True)[1].action
    assert torch.equal(modes[::2], modes[1::2])


def test_a_checkpoint_brings_the_same_fresh_parameters_back() -> None:
    agent, _ = _trial(seed=3)
    other = SMALL.build(agent.spec, seed=5)
    assert state_fingerprint(other.init(4)) != state_fingerprint(agent.init(4))
    other.load_state_dict(join_state(*split_state(agent.state_dict())))
    assert state_fingerprint(other.init(4)) == state_fingerprint(agent.init(4))
    with pytest.raises(CheckpointError, match="another agent"):
        other.load_state_dict({"policy": {}})


def test_adaptation_is_split_into_equal_phases_or_refused() -> None:
    agent = SMALL.build(ToyWorld(1).spec, seed=0)
    assert [agent.phases(n) for n in (0, 1, 2, 6)] == [(), (1,), (2,), (2, 2, 2)]
    with pytest.raises(ConfigError, match="ask for 4"):
        agent.phases(5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"episodes_per_adapt": 0}, {"steps": 0}, {"lr": -1.0}, {"lr": math.inf}, {"clip": 0.0}, {"init_std": 0.0},
        {"max_grad_norm": 0.0}, {"entropy_coef": -0.1}, {"gamma": 1.1}, {"lam": -0.1},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"scratch.{next(iter(wrong))}"):
        ScratchConfig(**wrong)


@pytest.mark.learning
def test_a_task_is_learnt_from_its_own_episodes() -> None:
    family = envs.make("navigation")
    world = family.make_world(200)
    agent = ScratchConfig(hidden=(16,), init_std=0.1, lr=3e-3).build(world.spec, seed=0)
    trial = run_trial(world, agent, family.sample("test", 10, generator(1)), (20,) * 5, seed=2)
    before, after = (episode_table(r).returns.mean(1) for r in (trial.rollouts[0], trial.query))
    gain = after - before
    assert float(gain.mean()) > 2.82 * float(gain.std() / math.sqrt(10))  # one-sided 99 % t-bound, 9 d.o.f.
