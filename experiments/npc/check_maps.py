"""`metarl worlds check FILE...`: is a drawn world usable, and if not, what is wrong where."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.checkpoint import replace_file
from metarl.commandline import command
from metarl.errors import ConfigError
from metarl.experiments.cli.outputs import check_writable
from metarl.experiments.cli.parser import Parser, real

if TYPE_CHECKING:
    from metarl.envs.npc.maps.layout import Layout
    from metarl.envs.npc.maps.tiled import Reading

PROG = command("worlds", "check")


_SCENE = ("floor", "cell_m", "area", "only", "without", "also", "through")
"""Options about Decentraland scenes."""


def _parser() -> Parser:
    parser = Parser(prog=PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument("files", nargs="+", metavar="FILE", help=".tmx or .tmj map, or folder of a Decentraland scene")
    parser.add_argument(
        "--floor", nargs=2, type=real(-math.inf), metavar=("LOW", "HIGH"), help="scene: storey, metres (0 4)"
    )
    parser.add_argument("--cell-m", type=real(0, above=True), metavar="M", help="scene: metres per cell (1)")
    area = ("WEST", "SOUTH", "EAST", "NORTH")
    parser.add_argument(
        "--area", nargs=4, type=real(-math.inf), metavar=area, help="scene: part of the land, metres (all)"
    )
    parser.add_argument("--only", metavar="NAMES", help="scene: exhibits whose names match, e.g. '*image*'")
    parser.add_argument("--without", metavar="NAMES", help="scene: exhibits whose names match are left out")
    parser.add_argument("--also", metavar="NAMES", help="scene: what is an exhibit though not named like one")
    parser.add_argument("--through", metavar="NAMES", help="scene: what is walked through, e.g. '*door*'")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="also draw the world (one FILE only)")
    parser.add_argument("--glb", type=Path, metavar="GLB", help="also write the world as a 3-D model (one FILE only)")
    return parser


def main(argv: Sequence[str]) -> int:
    """Print a summary of each world, or every fault of it; return 2 if any has a fault."""
    arguments = _parser().parse_args(list(argv))
    outputs = [(path, what) for path, what in ((arguments.picture, "--picture"), (arguments.glb, "--glb")) if path]
    if outputs and len(arguments.files) > 1:
        raise ConfigError(f"{outputs[0][1]} is about one world, got {len(arguments.files)} files; name one")
    for path, what in outputs:
        check_writable(path, what)
    good = [_check(file, arguments) for file in arguments.files]
    return 0 if all(good) else 2


def _check(file: str, arguments: argparse.Namespace) -> bool:
    """Print what one file holds; return whether it is usable."""
    from metarl.envs.npc.maps.faults import MapError

    try:
        reading = _read(file, arguments)
    except MapError as error:
        print(f"{file}: {len(error.faults)} fault{'s' * (len(error.faults) > 1)}")
        for fault in error.faults:
            print(f"  {fault.located()}")
        return False
    print("\n".join(summary(file, reading)))
    if arguments.picture:
        import imageio.v3

        from metarl.envs.npc.maps.picture import picture

        replace_file(arguments.picture, imageio.v3.imwrite("<bytes>", picture(reading.layout), extension=".png"))
    if arguments.glb:
        from metarl.envs.npc.maps.export import export_glb

        export_glb(reading.layout, arguments.glb)
    return True


def _read(file: str, arguments: argparse.Namespace) -> Reading:
    path = Path(file)
    if path.name == "scene.json":
        path = path.parent
    if path.is_dir():
        from metarl.envs.npc.maps.decentraland import read_decentraland

        given = {flag: getattr(arguments, flag) for flag in _SCENE}
        options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None}
        return read_decentraland(path, **options)
    refused = [flag for flag in _SCENE if getattr(arguments, flag) is not None]
    if refused:
        raise ConfigError(f"--{refused[0].replace('_', '-')} is about Decentraland scenes; {file} is no folder")
    from metarl.envs.npc.maps.tiled import read_tiled

    return read_tiled(file)


def summary(file: str, reading: Reading) -> list[str]:
    """Return what a builder wants to know, as lines."""
    from metarl.envs.npc.maps.themes import THEMES

    layout = reading.layout
    distances, exhibits = layout.distances(), layout.exhibits
    between = distances[:-1, :-1][~distances[:-1, :-1].eq(0)].float()
    apart = f", exhibits {between.mean():.1f} steps apart on average" if len(between) else ""
    free, districts = int((~layout.wall).sum()), len(set(layout.district[~layout.wall].tolist()) - {0})
    counts = [(len(layout.exits), "exit"), (len(layout.shops), "shop"), (len(layout.meetings), "meeting point")]
    lines = [
        f"{file}: good",
        f"  {layout.name}: {layout.width} x {layout.height} cells of {layout.cell_m:g} m, {free} to walk on, "
        f"{_count(districts, 'district')}, licence {layout.licence or 'not given'}",
        f"  spawn {_tile(layout.spawn)}, {', '.join(_count(*c) for c in counts)}{apart}",
    ]
    width = max(map(len, exhibits.names))
    for index, label in enumerate(exhibits.names):
        row, column = exhibits.cell[index].tolist()
        weights = sorted(zip(exhibits.themes[index].tolist(), THEMES, strict=True), reverse=True)
        theme = ", ".join(f"{name} {weight:.2f}" for weight, name in weights if weight >= 0.05)
        lines.append(
            f"  exhibit {label:<{width}}  {_tile((row, column)):<12}  {int(distances[-1, index]):>3} steps from spawn, "
            f"popularity {float(exhibits.popularity[index]):.2f}, dwell {int(exhibits.dwell[index])}: {theme}"
        )
    lines += [f"  portal {_tile(portal.cell)} to {portal.to}" for portal in layout.portals]
    lines += _closed(layout)
    return [*lines, *(f"  note: {note}" for note in reading.notes)]


def _closed(layout: Layout) -> list[str]:
    lines = []
    for episode, cells in layout.closed_at.items():
        cut = layout.distances(episode)[-1, :-1].lt(0).sum()
        what = f"  from episode {episode} on (counted from 0) {_count(len(cells), 'cell')} closed"
        lines.append(what + (f", {_count(int(cut), 'exhibit')} out of reach" if cut else ""))
    return lines


def _tile(cell: tuple[int, int]) -> str:
    return f"(x={cell[1]}, y={cell[0]})"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
