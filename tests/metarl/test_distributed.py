from __future__ import annotations

import pytest
import torch

from metarl import envs
from metarl.distributed import ALONE, Group, group
from metarl.errors import ConfigError
from metarl.seeding import RowsGenerator, generator, normal
from metarl.spaces import flatten
from metarl.world import World

SPREADABLE = ["gridworld", "point-robot", "bandit", "tabular-mdp", "npc/assets", "npc/guide"]


def test_a_program_that_torchrun_did_not_start_is_alone() -> None:
    assert group() is ALONE
    assert ALONE.leads
    assert ALONE.share(7) == slice(0, 7)
    assert ALONE.map([2, 3], lambda n: (torch.tensor(n * n),)) == [(torch.tensor(4),), (torch.tensor(9),)]


@pytest.mark.parametrize(("n", "size"), [(7, 2), (8, 3), (2, 5), (20, 8)])
def test_shares_are_neighbours_and_hold_everything_once(n: int, size: int) -> None:
    shares = Group(0, size).shares(n)
    assert [i for part in shares for i in range(n)[part]] == list(range(n))
    sizes = {part.stop - part.start for part in shares}
    assert max(sizes) - min(sizes) <= 1


def test_fewer_things_than_processes_are_everybodys() -> None:
    team = Group(1, 4)
    assert team.over(3).share(3) == slice(0, 3)
    assert team.over(4) is team


def test_noise_of_some_rows_is_that_of_these_rows_among_all() -> None:
    whole = normal(torch.zeros(5, 3), generator(0, "noise"))
    own = slice(2, 4)
    source = generator(0, "noise")
    part = normal(torch.zeros(2, 3), RowsGenerator.of(source, 5, own))
    assert torch.equal(part, whole[own])
    untouched = generator(0, "noise")
    normal(torch.zeros(5, 3), untouched)
    assert torch.equal(normal(torch.zeros(1), source), normal(torch.zeros(1), untouched))


def played(world: World, tasks_of: slice, n_steps: int = 12) -> list[torch.Tensor]:
    """Return what the envs of `world`, which have the tasks of `tasks_of`, showed and paid under fixed actions."""
    tasks = envs.make(world.name).sample("train", 4, generator(0, "tasks"))
    world.set_tasks(tasks[tasks_of])
    obs, _ = world.reset(seed=5)
    space = world.single_action_space
    space.seed(1)
    seen = [flatten(world.single_observation_space, obs)]
    for _ in range(n_steps):
        actions = torch.stack([torch.as_tensor(space.sample()) for _ in range(4)])[tasks_of]
        obs, reward, terminated, truncated, _ = world.step(actions)
        seen += [flatten(world.single_observation_space, obs), reward, terminated, truncated]
    return seen


@pytest.mark.parametrize("name", SPREADABLE)
def test_envs_numbered_from_two_are_the_last_two_of_four(name: str) -> None:
    tasks = envs.make(name)
    whole, half = tasks.make_world(4), tasks.make_world(2)
    half.number_from(2)
    for all_envs, some in zip(played(whole, slice(0, 4)), played(half, slice(2, 4)), strict=True):
        assert torch.equal(all_envs[2:], some)


def test_a_world_that_does_not_number_its_envs_is_refused_in_one_line() -> None:
    class Bare(World):
        def __init__(self) -> None:
            super().__init__(envs.make("gridworld").spec, 2)

        def set_tasks(self, tasks): ...  # type: ignore[no-untyped-def]
        def reset(self, *, seed=None, options=None): ...  # type: ignore[no-untyped-def]
        def step(self, actions): ...  # type: ignore[no-untyped-def]
        def state_dict(self): ...  # type: ignore[no-untyped-def]
        def load_state_dict(self, state): ...  # type: ignore[no-untyped-def]

    with pytest.raises(ConfigError, match=r"cannot be spread over processes.*number_from"):
        Bare().number_from(2)
