"""Pictures of worlds show what is there; the samples are what their drawings say."""

from __future__ import annotations

from pathlib import Path

import imageio.v3
import numpy as np
import pytest

from metarl.envs.npc.maps import tileset
from metarl.envs.npc.maps.layout import differences
from metarl.envs.npc.maps.picture import THEME_COLOURS, WALL, WALL_FACE, district_colour, exhibit_tile, picture
from metarl.envs.npc.maps.samples import FOLDER, SAMPLES, SCENE, load_sample, sample_path
from metarl.envs.npc.maps.themes import THEMES
from metarl.envs.npc.palette import VERMILION
from metarl.errors import ConfigError
from tools.sample_maps import draw


def test_each_cell_of_a_picture_has_the_colour_of_what_is_there() -> None:
    layout, px = load_sample("plaza-market"), 16
    image = picture(layout, px)
    assert image.shape == (layout.height * px, layout.width * px, 3)
    assert image.dtype == np.uint8
    corner = image[2::px, 2::px].astype(int)  # a pixel near the upper left corner of every cell
    wall = layout.wall.numpy()
    assert {tuple(c) for c in corner[wall]} <= {WALL, WALL_FACE}
    plain = ~wall
    for place in layout.places():
        plain[place.cell] = False
    plain[layout.spawn] = False
    floors = {tuple(c) for c in corner[plain]}
    assert floors == {
        district_colour(int(d)) for d in layout.district[layout.district.new_tensor(plain).bool()].unique()
    }
    for (row, column), themes in zip(layout.exhibits.cell.tolist(), layout.exhibits.themes, strict=True):
        assert tuple(corner[row, column]) == THEME_COLOURS[int(themes.argmax())]


def test_a_closed_street_is_striped_from_its_episode_on() -> None:
    layout = load_sample("old-town")
    before, after = (picture(layout, 12, episode=k) for k in (1, 2))
    changed = np.argwhere((before != after).any(2))
    assert {(int(r) // 12, int(c) // 12) for r, c in changed} == {(11, 18), (12, 18)}
    assert (after[changed[:, 0], changed[:, 1]] == VERMILION).all()


def test_themes_are_told_apart_by_colour_and_by_letter() -> None:
    tiles = []
    for index in range(len(THEMES)):
        tile = np.zeros((24, 24, 3), np.uint8)
        exhibit_tile(tile, [float(k == index) for k in range(len(THEMES))])
        tiles.append(tile)
    grey = [np.unique(tile.mean(2).round() > 127, return_counts=True) for tile in tiles]
    assert len(THEME_COLOURS) == len(set(THEME_COLOURS)) == len(grey) == 10
    # In black and white, too: no two letters leave the same pattern of edges.
    edges = {(np.abs(np.diff(tile[4:-4, 4:-4].mean(2), axis=1)) > 40).tobytes() for tile in tiles}
    assert len(edges) == 10


@pytest.mark.parametrize("px", [7, 129])
def test_pictures_have_a_sensible_size(px: int) -> None:
    with pytest.raises(ConfigError, match="px must be 8 to 128"):
        picture(load_sample("museum"), px)


def test_the_samples_are_what_their_drawings_say(tmp_path: Path) -> None:
    draw.main(tmp_path)
    names = [*SAMPLES.values(), "npcworld.tsx", f"{SCENE}/scene.json", f"{SCENE}/assets/scene/main.composite"]
    names += [f"{SCENE}/assets/scene/Models/{model}.glb" for model in ("hall", "statue")]
    assert [name for name in names if (tmp_path / name).read_bytes() != (FOLDER / name).read_bytes()] == []
    drawn = {"plaza-market": draw.plaza_market(), "old-town": draw.old_town(), "museum": draw.museum()}
    assert {name: differences(world, load_sample(name)) for name, world in drawn.items()} == {
        name: [] for name in SAMPLES
    }


def test_the_picture_of_the_tileset_is_the_one_that_is_drawn() -> None:
    stored = imageio.v3.imread(FOLDER / tileset.IMAGE)
    drawn = tileset.draw()
    assert stored.shape == drawn.shape == (320, 512, 4)
    seen = drawn[..., 3] > 0  # what is transparent has no colour
    assert np.array_equal(stored[..., 3], drawn[..., 3])
    assert np.array_equal(stored[seen], drawn[seen])


def test_an_unknown_sample_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'museum'"):
        sample_path("musem")
