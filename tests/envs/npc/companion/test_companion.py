"""The companion's world: who comes, what is shown, what changes, and what is never told."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from metarl import envs
from metarl.conformance import check_world
from metarl.envs.npc.companion.identities import KNOWN, NEW_HANDS, NEW_SCRIPTS, Scripts, _letters
from metarl.envs.npc.companion.styles import TINY, Styles
from metarl.envs.npc.companion.tasks import CompanionTasks
from metarl.envs.npc.companion.world import CompanionWorld
from metarl.errors import ConfigError
from metarl.seeding import generator

STYLES = Styles()


def build(n: int, split: str = "train", **options: object) -> tuple[CompanionTasks, CompanionWorld]:
    family = envs.make("npc/companion", **{"identity": "id", **options})
    world = family.make_world(n)
    world.set_tasks(family.sample(split, n, generator(0, "tasks")))
    world.reset(seed=3)
    return family, world


def turn(world: CompanionWorld, seed: int = 0) -> tuple[dict[str, Tensor], Tensor, Tensor, dict[str, Tensor]]:
    """Take a random turn; return observation, action, reward and info."""
    action = (torch.rand(world.num_envs, 3, generator=generator(seed)) * torch.tensor([4, 4, 5])).long()
    obs, reward, _, _, info = world.step(action)
    return obs, action, reward, info


# --- styles -----------------------------------------------------------------------------------------------------------


def test_engagement_is_the_published_sum_and_its_own_style_pleases_best() -> None:
    e = STYLES.engagement
    assert torch.equal(e.argmax(1), torch.arange(80))
    assert torch.allclose(e.diagonal(), torch.ones(80, dtype=torch.float64))
    one, other = 1 * 20 + 0 * 5 + 2, 1 * 20 + 2 * 5 + 3  # the same speech, two steps of distance, another game
    assert float(e[one, other]) == pytest.approx(0.35 + 0.30 * 2.718281828**-4)
    assert float(e.mean()) == pytest.approx(0.2752, abs=1e-4)


def test_what_the_best_fixed_manners_bring_is_close_to_the_published_value() -> None:
    family = envs.make("npc/companion", held_out=False)
    assert float((family.prior @ STYLES.engagement).max()) == pytest.approx(0.335, abs=0.002)
    assert int((family.prior > 0).sum()) == 50


def test_moods_follow_the_engagement_and_noise() -> None:
    chances = STYLES.mood_probabilities()
    assert torch.allclose(chances.sum(1), torch.ones(80, 80, dtype=torch.float64))
    drawn = ((STYLES.engagement[7, 30] + 0.15 * torch.randn(200_000, generator=generator(1))) * 5).floor().clamp(0, 4)
    seen = torch.bincount(drawn.long(), minlength=5) / 200_000
    assert torch.allclose(seen.double(), chances[30, :, 7], atol=5e-3)


@pytest.mark.parametrize("styles", [STYLES, TINY])
def test_a_redrawn_taste_leaves_the_law_of_styles_as_it_is(styles: Styles) -> None:
    law = torch.rand(styles.n, generator=generator(2)).double()
    law[::3] = 0.0
    law /= law.sum()
    kernel = styles.drift(law)
    assert torch.allclose(kernel.sum(1), torch.ones(styles.n, dtype=torch.float64))
    assert torch.allclose(law @ kernel, law, atol=1e-12)
    moved = styles.factors[:, None] != styles.factors[None]
    assert float(kernel[moved.sum(-1) > 1].sum()) == 0.0  # one factor at a time


# --- the world --------------------------------------------------------------------------------------------------------


def test_the_reward_is_the_engagement_with_whoever_is_there() -> None:
    _, world = build(64)
    for t in range(15):
        style = world.latent()["style"]
        _, action, reward, info = turn(world, t)
        number = (action * torch.tensor([20, 5, 1])).sum(1)
        assert torch.allclose(reward.double(), STYLES.engagement[style, number])
        assert torch.equal(info["cost"], (action[:, 1] - style // 5 % 4).clamp(min=0).float())


def test_the_mood_and_the_action_it_answers_are_in_sight_across_the_end_of_an_encounter() -> None:
    _, world = build(32)
    for t in range(14):
        obs, action, _, info = turn(world, t)
        mood = info["final_obs"]["vec"][:, :6].argmax(1)
        assert int(mood.max()) < 5
        assert torch.equal(obs["vec"][:, :6].argmax(1), mood)
        parts = obs["vec"][:, 6:19].split([4, 4, 5], dim=1)
        assert torch.equal(torch.stack([p.argmax(1) for p in parts], dim=1), action)
        assert bool((obs["vec"][:, 19] == float((t + 1) % 6 == 0)).all())


def test_a_trial_begins_without_a_mood_and_so_does_the_next_one() -> None:
    _, world = build(16, n_encounters=2, n_turns=2)
    firsts = [world.observation(world.state)["vec"]] + [turn(world, t)[0]["vec"] for t in range(8)]
    for t in (0, 4, 8):
        assert bool((firsts[t][:, 5] == 1).all())
        assert float(firsts[t][:, 6:19].sum()) == 0.0
    assert float(firsts[2][:, 5].sum()) == 0.0


def test_all_visitors_come_equally_often_and_keep_their_style() -> None:
    family, world = build(2000)
    style, met = world.params["style"], torch.zeros(3)
    for _ in range(family.n_episodes):
        who = world.latent()["visitor"]
        met += torch.bincount(who, minlength=3)
        assert torch.equal(world.latent()["style"], style.gather(1, who[:, None]).squeeze(1))
        for t in range(6):
            turn(world, t)
    assert torch.allclose(met / met.sum(), torch.full((3,), 1 / 3), atol=0.02)


@pytest.mark.parametrize("options", [{"identity": "glyph", "opt_out": 0.3}, {"rho": 0.2, "shift": "visitor@3"}])
def test_the_conformance_suite_passes(options: dict[str, object]) -> None:
    findings = check_world(lambda: envs.make("npc/companion", **{"identity": "id", **options}), n_steps=32)
    assert [f for f in findings if f.status == "fail"] == []


def test_the_tiny_one_passes_the_conformance_suite_too() -> None:
    assert [f for f in check_world(lambda: envs.make("npc/companion-tiny"), n_steps=32) if f.status == "fail"] == []


# --- change -----------------------------------------------------------------------------------------------------------


def styles_by_encounter(n: int, **options: object) -> tuple[CompanionWorld, Tensor, Tensor]:
    """Return the world, and who came with which style, [K, n] each."""
    family, world = build(n, **options)
    who, style = [], []
    for _ in range(family.n_episodes):
        who.append(world.latent()["visitor"].clone())
        style.append(world.latent()["style"].clone())
        for t in range(world.horizon):
            turn(world, t)
    return world, torch.stack(who), torch.stack(style)


def test_with_drift_a_visitor_sometimes_comes_back_with_one_other_taste() -> None:
    _, who, style = styles_by_encounter(3000, rho=0.3, n_turns=1, n_visitors=1)
    assert int(who.max()) == 0
    moved = (STYLES.factors[style[1:]] != STYLES.factors[style[:-1]]).sum(-1)
    assert int(moved.max()) == 1
    law = envs.make("npc/companion", identity="id").prior
    expected = 0.3 * float((law * (1 - STYLES.drift(law).diagonal())).sum())
    assert float((moved > 0).float().mean()) == pytest.approx(expected, abs=0.01)


def test_a_visitor_shift_puts_others_behind_the_same_faces() -> None:
    world, who, style = styles_by_encounter(200, shift="visitor@5", n_turns=1)
    for k in range(12):
        expected = world.params["later" if k >= 5 else "style"].gather(1, who[k][:, None]).squeeze(1)
        assert torch.equal(style[k], expected)


def test_a_drift_shift_changes_one_taste_of_everyone_at_once() -> None:
    world, who, style = styles_by_encounter(300, shift="drift@4", n_turns=1)
    before = world.params["style"][torch.arange(300), who]
    moved = (STYLES.factors[style] != STYLES.factors[before]).sum(-1)
    assert int(moved[:4].max()) == 0
    assert int(moved[4:].max()) == 1
    assert 0.3 < float((moved[4:] > 0).float().mean()) < 0.9


def test_an_interface_shift_permutes_what_actions_mean_and_a_sensor_shift_adds_noise() -> None:
    _, world = build(500, shift="interface@1", n_turns=1)
    e = STYLES.engagement.float()
    style = world.latent()["style"]
    _, action, reward, _ = turn(world)
    assert torch.allclose(reward, e[style, (action * torch.tensor([20, 5, 1])).sum(1)])
    style = world.latent()["style"]
    meaning = world.state["meaning"]
    assert torch.equal(meaning.sort(dim=1)[0], torch.arange(80).expand(500, -1))
    _, action, reward, _ = turn(world, 1)
    said = (action * torch.tensor([20, 5, 1])).sum(1)
    assert torch.allclose(reward, e[style, meaning.gather(1, said[:, None]).squeeze(1)])
    assert not torch.allclose(reward, e[style, said])

    noisy, plain = (build(4000, n_turns=1, **o)[1] for o in ({"shift": "sensor@1"}, {}))
    surprise = []
    for world in (plain, noisy):
        turn(world)
        style = world.latent()["style"]
        _, action, _, _ = turn(world, 1)
        level = (e[style, (action * torch.tensor([20, 5, 1])).sum(1)] * 5).floor().clamp(max=4)
        surprise.append(float((world.reached["mood"] != level).float().mean()))
    assert surprise[1] > surprise[0] + 0.1


# --- faces ------------------------------------------------------------------------------------------------------------


def test_a_face_is_one_letter_drawn_anew_at_each_encounter_and_the_same_during_one() -> None:
    _, world = build(24, identity="glyph", n_turns=2)
    first = world.observation(world.state)["glyph"]
    assert torch.equal(turn(world)[0]["glyph"], first)
    faces, who = [], []
    for t in range(20):
        if t % 2 == 0:
            turn(world, t)
        faces.append(world.observation(world.state)["glyph"])
        who.append(world.latent()["visitor"].clone())
        turn(world, t)
    same = [torch.equal(a[i], b[i]) for a, b in zip(faces[:-2:2], faces[2::2], strict=True) for i in range(24)]
    assert sum(same) < 0.2 * len(same)
    assert 0.0 < float(torch.stack(faces).mean()) < 0.5


def test_letters_of_a_trial_are_different_ones_and_each_is_as_likely() -> None:
    size = torch.full((20_000,), 7)
    letters = _letters(torch.rand(20_000, 5, generator=generator(5)), size)
    assert all(len(set(row)) == 5 for row in letters[:500].tolist())
    for column in letters.unbind(1):
        assert torch.allclose(torch.bincount(column, minlength=7) / 20_000, torch.full((7,), 1 / 7), atol=0.02)


def test_kinds_of_letters_share_no_drawing() -> None:
    scripts = Scripts(torch.device("cpu"))
    draws = torch.rand(4000, 4, generator=generator(6))
    found = []
    for kind in (KNOWN, NEW_HANDS, NEW_SCRIPTS):
        numbers = scripts.drawing(torch.full((4000,), kind), draws, torch.zeros(4000, dtype=torch.int64), draws[:, 3])
        found.append(set(numbers.tolist()))
    assert len(set.union(*found)) == sum(map(len, found))
    assert min(len(f) for f in found) > 500


def test_a_ring_is_drawn_round_the_face_and_hides_what_its_wearer_showed() -> None:
    _, world = build(400, identity="glyph", opt_out=0.5)
    rings = world.rings()
    assert 0.4 < float(rings.float().mean()) < 0.6
    for t in range(6):
        worn = rings.gather(1, world.latent()["visitor"][:, None]).squeeze(1)
        obs, *_ = turn(world, t)
        assert t == 5 or torch.equal(obs["vec"][:, 20] > 0, worn)
    assert torch.equal(obs["vec"][:, 5] == 1, worn)  # no mood where the one who left wore a ring
    edge = world.observation(world.state)["glyph"][:, 14, 0:2].amax(1)
    now = rings.gather(1, world.latent()["visitor"][:, None]).squeeze(1)
    assert bool((edge[now] == 1).all())


@pytest.mark.parametrize("identity", ["glyph", "id"])
def test_a_frame_is_plain_json_with_the_truth_under_hidden_only_and_can_be_painted(identity: str) -> None:
    _, world = build(4, identity=identity, opt_out=0.5)
    pictures = [world.picture(1)]
    for t in range(3):
        turn(world, t)
        frame = json.loads(json.dumps(world.frame(1)))
        assert frame["hidden"]["style"] == STYLES.factors[world.latent()["style"][1]].tolist()
        assert not {"style", "engagement"} & set(frame)
        assert (frame["glyph"] is None) == (identity == "id")
        assert (frame["visitor"] is None) == (identity == "glyph")
        pictures.append(world.picture(1))
    assert all(p.shape == (240, 360, 3) and p.dtype == "uint8" for p in pictures)
    assert (pictures[0] != pictures[1]).any()
    assert [len(n) for n in world.action_names()] == [4, 4, 5]


def test_a_person_can_be_the_visitor() -> None:
    _, world = build(3, n_turns=2)
    for t in range(2):
        world.spoken = 4 - 3 * t
        _, action, *_ = turn(world, t)
        assert len(world.asks(1, action[1])) == 5
        assert int(world.observation(world.state)["vec"][1, :6].argmax()) == 4 - 3 * t
    assert int(world.reached["mood"][1]) == 1


# --- splits -----------------------------------------------------------------------------------------------------------


def test_groups_styles_and_letters_of_the_splits_are_what_their_names_say() -> None:
    family = envs.make("npc/companion")
    held = STYLES.held_out()
    groups: dict[str, set[tuple[int, ...]]] = {}
    for split in family.splits:
        tasks = family.sample("train", 3000, generator(1)) if split == "train" else family.fixed_tasks(split)
        style, count = tasks.values["style"], int(tasks.values["count"][0])
        unseen = split in ("test-combinations", "test-all")
        assert bool((held[style[:, :count]] == unseen).all()), split
        assert count == (5 if split in ("test-crowd", "test-all") else 3), split
        kind = {"train": KNOWN, "test-scripts": NEW_SCRIPTS, "test-all": NEW_SCRIPTS}.get(split, NEW_HANDS)
        assert set(tasks.values["letters"].tolist()) == {kind}, split
        groups[split] = {tuple(sorted(row)) for row in style[:, :3].tolist()}
    assert not groups["train"] & groups["validation"]
    assert not groups["train"] & groups["test"]
    assert not groups["validation"] & groups["test"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_visitors": 6}, r"n_visitors is 6; pass a whole number in 1\.\.5"),
        ({"identity": "face"}, "identity is 'face'; choose 'glyph' or 'id'"),
        ({"rho": 1.5}, "rho is 1.5"),
        ({"opt_out": True}, "opt_out is True"),
        ({"shift": "economy@2"}, "'economy' is not one of visitor, drift, interface, sensor"),
        ({"colour": 1}, "has no option"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        envs.make("npc/companion", **options)
