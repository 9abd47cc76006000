"""Guides on hand-drawn maps: their walls, exhibits and crowds, whatever their size and number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from metarl.envs.npc.guide import maps as guide_maps
from metarl.envs.npc.guide.layouts import UNREACHABLE
from metarl.envs.npc.guide.tasks import GuideTasks, make, make_macro
from metarl.envs.npc.maps.layout import Exhibits, Layout
from metarl.envs.npc.measure import play
from metarl.errors import ConfigError
from tests.envs.npc.guide.guide_visits import world_of

SAMPLES = Path(guide_maps.__file__).parents[1] / "maps" / "samples"


@pytest.fixture(scope="module")
def drawn() -> GuideTasks:
    """A family with two hand-drawn maps of different sizes."""
    return make_macro(maps=(str(SAMPLES / "museum.tmx"), str(SAMPLES / "old-town.tmj")))


def test_hand_drawn_maps_are_a_split_of_their_own_with_their_own_exhibits(drawn: GuideTasks) -> None:
    assert "test-hand-drawn" in drawn.splits
    assert drawn.fingerprint() != make_macro().fingerprint()
    world = world_of(drawn, 64, split="test-hand-drawn")
    charts = [guide_maps.load(path) for path in drawn.maps]
    layouts = world.places.layouts
    for copy in range(64):
        layout = int(world.state["layout"][copy])
        chart = charts[(layout - 4096) // guide_maps.VARIANTS]
        inside = layouts.wall[layout, : chart.height, : chart.width]
        assert torch.equal(inside, chart.wall)
        for slot in range(8):
            row, column = divmod(int(layouts.points[layout, slot]), layouts.width)
            there = (chart.exhibits.cell == torch.tensor([row, column])).all(1)
            if bool(world.state["seen"][copy, slot]):
                continue
            which = int(there.long().argmax())
            assert there.any()
            rows = world.places.themes.rows[world.state["theme"][copy, slot]]
            assert torch.equal(rows, chart.exhibits.themes[which])
            assert world.state["crowd"][copy, slot] == chart.exhibit_crowd[which]


@pytest.mark.parametrize("make_family", [make, make_macro])
def test_guides_can_walk_hand_drawn_maps(make_family: Any, drawn: GuideTasks) -> None:
    family = make_family(maps=drawn.maps)
    played = {k: play(family, family.policies("test-hand-drawn")[k](), "test-hand-drawn", n=12).returns.mean()
              for k in ("random", "oracle")}  # fmt: skip
    assert played["oracle"] > played["random"] + 1.0


def test_a_map_with_fewer_exhibits_leaves_slots_that_nobody_can_be_led_to() -> None:
    wall = torch.ones(7, 7, dtype=torch.bool)
    wall[1:-1, 1:-1] = False
    exhibits = Exhibits(torch.tensor([[1, 1], [5, 5]]), torch.eye(10)[:2], torch.ones(2), torch.ones(2).long(),
                        ("a", "b"))  # fmt: skip
    chart = Layout(wall, (3, 3), exhibits, torch.zeros(7, 7).long(), torch.zeros(7, 7))
    found = guide_maps.one_map(chart, 4, 20, 22, "test")
    assert (found.theme[:, 2:] == 22).all()
    assert set(found.theme[:, :2].flatten().tolist()) == {20, 21}
    assert (found.distance[:, 4, 2:4] == UNREACHABLE).all()
    assert (found.distance[:, 4, :2] == 4).all()


def test_a_map_that_cannot_be_walked_is_refused() -> None:
    with pytest.raises(ConfigError):
        make_macro(maps=("nowhere.tmx",))
