"""The metric-based agent: what it reads, what it starts from, what it learns from, and that it resumes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.agent import State, TimeStep
from metarl.agents.metric.agent import Metric, MetricConfig
from metarl.agents.metric.policy_mixture import mixture_log_prob, mixture_outputs
from metarl.agents.metric.task_metric import TaskMetric, spread_out, transitions
from metarl.checkpoint import join_state, split_state, state_fingerprint
from metarl.errors import CheckpointError, ConfigError
from metarl.rollout import Rollout, Trial
from metarl.seeding import derive, generator
from metarl.tasks import Tasks
from metarl.trial import run_trial
from tests.agents.toy_world import ACTION_SPACES, ToyWorld, toy_tasks

SMALL = MetricConfig(
    n_library=6, neighbours=3, hidden=(6,), reader_hidden=(8,), embedding=3, context_size=6, support_episodes=2,
    episodes_per_step=2, warmup_iters=0, policy_steps=2, metric_steps=2, finetune_steps=2,
)  # fmt: skip


def _trained(
    config: MetricConfig = SMALL,
    *,
    actions: str = "discrete",
    tasks: Tasks | None = None,
    n_updates: int = 2,
    seed: int = 0,
) -> tuple[Metric, Trial]:
    """Return an agent after some updates on noisy rewards, and the last trial."""
    tasks = toy_tasks(4) if tasks is None else tasks
    world = ToyWorld(2 * len(tasks), actions)
    agent = config.build(world.spec, seed=seed)
    trial = run_trial(world, agent, tasks, agent.train_phases, seed=seed)
    for i in range(n_updates):
        trial = _noisy(run_trial(world, agent, tasks, agent.train_phases, seed=derive(seed, i)), derive(seed, "r", i))
        agent.update(trial, generator=generator(seed, "update", i))
    return agent, trial


def _noisy(trial: Trial, seed: int) -> Trial:
    """Return the trial with rewards of noise, which no baseline can foretell."""
    g = generator(seed)
    return Trial(
        trial.tasks, tuple(replace(r, reward=torch.randn(r.reward.shape, generator=g)) for r in trial.rollouts)
    )


def _rows(agent: Metric, slots: list[int]) -> Tensor:
    return agent.library.params["policy.0.weight"][slots]


def _start(state: State) -> Tensor:
    return state["param/policy.0.weight"]


def _nats(agent: Metric, *rows: list[float]) -> Tensor:
    """Return similarities to the first slots; the others are unknown."""
    found = torch.full((len(rows), agent.config.n_library), -torch.inf)
    found[:, : len(rows[0])] = torch.tensor(rows)
    return found


def test_the_first_phase_is_played_by_the_average_task_policy() -> None:
    agent, _ = _trained()
    average = _rows(agent, [agent.library.average])
    assert torch.equal(_start(agent.init(3)), average.expand(3, 1, *average.shape[1:]))


def test_nearest_takes_the_policy_of_the_most_similar_task() -> None:
    agent, _ = _trained()
    state = agent.start_from(_nats(agent, [0.1, 2.0, -1.0, 0.0], [0.0, -3.0, 0.2, 0.1]))
    assert torch.equal(_start(state)[:, 0], _rows(agent, [1, 2]))
    assert state["phases"].tolist() == [1, 1]


def test_weights_takes_the_mean_of_the_neighbours_weights_by_their_similarity() -> None:
    agent, _ = _trained(replace(SMALL, initial="weights"))
    state = agent.start_from(_nats(agent, [0.0, 1.0, -9.0, 2.0]))
    share = torch.tensor([2.0, 1.0, 0.0]).softmax(0)
    expected = sum(w * row for w, row in zip(share, _rows(agent, [3, 1, 0]), strict=True))
    torch.testing.assert_close(_start(state)[0, 0], expected)
    assert state["log-weight"].tolist() == [[0.0]]


def test_actions_keeps_the_neighbours_policies_and_mixes_what_they_do() -> None:
    agent, _ = _trained(replace(SMALL, initial="actions"))
    state = agent.start_from(_nats(agent, [0.0, 1.0, -9.0, 2.0]))
    assert torch.equal(_start(state)[0], _rows(agent, [3, 1, 0]))
    torch.testing.assert_close(state["log-weight"], torch.tensor([[2.0, 1.0, 0.0]]).log_softmax(1))


@pytest.mark.parametrize("initial", ["weights", "actions"])
def test_more_neighbours_than_known_tasks_are_those_that_are_known(initial: Any) -> None:
    agent, _ = _trained(replace(SMALL, initial=initial))
    state = agent.start_from(_nats(agent, [0.5, 0.5]))
    assert all(bool(v.isfinite().all()) for k, v in state.items() if k.startswith("param/"))
    if initial == "weights":
        torch.testing.assert_close(_start(state)[0, 0], _rows(agent, [0, 1]).mean(0))
    else:
        torch.testing.assert_close(state["log-weight"].exp(), torch.tensor([[0.5, 0.5, 0.0]]))


def test_before_anything_is_known_the_average_task_policy_learns_from_the_first_phase() -> None:
    agent, trial = _trained(n_updates=0)
    trial = _noisy(trial, 3)
    fresh = agent.adapt(agent.init(4), trial.rollouts[0])
    average = replace(SMALL, initial="average").build(agent.spec, seed=0)
    assert state_fingerprint(fresh) == state_fingerprint(average.adapt(average.init(4), trial.rollouts[0]))
    assert not torch.equal(_start(fresh), _start(agent.init(4)))


def test_the_first_phase_picks_by_what_was_seen_and_later_ones_take_gradient_steps() -> None:
    agent, trial = _trained()
    first = agent.adapt(agent.init(4), trial.rollouts[0])
    assert torch.equal(_start(first)[:, 0], _rows(agent, agent.similarity(trial.rollouts[0]).argmax(1).tolist()))
    second = agent.adapt(first, trial.rollouts[1])
    assert second["phases"].tolist() == [2] * 4
    assert not torch.equal(_start(second), _start(first))
    still = replace(SMALL, finetune_steps=0).build(agent.spec, seed=0)
    still.load_state_dict(agent.state_dict())
    assert torch.equal(_start(still.adapt(first, trial.rollouts[1])), _start(first))


@pytest.mark.parametrize("initial", ["nearest", "actions", "average"])
def test_each_task_adapts_by_its_own_episodes_only(initial: Any) -> None:
    agent, trial = _trained(replace(SMALL, initial=initial))
    state = agent.adapt(agent.init(4), trial.rollouts[0])
    state["phases"] = torch.tensor([0, 1, 0, 1])  # rows of trials that are not equally far
    rollout = trial.rollouts[1]
    changed = replace(rollout, reward=rollout.reward.clone())
    changed.reward[:, 2:4] += 3.0 * torch.randn(changed.reward[:, 2:4].shape, generator=generator(9))  # task 1
    a, b = agent.adapt(state, rollout), agent.adapt(state, changed)
    assert all(torch.equal(a[k][[0, 2, 3]], b[k][[0, 2, 3]]) for k in a)
    assert any(not torch.equal(a[k][1], b[k][1]) for k in a)


def test_acting_and_adapting_leave_state_library_and_metric_alone() -> None:
    agent, trial = _trained()
    before, state = state_fingerprint(agent.state_dict()), agent.init(4)
    kept = state_fingerprint(state)
    rollout = trial.rollouts[0]
    step = TimeStep(rollout.obs[0], torch.zeros(8, 3), torch.zeros(8), torch.zeros(8).bool())
    agent.act(state, step, generator=generator(0))
    agent.adapt(agent.adapt(state, rollout), trial.rollouts[1])
    assert state_fingerprint(agent.state_dict()) == before
    assert state_fingerprint(state) == kept


@pytest.mark.parametrize("actions", list(ACTION_SPACES))
@pytest.mark.parametrize("initial", ["weights", "actions"])
def test_every_kind_of_action_is_learnt_from_and_the_stored_probability_is_that_of_the_mixture(
    actions: str, initial: Any
) -> None:
    agent, trial = _trained(replace(SMALL, initial=initial), actions=actions)
    world = ToyWorld(8, actions)
    played = run_trial(world, agent, trial.tasks, (2, 2, 2), seed=5)
    state = agent.adapt(agent.init(4), played.rollouts[0])
    batch = agent._batch(played.rollouts[1])
    phi = {k.removeprefix("param/"): v for k, v in state.items() if k.startswith("param/")}
    out = mixture_outputs(agent.net, phi, batch.obs, batch.action_mask)
    found = mixture_log_prob(agent.net.distribution, out, state["log-weight"], batch.action)
    torch.testing.assert_close(found[batch.valid], batch.log_prob[batch.valid])
    greedy = run_trial(world, agent, trial.tasks, (2, 2), seed=5, greedy=True)
    assert not bool(greedy.query.log_prob.any())


def test_a_query_played_by_the_own_policy_has_weight_one_and_by_another_a_bounded_one() -> None:
    agent, trial = _trained(n_updates=1)
    own = agent.update(_replayed(agent, trial, shift=0.0), generator=generator(0))
    agent, trial = _trained(n_updates=1)
    other = agent.update(_replayed(agent, trial, shift=-5.0), generator=generator(0))
    assert own["importance_weight"] == pytest.approx(1.0, abs=1e-5)
    assert other["importance_weight"] == pytest.approx(SMALL.max_weight)


def _replayed(agent: Metric, trial: Trial, *, shift: float) -> Trial:
    """Return the trial as if each task's own policy had played the query, its log-probabilities shifted."""
    query = trial.query
    slots = agent.library.assign(trial.tasks.keys())
    batch = agent._batch(query)
    out = agent.net(agent.library.rows(slots), batch.obs, batch.action_mask)
    log_prob = agent.net.distribution.log_prob(out, batch.action)
    n, m, steps = query.n_tasks, query.envs_per_task, len(query.obs)
    back = log_prob.reshape(n, steps, m).transpose(0, 1).reshape(steps, n * m)
    return Trial(trial.tasks, (trial.rollouts[0], replace(query, log_prob=back.detach() + shift)))


def test_during_the_warm_up_all_policies_follow_the_average_task_policy() -> None:
    agent, _ = _trained(replace(SMALL, warmup_iters=2))
    average = _rows(agent, [agent.library.average])
    assert torch.equal(_rows(agent, [0, 1, 2, 3]), average.expand(4, *average.shape[1:]))
    trained, _ = _trained(replace(SMALL, warmup_iters=1))
    assert not torch.equal(_rows(trained, [0]), _rows(trained, [trained.library.average]))


def test_tasks_beyond_the_librarys_room_train_the_metric_and_the_average_task_policy_only() -> None:
    agent, trial = _trained(replace(SMALL, n_library=3))
    assert agent.library.keys == trial.tasks.keys()[:3]
    metrics = agent.update(trial, generator=generator(0, "again"))
    assert metrics["unknown_share"] == 0.25
    assert metrics["library_tasks"] == 3.0
    strangers = Trial(toy_tasks(9)[[5, 6, 7, 8]], trial.rollouts)
    policies = agent.library.params["policy.0.weight"].clone()
    reader = state_fingerprint(agent.metric.state_dict()["reader"])
    assert agent.update(strangers, generator=generator(1))["unknown_share"] == 1.0
    assert torch.equal(_rows(agent, [0, 1, 2]), policies[:3])
    assert not torch.equal(_rows(agent, [3]), policies[3:])
    assert state_fingerprint(agent.metric.state_dict()["reader"]) != reader


@pytest.mark.parametrize("encoder", ["siamese", "matching"])
@pytest.mark.parametrize("reader", ["set", "gru"])
def test_similarity_is_greatest_for_the_context_it_was_taken_from(encoder: Any, reader: Any) -> None:
    """By hand: distances to the mean of a task's contexts, or the attention on all of them."""
    config = replace(SMALL, encoder=encoder, reader=reader, temperature=0.5)
    metric = TaskMetric(config, ToyWorld(1).spec, generator(0), torch.device("cpu"))
    query, known = torch.tensor([[1.0, 0.0, 0.0]]), torch.zeros(3, 2, 3)
    known[0] = torch.tensor([[3.0, 0.0, 0.0], [1.0, 0.0, 4.0]])
    known[1, 0] = torch.tensor([1.0, 1.0, 0.0])
    found = metric.similarity(query, known, torch.tensor([2, 1, 0]))[0]
    if encoder == "siamese":
        expected = torch.tensor([-(1.0 + 4.0) / 0.5, -1.0 / 0.5])
    else:
        cos = torch.tensor([1.0, 1.0 / 17.0**0.5, 0.5**0.5])
        expected = torch.stack([(cos[:2] / 0.5).logsumexp(0), cos[2] / 0.5])
    torch.testing.assert_close(found[:2], expected)
    assert found[2] == -torch.inf


def test_contexts_hold_steps_that_count_only_spread_over_the_phase() -> None:
    agent, trial = _trained()
    rollout: Rollout = trial.rollouts[0]
    rows, count = transitions(rollout, agent.spec, next_obs=True)
    assert count.tolist() == rollout.valid.reshape(-1, 4, 2).sum((0, 2)).tolist()
    task, copies = 2, rollout.reward[:, 4:6]
    wanted = torch.cat([copies[rollout.valid[:, 4 + m], m] for m in range(2)])
    assert torch.equal(rows[task, : count[task], 1 + 3], wanted)  # obs, one-hot action, reward
    ordered = torch.arange(10.0).reshape(1, 10, 1)
    assert spread_out(ordered, torch.tensor([8]), 4, 0.0, 1.0).flatten().tolist() == [1.0, 3.0, 5.0, 7.0]
    assert spread_out(ordered, torch.tensor([8]), 2, 0.5, 1.0, 0.0).flatten().tolist() == [4.0, 6.0]
    assert spread_out(ordered, torch.tensor([2]), 4, 0.0, 1.0).flatten().tolist() == [0.0, 0.0, 1.0, 1.0]
    assert spread_out(ordered, torch.tensor([0]), 2, 0.0, 1.0).flatten().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("encoder", ["siamese", "matching"])
def test_stored_and_loaded_it_goes_on_bit_for_bit(encoder: Any) -> None:
    config = replace(SMALL, encoder=encoder, n_library=3, warmup_iters=1)
    agent, trial = _trained(config, n_updates=2)
    other = config.build(agent.spec, seed=99)
    other.load_state_dict(join_state(*split_state(agent.state_dict())))
    world = ToyWorld(8)
    for i in range(2):
        found = []
        for each in (agent, other):
            played = run_trial(world, each, trial.tasks, each.train_phases, seed=40 + i)
            found.append(each.update(_noisy(played, i), generator=generator(7, i)))
        assert found[0] == found[1]
    assert state_fingerprint(agent.state_dict()) == state_fingerprint(other.state_dict())


def test_a_checkpoint_of_another_agent_or_size_is_refused() -> None:
    agent, _ = _trained()
    with pytest.raises(CheckpointError, match="no library"):
        agent.load_state_dict({"policy": {}})
    for wrong in ({"embedding": 4}, {"n_library": 9}, {"context_size": 7}, {"hidden": (5,)}):
        with pytest.raises(CheckpointError, match="does not fit"):
            replace(SMALL, **wrong).build(agent.spec, seed=0).load_state_dict(agent.state_dict())


def test_adaptation_is_one_phase_to_read_and_equal_ones_to_learn_from_or_refused() -> None:
    agent = replace(SMALL, support_episodes=3).build(ToyWorld(1).spec, seed=0)
    assert [agent.phases(n) for n in (0, 1, 3, 5, 7)] == [(), (1,), (3,), (3, 2), (3, 2, 2)]
    assert agent.train_phases == (3, 2)
    with pytest.raises(ConfigError, match="ask for 5"):
        agent.phases(6)


def test_a_trial_of_other_phases_is_refused() -> None:
    agent, trial = _trained()
    with pytest.raises(ConfigError, match="a support and a query phase"):
        agent.update(Trial(trial.tasks, trial.rollouts[:1]), generator=generator(0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoder": "triplet"}, "encoder must be 'siamese' or 'matching', got 'triplet'"),
        ({"reader": "lstm"}, "reader must be .*, got 'lstm'"), ({"initial": "best"}, "initial must be .*, got 'best'"),
        ({"neighbours": 7}, "neighbours is 7, but the library has room for 6"), ({"neighbours": 0}, "neighbours"),
        ({"n_library": 0}, "n_library"), ({"margin": 0.0}, "margin must be > 0"), ({"margin": -1.0}, "margin"),
        ({"temperature": 0.0}, "temperature"), ({"embedding": 0}, "embedding"), ({"context_size": 0}, "context_size"),
        ({"contexts_per_task": 1}, "contexts_per_task"), ({"metric_tasks": 1}, "metric_tasks"),
        ({"metric_lr": -1.0}, "metric_lr"), ({"reader_hidden": ()}, "reader_hidden"), ({"hidden": (0,)}, "hidden"),
        ({"activation": "gelu"}, "gelu"), ({"support_episodes": 0}, "support_episodes"), ({"clip": 0.0}, "clip"),
        ({"max_weight": float("inf")}, "max_weight"), ({"gamma": 1.1}, "gamma"),
        ({"finetune_steps": -1}, "finetune_steps"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **wrong)


def test_a_fixed_list_of_training_goals_fills_the_library_and_an_endless_one_its_first_slots() -> None:
    for options, expected in (({"n_train": 5}, 5.0), ({}, 6.0)):
        family = envs.make("navigation", **options)
        world = family.make_world(8)
        agent = replace(SMALL, metric_steps=0).build(world.spec, seed=0)
        for i in range(3):
            tasks = family.sample("train", 4, generator(0, i))
            trial = run_trial(world, agent, tasks, agent.train_phases, seed=i)
            metrics = agent.update(trial, generator=generator(0, "update", i))
        assert metrics["library_tasks"] == expected
