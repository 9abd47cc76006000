"""VariBAD: what the belief is made of, what trains what, and that the loss is the one of the paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from metarl.agent import State, TimeStep
from metarl.agents.ppo import PPOConfig
from metarl.agents.varibad.agent import VariBAD, VariBADConfig
from metarl.agents.varibad.vae import VAEConfig
from metarl.checkpoint import join_state, split_state, state_fingerprint
from metarl.errors import CheckpointError, ConfigError
from metarl.rollout import Trial
from metarl.seeding import generator
from metarl.trial import run_trial
from tests.agents.toy_world import ACTION_SPACES, ToyWorld, toy_tasks, toy_trial

VAE = VAEConfig(latent=2, embedding=(5,), hidden=6, decoder=(7, 4), updates=2, batch_trials=3, buffer_trials=10)
SMALL = VariBADConfig(episodes_per_trial=3, hidden=(8,), vae=VAE, ppo=PPOConfig(epochs=1, minibatches=1))
BOTH = replace(SMALL, vae=replace(VAE, state_coef=0.5))


def play(agent: VariBAD, n: int = 4, actions: str = "discrete", seed: int = 7, **options: Any) -> Trial:
    return run_trial(ToyWorld(n, actions, **options), agent, toy_tasks(n), (3,), seed=seed)


def weights(agent: VariBAD, part: str) -> dict[str, Tensor]:
    return {k: v for k, v in agent.state_dict()["weights"].items() if k.startswith(part)}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[k], second[k]) for k in first)


def some_step(n: int) -> TimeStep:
    return TimeStep(torch.rand(n, 1, generator=generator(5)), torch.eye(3)[:n], torch.ones(n), torch.ones(n) > 0)


# --- the belief -----------------------------------------------------------------------------------------------------


def test_every_trial_starts_from_the_belief_before_any_transition_and_only_a_trial_does() -> None:
    agent, _ = toy_trial(SMALL)
    agent.update(play(agent), generator=generator(0))
    rollout = play(agent, ends=False).query  # three episodes of four steps
    prior = agent.belief(agent.init(4)).flat()
    belief = rollout.aux["belief"]
    assert torch.equal(belief[0], prior)
    for t in (4, 8):  # the first decision of a later episode
        assert rollout.last[t - 1].all()
        assert float((belief[t] - prior).detach().abs().max(-1).values.min()) > 1e-4
        assert float((belief[t] - belief[t - 1]).abs().max(-1).values.min()) > 1e-5  # the last reward was taken in


def test_beliefs_while_acting_are_those_of_the_whole_trial_at_once() -> None:
    agent, _ = toy_trial(SMALL)
    agent.update(play(agent), generator=generator(0))  # statistics are no longer their start values
    rollout = play(agent).query
    again = agent.encoder.beliefs(agent.transitions(agent.rows(rollout))).flat().detach()
    valid = rollout.valid
    torch.testing.assert_close(again[valid], rollout.aux["belief"][valid], rtol=1e-5, atol=1e-6)
    cut = agent.encoder.beliefs(agent.transitions(agent.rows(rollout))[4:]).flat().detach()  # a memory that forgets
    assert float((cut - rollout.aux["belief"][4:])[valid[4:]].abs().max()) > 1e-3


def test_two_trials_that_differ_in_an_episodes_last_reward_only_are_told_apart() -> None:
    agent, _ = toy_trial(SMALL)
    beliefs = []
    for prize in (1.0, 2.0):
        values = {"prize": torch.full((4,), prize), "length": torch.full((4,), 4.0)}  # paid at the fourth step
        tasks = replace(toy_tasks(4), values=values)
        beliefs.append(run_trial(ToyWorld(4, ends=False), agent, tasks, (2,), seed=3).query.aux["belief"])
    assert torch.equal(beliefs[0][:4], beliefs[1][:4])
    assert float((beliefs[0][4] - beliefs[1][4]).abs().max()) > 1e-3


def test_one_trial_can_be_taken_out_of_the_state_without_touching_the_others() -> None:
    agent, _ = toy_trial(SMALL)
    state, _ = agent.act(agent.init(3), some_step(3), generator=generator(0))
    changed: State = {k: v.clone() for k, v in state.items()}
    for value in changed.values():
        value[1] = 0  # forget visitor 1
    after, kept = agent.act(state, some_step(3), generator=generator(1))
    forgot, decision = agent.act(changed, some_step(3), generator=generator(1))
    fresh, _ = agent.act(agent.init(3), some_step(3), generator=generator(1))
    for key in after:
        assert torch.equal(after[key][[0, 2]], forgot[key][[0, 2]])
        assert torch.equal(forgot[key][1], fresh[key][1])  # nothing of visitor 1 is left
    assert not torch.equal(after["h"][1], fresh["h"][1])
    assert torch.equal(kept.aux["belief"][[0, 2]], decision.aux["belief"][[0, 2]])


def test_acting_and_adapting_leave_the_given_state_alone() -> None:
    agent, trial = toy_trial(SMALL, n=3)
    state = agent.init(3)
    after, _ = agent.act(state, some_step(3), generator=generator(0))
    assert not any(v.any() for v in state.values())
    assert agent.adapt(after, trial.query) is after
    assert agent.phases(5) == (5,)
    assert agent.phases(0) == ()


# --- the loss -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_loss_is_the_elbo_summed_term_by_term(likelihood: Any) -> None:
    """All prefixes, each explaining all transitions of its trial, past and future, by plain loops over one trial."""
    config = replace(BOTH, vae=replace(BOTH.vae, reward_likelihood=likelihood, kl_weight=0.3))
    agent, _ = toy_trial(config)
    agent.update(play(agent), generator=generator(0))
    rows = agent.rows(play(agent, n=3).query)
    loss, metrics = agent.vae_loss(rows, generator(9))
    n, b = rows["valid"].shape
    noise = torch.randn(n, b, 2, generator=generator(9))
    terms = []
    for trial in range(b):
        own = {k: v[:, trial : trial + 1] for k, v in rows.items()}
        x, memory = agent.transitions(own), agent.encoder.start(1)
        before = Normal(torch.zeros(2), torch.ones(2))
        for t in range(int(own["valid"].sum())):
            mean, log_var = (v[0] for v in agent.encoder.belief(memory["h"]))
            now = Normal(mean, (0.5 * log_var).exp())
            m = mean + now.stddev * noise[t, trial]
            explained = torch.zeros(())
            for i in range(int(own["valid"].sum())):
                explained = explained + _log_prob(agent, {k: v[i, 0] for k, v in own.items()}, m)
            terms.append(explained - 0.3 * kl_divergence(now, before).sum())
            before = now
            if t < n - 1:
                memory = agent.encoder.step(x[t], memory)
    torch.testing.assert_close(-loss, torch.stack(terms).mean(), rtol=1e-5, atol=1e-4)
    assert metrics["elbo"] == -loss.detach()


def _log_prob(agent: VariBAD, row: dict[str, Tensor], m: Tensor) -> Tensor:
    """Return the weighted log-likelihood of one transition, straight from the decoders' layers."""
    decoders, vae = agent.decoders, agent.config.vae
    obs, next_obs = agent.normaliser(row["obs"]), agent.normaliser(row["next_obs"])
    said = decoders["reward"].mlp(torch.cat([obs, row["action"], next_obs, m]))[0]
    if vae.reward_likelihood == "bernoulli":
        reward = Bernoulli(logits=said).log_prob((row["reward"] > 0).float())
    else:
        reward = Normal(said, 1.0).log_prob(agent.reward_in_units(row["reward"]))
    state = Normal(decoders["state"].mlp(torch.cat([obs, row["action"], m])), 1.0).log_prob(next_obs).sum()
    return vae.reward_coef * reward + vae.state_coef * state


def test_fewer_prefixes_and_transitions_estimate_the_same_loss() -> None:
    """Drawn anew at each step; their mean is near the whole, and without the weight it would be half of it."""
    agent, _ = toy_trial(SMALL)
    agent.update(play(agent), generator=generator(0))
    rows = agent.rows(play(agent, n=4, ends=False).query)
    fewer = replace(SMALL, vae=replace(VAE, horizons=5, decodes=6)).build(agent.spec, seed=0)
    fewer.load_state_dict(agent.state_dict())
    whole = torch.stack([agent.vae_loss(rows, generator(s))[0].detach() for s in range(50)])
    drawn = torch.stack([fewer.vae_loss(rows, generator(s))[0].detach() for s in range(400)])
    error = (drawn.var() / 400 + whole.var() / 50).sqrt()
    assert abs(float(drawn.mean() - whole.mean())) < 3.3 * float(error)
    assert 3.3 * float(error) < 0.2 * float(whole.mean())


def test_steps_after_a_trials_last_episode_do_not_matter() -> None:
    agent, trial = toy_trial(BOTH, n=4)
    twin = BOTH.build(agent.spec, seed=0)
    rollout, valid = trial.query, trial.query.valid
    assert not bool(valid.all())
    noise = replace(
        rollout,
        reward=torch.where(valid, rollout.reward, 1e3),
        log_prob=torch.where(valid, rollout.log_prob, -3.0),
        aux={**rollout.aux, "value": torch.where(valid, rollout.aux["value"], 5.0)},
        obs=torch.where(valid[..., None], rollout.obs, -7.0),
        next_obs=torch.where(valid[..., None], rollout.next_obs, -9.0),
    )
    first = agent.update(trial, generator=generator(0))
    second = twin.update(Trial(trial.tasks, (noise,)), generator=generator(0))
    assert {k: v for k, v in first.items() if k != "belief_std"} == {
        k: v for k, v in second.items() if k != "belief_std"
    }
    assert state_fingerprint(agent.state_dict()["weights"]) == state_fingerprint(twin.state_dict()["weights"])


# --- what trains what -----------------------------------------------------------------------------------------------


def test_the_decoders_gradient_reaches_the_encoder_and_not_the_policy() -> None:
    agent, trial = toy_trial(BOTH, n=4)
    loss, _ = agent.vae_loss(agent.rows(trial.query), generator(0))
    loss.backward()
    for name, parameter in agent.modules.named_parameters():
        if name.startswith("actor"):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert bool(parameter.grad.any()), name


@pytest.mark.parametrize("through", [False, True])
def test_the_policys_loss_reaches_the_encoder_only_if_asked_to(through: bool) -> None:
    def train(ppo_lr: float, vae_lr: float) -> VariBAD:
        ppo = replace(SMALL.ppo, lr=ppo_lr)
        config = replace(SMALL, ppo=ppo, vae=replace(VAE, lr=vae_lr), rl_through_encoder=through)
        agent, trial = toy_trial(config, n=4)
        agent.update(trial, generator=generator(0))
        return agent

    base, other_ppo, other_vae = train(1e-3, 1e-3), train(1e-2, 1e-3), train(1e-3, 1e-2)
    assert same(weights(base, "actor"), weights(other_vae, "actor"))
    assert not same(weights(base, "actor"), weights(other_ppo, "actor"))
    assert not same(weights(base, "encoder"), weights(other_vae, "encoder"))
    assert same(weights(base, "encoder"), weights(other_ppo, "encoder")) is not through
    assert same(weights(base, "decoders"), weights(other_ppo, "decoders")) is not through


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("actions", list(ACTION_SPACES))
def test_unchanged_parameters_give_a_ratio_of_one_whatever_the_action_space(actions: str, through: bool) -> None:
    agent, trial = toy_trial(replace(SMALL, rl_through_encoder=through), actions=actions)
    agent.update(trial, generator=generator(1))  # statistics and units are no longer their start values
    metrics = agent.update(play(agent, 6, actions), generator=generator(2))
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-8)
    assert metrics["clip_fraction"] == 0.0


@pytest.mark.parametrize("actions", list(ACTION_SPACES))
def test_an_update_moves_every_parameter_for_every_action_space(actions: str) -> None:
    agent, trial = toy_trial(BOTH, actions=actions)
    before = agent.state_dict()["weights"]
    metrics = agent.update(trial, generator=generator(1))
    after = agent.state_dict()["weights"]
    assert [name for name, value in after.items() if torch.equal(value, before[name])] == []
    assert all(torch.isfinite(torch.tensor(v)) for v in metrics.values())
    told = {"kl", "entropy", "value_loss", "elbo", "belief_kl", "belief_std", "reward_log_prob", "state_log_prob"}
    assert told <= metrics.keys()


def test_illegal_actions_are_never_taken() -> None:
    _, trial = toy_trial(SMALL, n=32, actions="masked")
    rollout = trial.query
    assert rollout.action_mask is not None
    assert bool(rollout.action_mask.gather(2, rollout.action.unsqueeze(2)).all())
    assert bool((rollout.action == 2).any())


# --- reproducibility ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", [False, True])
def test_a_restored_agent_goes_on_bit_for_bit(through: bool) -> None:
    config = replace(BOTH, ppo=PPOConfig(epochs=2, minibatches=3, anneal_iters=5), rl_through_encoder=through)
    agent, trial = toy_trial(config)
    agent.update(trial, generator=generator(0))
    tensors, tree = split_state(agent.state_dict())
    other = config.build(agent.spec, seed=1)
    other.load_state_dict(join_state(tensors, tree))
    for round_ in range(2):
        for one in (agent, other):
            one.update(play(one, 6, seed=round_), generator=generator(round_))
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
    for vae in (replace(VAE, hidden=9), replace(VAE, state_coef=1.0)):
        with pytest.raises(CheckpointError, match="does not fit") as caught:
            replace(SMALL, vae=vae).build(agent.spec, seed=0).load_state_dict(agent.state_dict())
        assert "\n" not in str(caught.value)


def test_a_trial_of_several_phases_is_refused() -> None:
    agent, trial = toy_trial(SMALL)
    with pytest.raises(ConfigError, match="train_phases"):
        agent.update(Trial(trial.tasks, (trial.query, trial.query)), generator=generator(0))


@pytest.mark.parametrize("wrong", [{"episodes_per_trial": 0}, {"hidden": (3, 0)}, {"init_std": -1.0}, {"min_std": 0.0}])
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"varibad.{next(iter(wrong))}"):
        VariBADConfig(**wrong)


def test_the_spec_of_the_world_is_all_that_building_takes() -> None:
    agent = VariBADConfig().build(ToyWorld(1).spec, seed=0)
    assert agent.train_phases == (4,)
    assert not agent.parallel_episodes
