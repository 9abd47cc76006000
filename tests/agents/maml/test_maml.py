"""MAML-TRPO as an agent: its four verbs, its trust region, and its promises."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl import envs
from metarl.agent import TimeStep, WorldSpec
from metarl.agents import AGENTS
from metarl.agents.maml.agent import MAML, MAMLConfig
from metarl.agents.nn.functional import Params
from metarl.errors import CheckpointError, ConfigError
from metarl.returns import masked_mean
from metarl.rollout import Rollout, Trial
from metarl.seeding import generator
from metarl.trial import run_trial
from tests.agents.synthetic import synthetic_rollout, trial_of

OBS = spaces.Box(-1, 1, (2,), np.float32)
ACTIONS = {
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "masked": spaces.Discrete(3, start=1),
    "multi": spaces.MultiDiscrete([2, 3]),
}


def _agent(kind: str = "box", **options: object) -> MAML:
    config = MAMLConfig(**{"hidden": (4,), "episodes_per_step": 2, **options})  # type: ignore[arg-type]
    return config.build(WorldSpec(OBS, ACTIONS[kind], 6), seed=1)


def _rollout(agent: MAML, kind: str = "box", seed: int = 0, n_tasks: int = 3, params: Params | None = None) -> Rollout:
    sampler = agent.parameters() if params is None else params
    return synthetic_rollout(agent.net, agent.spec, sampler, n_tasks=n_tasks, seed=seed, masked=kind == "masked")


def _trial(agent: MAML, kind: str = "box", seed: int = 0) -> Trial:
    """Return a trial whose query was really collected by the adapted policies."""
    state, phases = agent.init(3), []
    for phase in range(agent.config.inner_steps + 1):
        phi = {k.removeprefix("param/"): v for k, v in state.items() if k != "k"}
        phases.append(_rollout(agent, kind, seed=10 * seed + phase, params=phi))
        state = agent.adapt(state, phases[-1])
    return trial_of(*phases)


def _pick_tasks(rollout: Rollout, tasks: list[int]) -> Rollout:
    """Return the rollout of these tasks only, in this order."""
    m = rollout.envs_per_task
    columns = [t * m + c for t in tasks for c in range(m)]
    tensors = {k: v[:, columns] for k, v in vars(rollout).items() if isinstance(v, Tensor)}
    return replace(rollout, **tensors, n_tasks=len(tasks))


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# Phases


def test_training_collects_support_per_inner_step_and_a_query() -> None:
    assert _agent(inner_steps=3, episodes_per_step=5).train_phases == (5, 5, 5, 5)


@pytest.mark.parametrize(("n", "expected"), [(0, ()), (3, (3,)), (5, (5,)), (15, (5, 5, 5))])
def test_adaptation_episodes_are_cut_into_inner_steps(n: int, expected: tuple[int, ...]) -> None:
    assert _agent(episodes_per_step=5).phases(n) == expected


def test_adaptation_episodes_that_leave_a_remainder_are_refused() -> None:
    with pytest.raises(ConfigError, match="ask for 10, or change"):
        _agent(episodes_per_step=5).phases(12)


# Acting


@pytest.mark.parametrize("kind", ACTIONS)
def test_actions_are_legal_and_their_log_prob_is_the_policys(kind: str) -> None:
    agent = _agent(kind)
    obs = torch.randn(600, 2, generator=generator(0))
    mask = torch.rand(600, 3, generator=generator(1)) < 0.5
    mask[:, 2] = True
    step = TimeStep(
        obs, torch.zeros(600, 5), torch.zeros(600), torch.zeros(600).bool(), mask if kind == "masked" else None
    )
    state = agent.init(3)
    after, decision = agent.act(state, step, generator=generator(2))
    assert _same(after, state)
    assert decision.log_prob.shape == (600,)
    params = agent.net(agent.parameters(), obs, step.action_mask)
    torch.testing.assert_close(decision.log_prob, agent.net.distribution.log_prob(params, decision.action))
    if kind == "masked":
        assert bool(mask.gather(1, decision.action[:, None] - 1).all())
        assert set(decision.action.tolist()) == {1, 2, 3}
    elif kind == "multi":
        assert decision.action.amax(0).tolist() == [1, 2]
    else:
        noise = decision.action - params[:, :2]
        torch.testing.assert_close(noise.std(0), torch.ones(2), rtol=0.1, atol=0)


def test_a_greedy_action_is_the_mode_and_needs_no_noise() -> None:
    agent, step = _agent(), TimeStep(torch.randn(4, 2), torch.zeros(4, 2), torch.zeros(4), torch.zeros(4).bool())
    noise = generator(0)
    before = noise.get_state()
    _, decision = agent.act(agent.init(2), step, generator=noise, greedy=True)
    torch.testing.assert_close(decision.action, agent.net(agent.parameters(), step.obs)[:, :2])
    assert decision.log_prob.tolist() == [0] * 4
    assert torch.equal(noise.get_state(), before)


def test_each_task_acts_with_its_own_parameters() -> None:
    agent = _agent()
    state = agent.init(3)
    state["param/policy.1.bias"][1] += 5
    step = TimeStep(torch.zeros(6, 2), torch.zeros(6, 2), torch.zeros(6), torch.zeros(6).bool())
    action = agent.act(state, step, generator=generator(0), greedy=True)[1].action
    assert action[:, 0].tolist() == [0, 0, 5, 5, 0, 0]


# Adapting


@pytest.mark.parametrize("kind", ACTIONS)
def test_adapt_leaves_theta_and_the_old_state_alone(kind: str) -> None:
    agent = _agent(kind)
    state, theta = agent.init(3), {k: v.clone() for k, v in agent.parameters().items()}
    kept = {k: v.clone() for k, v in state.items()}
    new = agent.adapt(state, _rollout(agent, kind))
    assert _same(state, kept)
    assert _same(agent.parameters(), theta)
    assert new["k"].tolist() == [1, 1, 1]
    assert not any(v.requires_grad for v in new.values())
    assert all(not torch.equal(new[k], state[k]) for k in new)


def test_adapting_one_task_leaves_the_others() -> None:
    agent = _agent()
    rollout = _rollout(agent)
    reward = rollout.reward.clone()
    reward[:, 2:4] = reward[:, 2:4].flip(0)
    before, after = agent.adapt(agent.init(3), rollout), agent.adapt(agent.init(3), replace(rollout, reward=reward))
    for key in before:
        assert torch.equal(before[key][[0, 2]], after[key][[0, 2]])
    assert not torch.equal(before["param/log_std"][1], after["param/log_std"][1])


def test_adapting_permuted_tasks_permutes_the_result() -> None:
    agent, order = _agent(), [2, 0, 1]
    rollout = _rollout(agent)
    straight, permuted = agent.adapt(agent.init(3), rollout), agent.adapt(agent.init(3), _pick_tasks(rollout, order))
    for key in straight:
        torch.testing.assert_close(permuted[key], straight[key][order], rtol=1e-6, atol=1e-7)


def test_a_step_size_of_zero_gives_phi_equal_to_theta() -> None:
    agent = _agent(alpha=0.0)
    state = agent.init(3)
    new = agent.adapt(state, _rollout(agent))
    assert all(torch.equal(new[k], state[k]) for k in state if k != "k")


def test_rows_that_do_not_count_may_hold_anything() -> None:
    """Idle envs carry leftovers; NaN there must not reach the gradient."""
    agent = _agent()
    rollout = _rollout(agent)
    idle = ~rollout.valid
    spoiled = replace(
        rollout,
        obs=rollout.obs.masked_fill(idle.unsqueeze(-1), torch.nan),
        reward=rollout.reward.masked_fill(idle, torch.nan),
        log_prob=rollout.log_prob.masked_fill(idle, torch.nan),
    )
    assert bool(idle.any())
    assert _same(agent.adapt(agent.init(3), spoiled), agent.adapt(agent.init(3), rollout))


def test_trap_5_11_later_steps_at_test_are_halved() -> None:
    agent = _agent(inner_steps=1)
    rollout = _rollout(agent)
    fresh, trained = agent.init(3), {**agent.init(3), "k": torch.tensor([0, 1, 2])}
    whole, mixed = agent.adapt(fresh, rollout), agent.adapt(trained, rollout)
    for key in fresh.keys() - {"k"}:
        move, half = whole[key] - fresh[key], mixed[key] - fresh[key]
        torch.testing.assert_close(half[0], move[0])
        torch.testing.assert_close(half[1:], move[1:] / 2, rtol=1e-3, atol=1e-6)


def test_trap_5_11_every_inner_step_gets_episodes_of_the_policy_before_it() -> None:
    """With K = 2 the second support is sampled by phi_1, not by theta again."""
    family = envs.make("gridworld")
    agent = MAMLConfig(hidden=(4,), inner_steps=2, episodes_per_step=2, alpha=2.0).build(family.spec, seed=0)
    trial = run_trial(family.make_world(6), agent, family.sample("train", 3, generator(0)), agent.train_phases, seed=1)
    state = agent.init(3)
    for phase, rollout in enumerate(trial.rollouts):
        flat = rollout.obs.reshape(-1, 3, 2, 2).transpose(0, 1).reshape(3, -1, 2)
        action = rollout.action.reshape(-1, 3, 2).transpose(0, 1).reshape(3, -1)
        stored = rollout.log_prob.reshape(-1, 3, 2).transpose(0, 1).reshape(3, -1)
        for source, should_match in ((state, True), (agent.init(3), phase == 0)):
            phi = {k.removeprefix("param/"): v for k, v in source.items() if k != "k"}
            error = (agent.net.distribution.log_prob(agent.net(phi, flat), action) - stored).abs().max()
            assert (float(error) < 1e-5) == should_match
        state = agent.adapt(state, rollout)


def test_trap_5_13_a_time_limit_counts_as_the_end_of_the_return() -> None:
    """On-policy and with a baseline that sees the time, truncated and terminated give the same step."""
    agent = _agent()
    rollout = _rollout(agent)
    ended = replace(rollout, terminated=rollout.truncated, truncated=rollout.terminated)
    assert _same(agent.adapt(agent.init(3), ended), agent.adapt(agent.init(3), rollout))


def test_trap_0_6_the_inner_step_does_not_depend_on_the_unit_of_reward() -> None:
    agent = _agent()
    rollout = _rollout(agent)
    scaled = replace(rollout, reward=1000 * rollout.reward)
    one, other = agent.adapt(agent.init(3), rollout), agent.adapt(agent.init(3), scaled)
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=1e-3, atol=1e-5)


# The outer step


@pytest.mark.parametrize("kind", ACTIONS)
def test_update_moves_theta_within_the_trust_region(kind: str) -> None:
    agent = _agent(kind, kl_limit=0.02)
    before = agent.parameters()
    metrics = agent.update(_trial(agent, kind), generator=generator(0))
    assert metrics["accepted"] == 1
    assert 0 < metrics["kl"] <= 0.02
    assert metrics["improvement"] > 0
    assert all(math.isfinite(v) for v in metrics.values())
    assert any(not torch.equal(v, before[k]) for k, v in agent.parameters().items())


def test_trap_5_7_the_divergence_is_measured_after_adaptation_from_old_to_new() -> None:
    agent = _agent(alpha=1.0, kl_limit=0.1)
    trial, theta = _trial(agent), agent.parameters()
    metrics = agent.update(trial, generator=generator(0))
    batch, distribution = agent.meta_batch(trial), agent.net.distribution
    query, new = batch.query, agent.parameters()

    def adapted_out(parameters: Params) -> Tensor:
        leaves = {k: v.detach().clone().requires_grad_() for k, v in parameters.items()}
        return agent.query_loss(agent.adapted(leaves, batch, differentiable=False), batch)[1].detach()

    def mean_kl(a: Tensor, b: Tensor) -> float:
        return float(masked_mean(distribution.kl(a, b), query.valid, dims=(1,)).mean())

    there, back = (
        mean_kl(*pair) for pair in ((adapted_out(theta), adapted_out(new)), (adapted_out(new), adapted_out(theta)))
    )
    before_adaptation = mean_kl(agent.net(theta, query.obs), agent.net(new, query.obs))
    assert metrics["kl"] == pytest.approx(there, rel=1e-4)
    assert abs(back - there) > 0.01 * there
    assert abs(before_adaptation - there) > 0.05 * there


def test_trap_5_8_readaptation_at_the_old_parameters_reproduces_the_query_policy() -> None:
    """Stored data, advantages and log-probs give ratio 1: the surrogate is then minus the mean advantage, zero."""
    agent = _agent(inner_steps=2)
    trial = _trial(agent)
    batch = agent.meta_batch(trial)
    leaves = {k: v.requires_grad_() for k, v in agent.parameters().items()}
    loss, out = agent.query_loss(agent.adapted(leaves, batch, differentiable=True), batch)
    log_prob = agent.net.distribution.log_prob(out.detach(), batch.query.action)
    valid = batch.query.valid
    torch.testing.assert_close(log_prob[valid], batch.query.log_prob[valid], rtol=1e-4, atol=1e-5)
    assert abs(float(loss.detach())) < 1e-5


def test_trap_5_12_update_and_adapt_do_not_write_into_the_trial() -> None:
    agent = _agent()
    trial = _trial(agent)
    kept = [{k: v.clone() for k, v in vars(r).items() if isinstance(v, Tensor)} for r in trial.rollouts]
    agent.update(trial, generator=generator(0))
    agent.adapt(agent.init(3), trial.rollouts[0])
    for rollout, copy in zip(trial.rollouts, kept, strict=True):
        assert _same({k: v for k, v in vars(rollout).items() if isinstance(v, Tensor)}, copy)


def _bandit_trial(agent: MAML, pulls: list[int], paying_arm: int) -> Trial:
    n = len(pulls)
    action = torch.tensor([pulls])
    base = synthetic_rollout(
        agent.net, agent.spec, agent.parameters(), n_tasks=1, envs_per_task=n, n_steps=1, early_end=False
    )
    rollout = replace(
        base, obs=torch.ones(1, n, 1), next_obs=torch.ones(1, n, 1), action=action,
        log_prob=torch.full((1, n), math.log(0.5)), reward=(action == paying_arm).float(),
    )  # fmt: skip
    return trial_of(rollout, rollout)


@pytest.mark.parametrize("paying_arm", [0, 1])
def test_one_step_on_a_two_armed_bandit_is_worked_by_hand(paying_arm: int) -> None:
    """Logits z = (w + b) per arm, p = (1/2, 1/2): along (-s, s) the quadratic model of the KL is ½ s².

    With the limit 0.01 the natural step is s = sqrt(0.02), whatever the reward's size; the true KL is 0.00993, so the
    line search takes it whole. p moves to sigmoid(2 s).
    """
    spec = WorldSpec(spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(2), 1)
    agent = MAMLConfig(hidden=(), alpha=0.0, episodes_per_step=4).build(spec, seed=0)
    agent.load_state_dict({"theta": {k: torch.zeros_like(v) for k, v in agent.parameters().items()}})
    metrics = agent.update(_bandit_trial(agent, [0, 1, 1, 0], paying_arm), generator=generator(0))
    s, p = math.sqrt(0.02), 1 / (1 + math.exp(-2 * math.sqrt(0.02)))
    z = agent.net(agent.parameters(), torch.ones(1, 1))[0]
    sign = 1 if paying_arm == 1 else -1
    assert z.tolist() == pytest.approx([-sign * s, sign * s], rel=1e-3)
    assert metrics["line_search_tries"] == 1
    assert metrics["kl"] == pytest.approx(-0.5 * math.log(4 * p * (1 - p)), rel=1e-3)
    assert metrics["improvement"] == pytest.approx(2 * p - 1, rel=1e-3)  # advantages are -1 and 1


def test_without_any_signal_theta_stays() -> None:
    agent = _agent()
    trial, theta = _trial(agent), agent.parameters()
    flat = trial_of(*(replace(r, reward=torch.zeros_like(r.reward)) for r in trial.rollouts))
    metrics = agent.update(flat, generator=generator(0))
    assert metrics["accepted"] == metrics["step_norm"] == metrics["kl"] == 0
    assert _same(agent.parameters(), theta)


def test_more_inner_steps_than_the_trial_has_supports_are_refused() -> None:
    trial = _trial(_agent())
    with pytest.raises(ConfigError, match=r"trains on 2 support phases, got a trial with 1"):
        _agent(inner_steps=2).update(trial, generator=generator(0))


def test_update_depends_on_the_generator_only_through_the_fisher_rows() -> None:
    def theta_after(rows: int | None, seed: int) -> dict[str, Tensor]:
        agent = _agent(fisher_rows=rows)
        torch.manual_seed(seed + 100)
        agent.update(_trial(agent), generator=generator(seed))
        return agent.parameters()

    assert _same(theta_after(None, 0), theta_after(None, 1))
    assert _same(theta_after(4, 0), theta_after(4, 0))
    assert not _same(theta_after(4, 0), theta_after(4, 1))


# Checkpoints and settings


def test_saved_and_restored_agents_go_on_bit_for_bit() -> None:
    agent, other = _agent(), replace(_agent().config).build(_agent().spec, seed=99)
    agent.update(_trial(agent), generator=generator(0))
    other.load_state_dict(agent.state_dict())
    trial = _trial(agent, seed=1)
    for one in (agent, other):
        one.update(trial, generator=generator(1))
    assert _same(agent.parameters(), other.parameters())


def test_a_checkpoint_is_a_copy() -> None:
    agent = _agent()
    saved = agent.state_dict()
    kept = {k: v.clone() for k, v in saved["theta"].items()}
    agent.update(_trial(agent), generator=generator(0))
    assert _same(saved["theta"], kept)


def test_a_checkpoint_of_another_shape_is_refused() -> None:
    with pytest.raises(CheckpointError, match="not those of this maml-trpo agent"):
        _agent(hidden=(5,)).load_state_dict(_agent(hidden=(4,)).state_dict())
    with pytest.raises(CheckpointError, match="not those of this maml-trpo agent"):
        _agent().load_state_dict({})


def test_the_same_seed_builds_the_same_agent_and_another_another() -> None:
    config, spec = MAMLConfig(), WorldSpec(OBS, ACTIONS["box"], 6)
    first, again, other = (config.build(spec, seed=s).parameters() for s in (0, 0, 1))
    assert _same(first, again)
    assert not torch.equal(first["policy.0.weight"], other["policy.0.weight"])


def test_the_registry_knows_the_algorithm() -> None:
    assert AGENTS.make("maml-trpo", hidden=(8,)) == MAMLConfig(hidden=(8,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, "alpha must be >= 0 and finite, got -0.1"),
        ({"alpha": math.nan}, "alpha must be .*, got nan"),
        ({"alpha": math.inf}, "alpha must be >= 0 and finite, got inf"),
        ({"later_alpha_factor": -1.0}, "later_alpha_factor"),
        ({"damping": -1e-5}, "damping"),
        ({"inner_steps": 0}, "inner_steps must be >= 1, got 0"),
        ({"episodes_per_step": 0}, "episodes_per_step"),
        ({"cg_iters": 0}, "cg_iters"),
        ({"backtrack_tries": 0}, "backtrack_tries"),
        ({"fisher_rows": 0}, "fisher_rows"),
        ({"kl_limit": 0.0}, "kl_limit must be > 0, got 0.0"),
        ({"init_std": 0.0}, "init_std"),
        ({"min_std": -1.0}, "min_std"),
        ({"gamma": 1.5}, r"gamma must lie in \[0, 1\], got 1.5"),
        ({"lam": -0.5}, "lam"),
        ({"backtrack_factor": 1.0}, r"backtrack_factor must lie in \(0, 1\), got 1.0"),
        ({"inner_objective": "dyce"}, "must be 'likelihood-ratio' or 'log-likelihood' or 'dice', got 'dyce'"),
        ({"hidden": (64, 0)}, "hidden"),
        ({"activation": "sigmoid"}, "unknown activation"),
    ],
)
def test_a_setting_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MAMLConfig(**options)  # type: ignore[arg-type]
