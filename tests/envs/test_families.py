"""Splits, sampling and fingerprints of the sanity worlds' task distributions."""

from collections import Counter

import pytest
import torch

from metarl import envs
from metarl.envs import families
from metarl.envs.families import shuffled_split_indices
from metarl.errors import ConfigError
from metarl.seeding import generator

FINITE = ("gridworld", "sparse-point-robot", "corner-point")
CONTINUOUS = ("bandit", "tabular-mdp", "navigation", "point-robot")


@pytest.mark.parametrize("name", CONTINUOUS)
def test_train_validation_and_test_share_no_task(name):
    family = envs.make(name)
    drawn = family.sample("train", 2000, generator(0, "tasks", 0)).keys()
    validation, test = family.all("validation").keys(), family.all("test").keys()
    # Two draws may collide in float32, which must not happen in practice.
    assert len(set(drawn) | set(validation) | set(test)) == 2000 + 200 + 1000
    assert family.all("train") is None
    assert not family.exhaustive


def test_the_half_circle_is_cut_into_disjoint_splits_with_the_published_sizes():
    family = envs.make("sparse-point-robot")
    keys = {split: family.all(split).keys() for split in family.splits}
    assert {split: len(k) for split, k in keys.items()} == {"train": 70, "validation": 10, "test": 20}
    assert len(set().union(*keys.values())) == 100


def test_the_gridworld_can_hold_goals_out():
    family = envs.make("gridworld", held_out=5)
    keys = {split: set(family.all(split).keys()) for split in family.splits}
    assert {split: len(k) for split, k in keys.items()} == {"train": 11, "validation": 5, "test": 5}
    assert len(set().union(*keys.values())) == 21
    assert not family.exhaustive


@pytest.mark.parametrize("name", ["gridworld", "corner-point"])
def test_tiny_families_say_that_every_split_is_the_whole_family(name):
    family = envs.make(name)
    assert family.exhaustive
    assert family.all("train") == family.all("validation") == family.all("test")


@pytest.mark.parametrize("name", FINITE + CONTINUOUS)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_sampling_depends_on_the_generator_alone(name, split):
    one, two = envs.make(name), envs.make(name)
    torch.manual_seed(1)
    first = one.sample(split, 30, generator(4, "tasks"))
    one.sample(split, 7, generator(5, "tasks"))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert two.sample(split, 30, generator(4, "tasks")) == first
    assert one.sample(split, 30, generator(4, "tasks")) == first
    assert one.sample(split, 30, generator(5, "tasks")) != first
    assert torch.equal(state, torch.get_rng_state())


def test_a_finite_split_is_drawn_evenly():
    family = envs.make("gridworld")
    counts = Counter(family.sample("train", 50, generator(0)).names)
    assert len(counts) == 21
    assert sorted(set(counts.values())) == [2, 3]


def test_a_sample_of_a_held_out_list_comes_from_that_list():
    family = envs.make("navigation", n_test=50)
    drawn = family.sample("test", 50, generator(0))
    assert set(drawn.keys()) == set(family.all("test").keys())
    assert drawn != family.all("test")


@pytest.mark.parametrize("name", FINITE + CONTINUOUS)
def test_equal_families_have_equal_fingerprints(name):
    assert envs.make(name).fingerprint() == envs.make(name).fingerprint()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gridworld", {"held_out": 3}),
        ("bandit", {"n_arms": 4}),
        ("bandit", {"n_pulls": 10}),
        ("bandit", {"n_test": 999}),
        ("tabular-mdp", {"horizon": 5}),
        ("navigation", {"n_validation": 100}),
    ],
)
def test_options_change_the_fingerprint(name, options):
    assert envs.make(name).fingerprint() != envs.make(name, **options).fingerprint()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gridworld", {"held_out": 7}, r"held_out is 7; pass a whole number in 0\.\.6"),
        ("gridworld", {"held_out": 1.5}, "held_out is 1.5"),
        ("bandit", {"n_arms": 1}, "n_arms is 1"),
        ("bandit", {"n_pulls": 0}, "n_pulls is 0"),
        ("bandit", {"n_arms": True}, "n_arms is True"),
        ("tabular-mdp", {"n_states": 1}, "n_states is 1"),
        ("tabular-mdp", {"horizon": 0}, "horizon is 0"),
        ("navigation", {"n_test": 0}, "n_test is 0"),
        ("point-robot", {"n_goals": 3}, "has no option"),
    ],
)
def test_bad_options_are_refused_by_name(name, options, message):
    with pytest.raises(ConfigError, match=message):
        envs.make(name, **options)


@pytest.mark.parametrize("name", FINITE + CONTINUOUS)
def test_an_unknown_split_is_refused_with_the_known_ones(name):
    family = envs.make(name)
    for call in (lambda: family.all("tests"), lambda: family.sample("tests", 1, generator(0))):
        with pytest.raises(ConfigError, match="no split 'tests'; choose one of train, validation, test"):
            call()


def test_holding_out_everything_is_refused():
    with pytest.raises(ConfigError, match=r"choose 1\.\.4"):
        shuffled_split_indices("x", 10, 5)


@pytest.mark.parametrize("name", FINITE + CONTINUOUS)
def test_references_give_one_number_per_episode(name):
    for policy, returns in envs.make(name).references("test", 3).items():
        assert len(returns) == 3, policy
        assert all(isinstance(r, float) for r in returns), policy


def test_task_distributions_by_their_old_names_work_on_with_a_warning():
    family = envs.make("navigation")
    with pytest.warns(DeprecationWarning, match=r"NavigationTasks\.list_of is now fixed_tasks"):
        assert family.list_of("test") == family.fixed_tasks("test")
    with pytest.warns(DeprecationWarning, match="shuffled_cuts is now"):
        assert families.shuffled_cuts("x", 10, 2) == shuffled_split_indices("x", 10, 2)


@pytest.mark.parametrize("name", ["navigation", "point-robot"])
def test_training_may_have_a_fixed_list_of_goals_which_no_other_split_has(name):
    family = envs.make(name, n_train=30)
    listed = family.all("train")
    assert len(listed) == 30
    drawn = family.sample("train", 60, generator(0)).keys()
    assert set(drawn) == set(listed.keys())
    held_out = envs.make(name)
    assert family.all("test") == held_out.all("test")
    assert not set(listed.keys()) & {*held_out.all("test").keys(), *held_out.all("validation").keys()}
    assert family.fingerprint() != held_out.fingerprint() != envs.make(name, n_train=31).fingerprint()
    with pytest.raises(ConfigError, match="n_train is 0"):
        envs.make(name, n_train=0)
