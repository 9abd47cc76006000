"""Strict evaluation against agents whose outcome on every goal is known beforehand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from metarl.agents.baselines.random_policy import RandomConfig
from metarl.agents.pearl.agent import PEARL
from metarl.envs.metaworld.distribution import MetaWorldTasks
from metarl.errors import CheckpointError, ConfigError, MetarlError
from metarl.evaluation import Evaluation, Protocol, evaluate, select_tasks
from metarl.seeding import derive
from metarl.summary import summarise
from metarl.trial import run_trial
from tests.metarl.line_world import HORIZON, Endless, Flipper, Learner, Line, Walker, spec


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.to_json(summarise(evaluation))


def score(evaluation: Evaluation, part: str = "query", metric: str = "success_any", of: str = "mean") -> float:
    return float(summarise(evaluation)[part][metric][of]["value"])


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("max_envs", [1, 3, 100])
@pytest.mark.parametrize("reach", [0, 3, 8])
def test_an_agent_that_solves_goals_1_to_k_of_n_is_scored_exactly_k_over_n(reach: int, max_envs: int, memory: bool):
    # Solved episodes last 1 ... k steps and the others the whole horizon: counting finished episodes would inflate.
    tasks = Line(8)
    protocol = Protocol(adapt_episodes=2, eval_episodes=3, n_seeds=2, max_envs=max_envs)
    evaluation = evaluate(Walker(spec(tasks), reach, memory=memory), tasks, protocol)
    assert score(evaluation) == pytest.approx(reach / 8, abs=1e-15)
    assert evaluation.trials.success_any.shape == (2, 8, 5)
    lengths = [g if g <= reach else HORIZON for g in range(1, 9)]
    assert evaluation.trials.length.tolist() == [[[n] * 5 for n in lengths]] * 2


def test_each_episode_is_counted_once_although_solved_ones_end_early():
    tasks = Line(8)
    evaluation = evaluate(Walker(spec(tasks), 4, memory=True), tasks, Protocol(adapt_episodes=1, eval_episodes=4))
    assert evaluation.query == slice(1, 5)
    assert evaluation.trials.returns[..., evaluation.query].size == 3 * 8 * 4
    # All env steps are accounted for: the strict trials (5 episodes) and the trials of one episode (4).
    per_episode = sum(range(1, 5)) + 4 * HORIZON
    assert evaluation.env_steps == 3 * per_episode * (5 + 4)


def test_success_is_any_step_not_last_step():
    tasks = Line(8, ends=False)
    evaluation = evaluate(Walker(spec(tasks), 5), tasks, Protocol(adapt_episodes=0, eval_episodes=1))
    assert score(evaluation, metric="success_any") == pytest.approx(5 / 8)
    assert score(evaluation, metric="success_last") == pytest.approx(1 / 8)
    assert evaluation.trials.first_success[0, :, 0].tolist() == [1, 2, 3, 4, 5, 0, 0, 0]


def test_upstream_counting_stands_beside_the_strict_score_and_is_inflated():
    # Goals 1 to 4 of 8 are solved in 1 to 4 steps. The first three episodes to finish are goal 1 at steps 1 and 2 and
    # goal 2 at step 2: all successes.
    tasks = Line(8, ends=False)
    tasks.upstream_counting = True  # as Meta-World's benchmarks say of themselves
    evaluation = evaluate(Walker(spec(tasks), 4), tasks, Protocol(adapt_episodes=0, eval_episodes=3))
    assert score(evaluation) == pytest.approx(4 / 8)
    assert summarise(evaluation)["upstream_counting"]["success_rate"] == 1.0
    assert "upstream-counting" in summarise(evaluation)["upstream_counting"]["text"]
    short = evaluate(Walker(spec(tasks), 4), tasks, Protocol(adapt_episodes=0, eval_episodes=2))
    assert summarise(short)["upstream_counting"]["success_rate"] is None


@pytest.mark.parametrize(
    ("world", "reach", "meant"),
    [
        (Line(4, ends=False), 4, False),  # a success changes nothing there, and no published score counts so
        (Line(4), 3, True),  # episodes end at success
        (Line(4), 0, False),  # they might, but none did
    ],
)
def test_upstream_counting_is_given_where_it_means_something(world: Line, reach: int, meant: bool):
    evaluation = evaluate(Walker(spec(world), reach), world, Protocol(adapt_episodes=0, eval_episodes=3))
    assert ("upstream_counting" in summarise(evaluation)) == meant
    assert MetaWorldTasks.upstream_counting


def test_only_an_agent_that_learns_within_an_episode_is_said_to_have_adapted_in_its_first_one():
    tasks, protocol = Line(4), Protocol(adapt_episodes=2, n_seeds=1)
    remembers, forgets = (Learner(spec(tasks), 1, memory=memory) for memory in (True, False))
    declares = Learner(spec(tasks), 1, memory=True)
    declares.adapts_within_episode = False  # a memory that only `adapt` changes, as PEARL's
    found = [evaluate(agent, tasks, protocol) for agent in (remembers, forgets, declares)]
    assert [e.adapts_within_episode for e in found] == [True, False, False]
    assert [summarise(e)["adapts_within_episode"] for e in found] == [True, False, False]
    assert not PEARL.adapts_within_episode
    stored = as_json(found[0])
    del stored["agent"]["adapts_within_episode"], stored["world"]["upstream_counting"]  # as files once were
    del stored["sha256"]
    assert Evaluation.from_json(stored).adapts_within_episode


@pytest.mark.parametrize("memory", [False, True])
def test_the_gain_from_earlier_episodes_is_measured_from_scored_episodes_that_had_none(memory: bool):
    """Scored: 2 of 4 and then 3 of 4 goals for a memory, 3 of 4 twice without; alone 1 of 4, always."""
    tasks = Line(4)
    protocol = Protocol(adapt_episodes=1 if memory else 2, eval_episodes=2, n_seeds=1)
    evaluation = evaluate(Learner(spec(tasks), 1, memory=memory), tasks, protocol)
    after = (2 / 4 + 3 / 4) / 2 if memory else 3 / 4
    assert score(evaluation) == pytest.approx(after)
    assert score(evaluation, "gain_from_episodes") == pytest.approx(after - 1 / 4)


@pytest.mark.parametrize("memory", [False, True])
def test_the_gain_from_adaptation_is_measured_from_the_first_episode_to_the_scored_ones(memory: bool):
    tasks = Line(8)
    protocol = Protocol(adapt_episodes=2, eval_episodes=1, n_seeds=1)
    evaluation = evaluate(Learner(spec(tasks), 1, memory=memory), tasks, protocol)
    assert evaluation.phases == ((2, 1) if memory else (1, 1, 1))
    curve = summarise(evaluation)["curve"]["success_any"]["mean"]["value"]
    np.testing.assert_allclose(curve, [1 / 8, 2 / 8, 3 / 8])
    assert score(evaluation, "pre") == pytest.approx(1 / 8)
    assert score(evaluation, "gain") == pytest.approx(2 / 8)
    assert score(evaluation, "without_adaptation") == pytest.approx(1 / 8)


@pytest.mark.parametrize("memory", [False, True])
def test_without_adaptation_every_episode_starts_from_nothing(memory: bool):
    tasks = Line(4)
    protocol = Protocol(adapt_episodes=0, eval_episodes=3, n_seeds=2, max_envs=5)
    evaluation = evaluate(Learner(spec(tasks), 1, memory=memory), tasks, protocol)
    assert evaluation.phases == (3,)
    assert evaluation.without_adaptation.success_any.tolist() == [[[True] * 3] + [[False] * 3] * 3] * 2
    # An agent with memory still learns between scored episodes; one without cannot.
    last = evaluation.trials.success_any[0, :, -1].tolist()
    assert last == ([True, True, True, False] if memory else [True, False, False, False])


def test_padding_of_the_last_batch_is_dropped():
    tasks = Line(7)
    evaluation = evaluate(Walker(spec(tasks), 7), tasks, Protocol(adapt_episodes=0, n_seeds=1, max_envs=4))
    assert evaluation.trials.length[0, :, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert evaluation.task_names == tuple(f"test/{g}" for g in range(1, 8))
    assert tasks.worlds[-1].num_envs == 4


def test_evaluation_never_consumes_a_training_stream():
    # The same root seed trains and evaluates. Every seed the world ever gets is written down.
    tasks = Line(4)
    agent = Flipper(spec(tasks), 0)
    seen: dict[str, set[int]] = {"train": set(), "evaluate": set()}
    using = "train"
    original = type(tasks.worlds[0]).reset

    def reset(self, *, seed=None, options=None):
        seen[using].add(seed)
        return original(self, seed=seed, options=options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(tasks.worlds[0]), "reset", reset)
        for i in range(20):
            run_trial(tasks.make_world(4), agent, tasks.all("train"), (1, 1), seed=derive(0, "trial", i))
        using, state = "evaluate", torch.random.get_rng_state()
        evaluate(agent, tasks, Protocol(adapt_episodes=2, eval_episodes=2, n_seeds=3, max_envs=2, seed=0))
    assert len(seen["train"]) == 40
    assert len(seen["evaluate"]) >= 3 * 4
    assert not seen["train"] & seen["evaluate"]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_seeds_and_batches_have_noise_of_their_own_and_the_whole_is_repeatable():
    tasks = Line(8, ends=False)
    protocol = Protocol(adapt_episodes=0, eval_episodes=4, n_seeds=2, max_envs=16)
    first = evaluate(Flipper(spec(tasks), 0), tasks, protocol)
    again = evaluate(Flipper(spec(tasks), 0), tasks, protocol)
    np.testing.assert_array_equal(first.trials.returns, again.trials.returns)
    seeds, halves = first.trials.first_success, first.trials.first_success.reshape(2, 2, 4, 4)
    assert not np.array_equal(seeds[0], seeds[1])
    assert not np.array_equal(halves[0, 0], halves[0, 1])
    other = evaluate(Flipper(spec(tasks), 0), tasks, Protocol(**{**vars(protocol), "seed": 1}))
    assert not np.array_equal(first.trials.first_success, other.trials.first_success)


def test_greedy_applies_to_scored_episodes_only():
    tasks = Line(8)
    protocol = Protocol(adapt_episodes=40, eval_episodes=2, n_seeds=1, greedy=True)
    evaluation = evaluate(Flipper(spec(tasks), 0), tasks, protocol)
    assert score(evaluation) == 1.0
    assert not evaluation.trials.success_any[..., :40].all()


def test_greedy_adaptation_applies_to_adaptation_episodes_only():
    tasks = Line(8)
    protocol = Protocol(adapt_episodes=40, eval_episodes=20, n_seeds=1, greedy_adaptation=True)
    evaluation = evaluate(Flipper(spec(tasks), 0), tasks, protocol)
    assert evaluation.trials.success_any[..., :40].all()
    assert not evaluation.trials.success_any[..., 40:].all()


def test_evaluating_leaves_the_agent_bit_identical():
    tasks = Line(4)
    agent = Walker(spec(tasks), 2)
    before = agent.weight.clone()
    evaluate(agent, tasks, Protocol())
    assert torch.equal(agent.weight, before)


def test_an_agent_that_changes_while_it_is_evaluated_is_caught():
    class Restless(Walker):
        def adapt(self, state, rollout):
            self.weight[1] += 1e-7
            return state

    tasks = Line(4)
    with pytest.raises(MetarlError, match="changed the parameters of agent 'walker'"):
        evaluate(Restless(spec(tasks), 2), tasks, Protocol())


@pytest.mark.parametrize("phases", [(1,), (0, 2), (3,)])
def test_phases_that_do_not_add_up_are_refused(phases: tuple[int, ...]):
    class Confused(Walker):
        def phases(self, n_episodes):
            return phases

    tasks = Line(4)
    with pytest.raises(ConfigError, match="add up"):
        evaluate(Confused(spec(tasks), 2), tasks, Protocol(adapt_episodes=2))


def test_only_the_protocols_split_is_ever_asked_for():
    tasks = Line(4)
    agent = Walker(spec(tasks), 2)
    tasks.asked.clear()
    select_tasks(tasks, Protocol(split="validation"))
    assert tasks.asked == ["validation"]
    tasks.asked.clear()
    evaluate(agent, tasks, Protocol(split="validation"))
    assert "test" not in tasks.asked


def test_a_subset_of_a_finite_split_is_shared_evenly_by_its_classes_and_the_same_for_everyone():
    tasks = Line(12, n_classes=3)
    chosen = select_tasks(tasks, Protocol(n_tasks=6))
    assert sorted(chosen.groups) == ["class-0"] * 2 + ["class-1"] * 2 + ["class-2"] * 2
    assert len(set(chosen.names)) == 6
    assert select_tasks(tasks, Protocol(n_tasks=6, n_seeds=9)).names == chosen.names
    assert select_tasks(tasks, Protocol(n_tasks=6, seed=5)).names != chosen.names


def test_an_infinite_split_needs_a_number_of_tasks():
    tasks = Endless(5)
    with pytest.raises(ConfigError, match="--n-tasks"):
        evaluate(Walker(spec(tasks), 1), tasks, Protocol())
    evaluation = evaluate(Walker(spec(tasks), 5), tasks, Protocol(n_tasks=30))
    assert evaluation.trials.returns.shape == (3, 30, 4)
    assert score(evaluation) == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "tests"}, "choose one of train, validation, test"),
        ({"n_tasks": 9}, "has 8 tasks"),
    ],
)
def test_a_protocol_that_does_not_fit_the_distribution_is_refused(change: dict, message: str):
    tasks = Line(8)
    with pytest.raises(ConfigError, match=message):
        evaluate(Walker(spec(tasks), 1), tasks, Protocol(**change))


@pytest.mark.parametrize("field", ["adapt_episodes", "eval_episodes", "n_seeds", "n_tasks", "max_envs", "seed"])
def test_counts_out_of_range_are_refused(field: str):
    with pytest.raises(ConfigError, match=field):
        Protocol(**{field: -1})


def test_classes_weigh_the_same_in_the_mean_however_many_tasks_they_have():
    class Uneven(Line):
        def all(self, split):
            tasks = super().all(split)
            return type(tasks)(tasks.values, tasks.names, ("easy", "easy", *["hard"] * 6))

    tasks = Uneven(8)
    evaluation = evaluate(Walker(spec(tasks), 2), tasks, Protocol(adapt_episodes=0))
    summary = summarise(evaluation)
    assert score(evaluation) == pytest.approx((1.0 + 0.0) / 2)
    assert float(summary["groups"]["easy"]["query"]["success_any"]["mean"]["value"]) == 1.0
    assert float(summary["groups"]["hard"]["query"]["success_any"]["mean"]["value"]) == 0.0
    assert summary["groups"]["hard"]["n_tasks"] == 6


def test_the_interval_says_what_it_is_over():
    tasks = Line(8, ends=False)
    agent = Flipper(spec(tasks), 0)
    seeds = summarise(evaluate(agent, tasks, Protocol(n_seeds=4)))
    assert seeds["intervals"]["over"] == "seeds"
    assert "4 evaluation seeds of each of these 8 tasks" in seeds["intervals"]["text"]
    one = summarise(evaluate(agent, tasks, Protocol(n_seeds=1)))
    assert one["intervals"]["over"] == "tasks"
    assert "over the 8 tasks, played with one evaluation seed" in one["intervals"]["text"]
    for summary in (seeds, one):
        interval = summary["query"]["return"]["mean"]
        assert interval["low"] < interval["value"] < interval["high"]
    assert np.isfinite(seeds["tasks"]["query"]["return"]["low"]).any()
    assert np.isnan(one["tasks"]["query"]["return"]["low"]).all()


def test_the_random_policy_is_played_only_where_its_value_is_not_known():
    tasks = Line(4, ends=False)
    floor = RandomConfig().build(spec(tasks), seed=0)
    protocol = Protocol(eval_episodes=60, n_seeds=2)
    evaluation = evaluate(Walker(spec(tasks), 2), tasks, protocol, random_policy=floor)
    # After t tosses of a fair coin the walker is on cell g with the binomial's probability.
    goals, tosses = np.arange(1, 5)[:, None], np.arange(1, HORIZON + 1)
    on_goal = stats.binom.pmf(goals, tosses, 0.5).sum(axis=1).mean()
    reached = stats.binom.sf(goals - 1, HORIZON, 0.5).mean()
    assert score(evaluation, "random_policy", "success_any") == pytest.approx(reached, abs=0.025)
    assert score(evaluation, "random_policy", "return") == pytest.approx(on_goal - HORIZON, abs=0.25)
    tasks.references = lambda split, n: {"random": [-10.0] * n}
    known = evaluate(Walker(spec(tasks), 2), tasks, protocol, random_policy=floor)
    assert known.random_policy is None
    assert summarise(known)["references"] == {"random": -10.0}
    assert evaluate(Walker(spec(tasks), 2), tasks, protocol, references=False).references == {}


def test_an_evaluation_survives_json_bit_for_bit():
    tasks = Line(6, ends=False, n_classes=2)
    tasks.notes, tasks.settings = ("goal 3 is easy",), {"reward": "v2"}
    evaluation = evaluate(
        Flipper(spec(tasks), 0),
        tasks,
        Protocol(n_seeds=2, n_tasks=4),
        random_policy=RandomConfig().build(spec(tasks), seed=0),
        about_agent={"config": {"type": "flipper"}},
        provenance={"train_env_steps": 12},
    )
    text = json.dumps(as_json(evaluation), allow_nan=False)
    again = Evaluation.from_json(json.loads(text))
    assert json.dumps(as_json(again), allow_nan=False) == text
    np.testing.assert_array_equal(again.trials.returns, evaluation.trials.returns)
    assert again.trials.success_any.dtype == np.bool_
    assert again.protocol == evaluation.protocol
    stored = json.loads(text)
    assert stored["world"]["settings"] == {"reward": "v2"}
    assert stored["world"]["notes"] == ["goal 3 is easy"]
    assert stored["world"]["horizon"] == HORIZON
    assert stored["provenance"]["packages"]["torch"] == torch.__version__
    assert stored["task_fingerprint"] == select_tasks(tasks, evaluation.protocol).fingerprint()


def test_a_reference_that_is_not_a_number_becomes_null_in_json():
    tasks = Line(3)
    tasks.references = lambda split, n: {"oracle": [float("nan")] * n}
    stored = json.loads(json.dumps(as_json(evaluate(Walker(spec(tasks), 1), tasks, Protocol())), allow_nan=False))
    assert stored["references"]["oracle"] == [None] * 4
    assert np.isnan(Evaluation.from_json(stored).references["oracle"]).all()


def test_another_schema_version_and_a_damaged_file_are_refused_in_one_line():
    tasks = Line(3)
    stored = as_json(evaluate(Walker(spec(tasks), 1), tasks, Protocol()))
    with pytest.raises(CheckpointError, match="schema version 1 or 2"):
        Evaluation.from_json({**stored, "schema_version": 99})
    with pytest.raises(CheckpointError, match="protocol holds 'max_copies', which it does not know"):
        Evaluation.from_json({**stored, "protocol": {**stored["protocol"], "max_copies": 2}})
    del stored["trials"]
    with pytest.raises(CheckpointError, match=r"incomplete or damaged.*trials"):
        Evaluation.from_json(stored)


def test_an_evaluation_that_was_changed_after_it_was_written_or_fits_together_no_more_is_refused():
    tasks = Line(3)
    stored = json.loads(json.dumps(as_json(evaluate(Walker(spec(tasks), 1), tasks, Protocol()))))
    assert Evaluation.from_json(stored).env_steps == stored["env_steps"]
    with pytest.raises(CheckpointError, match="was changed after it was written"):
        Evaluation.from_json({**stored, "env_steps": stored["env_steps"] + 1})
    del stored["sha256"]  # as in files of earlier versions, which could not tell
    assert Evaluation.from_json({**stored, "env_steps": 7}).env_steps == 7
    for part, value in (
        ("phases", [1, 1]), ("task_names", ["a"]), ("references", {"oracle": [1.0]}), ("agent", []),
        ("trials", stored["without_adaptation"]), ("trials", {**stored["trials"], "returns": [[["1"] * 4] * 3] * 3}),
        ("protocol", {**stored["protocol"], "n_seeds": 3.0}), ("protocol", {**stored["protocol"], "greedy": 1}),
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match="incomplete or damaged"):
            Evaluation.from_json({**stored, part: value})


def test_progress_is_told_of_every_batch():
    tasks = Line(5)
    told: list[tuple[int, int, str]] = []
    evaluate(
        Walker(spec(tasks), 1, memory=True),
        tasks,
        Protocol(n_seeds=2, max_envs=2, eval_episodes=2),
        progress=lambda *seen: told.append(seen),
    )
    assert [t[0] for t in told] == list(range(1, len(told) + 1))
    assert {t[1] for t in told} == {len(told)} == {2 * (3 + 5)}
