"""Draws the sample worlds and their tileset again: `python -m tools.sample_maps.draw [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

from metarl.envs.npc.maps.layout import Layout
from metarl.envs.npc.maps.samples import FOLDER, SAMPLES, SCENE
from metarl.envs.npc.maps.tiled_save import save_tiled, save_tileset_image
from metarl.envs.npc.maps.tileset import IMAGE

from .drawing import Piece, from_drawing
from .scene import write_scene

LICENCE = "CC0-1.0"

PLAZA_MARKET = """
    ########################
    #.......#.......#......#
    #.S.....#..###..#..#.b.#
    #..........#a......#...#
    #.......#..#....#..##..#
    #.......#.......#......#
    ####.####.......####.###
    #......................#
    #..##..c...##..d..##...#
    #..##......##.....##...#
    #..........+...........#
    #.###.####..####xxx###.#
    #.#......#..#........#.#
    #.#.$.#.e#..#f.#..#.g#.#
    #.#...#........#..#..#.#
    #.##.###.##.##.####.##.#
    #P.........h..........E#
    ########################
"""

OLD_TOWN = """
    ############################
    #...####......####.....#####
    #.a.####.####.####.###.....#
    #........####......###.###.#
    ###.####......####.....###.#
    ###.####.####.####.###.....#
    #......b.####.c....###.##d.#
    #.####.......#####.........#
    #.####.##.##.#####.####.####
    #......##.##............####
    #.####....+...####.####....#
    ######.###########x#########
    ######.###########x#########
    #.............S...........E#
    #.#####.#####.#####.######.#
    #.#e....#...........f#####.#
    #.#.###.#.###.#.###.##...h.#
    #...#$..#.#g..#.#P..##.###.#
    #.#.###.....#...###........#
    ############################
"""

MUSEUM = """
    ##########################
    #a......#.......#......b.#
    #.......#..###..#........#
    #..##...#..#c...#...##...#
    #..##......###......##...#
    #.......#.......#........#
    ####.########.#########x##
    #........................#
    #........................#
    ####.###.###..###.###.####
    #......#.#......#.#......#
    #.d.##.#.#..##..#.#.##.e.#
    #...##.#.#..##..#.#.##...#
    #......#.#......#.#......#
    ###.####.##.##.##.###.####
    #........................#
    #.##.f.#.#......#.#.g.##.#
    #.##...#.#..$+..#.#...##.#
    #P.....#.#..SE..#.#..h...#
    ##########################
"""


def plaza_market() -> Layout:
    """A station, a plaza with a fountain, a garden behind hedges, a market hall and an arcade."""
    return from_drawing(
        PLAZA_MARKET,
        {
            "a": Piece("Old signal box", "history", 0.3, 2),
            "b": Piece("Rose garden", "nature: 2, romance: 1", 0.6, 4),
            "c": Piece("Street band", "music", 0.8, 5),
            "d": Piece("Giant chess", "game: 3, family: 1", 0.7, 4),
            "e": Piece("Puppet stall", "family, humour", 0.5, 3),
            "f": Piece("Escape cellar", "mystery: 2, thrill: 1", 0.4, 5),
            "g": Piece("Robot barista", "future", 0.9, 2),
            "h": Piece("Climbing wall", "thrill", 0.2, 3),
        },
        portal_to="old-town",
        closed_from=3,
        districts=[(1, 6, 0, 10, 23), (2, 0, 0, 5, 7), (3, 0, 9, 5, 23), (4, 11, 0, 16, 11), (5, 11, 12, 16, 23)],
        crowds=[(9, 11, 3.0, 0.8), (13, 19, 2.0, 0.9), (13, 5, 2.0, 0.6), (3, 3, 2.5, 0.4)],
        name="Plaza and market",
        licence=LICENCE,
        source="drawn",
    )


def old_town() -> Layout:
    """Winding lanes between blocks of houses, a river with two bridges; the eastern one closes."""
    return from_drawing(
        OLD_TOWN,
        {
            "a": Piece("Castle gate", "history: 3, mystery: 1", 0.6, 4),
            "b": Piece("Ghost well", "mystery", 0.4, 3),
            "c": Piece("Lovers' arcade", "romance", 0.5, 2),
            "d": Piece("Jesters' theatre", "humour: 2, family: 1", 0.7, 5),
            "e": Piece("Organ workshop", "music: 2, history: 1", 0.3, 4),
            "f": Piece("Game parlour", "game", 0.8, 5),
            "g": Piece("Herb yard", "nature", 0.2, 3),
            "h": Piece("Tomorrow's house", "future: 2, thrill: 1", 0.6, 3),
        },
        portal_to="museum",
        closed_from=2,
        districts=[(1, 0, 0, 10, 12), (2, 0, 13, 10, 27), (3, 11, 0, 13, 27), (4, 14, 0, 18, 12), (5, 14, 13, 18, 27)],
        crowds=[(13, 14, 4.0, 0.7), (6, 24, 2.5, 0.8), (15, 19, 2.0, 0.6), (2, 2, 2.0, 0.5)],
        name="Old town",
        licence=LICENCE,
        cell_m=1.5,
        source="drawn",
    )


_WINGS = ((5, 9, 0, 18, 8), (6, 9, 9, 18, 16), (7, 9, 17, 18, 25))


def museum() -> Layout:
    """An entrance hall, a long gallery and seven rooms; the door of the north-east room closes."""
    return from_drawing(
        MUSEUM,
        {
            "a": Piece("Dinosaur hall", "nature: 2, thrill: 1", 0.9, 5),
            "b": Piece("Love letters", "romance: 1, history: 1", 0.4, 3),
            "c": Piece("Locked cabinet", "mystery", 0.5, 2),
            "d": Piece("Sound sculptures", "music", 0.6, 4),
            "e": Piece("Mission to Mars", "future: 3, game: 1", 0.8, 5),
            "f": Piece("Caricatures", "humour", 0.3, 2),
            "g": Piece("Children's workshop", "family", 0.7, 4),
            "h": Piece("Coins and seals", "history", 0.1, 2),
        },
        portal_to="plaza-market",
        closed_from=3,
        districts=[(1, 7, 0, 8, 25), (2, 0, 0, 6, 7), (3, 0, 8, 6, 16), (4, 0, 17, 6, 25), *_WINGS],
        crowds=[(3, 4, 2.5, 0.9), (11, 22, 2.0, 0.7), (17, 12, 2.5, 0.6), (8, 13, 3.0, 0.4)],
        name="Museum",
        licence=LICENCE,
        cell_m=2.0,
        source="drawn",
    )


def main(folder: Path = FOLDER) -> None:
    """Write the tileset, the three worlds and the scene into a folder."""
    save_tileset_image(folder / IMAGE)
    save_tiled(plaza_market(), folder / SAMPLES["plaza-market"], external_tileset=True)
    save_tiled(old_town(), folder / SAMPLES["old-town"], encoding="zlib")
    save_tiled(museum(), folder / SAMPLES["museum"], infinite=True, external_tileset=True)
    write_scene(folder / SCENE)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
