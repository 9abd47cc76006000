"""A walkable world keeps its promises, and says all that breaks them at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from metarl.envs.npc.maps.faults import MapError
from metarl.envs.npc.maps.layout import Layout, Portal, differences
from metarl.envs.npc.maps.themes import LETTERS, THEMES, describe, features, mixture, parse_weights
from metarl.envs.npc.maps.walking import steps_from
from metarl.errors import ConfigError
from tools.sample_maps.drawing import Piece, from_drawing

PIECES = {"a": Piece("Alpha", "music"), "b": Piece("Beta", "nature: 3, game: 1", 0.25, 5)}
DRAWING = """
    #########
    #S..#..a#
    #.#.x.#.#
    #.#.#.#.#
    #...#..b#
    #E....$+#
    #########
"""
ONE_WAY = DRAWING.replace("#E....$+#", "#E..#.$+#")  # the cell that closes is the only way to the east


def world(drawing: str = DRAWING, closed_from: int = 2, **own: Any) -> Layout:
    return from_drawing(drawing, PIECES, closed_from=closed_from, **own)


def faults(make: Callable[[], object]) -> list[str]:
    with pytest.raises(MapError) as caught:
        make()
    assert str(caught.value).startswith(str(caught.value.faults[0]))
    return [fault.located() for fault in caught.value.faults]


def test_a_drawing_becomes_the_tensors_it_shows() -> None:
    layout = world()
    assert (layout.height, layout.width, layout.spawn) == (7, 9, (1, 1))
    assert layout.exhibits.cell.tolist() == [[1, 7], [4, 7]]
    assert layout.exhibits.names == ("Alpha", "Beta")
    assert layout.exhibits.themes[0].tolist() == [float(t == "music") for t in THEMES]
    assert layout.exhibits.themes[1, :2].tolist() == [0.75, 0.25]
    assert layout.exhibits.dwell.tolist() == [3, 5]
    assert (layout.exits.tolist(), layout.shops.tolist(), layout.meetings.tolist()) == ([[5, 1]], [[5, 6]], [[5, 7]])
    assert int(layout.wall.sum()) == DRAWING.count("#")
    assert layout.closed_at[2].tolist() == [[2, 4]]


def test_walking_distances_are_those_counted_by_hand() -> None:
    layout = from_drawing("##### #S.a# ###.# #b..# #####", PIECES)
    assert steps_from(layout.wall, (1, 1)).tolist()[3] == [-1, 6, 5, 4, -1]
    assert layout.distances().tolist() == [[0, 4, 2], [4, 0, 6], [2, 6, 0]]  # Alpha, Beta, spawn
    assert bool((steps_from(layout.wall, (0, 0)) == -1).all())


def test_a_street_stays_closed_from_its_episode_on_and_the_way_round_is_longer() -> None:
    layout = world()
    assert torch.equal(layout.wall_in(1), layout.wall)
    assert [bool(layout.wall_in(k)[2, 4]) for k in (0, 1, 2, 3, 50)] == [False, False, True, True, True]
    assert [int(layout.distances(k)[-1, 0]) for k in (1, 2)] == [8, 14]


def test_an_exhibit_may_be_cut_off_by_a_closed_street_but_no_exit_and_not_all_exhibits() -> None:
    lonely = "####### #S.bxa# #.....# ####### ####### #######".replace("#.....#", "#E..###")
    assert world(lonely).distances(2)[-1].tolist() == [-1, 2, 0]
    (fault,) = faults(lambda: world(ONE_WAY))
    assert fault.startswith("tiles (x=7, y=1), (x=7, y=4), (x=6, y=5), (x=7, y=5): what is closed from episode 2 on")
    assert "cuts off exhibit 'Alpha', exhibit 'Beta', the shop, the meeting" in fault


@pytest.mark.parametrize(("episode", "says"), [(0, "closes at episode 0, expected 1 to 1000"), (1001, "episode 1001")])
def test_a_street_closes_between_episodes_that_exist(episode: int, says: str) -> None:
    (fault,) = faults(lambda: world(closed_from=episode))
    assert says in fault


def test_streets_close_at_no_more_episodes_than_are_read() -> None:
    (fault,) = faults(lambda: replace(world(), closed_at={k: torch.tensor([[2, 4]]) for k in range(1, 34)}))
    assert fault == "streets close at 33 different episodes, at most 32 are read; let them close together"


def test_every_fault_is_found_at_once_with_its_tile() -> None:
    good = world()
    wall = good.wall.clone()
    wall[0, 3] = False  # the border
    wall[4, 7] = True  # exhibit Beta
    wall[1, 2] = wall[2, 1] = True  # around the spawn
    found = faults(lambda: replace(good, wall=wall))
    assert found[:2] == [
        "layer 'walls', tile (x=3, y=0): the border is open in 1 cell, expected a wall in every outermost cell; "
        "draw wall tiles there",
        "layer 'objects', tile (x=7, y=4): exhibit 'Beta' is inside a wall; move it, or remove the wall tile",
    ]
    lost = ["exhibit 'Alpha'", "the exit", "the shop", "the meeting"]
    assert [any(f"no way leads to {who} from the spawn at (x=1, y=1)" in f for f in found) for who in lost] == [
        True
    ] * 4
    assert len(found) == 6


def test_exhibits_share_no_cell_and_are_at_least_one_and_at_most_sixteen() -> None:
    (shared,) = faults(
        lambda: replace(world(), exhibits=replace(world().exhibits, cell=torch.tensor([[1, 7], [1, 7]])))
    )
    assert "tile (x=7, y=1): exhibit 'Alpha' and exhibit 'Beta' are in the same cell; move one of them" in shared
    bare = DRAWING.replace("a", ".").replace("b", ".").replace("x", ".")
    assert any("there is no exhibit, 1 to 16 fit" in f for f in faults(lambda: world(bare)))
    row = "Sabcdefghijklmnopq"
    pieces = {c: Piece(c, "game") for c in row[1:]}
    drawing = f"{'#' * 20} #{row}# {'#' * 20} {'#' * 20} {'#' * 20}"
    assert any("there are 17 exhibits, 1 to 16 fit" in f for f in faults(lambda: from_drawing(drawing, pieces)))


def test_places_off_the_map_are_named_not_crashed_on() -> None:
    (fault,) = faults(lambda: replace(world(), exits=torch.tensor([[99, -4]])))
    assert fault == "layer 'objects', tile (x=-4, y=99): the exit is off the map of 9 x 7 tiles; move it"
    (fault,) = faults(lambda: replace(world(), closed_at={3: torch.tensor([[2, 4], [50, 50]])}))
    assert "tile (x=50, y=50): a closed cell is off the map" in fault
    (fault,) = faults(lambda: replace(world(), closed_at={3: torch.tensor([[0, 0]])}))
    assert "what closes at episode 3 is all wall" in fault


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"wall": torch.ones(4, 9, dtype=torch.bool)}, "sides of 5 to 64"),
        ({"wall": torch.ones(9, 65, dtype=torch.bool)}, "sides of 5 to 64"),
        ({"crowd": torch.zeros(7, 8)}, "Layout.crowd must be torch.float32 [7, 9]"),
        ({"crowd": torch.full((7, 9), float("nan"))}, "Layout.crowd must lie in [0, 1]"),
        ({"district": torch.full((7, 9), 17)}, "Layout.district must lie in [0, 16]"),
        ({"exits": torch.zeros(2)}, "Layout.exits must be torch.int64 [2, 2]"),
        ({"cell_m": float("inf")}, "Layout.cell_m must be 0.05 to 100"),
        ({"name": "two\nlines"}, "printable characters"),
        ({"portals": (Portal((1, 2), " museum"),)}, "without blanks at the ends"),
    ],
)
def test_tensors_and_texts_of_another_kind_are_refused(own: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(world(), **own)
    assert says in str(caught.value)


def test_rows_of_themes_sum_to_one() -> None:
    exhibits = replace(world().exhibits, themes=torch.full((2, 10), 0.2))
    with pytest.raises(ConfigError, match="must sum to 1"):
        replace(world(), exhibits=exhibits)


def test_the_digest_moves_with_every_part_and_not_with_the_source() -> None:
    good = world()
    assert good.digest() == replace(good, source="elsewhere").digest()
    crowd = good.crowd.clone()
    crowd[1, 1] = 0.01
    changed = {
        "crowd": replace(good, crowd=crowd),
        "closed_at": replace(good, closed_at={}),
        "exhibits.names": replace(good, exhibits=replace(good.exhibits, names=("Alpha", "Gamma"))),
        "cell_m": replace(good, cell_m=2.0),
    }
    assert {name: differences(good, other) for name, other in changed.items()} == {name: [name] for name in changed}
    assert len({other.digest() for other in (good, *changed.values())}) == 5


def test_crowd_is_kept_in_hundredths_and_closed_walls_are_dropped() -> None:
    layout = replace(world(), crowd=torch.full((7, 9), 0.123456), closed_at={1: torch.tensor([[2, 4], [0, 0], [2, 4]])})
    assert layout.crowd.unique().tolist() == [pytest.approx(0.12)]
    assert layout.closed_at[1].tolist() == [[2, 4]]


def test_unknown_themes_get_features_of_their_own_that_never_change() -> None:
    jazz = features("Jazz")
    assert torch.equal(jazz, features("  jazz "))
    assert float(jazz.sum()) == pytest.approx(1)
    assert (THEMES[int(jazz.argmax())], round(float(jazz.max()), 6)) == ("family", 0.281521)
    names = [features(f"theme {k}") for k in range(200)]
    assert len({tuple(f.tolist()) for f in names}) == 200
    assert float(torch.stack(names).mean(0).min()) > 0.06  # no theme is left out
    assert float(torch.stack(names).max(1).values.mean()) > 0.25  # and some stand out


def test_theme_letters_are_ten_different_ones() -> None:
    assert len(set(LETTERS)) == len(LETTERS) == len(THEMES) == 10
    assert [letter.casefold() in theme for letter, theme in zip(LETTERS, THEMES, strict=True)] == [True] * 10


@pytest.mark.parametrize("text", ["music", "nature: 2, music: 1", "Nature,GAME , history:0.125", "jazz:3, thrill"])
def test_themes_written_out_come_back_to_the_bit(text: str) -> None:
    row = mixture(parse_weights(text))
    assert float(row.sum()) == pytest.approx(1)
    assert torch.equal(mixture(parse_weights(describe(row))), row)


@pytest.mark.parametrize(
    "text", ["", " , ", "music:x", "music:0", "music:-1", "music:1e9", "music:nan", "music,Music", ":2"]
)
def test_themes_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="theme"):
        parse_weights(text)
