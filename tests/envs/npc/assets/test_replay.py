"""Replayed prices: read from a file of one's own, cut by time, scored beside what needs no skill."""

import gzip
import sys
from datetime import date, timedelta

import pytest
import torch

from metarl import envs
from metarl.conformance import check_world
from metarl.envs.npc.assets.replay import LOOKBACK, load
from metarl.errors import ConfigError
from metarl.seeding import generator

DAYS, SERIES = 600, 5


def prices():
    steps = 0.01 * torch.randn(DAYS, SERIES, generator=generator(0), dtype=torch.float64)
    return (100.0 * (1.0 + steps).cumprod(0)).tolist()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    days = [date(2020, 1, 1) + timedelta(i) for i in range(DAYS)]
    rows = ["Date," + ",".join("ABCDE")]
    rows += [f"{day}," + ",".join(map(str, row)) for day, row in zip(days, prices(), strict=True)]
    file = tmp_path_factory.mktemp("prices") / "prices.csv.gz"
    with gzip.open(file, "wt") as out:
        out.write("\n".join(rows) + "\n")
    return str(file)


def family_of(path):
    return envs.make("npc/assets-replay", path=path, horizon=6, n_episodes=3)


def test_the_world_keeps_the_contract(path):
    failed = [f"{f.check}: {f.message}" for f in check_world(lambda: family_of(path)) if f.status == "fail"]
    assert failed == []


def test_returns_and_signals_are_those_of_the_file(path):
    table = torch.tensor(prices(), dtype=torch.float64)
    found = load(path)
    day = 37
    expected = table[day + LOOKBACK + 1] / table[day + LOOKBACK] - 1.0
    assert torch.allclose(found.returns[day].double(), expected, atol=1e-6)
    past = table[day + 1 : day + LOOKBACK + 1] / table[day : day + LOOKBACK] - 1.0
    signal = past.mean(0) / (past.std(0) / LOOKBACK**0.5)
    assert torch.allclose(found.signal[day].double(), signal, atol=1e-4)


def test_an_episode_replays_consecutive_days(path):
    family = family_of(path)
    world = family.make_world(4)
    tasks = family.sample("test", 4, generator(1))
    world.set_tasks(tasks)
    world.reset(seed=0)
    table = load(path).returns
    for t in range(12):
        _, reward, *_ = world.step(torch.full((4,), 2))
        day, series = tasks.values["day"] + t, tasks.values["series"][:, 2]
        fee = 0.001 if t % 6 == 0 else 0.0
        assert torch.allclose(reward, table[day, series].log1p() - fee, atol=1e-6)


def test_splits_are_times(path):
    family = family_of(path)
    last = {s: int(family.sample(s, 500, generator(0)).values["day"].max()) for s in family.splits}
    first = {s: int(family.sample(s, 500, generator(0)).values["day"].min()) for s in family.splits}
    assert last["train"] + 18 <= first["validation"]
    assert last["validation"] + 18 <= first["test"]


def test_references_stand_beside_buy_and_hold_and_a_constant_kelly_share(path):
    family = family_of(path)
    found = family.references("test", 3)
    assert {"non_adaptive", "constant_kelly", "cash", "oracle"} <= set(found)
    assert found["cash"] == [0.0, 0.0, 0.0]
    assert 0.0 <= family.kelly() <= 1.0
    assert sum(found["oracle"]) > sum(found["non_adaptive"])


def test_without_prices_the_error_says_where_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "skfolio", None)
    with pytest.raises(ConfigError, match="pip install skfolio"):
        envs.make("npc/assets-replay")
    with pytest.raises(ConfigError, match="no file"):
        envs.make("npc/assets-replay", path="nowhere.csv")
