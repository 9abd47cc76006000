"""Named random streams: distinct, repeatable, independent, and of the right distribution."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metarl.seeding import EnvStreams, derive, generator, mix

# Each statistical test below has a fixed seed, so it either always passes or never does; the bounds are p > 1e-4.
P = 1e-4


def test_different_names_give_different_seeds():
    keys = [(), ("a",), ("a", "b"), ("ab",), ("a", 1), ("a", "1"), ("a", 1, 1), ("a", 11), (1, "a"), ("b",), ("",)]
    keys += [("trial", i) for i in range(2000)] + [("update", i) for i in range(2000)]
    seeds = {derive(seed, *key) for seed in (0, 1, -1, 2**40) for key in keys}
    assert len(seeds) == 4 * len(keys)


@given(st.integers(), st.lists(st.one_of(st.text(), st.integers()), max_size=4))
def test_a_seed_is_a_63_bit_number_and_the_same_each_time(seed, keys):
    value = derive(seed, *keys)
    assert 0 <= value < 2**63
    assert value == derive(seed, *keys)


def test_streams_are_the_same_in_every_process_and_release():
    # A stored run can only be resumed, and a reported one repeated, while these numbers stay what they were.
    assert derive(3, "tasks", 17) == 2083429445286139706
    assert (EnvStreams(2, 3).uniform(4, 2) * 2**24).long().tolist() == [[15652812, 12457324], [588089, 830451]]


def test_seeds_of_neighbouring_names_are_unrelated():
    bits = np.array([[derive(0, "trial", i) >> b & 1 for b in range(63)] for i in range(2000)])
    assert abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / 2000**0.5
    flips = (bits[1:] != bits[:-1]).mean(0)
    assert abs(flips - 0.5).max() < 5 * 0.5 / 2000**0.5


def test_equal_names_give_equal_generators_and_leave_the_global_one_alone():
    before = torch.get_rng_state()
    one, two, other = (generator(4, "tasks", i) for i in (3, 3, 4))
    a, b, c = (torch.rand(100, generator=g) for g in (one, two, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    EnvStreams(10, 0).normal(0, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_mix_is_splitmix64s_finaliser():
    def finalise(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    values = [0, 1, 2, 2**31, 2**63 - 1, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15]
    signed = torch.tensor([v - 2**64 if v >= 2**63 else v for v in values])
    assert [v % 2**64 for v in mix(signed).tolist()] == [finalise(v) for v in values]


def test_one_copys_numbers_do_not_depend_on_how_many_copies_there_are():
    few, many = EnvStreams(3, 7), EnvStreams(1000, 7)
    assert torch.equal(few.uniform(5, 4), many.uniform(5, 4)[:3])
    assert torch.equal(few.normal(5, 4), many.normal(5, 4)[:3])


def test_one_copys_numbers_do_not_depend_on_the_other_copies_counters():
    streams = EnvStreams(4, 7)
    together, apart = torch.tensor([9, 9, 9, 9]), torch.tensor([9, 0, 9, 123])
    assert torch.equal(streams.uniform(together, 2)[[0, 2]], streams.uniform(apart, 2)[[0, 2]])
    assert torch.equal(streams.uniform(together, 2), streams.uniform(9, 2))


def test_more_numbers_per_draw_leave_the_first_ones_as_they_were():
    streams = EnvStreams(5, 1)
    assert torch.equal(streams.uniform(3, 6)[:, :2], streams.uniform(3, 2))


def test_different_seeds_copies_counters_and_lanes_give_different_numbers():
    blocks = [EnvStreams(100, seed).uniform(counter, 10) for seed in range(5) for counter in range(20)]
    values = torch.stack(blocks).flatten()
    # 100,000 draws of 24 bits: some 298 pairs coincide by chance.
    repeats = len(values) - len(values.unique())
    assert stats.poisson(len(values) ** 2 / 2**25).sf(repeats - 1) > P


def uniforms(copies=400, counters=50, lanes=5):
    """[counters, envs, lanes], of one seed."""
    streams = EnvStreams(copies, 12)
    return torch.stack([streams.uniform(c, lanes) for c in range(counters)]).double().numpy()


def test_numbers_are_uniform_on_the_unit_interval():
    u = uniforms()
    assert u.min() >= 0.0
    assert u.max() < 1.0
    counts = np.histogram(u, bins=256, range=(0, 1))[0]
    assert stats.chisquare(counts).pvalue > P
    # Also the low bits of the 24, where poor generators are poorest.
    low = np.bincount((u * 2**24).astype(np.int64).ravel() % 64, minlength=64)
    assert stats.chisquare(low).pvalue > P


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["counters", "copies", "lanes"])
def test_each_counter_copy_and_lane_is_uniform_by_itself(axis):
    u = np.moveaxis(uniforms(), axis, 0)
    values = [stats.kstest(row.ravel(), "uniform").pvalue for row in u.reshape(len(u), -1)]
    assert min(values) > P / len(values)


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["counters", "copies", "lanes"])
@pytest.mark.parametrize("lag", [1, 2, 3])
def test_neighbours_are_uncorrelated_and_independent(axis, lag):
    u = np.moveaxis(uniforms(), axis, 0)
    a, b = u[lag:].ravel(), u[:-lag].ravel()
    assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / len(a) ** 0.5
    pairs = np.histogram2d(a, b, bins=16, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(pairs.ravel()).pvalue > P


def test_neighbouring_seeds_are_uncorrelated():
    for seed in range(5):
        a, b = (EnvStreams(2000, seed + i).uniform(0, 5).numpy().ravel() for i in (0, 1))
        assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / len(a) ** 0.5


def test_normal_numbers_are_standard_normal():
    streams = EnvStreams(2000, 3)
    z = torch.stack([streams.normal(c, 5) for c in range(10)]).double().numpy()
    assert np.isfinite(z).all()
    n = z.size
    assert abs(z.mean()) < 4.5 / n**0.5
    assert abs(z.var() - 1) < 4.5 * (2 / n) ** 0.5
    assert abs(stats.skew(z.ravel())) < 4.5 * (6 / n) ** 0.5
    assert abs(stats.kurtosis(z.ravel())) < 4.5 * (24 / n) ** 0.5
    assert stats.kstest(z.ravel(), "norm").pvalue > P
    # Both halves of a Box-Muller pair, and neighbours, are unrelated.
    correlation = np.corrcoef(z.reshape(-1, 5).T)
    assert abs(correlation - np.eye(5)).max() < 4.5 / (n / 5) ** 0.5


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_any_number_of_normals_can_be_drawn_at_once(n):
    z = EnvStreams(4, 0).normal(2, n)
    assert z.shape == (4, n)
    assert z.dtype == torch.float32
