"""Asset worlds: what a step pays and shows, what stays hidden, and how references compare."""

import pytest
import torch

from metarl import envs
from metarl.conformance import check_world
from metarl.envs.npc.assets.exact import solve
from metarl.envs.npc.assets.references import Bayes, HazardBayes, Regression
from metarl.envs.npc.assets.regime_references import MoodFilter
from metarl.envs.npc.measure import play
from metarl.errors import ConfigError
from metarl.seeding import generator
from metarl.tasks import Tasks
from tests.envs.npc.same_history import actions_after

NAMES = ("npc/assets", "npc/assets-held", "npc/assets-regime", "npc/assets-tiny")


def world_of(name, n=64, seed=0, split="train", **options):
    family = envs.make(name, **options)
    world = family.make_world(n)
    world.set_tasks(family.sample(split, n, generator(seed, "tasks")))
    obs, _ = world.reset(seed=seed)
    return world, obs


@pytest.mark.parametrize("name", NAMES)
def test_the_worlds_keep_the_contract(name):
    failed = [f"{f.check}: {f.message}" for f in check_world(lambda: envs.make(name)) if f.status == "fail"]
    assert failed == []


@pytest.mark.parametrize("shift", ["visitor@2", "drift~0.5", "economy@1", "interface@1", "sensor@1"])
def test_a_shifted_world_keeps_the_contract(shift):
    make = lambda: envs.make("npc/assets", shift=shift, horizon=6, n_episodes=4)  # noqa: E731
    assert [f.check for f in check_world(make, n_steps=32) if f.status == "fail"] == []


def test_a_step_pays_the_growth_of_what_is_held_less_the_fee_of_a_change():
    world, _ = world_of("npc/assets")
    hold = [0, 0, 4, 2]
    for t, (before, now) in enumerate(zip([4, *hold], hold, strict=False)):
        paths = world.state["paths"]
        _, reward, _, _, _ = world.step(torch.full((64,), now))
        growth = paths[:, t, 2, now].log1p() if now < 4 else torch.zeros(64)
        assert torch.allclose(reward, growth - 0.002 * (before != now), atol=1e-6)


def test_prices_do_not_depend_on_what_is_done():
    a, _ = world_of("npc/assets")
    b, _ = world_of("npc/assets")
    for t in range(24):
        one, two = a.step(torch.full((64,), t % 5))[4], b.step(torch.full((64,), 4))[4]
        shown = slice(0, 16)  # signals, last signals, returns, what was seen
        assert torch.equal(one["final_obs"][:, shown], two["final_obs"][:, shown])


def test_held_feedback_shows_the_asset_held_only():
    world, _ = world_of("npc/assets-held")
    for action in (4, 1, 3):
        obs = world.step(torch.full((64,), action))[0]
        seen = torch.zeros(4)
        if action < 4:
            seen[action] = 1.0
        assert torch.equal(obs[:, 12:16], seen.expand(64, 4))
        assert bool(((obs[:, 8:12] != 0) == (seen > 0)).all())


def test_the_last_returns_of_an_episode_are_in_the_first_observation_of_the_next():
    world, _ = world_of("npc/assets")
    for _ in range(24):
        obs, _, _, truncated, info = world.step(torch.zeros(64, dtype=torch.int64))
    assert truncated.all()
    assert torch.equal(obs[:, 4:16], info["final_obs"][:, 4:16])
    assert bool((obs[:, -1] == 1).all())
    assert bool((obs[:, 20] == 1).all())  # cash


def test_cost_adds_up_to_the_largest_drawdown():
    world, _ = world_of("npc/assets")
    wealth, peak, worst, cost = (torch.zeros(64) for _ in range(4))
    for t in range(24):
        _, reward, _, _, info = world.step(torch.full((64,), t % 3))
        wealth = wealth + reward
        peak = torch.maximum(peak, wealth)
        worst = torch.maximum(worst, peak - wealth)
        cost = cost + info["cost"]
    assert torch.allclose(cost, worst, atol=1e-5)


def test_returns_follow_the_hidden_law():
    family = envs.make("npc/assets")
    world = family.make_world(4000)
    tasks = family.sample("train", 1, generator(1)).repeat(4000)
    world.set_tasks(tasks)
    world.reset(seed=2)
    paths = world.state["paths"]
    noise = paths[:, :, 2] - tasks.values["mu"][:, :1] - tasks.values["alpha"][:, :1] * paths[:, :, 0]
    assert float(noise.std()) == pytest.approx(0.05, rel=0.01)
    assert float(noise.mean()) == pytest.approx(0.0, abs=4e-4)
    signal = paths[:, :, 0]
    assert float(signal.std()) == pytest.approx(1.0, rel=0.02)
    assert float((signal[:, 1:] * signal[:, :-1]).mean()) == pytest.approx(0.7, abs=0.02)


def test_heavy_tails_have_the_same_variance_and_more_extremes():
    family = envs.make("npc/assets")
    world = family.make_world(4000)
    world.set_tasks(family.sample("test-worlds", 4000, generator(1)))
    world.reset(seed=2)
    paths, values = world.state["paths"], world.tasks.values
    noise = (paths[:, :, 2] - values["mu"][:, :1] - values["alpha"][:, :1] * paths[:, :, 0]) / 0.05
    assert float(noise.clamp(-30, 30).std()) == pytest.approx(1.0, rel=0.15)
    assert float((noise.abs() > 4).float().mean()) > 20 * 6.3e-5
    assert bool((values["fee"] == 0.004).all())


def test_held_out_combinations_have_all_effects_negative_and_training_has_none_of_these():
    family = envs.make("npc/assets")
    assert bool((family.all("test-combinations").values["alpha"] < 0).all())
    train = family.sample("train", 4000, generator(0)).values["alpha"][:, 0]
    assert not bool((train < 0).all(1).any())
    assert bool(((train < 0).float().mean(0) > 0.4).all())
    assert float(train.std()) == pytest.approx(0.04, rel=0.03)


def test_the_first_observation_tells_nothing_of_the_task():
    for name in NAMES:
        family = envs.make(name)
        tasks = family.sample("train", 8, generator(0))
        first = []
        for order in (range(8), reversed(range(8))):
            world = family.make_world(8)
            world.set_tasks(tasks[list(order)])
            first.append(world.reset(seed=3)[0])
        assert torch.equal(*first)


def test_one_copy_does_what_the_first_of_many_does():
    for name in NAMES:
        family = envs.make(name)
        tasks = family.sample("train", 64, generator(0))
        many, one = family.make_world(64), family.make_world(1)
        many.set_tasks(tasks)
        one.set_tasks(tasks[:1])
        assert torch.equal(many.reset(seed=1)[0][:1], one.reset(seed=1)[0])
        for t in range(30):
            action = t % one.single_action_space.n
            a, b = many.step(torch.full((64,), action)), one.step(torch.full((1,), action))
            assert torch.equal(a[0][:1], b[0])
            assert torch.equal(a[1][:1], b[1])


def test_a_change_of_visitor_changes_the_assets_from_its_episode_on():
    world, _ = world_of("npc/assets", shift="visitor@1", horizon=4, n_episodes=3)
    before = world.latent()
    for _ in range(4):
        world.step(torch.zeros(64, dtype=torch.int64))
    after = world.latent()
    assert not torch.equal(before["mu"], after["mu"])
    assert torch.equal(after["mu"], world.params["mu"][:, 1])


def test_permuted_actions_hold_other_assets():
    world, _ = world_of("npc/assets", shift="interface@1", horizon=4, n_episodes=3)
    order = world.params["order"]
    assert torch.equal(order[:, 0], torch.arange(5).expand(64, 5))
    for _ in range(4):
        world.step(torch.full((64,), 4))
    world.step(torch.full((64,), 1))
    assert torch.equal(world.state["position"], order[:, 1, 1])


def test_the_posterior_is_that_of_bayesian_regression():
    config = envs.make("npc/assets").config
    belief = Regression(config, (1, 1), torch.device("cpu"))
    noise = generator(0)
    x, r = torch.randn(7, generator=noise).double(), 0.1 * torch.randn(7, generator=noise).double()
    for a, b in zip(x, r, strict=True):
        belief.add(a.view(1, 1), b.view(1, 1), torch.ones(1, 1))
    design = torch.stack([torch.ones(7).double(), x], dim=1)
    precision = design.T @ design / 0.05**2 + torch.diag(torch.tensor([0.01, 0.04]).double() ** -2)
    covariance = torch.linalg.inv(precision)
    mean = covariance @ (design.T @ r) / 0.05**2
    got = torch.stack([v.squeeze() for v in belief.posterior()])
    expected = torch.stack([mean[0], mean[1], covariance[0, 0], covariance[1, 1], covariance[0, 1]])
    assert torch.allclose(got, expected, rtol=1e-6)


def test_the_mood_filter_is_the_forward_algorithm():
    config = envs.make("npc/assets-tiny").config
    belief = MoodFilter(config, 1, torch.device("cpu"))
    p = 0.5
    for r in (0.05, -0.02, 0.01, -0.06):
        good, bad = (torch.exp(torch.tensor(-0.5 * ((r - m * 0.02) / 0.045) ** 2)) for m in (1, -1))
        p = float(p * good / (p * good + (1 - p) * bad))
        p = 0.95 * p + 0.05 * (1 - p)
        belief.add(torch.full((1, 1), r))
    assert float(belief.p[0, 0, 0]) == pytest.approx(p, abs=1e-5)


def test_the_exact_value_of_the_tiny_market_is_what_its_policy_earns():
    family = envs.make("npc/assets-tiny")
    exact = solve(family.config).value
    played = play(family, family.policies("train")["bayes_optimal"](), "train", n=4096)
    total = played.returns.sum(1)
    assert float(total.mean()) == pytest.approx(exact, abs=4 * float(total.std()) / 4096**0.5)
    assert exact == pytest.approx(0.2668, abs=2e-4)


def test_the_exact_value_of_a_tiny_tree_is_that_of_exhaustive_search():
    """Two steps of one episode, no fee: invest wherever the expected growth is positive."""
    family = envs.make("npc/assets-tiny", horizon=2, n_episodes=1, fee=0.0)
    noise = 0.045
    r = torch.linspace(-0.4, 0.4, 20001).double()

    def density(mean):
        d = torch.exp(-0.5 * ((r - mean) / noise) ** 2)
        return d / d.sum()

    good, bad = density(0.02), density(-0.02)
    gain_good, gain_bad = float((good * r.log1p()).sum()), float((bad * r.log1p()).sum())
    first = max(0.0, 0.5 * gain_good + 0.5 * gain_bad)
    after = good / (good + bad)
    after = 0.95 * after + 0.05 * (1 - after)
    second = float((0.5 * (good + bad) * (after * gain_good + (1 - after) * gain_bad).clamp(min=0)).sum())
    assert solve(family.config).value == pytest.approx(first + second, abs=3e-5)


def _another_visitor(world):
    world.params = {k: v if k == "fee" else v.flip(0) for k, v in world.params.items()}


def test_no_policy_but_the_oracle_looks_at_what_is_hidden():
    for name in ("npc/assets", "npc/assets-regime"):
        family = envs.make(name)
        for policy_name, make in family.policies("train").items():
            if policy_name == "oracle":
                continue
            chosen = [actions_after(family, make, swap) for swap in (None, _another_visitor)]
            assert torch.equal(*chosen), (name, policy_name)


def test_the_hazard_filter_with_no_hazard_is_the_plain_filter():
    family = envs.make("npc/assets", horizon=6, n_episodes=3)
    one = play(family, Bayes(), "train", n=64)
    two = play(family, HazardBayes(hazard=0.0), "train", n=64)
    assert torch.allclose(one.returns, two.returns, atol=1e-6)


def test_the_hazard_filter_recovers_from_a_change_of_visitor():
    family = envs.make("npc/assets", shift="visitor@3")
    plain = torch.tensor(play(family, Bayes(), "test", n=512).mean())
    hazard = torch.tensor(play(family, HazardBayes(), "test", n=512).mean())
    assert float(hazard[3]) > float(plain[3]) + 0.15
    assert float(plain[3]) < 0.5 * float(plain[2])


def test_options_that_make_no_sense_are_refused():
    for name, options in (
        ("npc/assets", {"n_assets": 1}),
        ("npc/assets", {"fee": -1.0}),
        ("npc/assets", {"shift": "world@1"}),
        ("npc/assets-held", {"feedback": "full"}),
        ("npc/assets-regime", {"held_out": ((0, 0), (0, 1))}),
        ("npc/assets-tiny", {"switches": (0.0,)}),
    ):
        with pytest.raises(ConfigError):
            envs.make(name, **options)


def test_a_frame_is_json_and_a_picture_shows_the_lines():
    import json

    world, _ = world_of("npc/assets")
    blank = world.picture(0)
    for _ in range(10):
        world.step(torch.ones(64, dtype=torch.int64))
    frame = json.loads(json.dumps(world.frame(3)))
    assert len(frame["prices"]) == 10
    assert frame["position"] == 1
    assert "mu" not in {k for k in frame if k != "hidden"}
    picture = world.render()
    assert picture.shape == (240, 360, 3)
    assert (picture != blank).any(2).sum() > 300


def test_tasks_of_a_family_go_through_json_and_back():
    tasks = envs.make("npc/assets").sample("train", 3, generator(0))
    assert Tasks.from_json(tasks.to_json()) == tasks
