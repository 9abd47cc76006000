"""One walkable world as plain tensors, whoever drew it, and the promises that every such world keeps."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from metarl.errors import ConfigError

from .faults import MapError
from .geometry import Ground, Place, geometry_faults
from .themes import SUM_TOLERANCE, THEMES
from .walking import walking_distances

SIZES = (5, 64)
"""Fewest and most cells along each side."""
MOST_DISTRICTS = 16
"""Largest number of a district."""
MOST_DWELL = 100
"""Most ticks that looking at one exhibit may take."""
LONGEST_TEXT = 120
"""Most characters of a name."""


@dataclass(frozen=True)
class Portal:
    """A cell that leads to another world."""

    cell: tuple[int, int]
    """(row, column)"""
    to: str
    """name of the world it leads to"""


@dataclass(frozen=True, eq=False)
class Exhibits:
    """The M things to see, one row each."""

    cell: Tensor
    """int64 [M, 2], (row, column) of the free cell from which the exhibit is seen"""
    themes: Tensor
    """float32 [M, 10], weights of `themes.THEMES`, non-negative, each row sums to 1"""
    popularity: Tensor
    """float32 [M] in [0, 1], how many visitors come for it"""
    dwell: Tensor
    """int64 [M] in 0..100, ticks that looking at it takes"""
    names: tuple[str, ...]
    """M names"""

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Layout:
    """A walkable world. Cells are (row, column) from the top left corner; walls surround it.

    Building one checks it: the border is closed, and from `spawn` a way leads to every exhibit, exit, shop, meeting
    point and portal. `crowd` is rounded to hundredths, so that worlds survive being saved and loaded to the bit.

    Raises: MapError with every fault; ConfigError for tensors of another shape or type.
    """

    wall: Tensor
    """bool [H, W], True where nobody can walk; H and W from 5 to 64"""
    spawn: tuple[int, int]
    """(row, column) where a visitor comes in"""
    exhibits: Exhibits
    """1 to 16 of them"""
    district: Tensor
    """int64 [H, W] in 0..16, 0 where there is none"""
    crowd: Tensor
    """float32 [H, W] in [0, 1], how crowded each cell is"""
    exits: Tensor = field(default_factory=lambda: no_cells())
    """int64 [E, 2]"""
    shops: Tensor = field(default_factory=lambda: no_cells())
    """int64 [S, 2]"""
    meetings: Tensor = field(default_factory=lambda: no_cells())
    """int64 [P, 2], meeting points"""
    portals: tuple[Portal, ...] = ()
    """ways into other worlds"""
    closed_at: Mapping[int, Tensor] = field(default_factory=dict)
    """{episode: int64 [K, 2]}: these cells are walls from that episode on, counted from 0 (so episode >= 1); cells that
    are walls anyway are left out"""
    name: str = "unnamed"
    """what the world is called"""
    cell_m: float = 1.0
    """metres along one side of a cell, 0.05 to 100"""
    licence: str = ""
    """terms under which the world may be passed on, e.g. "CC0-1.0" """
    source: str = "generated"
    """where it came from: a path, or how it was made"""

    def __post_init__(self) -> None:
        _check_tensors(self)
        object.__setattr__(self, "crowd", (self.crowd * 100).round() / 100)
        object.__setattr__(self, "closed_at", {k: self._free(v) for k, v in sorted(self.closed_at.items())})
        spawn = Place("spawn", "", self.spawn, "objects")
        faults = geometry_faults(Ground(self.wall, self.source), [spawn], self.places(), self.closed_at)
        if faults:
            raise MapError(faults)

    def _free(self, cells: Tensor) -> Tensor:
        """Return cells without walls and repetitions, in order; those off the map stay, for the check to find."""
        inside = ((cells >= 0) & (cells < torch.tensor(self.wall.shape))).all(1)
        walled = inside.clone()
        walled[inside] = self.wall[cells[inside, 0], cells[inside, 1]]
        return torch.unique(cells[~walled], dim=0) if len(cells) else cells

    @property
    def height(self) -> int:
        """Number of rows."""
        return int(self.wall.shape[0])

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.wall.shape[1])

    def places(self) -> list[Place]:
        """Return everything that a way must lead to: exhibits, exits, shops, meeting points, portals."""
        cells = self.exhibits.cell.tolist()
        found = [Place("exhibit", n, (r, c), "objects") for n, (r, c) in zip(self.exhibits.names, cells, strict=True)]
        for kind, tensor in (("exit", self.exits), ("shop", self.shops), ("meeting", self.meetings)):
            found += [Place(kind, "", (r, c), "objects") for r, c in tensor.tolist()]
        return found + [Place("portal", portal.to, portal.cell, "objects") for portal in self.portals]

    @property
    def exhibit_crowd(self) -> Tensor:
        """float32 [M], how crowded it is where each exhibit is seen from."""
        return self.crowd[self.exhibits.cell[:, 0], self.exhibits.cell[:, 1]]

    def wall_in(self, episode: int) -> Tensor:
        """Return bool [H, W]: the walls of an episode (from 0), closed cells included."""
        wall = self.wall.clone()
        for begin, cells in self.closed_at.items():
            if begin <= episode:
                wall[cells[:, 0], cells[:, 1]] = True
        return wall

    def distances(self, episode: int = 0) -> Tensor:
        """Return int64 [M + 1, M + 1]: steps between exhibits, spawn last; -1 where a closed street leaves no way."""
        points = torch.cat([self.exhibits.cell, torch.tensor([self.spawn])])
        return walking_distances(self.wall_in(episode), points)

    def digest(self) -> str:
        """Return the SHA-256 of everything but `source`, in hexadecimal: equal for equal worlds."""
        return hashlib.sha256(repr(_plain(self)).encode()).hexdigest()


def no_cells() -> Tensor:
    """Return int64 [0, 2]."""
    return torch.zeros((0, 2), dtype=torch.int64)


def differences(one: Layout, other: Layout) -> list[str]:
    """Return the names of the parts in which two worlds differ by as much as a bit, `source` left out."""
    return [k for k, v in _plain(one).items() if v != _plain(other)[k]]


def _plain(layout: Layout) -> dict[str, object]:
    parts: dict[str, object] = {f.name: getattr(layout, f.name) for f in fields(layout)}
    del parts["source"], parts["exhibits"]
    parts |= {f"exhibits.{f.name}": getattr(layout.exhibits, f.name) for f in fields(Exhibits)}
    parts["closed_at"] = {k: v.tolist() for k, v in sorted(layout.closed_at.items())}
    return {k: v.tolist() if isinstance(v, Tensor) else v for k, v in parts.items()}


def _check_tensors(layout: Layout) -> None:
    """Raise ConfigError unless every tensor has the shape and type that the fields promise."""
    exhibits, low, high = layout.exhibits, *SIZES
    if layout.wall.dim() != 2 or not all(low <= n <= high for n in layout.wall.shape):
        raise ConfigError(f"Layout.wall must be bool [H, W] with sides of {low} to {high}, got {_seen(layout.wall)}")
    count, grid = len(exhibits), tuple(layout.wall.shape)
    wanted: dict[str, tuple[Tensor, torch.dtype, tuple[int, ...]]] = {
        "wall": (layout.wall, torch.bool, grid),
        "district": (layout.district, torch.int64, grid),
        "crowd": (layout.crowd, torch.float32, grid),
        "exhibits.cell": (exhibits.cell, torch.int64, (count, 2)),
        "exhibits.themes": (exhibits.themes, torch.float32, (count, len(THEMES))),
        "exhibits.popularity": (exhibits.popularity, torch.float32, (count,)),
        "exhibits.dwell": (exhibits.dwell, torch.int64, (count,)),
    }
    lists = {"exits": layout.exits, "shops": layout.shops, "meetings": layout.meetings}
    lists |= {f"closed_at[{episode}]": cells for episode, cells in layout.closed_at.items()}
    wanted |= {name: (cells, torch.int64, (len(cells), 2)) for name, cells in lists.items()}
    for name, (tensor, dtype, shape) in wanted.items():
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            raise ConfigError(f"Layout.{name} must be {dtype} {list(shape)}, got {_seen(tensor)}")
    _check_ranges(layout)


def _check_ranges(layout: Layout) -> None:
    exhibits = layout.exhibits
    bounded = {
        "district": (layout.district, 0, MOST_DISTRICTS),
        "crowd": (layout.crowd, 0, 1),
        "exhibits.popularity": (exhibits.popularity, 0, 1),
        "exhibits.dwell": (exhibits.dwell, 0, MOST_DWELL),
        "exhibits.themes": (exhibits.themes, 0, 1),
    }
    for name, (tensor, low, high) in bounded.items():
        if not bool(((tensor >= low) & (tensor <= high)).all()):
            raise ConfigError(
                f"Layout.{name} must lie in [{low}, {high}] everywhere, got {tensor.min()}..{tensor.max()}"
            )
    if not bool(((exhibits.themes.double().sum(1) - 1).abs() <= SUM_TOLERANCE).all()):
        raise ConfigError(f"each row of Layout.exhibits.themes must sum to 1, got {exhibits.themes.sum(1).tolist()}")
    if not (math.isfinite(layout.cell_m) and 0.05 <= layout.cell_m <= 100):
        raise ConfigError(f"Layout.cell_m must be 0.05 to 100 metres, got {layout.cell_m}")
    texts = (layout.name, layout.licence, *exhibits.names, *(p.to for p in layout.portals))
    for text in texts:
        if not text.isprintable() or len(text) > LONGEST_TEXT or text != text.strip():
            raise ConfigError(
                f"names in a Layout are up to {LONGEST_TEXT} printable characters without blanks at the ends, "
                f"got {text[:LONGEST_TEXT]!r}"
            )


def _seen(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
