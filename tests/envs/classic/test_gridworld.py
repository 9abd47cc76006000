"""The 5x5 gridworld: its rules, and its exact reference values found in other ways."""

import pytest
import torch

from metarl import envs
from metarl.seeding import generator

STAY, UP, RIGHT, DOWN, LEFT = range(5)
GOALS = [(x, y) for x in range(5) for y in range(5) if (x, y) not in ((0, 0), (0, 1), (1, 0), (1, 1))]
MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))


def world_of(*goals):
    family = envs.make("gridworld")
    tasks = family.all("train")
    world = family.make_world(len(goals))
    world.set_tasks(tasks[[tasks.names.index(f"goal({x},{y})") for x, y in goals]])
    return world


def test_the_goals_are_the_21_cells_outside_the_start_block():
    assert set(envs.make("gridworld").all("test").names) == {f"goal({x},{y})" for x, y in GOALS}
    assert len(GOALS) == 21


def test_moves_follow_the_compass_and_stop_at_the_border():
    world = world_of((4, 4))
    obs, _ = world.reset()
    assert obs.tolist() == [[0.0, 0.0]]
    path = []
    for action in (DOWN, LEFT, UP, UP, RIGHT, STAY, DOWN, LEFT, *[RIGHT] * 5):
        path.append(tuple(world.step(torch.tensor([action]))[0][0].tolist()))
    assert path == [(0, 0), (0, 0), (0, 1), (0, 2), (1, 2), (1, 2), (1, 1), (0, 1), *[(i, 1) for i in (1, 2, 3, 4, 4)]]


def test_each_step_on_the_goal_pays_one_and_every_other_costs_a_tenth():
    world = world_of((2, 0), (0, 2))
    world.reset()
    rewards = torch.stack([world.step(torch.tensor([a, a]))[1] for a in (RIGHT, RIGHT, STAY, STAY, LEFT, RIGHT)])
    assert rewards[:, 0].tolist() == pytest.approx([-0.1, 1.0, 1.0, 1.0, -0.1, 1.0])
    assert rewards[:, 1].tolist() == pytest.approx([-0.1] * 6)


def test_the_goal_ends_nothing():
    world = world_of((2, 0))
    world.reset()
    ends = [world.step(torch.tensor([min(t, 1) * RIGHT if t < 3 else STAY]))[2:4] for t in range(15)]
    assert not any(bool(terminated) for terminated, _ in ends)
    assert [bool(truncated) for _, truncated in ends] == [False] * 14 + [True]


# A walk over 14 goal cells in the first episode; the other 7 lie on the way along two borders.
FIRST_WALK = [(0, 1), (0, 2), (1, 2), (1, 3), (0, 3), (0, 4), (1, 4), (2, 4), (3, 4), (3, 3), (2, 3), (2, 2), (2, 1),
              (3, 1), (3, 2)]  # fmt: skip
SECOND_WALK = [(1, 0), (2, 0), (3, 0), (4, 0), (4, 1), (4, 2), (4, 3), (4, 4)]


def moves_along(cells):
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in zip([(0, 0), *cells], cells, strict=False)]
    return [MOVES.index(step) for step in steps]


def play_the_best_known_policy(n_episodes):
    """Open cells along the two walks until the reward comes, then stay; afterwards go straight to the known goal."""
    world = world_of(*GOALS)
    world.reset()
    known = [None] * 21
    returns = torch.zeros(n_episodes, 21, dtype=torch.float64)
    for episode in range(n_episodes):
        walk = moves_along(FIRST_WALK if episode == 0 else SECOND_WALK)
        home = list(known)
        for t in range(15):
            actions = []
            for i in range(21):
                if home[i] is not None:
                    x, y = home[i]
                    actions.append(RIGHT if t < x else UP if t < x + y else STAY)
                else:
                    actions.append(STAY if known[i] is not None or t >= len(walk) else walk[t])
            _, reward, _, _, info = world.step(torch.tensor(actions))
            returns[episode] += reward
            for i in (reward > 0).nonzero()[:, 0].tolist():
                known[i] = tuple(int(v) for v in info["final_obs"][i])
    return returns.mean(1)


def test_the_bayes_optimal_return_is_reached_by_a_policy_played_in_the_world():
    expected = envs.make("gridworld").references("test", 4)["bayes_optimal"]
    assert play_the_best_known_policy(4).tolist() == pytest.approx(expected, abs=1e-5)
    assert expected == pytest.approx([4.0, 11.0714, 11.0714, 11.0714], abs=1e-4)
    assert sum(expected) == pytest.approx(37.2143, abs=1e-4)


def best_single_episode():
    """Best mean return of one episode over walks of 15 moves, by plain dynamic programming over (cell, set seen).

    Only walks that keep within one cell of the most cells opened are followed; another way could only be better.
    """
    bit = {cell: 1 << i for i, cell in enumerate(GOALS)}
    best = {((0, 0), 0): 0.0}
    for t in range(15):
        after = {}
        for ((x, y), seen), gain in best.items():
            for dx, dy in MOVES:
                cell = (min(max(x + dx, 0), 4), min(max(y + dy, 0), 4))
                new = bit.get(cell, 0) & ~seen
                key, value = (cell, seen | new), gain + ((15 - t) * 1.0 - 0.1 * t if new else 0.0)
                if value > after.get(key, -1.0):
                    after[key] = value
        most = max(seen.bit_count() for _, seen in after)
        best = {key: gain for key, gain in after.items() if key[1].bit_count() >= most - 1}
    return max(gain - 1.5 * (21 - seen.bit_count()) for (_, seen), gain in best.items()) / 21


def test_the_bayes_optimal_return_of_one_episode_agrees_with_plain_dynamic_programming():
    assert envs.make("gridworld").references("test", 1)["bayes_optimal"] == pytest.approx([best_single_episode()])


@pytest.mark.parametrize("n_episodes", [2, 3, 6])
def test_the_bayes_optimal_policy_lies_between_random_and_oracle(n_episodes):
    known = envs.make("gridworld").references("test", n_episodes)
    for low, middle, high in zip(known["random"], known["bayes_optimal"], known["oracle"], strict=True):
        assert low < middle <= high + 1e-9
    assert known["oracle"] == pytest.approx([11.0714] * n_episodes, abs=1e-4)


def test_the_random_reference_is_what_random_moves_earn():
    family = envs.make("gridworld")
    world = family.make_world(21 * 400)
    world.set_tasks(family.all("test").repeat(400))
    world.reset()
    noise, total = generator(0), torch.zeros(21 * 400)
    for _ in range(15):
        total += world.step(torch.randint(5, (21 * 400,), generator=noise))[1]
    standard_error = float(total.std()) / (21 * 400) ** 0.5
    assert family.references("test", 1)["random"][0] == pytest.approx(float(total.mean()), abs=4 * standard_error)
    assert family.references("test", 1)["random"][0] == pytest.approx(-1.165, abs=1e-3)


def test_held_out_goals_have_their_own_oracle_and_no_bayes_optimal_value():
    family = envs.make("gridworld", held_out=6)
    known = family.references("test", 1)
    distances = [int(n[5]) + int(n[7]) for n in family.all("test").names]
    expected = sum(16 - d - 0.1 * (d - 1) for d in distances) / 6
    assert known["oracle"] == pytest.approx([expected])
    assert "bayes_optimal" not in known
