"""The guide's worlds: layouts, how visitors react, the rules of both worlds, splits and shifts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from metarl import envs
from metarl.conformance import check_world
from metarl.envs.npc.audit import alone_as_among_many, no_leak
from metarl.envs.npc.guide.audit import marginals
from metarl.envs.npc.guide.layouts import KINDS, UNREACHABLE, pool
from metarl.envs.npc.guide.micro import EAST, LOST, NORTH, PRESENT, SOUTH, WAIT, WEST
from metarl.envs.npc.guide.references import Oracle
from metarl.envs.npc.guide.tasks import SHIFTS, make, make_macro
from metarl.envs.npc.guide.visitor_model import GuideSettings, reaction_probabilities, satisfaction, theme_table
from metarl.envs.npc.maps.walking import walking_distances
from metarl.errors import ConfigError
from metarl.seeding import generator
from tests.envs.npc.guide.guide_visits import world_of

NOISE = generator(0, "test-guide")


@pytest.mark.parametrize("kind", list(KINDS))
def test_layouts_are_closed_and_every_exhibit_is_as_far_as_a_search_says(kind: str) -> None:
    found = pool(kind, 40, 8, "test")
    wall = found.wall
    assert wall[:, [0, -1]].all()
    assert wall[:, :, [0, -1]].all()
    assert (found.distance < UNREACHABLE).all()
    for i in range(0, 40, 8):
        cells = torch.stack([found.points[i] // 15, found.points[i] % 15], 1)
        assert not wall[i][cells[:, 0], cells[:, 1]].any()
        assert torch.equal(found.distance[i].long(), walking_distances(wall[i], cells))


def test_layouts_differ_and_follow_from_their_name() -> None:
    one, again, other = (pool("rooms", 30, 8, key) for key in ("a", "a", "b"))
    assert one.digest() == again.digest() != other.digest()
    assert len({tuple(w.flatten().tolist()) for w in one.wall}) > 25


def test_distance_fields_hold_the_distances() -> None:
    found = pool("maze", 5, 8, "test")
    fields = found.fields(torch.arange(5))
    at_points = fields.gather(2, found.points[:, None].expand(-1, 9, -1))
    assert torch.equal(at_points.float(), found.distance)


def test_reactions_are_a_distribution_that_sampling_confirms() -> None:
    settings, felt = GuideSettings(), torch.tensor([-0.9, 0.0, 0.3])
    chance = reaction_probabilities(felt, settings)
    assert torch.allclose(chance.sum(1), torch.ones(3))
    shown = felt + settings.noise * torch.randn(20000, 3, generator=NOISE)
    level = (shown[..., None] > torch.tensor(settings.thresholds)).sum(-1)
    for i in range(5):
        assert torch.allclose((level == i).float().mean(0), chance[:, i], atol=0.015)


def test_satisfaction_is_the_published_formula() -> None:
    felt = satisfaction(torch.tensor(0.5), torch.tensor(1.2), torch.tensor(0.9))
    assert float(felt) == pytest.approx(torch.tanh(torch.tensor(1.3 * 0.5 - 1.2 * 0.4 + 0.1)).item())


def test_tables_of_themes_hold_weights_that_sum_to_one() -> None:
    table = theme_table()
    assert torch.equal(table.rows[:-1].sum(1), torch.ones(len(table.rows) - 1))
    assert table.rows[-1].sum() == 0
    assert table.count.tolist() == [10, 40, 5]


@pytest.mark.parametrize(("name", "options"), [("npc/guide", {"patience": 14}), ("npc/guide-macro", {})])
def test_worlds_keep_the_contract(name: str, options: dict[str, Any]) -> None:
    findings = check_world(lambda: envs.make(name, **options), num_envs=4, n_steps=24)
    assert [f for f in findings if f.status == "fail"] == []


@pytest.mark.parametrize("make_family", [make, make_macro])
def test_nothing_is_given_away_and_a_copy_does_not_mind_its_neighbours(make_family: Any) -> None:
    family = make_family()
    assert no_leak(family).holds
    assert alone_as_among_many(family).holds
    assert not family.make_world(1).reward_observable


def test_a_leg_takes_pace_times_way_and_a_look_and_longer_where_it_is_disliked() -> None:
    world = world_of(make_macro(), 200)
    felt = world.latent()["felt"][:, 3]
    way, pace = world.distances(world.state)[:, 3], world.latent()["pace"]
    _, reward, *_, info = world.step(torch.full((200,), 3))
    arrived = world.reached["reaction"] > 0
    expected = 80.0 - pace * way - 3.0 - 4.0 * (felt < 0)
    assert torch.equal(arrived, expected >= 0)
    assert torch.equal(world.reached["patience"][arrived], expected[arrived])
    torch.testing.assert_close(reward, torch.where(arrived, felt, torch.zeros(200)))
    crowding = world.params["aversion"][:, 0] * (world.reached["last_crowd"] - 0.5).clamp(min=0)
    assert torch.allclose(info["cost"][arrived], crowding[arrived])


def test_a_visitor_without_patience_walks_off_and_that_costs() -> None:
    world = world_of(make_macro(patience=4), 100)
    far = world.distances(world.state).argmax(1)
    _, reward, terminated, _, info = world.step(far)
    assert terminated.all()
    assert (reward == 0).all()
    assert (world.reached["reaction"] == 0).all()
    assert (info["cost"] == 1).all()


def test_ending_and_illegal_choices_end_the_episode_without_reward() -> None:
    world = world_of(make_macro(), 4)
    world.step(torch.tensor([2, 2, 2, 2]))
    _, reward, terminated, _, _ = world.step(torch.tensor([8, 2, 8, 2]))
    assert terminated.all()
    assert (reward == 0).all()


def test_the_mask_forbids_what_was_seen_and_an_episode_ends_when_all_is() -> None:
    world = world_of(make_macro(patience=200), 50, pace=1.0)
    for exhibit in range(8):
        _, _, terminated, _, info = world.step(torch.full((50,), exhibit))
        done = world.reached["seen"].all(1)
        assert torch.equal(terminated[done], torch.ones_like(terminated[done]))
        if exhibit < 7:
            still = ~terminated
            assert not info["action_mask"][still, : exhibit + 1].any()
            assert info["action_mask"][still, exhibit + 1 :].all()


def test_the_last_reaction_of_an_episode_is_seen_at_the_next_ones_beginning() -> None:
    world = world_of(make_macro(n_exhibits=1), 64)
    obs, _, terminated, _, info = world.step(torch.zeros(64, dtype=torch.int64))
    shown = info["final_obs"]["vec"]
    assert terminated.all()
    assert (obs["vec"][:, 1:6].sum(1) == 1).float().mean() > 0.9
    assert torch.equal(obs["vec"][:, :17], shown[:, :17])
    assert (obs["vec"][:, -2] == 1).all()
    assert (shown[:, -2] == 0).all()


def test_the_visitor_follows_at_its_own_pace_and_walls_stop_the_guide() -> None:
    world = world_of(make(), 3, pace=torch.tensor([[1.0], [1.5], [2.0]]))
    walls, layout = world.places.layouts.wall, world.state["layout"]
    actions, cells = {NORTH: -15, SOUTH: 15, WEST: -1, EAST: 1}, world.state["cell"].clone()
    trails: list[list[int]] = [[int(c)] for c in cells]
    for t in range(30):
        action = [NORTH, SOUTH, WEST, EAST][int(torch.randint(4, (1,), generator=generator(3, t)))]
        for i in range(3):
            target = int(cells[i]) + actions[action]
            if not walls[layout[i]].flatten()[target]:
                cells[i] = target
                trails[i].append(target)
        world.step(torch.full((3,), action))
        assert torch.equal(world.reached["cell"], cells)
        for i in range(3):
            assert trails[i][int(world.reached["eaten"][i])] == int(world.reached["visitor"][i])
    # The visitors never stood still for want of crumbs more than a few ticks, and the slow one fell behind.
    assert world.reached["eaten"][0] > world.reached["eaten"][2]


def test_a_lost_visitor_loses_patience_twice_as_fast() -> None:
    world = world_of(make(), 16, pace=2.0)
    lost = torch.zeros(16)
    for t in range(20):
        action = EAST if t % 2 else WEST
        *_, info = world.step(torch.full((16,), action))
        ahead = world.reached["laid"] - world.reached["eaten"]
        lost += (ahead > LOST).float()
        assert torch.equal(info["cost"], (ahead > LOST).float())
    assert lost.max() > 0
    assert torch.equal(world.reached["patience"], 80.0 - 20.0 - lost)


def test_presenting_needs_the_exhibits_cell_and_the_visitor_close_by() -> None:
    family = make()
    world = world_of(family, 32)
    before = world.state["patience"]
    world.step(torch.full((32,), PRESENT))
    at_exhibit = (world.places.layouts.points[world.state["layout"]][:, :8] == world.state["cell"][:, None]).any(1)
    assert not at_exhibit.any()
    assert torch.equal(world.reached["patience"], before - 1)
    leader = family.policies("train")["oracle"]()
    leader.start(world, generator(0, "leader"))
    shown = 0
    for _ in range(40):
        state, action = world.state, leader.act()
        ahead = state["laid"] - state["eaten"]
        felt = world.latent()["felt"]
        _, reward, *_ = world.step(action)
        reached = world.reached
        did = reached["reaction"] > 0
        assert (ahead[did] <= 1).all()
        torch.testing.assert_close(reward[did], felt[did].gather(1, reached["at"][did, None]).squeeze(1))
        assert torch.equal(reached["cell"][did], state["cell"][did])
        shown += int(did.sum())
        leader.see(state, action, reached, torch.zeros(32, dtype=torch.bool))
    assert shown > 32


def test_the_map_shows_what_lies_around_the_guide() -> None:
    world = world_of(make(), 20)
    chart = world.observation(world.state)["map"]
    assert chart.shape == (20, 14, 9, 9)
    for i in range(20):
        row, column = divmod(int(world.state["cell"][i]), 15)
        layout = int(world.state["layout"][i])
        points = world.places.layouts.points[layout].tolist()
        for y in range(9):
            for x in range(9):
                r, c = row + y - 4, column + x - 4
                inside = 0 <= r < 15 and 0 <= c < 15
                assert chart[i, 0, y, x] == (1.0 if not inside else float(world.places.layouts.wall[layout, r, c]))
                exhibit = points[:8].index(r * 15 + c) if inside and r * 15 + c in points[:8] else None
                assert chart[i, 2, y, x] == float(exhibit is not None)
                if exhibit is not None:
                    assert chart[i, 3, y, x] == world.state["crowd"][i, exhibit]
                    assert chart[i, 4:, y, x].argmax() == world.state["theme"][i, exhibit]
    assert (chart[:, 1, 4, 4] == 1).all()


def test_splits_share_nobody_and_hold_out_combinations_whose_parts_are_known() -> None:
    family = make_macro()
    assert marginals().holds
    lists = {s: family.fixed_tasks(s) for s in family.splits}
    people = {s: {tuple(u) for u in t.values["interests"][:, 0].tolist()} for s, t in lists.items()}
    assert not people["train"] & people["test"]
    assert not people["train"] & people["validation"]
    assert people["test-worlds"] <= {tuple(u) for u in family.people.bank("train").tolist()}
    pairs = {s: {*zip(t.values["pace"][:, 0].tolist(), t.values["aversion"][:, 0].tolist(), strict=True)}
             for s, t in lists.items()}  # fmt: skip
    assert len(pairs["train"]) == 7
    assert len(pairs["test-all"]) == 2
    assert not pairs["train"] & pairs["test-combinations"]
    assert {int(p) for p in lists["test-worlds"].values["place"].flatten()} == {2}


def test_mixed_exhibits_hold_out_pairs_of_themes() -> None:
    family = make_macro(themes=2)
    drawn = {}
    for split in ("train", "test-combinations"):
        world = world_of(family, 300, split=split)
        rows = world.places.themes.rows[world.state["theme"]]
        assert ((rows > 0).sum(2) == 2).all()
        drawn[split] = {tuple(r.nonzero().flatten().tolist()) for r in rows.flatten(0, 1)}
    assert len(drawn["test-combinations"]) == 5
    assert not drawn["train"] & drawn["test-combinations"]


@pytest.mark.parametrize("kind", SHIFTS)
@pytest.mark.parametrize("make_family", [make, make_macro])
def test_every_shift_keeps_the_contract_and_changes_something_only_when_it_is_due(make_family: Any, kind: str) -> None:
    family = make_family(shift=f"{kind}@2", patience=12)
    world = world_of(family, 48)
    seen = []
    for _ in range(3):
        state = world.state
        seen.append({"felt": world._current("interests", state), "layout": state["layout"] >= 2048,
                     "wiring": world.wiring(state), "blur": world.params.get("blur"),
                     "version": state["version"]})  # fmt: skip
        world.reset()
    assert [int(s["version"].max()) for s in seen] == [0, 0, 1]
    changed = {
        "visitor": not torch.equal(seen[0]["felt"], seen[2]["felt"]),
        "drift": not torch.equal(seen[0]["felt"], seen[2]["felt"]),
        "world": bool((~seen[1]["layout"]).all() & seen[2]["layout"].all()),
        "interface": kind == "interface" and not torch.equal(seen[1]["wiring"], seen[2]["wiring"]),
        "sensor": kind == "sensor" and bool((seen[0]["blur"] == torch.tensor([1.0, 2.0])).all()),
    }
    assert changed[kind]
    assert torch.equal(seen[0]["felt"], seen[1]["felt"])


def test_after_an_interface_shift_the_oracle_still_leads_where_it_means_to() -> None:
    family = make_macro(shift="interface@1")
    world = world_of(family, 32)
    world.reset()
    oracle = Oracle()
    oracle.start(world, NOISE)
    meant, pressed = oracle.plan().first, oracle.act()
    assert (meant != pressed).any()
    felt = world.latent()["felt"]
    _, reward, *_ = world.step(pressed)
    goes = meant < 8
    torch.testing.assert_close(reward[goes], felt[goes].gather(1, meant[goes, None]).squeeze(1))
    assert (world.reached["at"][goes] == meant[goes]).all()


def test_shifts_that_this_family_has_not_are_refused() -> None:
    with pytest.raises(ConfigError, match="economy"):
        make_macro(shift="economy@2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_exhibits": 0}, "1..10"), ({"noise": "x"}, "0.01"), ({"reactions": "emoji"}, "faces, thumbs, none"),
        ({"view": 8}, "odd"), ({"nonsense": 1}, "nonsense"), ({"synthetic": "yes"}, "true or false"),
        ({"maps": "a.tmx"}, "list"), ({"patience": True}, "whole number"), ({"n_people": 0}, "1..400"),
    ],
)  # fmt: skip
def test_wrong_options_say_what_is_expected(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
        make_macro(**options)


@pytest.mark.parametrize("reactions", ["thumbs", "none"])
def test_fewer_reactions_are_another_world_that_works(reactions: str) -> None:
    family = make_macro(reactions=reactions, synthetic=True)
    world = world_of(family, 16)
    obs, *_ = world.step(torch.zeros(16, dtype=torch.int64))
    assert obs["vec"].shape[1] == {"thumbs": 3, "none": 2}[reactions] + 15
    assert family.fingerprint() != make_macro(synthetic=True).fingerprint()


@pytest.mark.parametrize("make_family", [make, make_macro])
def test_frames_are_plain_values_and_pictures_show_guide_and_visitor(make_family: Any) -> None:
    world = world_of(make_family(), 3)
    world.step(torch.full((3,), EAST if make_family is make else 0))
    frame = json.loads(json.dumps(world.frame(1)))
    assert len(frame["walls"]) == 15
    assert len(frame["exhibits"]) == 8
    row, column = frame["guide"]
    assert frame["walls"][row][column] == "."
    assert set(frame["hidden"]) == {"interests", "pace", "aversion", "felt"}
    picture = world.picture(1)
    assert picture.shape == (380, 360, 3)
    middle = picture[row * 24 + 12, column * 24 + 12]
    assert middle.tolist() == [0, 114, 178]
    assert WAIT == 4


def test_a_person_can_be_the_visitor() -> None:
    """What it says is shown, felt, and takes the patience that it would."""
    world = world_of(make_macro(), 1)
    choices = world.asks(0, torch.tensor(2))
    assert choices is not None
    assert len(choices) == 5
    way = float(world.distances(world.state)[0, 2] * world.latent()["pace"][0])
    world.spoken = 0
    world.step(torch.tensor([2]))
    world.spoken = None
    assert int(world.reached["reaction"]) == 1
    assert float(world.reached["patience"]) == 80 - way - 3 - 4
    assert world.asks(0, torch.tensor(2)) is None
    assert world.asks(0, torch.tensor(8)) is None
    assert len(world.action_names()[0]) == 9


def test_walking_asks_a_person_only_when_something_is_presented() -> None:
    family = make()
    world = world_of(family, 1)
    assert world.asks(0, torch.tensor(PRESENT)) is None
    leader = family.policies("train")["oracle"]()
    leader.start(world, generator(0, "person"))
    asked = 0
    for _ in range(60):
        state, action = world.state, leader.act()
        asks = world.asks(0, action[0]) is not None
        world.step(action)
        assert asks == bool(world.reached["reaction"] > 0)
        asked += asks
        leader.see(state, action, world.reached, torch.zeros(1, dtype=torch.bool))
    assert asked > 0
    assert len(world.action_names()[0]) == 6
