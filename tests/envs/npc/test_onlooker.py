"""Filters that look on: what they believe is Bayes' rule on what was shown, and nothing of what is hidden."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.envs.npc.assistant.world import ANSWER_WIDTH, RIGHT
from metarl.envs.npc.family import NpcFamily
from metarl.envs.npc.guide.tiny import SETTINGS, kinds
from metarl.envs.npc.guide.visitor_model import reaction_probabilities, satisfaction
from metarl.envs.npc.onlooker import Onlooker
from metarl.envs.npc.world import NpcWorld
from metarl.seeding import generator


class Watched:
    """A world of `n` visitors of a split, and who looks on."""

    def __init__(self, name: str, n: int = 2, split: str = "test", **options: Any) -> None:
        family = envs.make(name, **options)
        assert isinstance(family, NpcFamily)
        self.family = family
        self.world: NpcWorld = family.make_world(n)
        self.world.set_tasks(family.fixed_tasks(split)[:n])
        self.world.reset(seed=0)
        self.eye = Onlooker(family.onlooker(split))
        self.eye.start(self.world, generator(0))
        self.nobody = torch.zeros(n, dtype=torch.bool)

    def step(self, actions: Tensor, idle: Tensor | None = None) -> Tensor:
        """Take a step up to `move_on`; returns where an episode ended."""
        self.before = self.world.state
        self.eye.ready()
        _, _, terminated, truncated, _ = self.world.step(actions)
        self.eye.see(self.before, actions, self.world.reached, self.nobody if idle is None else idle)
        return terminated | truncated

    def reached(self, copy: int = 0) -> Any:
        """Return the belief about what was reached."""
        with self.world.as_reached():
            return self.now(copy)

    def now(self, copy: int = 0) -> Any:
        """Return the present belief."""
        return self.eye.belief(copy)["belief"]


def test_a_companion_has_the_prior_and_then_prior_times_likelihood() -> None:
    w = Watched("npc/companion-tiny")
    styles = w.world.styles  # type: ignore[attr-defined]
    flat = [[1 / k] * k for k in styles.sizes]
    assert w.now()["style"] == [pytest.approx(part, abs=1e-4) for part in flat]
    w.step(torch.zeros(2, 2, dtype=torch.int64))
    mood = int(w.world.reached["mood"][0])
    posterior = styles.mood_probabilities()[0, mood]
    posterior = posterior / posterior.sum()
    for f, part in enumerate(w.reached()["style"]):
        marginal = [float(posterior[styles.factors[:, f] == v].sum()) for v in range(styles.sizes[f])]
        assert part == pytest.approx(marginal, abs=1e-4)
        assert part != pytest.approx(flat[f], abs=0.01)


@pytest.mark.parametrize(("name", "shift"), [("npc/assets", ""), ("npc/assets-held", ""), ("npc/assets", "visitor@1")])
def test_assets_are_believed_as_the_normal_equations_say(name: str, shift: str) -> None:
    w = Watched(name, shift=shift)
    config = w.world.config  # type: ignore[attr-defined]
    precision = torch.diag(torch.tensor([config.mu_sd**-2, config.alpha_sd**-2], dtype=torch.float64)).repeat(4, 1, 1)
    moment = torch.zeros(4, 2, dtype=torch.float64)
    for t in range(5):
        w.step(torch.tensor([t % 4, 0]))
        state = w.world.reached
        x = torch.stack([torch.ones(4), state["before"][0]], 1).double() * state["seen"][0, :, None]
        precision = precision + x[:, :, None] * x[:, None] / config.noise_sd**2
        moment = moment + x * state["shown"][0, :, None].double() / config.noise_sd**2
        covariance = precision.inverse()
        mean = (covariance @ moment[:, :, None])[..., 0]
        belief = w.reached()
        for i, key in enumerate(("mu", "alpha")):
            assert belief[key] == pytest.approx(mean[:, i].tolist(), abs=1e-4), t
            assert belief[f"{key}_sd"] == pytest.approx(covariance[:, i, i].sqrt().tolist(), abs=1e-4), t
    assert max(map(abs, belief["mu"])) > 1e-3


def test_moods_are_believed_as_the_forward_algorithm_says() -> None:
    w = Watched("npc/assets-tiny")
    config = w.world.config  # type: ignore[attr-defined]
    d, switch = config.drifts[0], config.switches[0]
    good = 0.5
    assert w.now() == {"good": [0.5], "mean": [0.0]}
    for _ in range(4):
        w.step(torch.tensor([0, 1]))
        r = float(w.world.reached["shown"][0, 0])
        odds = good / (1 - good) * 2.718281828 ** (2 * r * d / config.noise_sd**2)
        seen = odds / (1 + odds)
        good = (1 - switch) * seen + switch * (1 - seen)
        assert w.reached()["good"] == pytest.approx([good], abs=1e-4)
        assert w.reached()["mean"] == pytest.approx([d * (2 * good - 1)], abs=1e-4)
    assert abs(good - 0.5) > 0.01


def test_an_assistant_is_told_the_category_and_believes_it_as_often_as_it_is_true() -> None:
    w = Watched("npc/assistant")
    config = w.world.config  # type: ignore[attr-defined]
    first = w.now()
    assert first["category"] == [0.5, 0.5]
    w.step(torch.full((2,), config.n_offers + 6))
    said = int(w.world.reached["answer"][0]) - 3
    belief = w.reached()
    assert belief["category"][said] == pytest.approx(RIGHT, abs=1e-4)
    assert sum(belief["category"]) == pytest.approx(1.0, abs=1e-4)
    assert belief["beta"] == pytest.approx(first["beta"], abs=2e-4)
    w.eye.move_on(w.nobody, w.nobody)
    w.step(torch.full((2,), config.n_offers))  # an answer about the first attribute tells of it, not of the category
    assert w.reached()["category"] == belief["category"]
    domain = int(w.world.params["domain"][0])
    people = w.family.people("train", domain)[:300]  # type: ignore[attr-defined]
    mean, sd = w.world.mean[domain], w.world.sd[domain]  # type: ignore[attr-defined]
    gap = ((people - mean) / sd)[:, :1] - torch.tensor([-1.0, 0.0, 1.0])
    chance = (-0.5 * (gap / ANSWER_WIDTH).square()).softmax(1)[:, int(w.world.reached["answer"][0])]
    told = (chance[:, None] * people).sum(0) / chance.sum()
    assert w.reached()["beta"] == pytest.approx(told.tolist()[: len(first["beta"])], abs=1e-3)
    assert abs(w.reached()["beta"][0] - first["beta"][0]) > 0.02


def test_a_guide_believes_in_interests_as_thumbs_say() -> None:
    w = Watched("npc/guide-tiny")
    assert list(w.now()["interests"].values()) == pytest.approx(kinds().mean(0).tolist(), abs=1e-4)
    w.step(torch.zeros(2, dtype=torch.int64))
    state = w.world.reached
    theme, thumb = int(state["last_theme"][0]), int(state["reaction"][0])
    assert thumb > 0
    felt = satisfaction(kinds()[:, theme], torch.tensor(0.0), state["last_crowd"][0])
    posterior = reaction_probabilities(felt, SETTINGS)[:, thumb - 1]
    posterior = posterior / posterior.sum()
    assert list(w.reached()["interests"].values()) == pytest.approx((posterior @ kinds()).tolist(), abs=1e-4)
    assert posterior.max() > 0.4
    assert w.reached()["pace"] == 1.0


@pytest.mark.parametrize(
    ("name", "split", "hidden"),
    [
        ("npc/companion", "test", "style"),
        ("npc/companion", "test-combinations", "style"),
        ("npc/assets", "test", "mu"),
        ("npc/assets-regime", "test", "drift"),
        ("npc/assistant", "test", "beta"),
        ("npc/guide-macro", "test", "interests"),
        ("npc/guide", "test", "interests"),
    ],
)
def test_the_first_belief_is_the_same_whoever_it_is(name: str, split: str, hidden: str) -> None:
    w = Watched(name, 8, split, **({"identity": "id"} if name == "npc/companion" else {}))
    alike = [0, *(i for i in range(1, 8) if same_surroundings(w.world, i))]
    assert len(alike) > 1
    assert len({str(w.world.frame(i)["hidden"][hidden]) for i in alike}) > 1
    assert len({str(w.now(i)) for i in alike}) == 1


def same_surroundings(world: NpcWorld, copy: int) -> bool:
    """Return whether what a catalogue shows from the beginning is as for env 0."""
    return all(bool((v[copy] == v[0]).all()) for k, v in world.params.items() if k == "domain")


def test_who_stands_still_teaches_nothing() -> None:
    w = Watched("npc/guide-macro", 8)
    w.eye.move_on(w.step(torch.full((8,), 0)), w.nobody)
    assert int(w.world.state["reaction"][0]) > 0  # a second look at the same face would count twice
    known = [w.now(i) for i in range(8)]
    idle = torch.arange(8) == 0
    w.world.freeze(idle)
    w.step(torch.full((8,), 1), idle)
    assert w.reached(0) == known[0]
    assert any(w.reached(i) != known[i] for i in range(1, 8))
    w.eye.move_on(~idle, idle)
    assert w.now(0) == known[0]
    w.step(torch.full((8,), 1))  # what happens to the belief if nobody says that an env stands still
    assert w.reached(0) != known[0]


def test_where_columns_are_anonymous_nobody_looks_on() -> None:
    family = envs.make("npc/assistant", anonymise=True)
    assert isinstance(family, NpcFamily)
    assert family.onlooker("test") is None
    nobody = Onlooker(None)
    nobody.ready()
    assert nobody.belief(0) == {}
