"""The 2-D point worlds: motion, rewards, ends, and reference values against closed forms."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from metarl import envs
from metarl.errors import ConfigError
from metarl.tasks import Tasks


def world_at(name, *goals):
    world = envs.make(name).make_world(len(goals))
    world.set_tasks(Tasks.of(name, goal=torch.tensor(goals)))
    return world


def test_navigation_moves_by_the_action_clipped_to_a_tenth():
    world = world_at("navigation", (0.5, 0.5))
    obs, _ = world.reset()
    assert obs.tolist() == [[0.0, 0.0]]
    obs, *_ = world.step(torch.tensor([[0.05, -3.0]]))
    assert obs[0].tolist() == pytest.approx([0.05, -0.1])


def test_navigation_pays_minus_the_plain_distance_after_the_move():
    world = world_at("navigation", (0.4, 0.3), (0.4, 0.3))
    world.reset()
    _, reward, *_ = world.step(torch.tensor([[0.0, 0.0], [0.1, -0.1]]))
    assert reward.tolist() == pytest.approx([-0.5, -0.5])
    _, reward, *_ = world.step(torch.tensor([[0.1, 0.0], [0.0, 0.0]]))
    assert reward.tolist() == pytest.approx([-(0.18**0.5), -0.5])


def test_navigation_ends_when_both_axes_are_within_a_hundredth():
    world = world_at("navigation", (0.0, 0.0), (0.0, 0.0), (0.0, 0.0))
    world.reset()
    _, _, terminated, truncated, _ = world.step(torch.tensor([[0.009, -0.009], [0.011, 0.0], [0.0, -0.011]]))
    assert terminated.tolist() == [True, False, False]
    assert truncated.tolist() == [False, False, False]


def test_navigation_runs_out_of_time_after_100_steps():
    world = world_at("navigation", (0.5, 0.5))
    world.reset()
    ends = [bool(world.step(torch.zeros(1, 2))[3]) for _ in range(200)]
    assert [t for t, end in enumerate(ends, 1) if end] == [100, 200]


def test_navigation_references_are_the_closed_forms():
    family = envs.make("navigation")
    goals = family.all("test").values["goal"].double()
    known = family.references("test", 2)
    # A goal at the start itself is found by the first step, whatever it is.
    steps = torch.where((goals.abs() < 0.01).all(1), 1, 100)
    assert known["stand_still"] == pytest.approx([-float((steps * goals.norm(dim=1)).mean())] * 2, rel=1e-6)
    walk = 0.0
    for goal in goals:
        left = goal.abs()
        while (left >= 0.01).any():
            left = (left - 0.1).clamp(min=0.0)
            walk -= float(left.norm())
    assert known["oracle"] == pytest.approx([walk / len(goals)] * 2, abs=1e-3)
    # Over the whole law: -38.26 and -0.51.
    assert known["stand_still"][0] == pytest.approx(-38.26, abs=1.5)
    assert known["oracle"][0] == pytest.approx(-0.51, abs=0.05)
    assert known["random"][0] < known["stand_still"][0]


def test_the_point_robot_starts_anywhere_and_moves_a_tenth_of_its_action():
    world = world_at("point-robot", *[(0.3, -0.4)] * 2000)
    obs, _ = world.reset(seed=0)
    assert obs.abs().max() <= 1.0
    assert obs.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=0.06)
    assert obs.std(0).tolist() == pytest.approx([3**-0.5] * 2, abs=0.03)
    after, reward, *_ = world.step(torch.tensor([[1.0, -0.5]]).expand(2000, 2))
    assert torch.allclose(after, obs + torch.tensor([0.1, -0.05]))
    assert torch.allclose(reward, -(after - torch.tensor([0.3, -0.4])).norm(dim=1))


def test_the_point_robots_last_twenty_steps_are_an_episode():
    world = world_at("point-robot", (0.3, -0.4))
    world.reset()
    assert [bool(world.step(torch.zeros(1, 2))[3]) for _ in range(40)] == ([False] * 19 + [True]) * 2


def test_point_robot_references_agree_with_the_known_values():
    known = envs.make("point-robot").references("test", 1)
    assert known["oracle"][0] == pytest.approx(-5.2, abs=0.2)
    assert known["stand_still"][0] == pytest.approx(-20.8, abs=0.6)


def test_the_sparse_point_robot_pays_near_the_goal_only_and_tells_the_dense_reward():
    world = world_at("sparse-point-robot", (0.25, 0.0), (0.0, 0.3001), (0.29, 0.0))
    obs, _ = world.reset(seed=0)
    assert torch.equal(obs, torch.zeros(3, 2))
    _, reward, _, _, info = world.step(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    assert info["dense_reward"].tolist() == pytest.approx([-0.15, -0.2001, -0.19])
    assert reward.tolist() == pytest.approx([0.85, 0.0, 0.81])


def test_the_dense_reward_belongs_to_the_step_that_ended_the_episode():
    world = world_at("sparse-point-robot", (1.0, 0.0))
    world.reset()
    rows = [world.step(torch.tensor([[1.0, 0.0]])) for _ in range(20)]
    assert rows[-1][3].all()
    assert float(rows[-1][4]["dense_reward"]) == pytest.approx(-1.0, abs=1e-5)  # at (2, 0), before the reset
    assert rows[-1][0].tolist() == [[0.0, 0.0]]


def test_the_half_circle_goals_and_their_test_split_are_pearls():
    angle = np.linspace(0, np.pi, 100)
    goals = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.random.RandomState(1337).shuffle(goals)
    family = envs.make("sparse-point-robot")
    ours = np.concatenate([family.all(split).values["goal"].numpy() for split in ("train", "validation", "test")])
    assert ours == pytest.approx(goals, abs=1e-6)


def test_the_sparse_oracle_is_the_straight_walk():
    family = envs.make("sparse-point-robot")
    total = 0.0
    for goal in family.all("test").values["goal"].double():
        left = goal.abs()
        for _ in range(20):
            left = (left - 0.1).clamp(min=0.0)
            total += 1.0 - float(left.norm()) if float(left.norm()) <= 0.2 + 1e-6 else 0.0
    known = family.references("test", 1)
    assert known["oracle"][0] == pytest.approx(total / 20, abs=1e-3)
    assert known["oracle"][0] == pytest.approx(13.4, abs=0.2)
    assert known["stand_still"] == [0.0]


def corner_rewards(world, actions):
    return torch.stack([world.step(torch.tensor([a] * world.num_envs))[1] for a in actions])


def test_the_corner_world_pays_progress_in_the_goals_quadrant_outside_the_dead_zone():
    world = world_at("corner-point", (2.0, 2.0), (2.0, -2.0), (-2.0, -2.0))
    obs, _ = world.reset(seed=0)
    assert obs.abs().max() <= 0.2
    path = [obs]
    rewards = []
    for _ in range(5):
        obs, reward, *_ = world.step(torch.full((3, 2), 0.2))
        path.append(obs)
        rewards.append(reward)
    progress = [(a - 2.0).norm(dim=1) - (b - 2.0).norm(dim=1) for a, b in pairwise(path)]
    for t, (gained, moved) in enumerate(zip(rewards, progress, strict=True)):
        inside = path[t + 1][0].abs().sum() < 0.5
        assert float(gained[0]) == pytest.approx(0.0 if inside else float(moved[0]), abs=1e-6)
    # Another corner is nearer than these goals': nothing, not even a penalty for walking away.
    assert torch.stack(rewards)[-3:, 1:].abs().max() == 0.0
    assert float(sum(rewards)[0]) > 0.5


def test_the_corner_worlds_reward_has_a_hole_that_pays_for_going_in_and_out():
    world = world_at("corner-point", (2.0, 2.0))
    obs, _ = world.reset(seed=0)
    # From near the border of the dead zone, out and back in: progress is paid, the way back costs nothing.
    world.step(0.12 - obs)
    rewards = corner_rewards(world, [(0.2, 0.2), (-0.2, -0.2)] * 10)
    assert rewards[::2].min() > 0.2
    assert rewards[1::2].abs().max() == 0.0


def test_closed_the_hole_pays_nothing_for_going_round_and_one_sum_for_every_way_to_a_place():
    goal, noise = torch.tensor([2.0, 2.0]), torch.Generator().manual_seed(0)
    world = envs.make("corner-point", closed=True).make_world(64)
    world.set_tasks(Tasks.of("corner-point", goal=goal.expand(64, 2)))
    obs, _ = world.reset(seed=0)
    assert obs.abs().sum(1).max() < 0.5  # so that all begin where nothing counts
    total, pushes = torch.zeros(64), torch.rand(64, 2, generator=noise) - 0.3
    for _ in range(30):
        push = (pushes + 1.5 * (torch.rand(64, 2, generator=noise) - 0.5)).clamp(-0.2, 0.2)
        obs, reward, *_ = world.step(push)
        total += reward
        counts = (obs.abs().sum(1) >= 0.5) & (obs >= 0.0).all(1)
        expected = torch.where(counts, goal.norm() - (obs - goal).norm(dim=1), torch.zeros(64))
        torch.testing.assert_close(total, expected, atol=1e-5, rtol=0.0)
    assert 5 < int(counts.sum()) < 60
    known = envs.make("corner-point", closed=True).references("test", 1)
    assert known["oracle"] == pytest.approx([8.0**0.5], abs=1e-4)  # all there is: the whole way to the corner
    with pytest.raises(ConfigError, match="closed is 'yes'"):
        envs.make("corner-point", closed="yes")


def test_corner_references_agree_with_the_known_value():
    known = envs.make("corner-point").references("test", 3)
    assert known["straight_walk"] == pytest.approx([2.62] * 3, abs=0.03)
    assert "oracle" not in known
    assert known["stand_still"] == [0.0] * 3
