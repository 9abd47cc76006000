"""Episode tables of real rollouts: each episode once, success by step, and the pre/post rule."""

from __future__ import annotations

import pytest
import torch

from metarl import envs
from metarl.episodes import episode_table, join_tables, pre_post, pre_post_columns
from metarl.results import Episodes
from metarl.seeding import generator
from metarl.trial import run_trial
from tests.metarl.line_world import HORIZON, Flipper, Learner, Line, Walker, spec
from tests.metarl.scripted import Uniform


def trial_of(tasks: Line, agent, phases, copies: int = 1):
    chosen = tasks.all("test")
    world = tasks.make_world(len(chosen) * copies)
    return run_trial(world, agent, chosen, phases, seed=3)


def test_an_episode_that_ends_early_is_counted_once_with_its_own_length():
    tasks = Line(5)
    table = join_tables(trial_of(tasks, Walker(spec(tasks), 3), (2,)).rollouts)
    assert table.length.tolist() == [[1, 1], [2, 2], [3, 3], [HORIZON] * 2, [HORIZON] * 2]
    assert table.returns.tolist() == [[0, 0], [-1, -1], [-2, -2], [-HORIZON] * 2, [-HORIZON] * 2]
    assert table.first_success.tolist() == [[1, 1], [2, 2], [3, 3], [0, 0], [0, 0]]


def test_success_is_any_step_and_not_the_last_step():
    # The walker passes over goals 1 to 3 and stops on goal 4; nothing ends early.
    tasks = Line(5, ends=False)
    table = join_tables(trial_of(tasks, Walker(spec(tasks), 4), (1, 1)).rollouts)
    assert table.success_any.tolist() == [[True] * 2] * 4 + [[False] * 2]
    assert table.success_last.tolist() == [[False] * 2] * 3 + [[True] * 2, [False] * 2]
    assert table.first_success[:, 0].tolist() == [1, 2, 3, 4, 0]


def test_tables_equal_a_plain_loop_over_steps():
    tasks = Line(4)
    rollout = trial_of(tasks, Flipper(spec(tasks), 0), (6,), copies=3).query
    table = episode_table(rollout)
    for task in range(4):
        for copy in range(3):
            row = task * 3 + copy
            for episode in range(2):
                steps = [
                    t
                    for t in range(len(rollout.reward))
                    if rollout.valid[t, row] and int(rollout.episode[t, row]) == episode
                ]
                column = episode * 3 + copy
                assert table.length[task, column] == len(steps)
                assert table.returns[task, column] == sum(float(rollout.reward[t, row]) for t in steps)
                hits = [i + 1 for i, t in enumerate(steps) if rollout.success[t, row]]
                assert table.first_success[task, column] == (hits[0] if hits else 0)
                assert bool(table.success_any[task, column]) == bool(hits)


def test_pre_is_the_first_phase_and_post_the_last_for_an_agent_with_parallel_episodes():
    tasks = Line(4)
    agent = Learner(spec(tasks), 1)
    scores = pre_post(trial_of(tasks, agent, (2, 2, 4), copies=2), agent)
    assert scores["pre_success"] == pytest.approx(1 / 4)
    assert scores["post_success"] == pytest.approx(3 / 4)
    assert scores["pre_return"] == pytest.approx((0 - 3 * HORIZON) / 4)
    assert scores["post_return"] == pytest.approx((0 - 1 - 2 - HORIZON) / 4)


def test_pre_is_the_first_episode_and_post_the_last_for_an_agent_with_memory():
    tasks = Line(4)
    agent = Learner(spec(tasks), 1, memory=True)
    scores = pre_post(trial_of(tasks, agent, (3,)), agent)
    assert scores["pre_success"] == pytest.approx(1 / 4)
    assert scores["post_success"] == pytest.approx(3 / 4)


def test_pre_and_post_columns_follow_the_kind_of_agent():
    tasks = Line(2)
    assert pre_post_columns((4, 6), Walker(spec(tasks), 1)) == (slice(0, 4), slice(4, 10))
    assert pre_post_columns((4, 6), Walker(spec(tasks), 1, memory=True)) == (slice(0, 1), slice(9, 10))


def test_a_world_without_success_reports_returns_only():
    tasks = Line(3)
    trial = trial_of(tasks, Walker(spec(tasks), 1), (1,))
    rollout = trial.query
    bare = type(rollout)(**{**vars(rollout), "success": None})
    table = episode_table(bare)
    assert table.success_any is table.success_last is table.first_success is None
    assert set(pre_post(type(trial)(trial.tasks, (bare,)), Walker(spec(tasks), 1))) == {"pre_return", "post_return"}
    torch.testing.assert_close(table.returns, episode_table(rollout).returns)


def test_costs_are_summed_per_episode_and_stand_beside_the_return():
    """An assistant that asks about the sensitive attribute in its first two turns, and only then proposes."""
    family = envs.make("npc/assistant")
    world = family.make_world(6)

    class Nosy(Uniform):
        def choose(self, state, step, generator):
            turn = (step.obs[:, -2] * world.horizon).round()  # the share of turns taken
            return torch.where(turn < 2, 12, step.action_mask[:, :12].long().argmax(1))

    agent = Nosy(world.spec, parallel=False)
    trial = run_trial(world, agent, family.sample("train", 6, generator(0)), (2, 1), seed=0)
    table = join_tables(trial.rollouts)
    assert table.cost is not None
    assert table.cost.tolist() == [[2.0] * 3] * 6
    scores = pre_post(trial, agent)
    assert (scores["pre_cost"], scores["post_cost"]) == (2.0, 2.0)
    again = Episodes.from_json(Episodes.of([[table]]).to_json())
    assert again.metrics()["cost"].tolist() == [[[2.0] * 3] * 6]
    assert (
        "cost" not in Episodes.of([[join_tables(trial_of(Line(3), Walker(spec(Line(3)), 3), (1,)).rollouts)]]).metrics()
    )
